//go:build unix

package python_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cloudburst-nats/cloudburst/wire"
	"github.com/cloudburst-nats/cloudburst/workers/runtime"
	"github.com/cloudburst-nats/cloudburst/workers/runtime/python"
	"github.com/cloudburst-nats/cloudburst/workers/runtime/runtimetest"
)

func TestRuntime(t *testing.T) {
	for _, interpreter := range interpreters(t) {
		t.Run(interpreter, func(t *testing.T) {
			cfg := config(t, interpreter)
			rt := python.New(cfg)
			runtimetest.Run(t, runtimetest.Suite{
				Load: func(t *testing.T, program string, p runtime.Program) (runtime.Loaded, error) {
					t.Helper()
					p.Path, p.Entry = "testdata/suite", program
					if program == "bytes" {
						p.Entry = "reverse"
					}
					return rt.Load(t.Context(), p)
				},
				Remembers: "a module's globals live as long as its process",
				Left:      func() error { return left(cfg.Scratch) },
			})
		})
	}
}

// interpreters are the Python on PATH and the system's own, if that is another one:
// where tests run as root it is often the one that other users can run.
func interpreters(t *testing.T) []string {
	t.Helper()
	found := []string{"python3"}
	const system = "/usr/bin/python3"
	path, err := exec.LookPath("python3")
	if err != nil {
		t.Fatalf("these tests need Python: %v", err)
	}
	if _, err := os.Stat(system); err == nil && path != system {
		found = append(found, system)
	}
	return found
}

// config returns a configuration whose scratch directory other users can enter.
func config(t *testing.T, interpreter string) python.Config {
	t.Helper()
	scratch, err := os.MkdirTemp("", "python-test-") //nolint:usetesting // others can't enter t.TempDir
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(scratch) })
	if err := os.Chmod(scratch, 0o711); err != nil { //nolint:gosec // said above
		t.Fatal(err)
	}
	return python.Config{Interpreter: interpreter, Scratch: scratch, Warn: func(text string) { t.Log(text) }}
}

// left says which processes and files there still are.
func left(scratch string) error {
	entries, err := os.ReadDir(scratch)
	if err != nil {
		return err
	}
	if len(entries) > 0 {
		return fmt.Errorf("in the scratch directory: %v", entries)
	}
	if pids := children(os.Getpid()); len(pids) > 0 {
		return fmt.Errorf("processes: %v", pids)
	}
	return nil
}

// children returns a process's child processes, where /proc tells of them.
func children(of int) (pids []int) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, stat := range stats {
		text, err := os.ReadFile(stat)
		if err != nil {
			continue
		}
		var state string
		var parent int
		_, _ = fmt.Sscan(string(text[bytes.LastIndexByte(text, ')')+1:]), &state, &parent)
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(stat))); err == nil && parent == of && state != "Z" {
			pids = append(pids, pid)
		}
	}
	return pids
}

// program writes a program of the files, given as name and content.
func program(t *testing.T, files ...string) string {
	t.Helper()
	dir := t.TempDir()
	for i := 0; i < len(files); i += 2 {
		path := filepath.Join(dir, files[i])
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // a program
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(files[i+1]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// load loads a function until the end of the test, after which nothing is left.
func load(t *testing.T, cfg python.Config, p runtime.Program) runtime.Loaded {
	t.Helper()
	if cfg.Scratch == "" {
		cfg = config(t, cfg.Interpreter)
	}
	p.Function = "f"
	f, err := python.New(cfg).Load(t.Context(), p)
	if err != nil {
		t.Fatalf("load: %v\n%s", err, stackOf(err))
	}
	t.Cleanup(func() {
		f.Close()
		if entries, err := os.ReadDir(cfg.Scratch); len(entries) > 0 || err != nil {
			t.Errorf("left: %v %v", entries, err)
		}
	})
	return f
}

func stackOf(err error) string {
	if e, ok := errors.AsType[*wire.Error](err); ok {
		return e.Stack
	}
	return ""
}

// invoke runs a call that must not take long.
func invoke(t *testing.T, f runtime.Function, call *runtime.Call) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	v, err := f.Invoke(ctx, call)
	return v.Type + string(v.Body), err
}

// eventually waits for a fact.
func eventually(t *testing.T, fact func() error) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		err := fact()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		<-time.After(2 * time.Millisecond)
	}
}

func TestLoadErrors(t *testing.T) {
	for _, tc := range []struct {
		name, entry string
		files       []string
		msg         string // in the message
		stack       string // in the stack
	}{
		{"syntax", "", []string{"main.py", "x = 1\ndef handler(:\n"}, "main.py:2: SyntaxError: invalid syntax", "def handler(:"},
		{"import", "", []string{"main.py", "import os\nimport nothing_such\n"}, "main.py:2: ModuleNotFoundError: No module named 'nothing_such'", `File "main.py", line 2`},
		{"import of another", "main:handler", []string{"main.py", "import other", "other.py", "\n\n1/0"}, "other.py:3: ZeroDivisionError", `File "main.py", line 1`},
		{"no function", "", []string{"main.py", "import json\ndef a(cb): pass\nb = 1\nclass C: pass"}, "main.py has no function handler; it has a, C", ""},
		{"no function of that name", "main:b", []string{"main.py", "def a(cb): pass\nb = 1"}, "main.py has no function b; it has a", ""},
		{"no module", "other:b", []string{"main.py", ""}, "No module named 'other'", ""},
		{"which module", "", []string{"a.py", "", "b.py", ""}, "which of a.py, b.py has handler? Give the entry as module:function", ""},
		{"no files", "", []string{"readme.txt", ""}, "there is no Python file in it", ""},
		{"yields", "", []string{"main.py", "def handler(cb, x): yield x"}, "handler yields, and a function has one result: return a list", ""},
		{"yields later", "", []string{"main.py", "async def handler(cb, x): yield x"}, "handler yields, and a function has one result: return a list", ""},
		{"a class", "main:Job", []string{"main.py", "class Job:\n  def run(self, cb): pass"}, "Job is a class, and its objects aren't results", ""},
		{"bring along", "", []string{"main.py", "from nothing.such import x"}, "bring it along (pip install --target DIR nothing) and deploy the directory", ""},
		{"part of its own", "", []string{"main.py", "import sub.such", "sub/__init__.py", ""}, "No module named 'sub.such'", "line 1"},
		{"the client library", "", []string{"main.py", "from cloudburst import connect"}, "within a function, cloudburst is the platform itself", ""},
		{"for another system", "", []string{"main.py", "import fast", "fast.cpython-27-darwin.so", "x"}, "fast.cpython-27-darwin.so was built for another Python or system", ""},
		{"takes a standard place", "", []string{"main.py", "import tempfile\ntempfile.mkdtemp", "random.py", "def handler(cb): pass"}, "", ""},
		{"nothing but data", "", []string{"site/index.html", "", "a.txt", ""}, "there is no Python file in it; it holds a.txt, site", ""},
		{"exit", "", []string{"main.py", "import os\nprint('bye')\nos._exit(4)"}, "its process ended with exit status 4", "bye"},
		{"sys.exit", "", []string{"main.py", "import sys\nsys.exit('bye')"}, "main.py:2: SystemExit: bye", "line 2"},
		{"uses the platform", "", []string{"main.py", "import cloudburst\ncloudburst.Cloudburst().get('k')\n"}, "main.py:2: RuntimeError: only a call in hand can ask the platform", "line 2"},
		{"too much memory", "", []string{"main.py", "x = bytearray(1 << 30)"}, "main.py:1: MemoryError", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			cfg := config(t, "python3")
			_, err := python.New(cfg).Load(t.Context(), runtime.Program{Function: "f", Path: program(t, tc.files...), Entry: tc.entry})
			e, ok := err.(*wire.Error) //nolint:errorlint // as runtime.Runtime promises
			if !ok || e.Kind != wire.KindInvalid {
				t.Fatalf("got %v, want one of the kind %q", err, wire.KindInvalid)
			}
			if !strings.Contains(e.Msg, tc.msg) || !strings.Contains(e.Stack, tc.stack) {
				t.Errorf("got %q\n%s\nwant %q and %q", e.Msg, e.Stack, tc.msg, tc.stack)
			}
			if entries, err := os.ReadDir(cfg.Scratch); len(entries) > 0 || err != nil {
				t.Errorf("left: %v %v", entries, err)
			}
		})
	}
}

func TestNoPython(t *testing.T) {
	here := program(t, "main.py", "def handler(cb): pass")
	for interpreter, want := range map[string]string{
		"python3-that-is-nowhere": "install python3",
		"/bin/echo":               "it isn't a Python",
	} {
		_, err := python.New(python.Config{Interpreter: interpreter, Scratch: t.TempDir()}).Load(t.Context(), runtime.Program{Function: "f", Path: here})
		if err == nil || !strings.Contains(err.Error(), want) || wire.KindOf(err) != wire.KindUnavailable {
			t.Errorf("%s: got %v, want %q", interpreter, err, want)
		}
	}
}

func TestNotADirectory(t *testing.T) {
	dir := program(t, "main.py", "def handler(cb): pass")
	rt := python.New(config(t, "python3"))
	if _, err := rt.Load(t.Context(), runtime.Program{Function: "f", Path: filepath.Join(dir, "main.py")}); wire.KindOf(err) != wire.KindInvalid {
		t.Errorf("a file: got %v", err)
	}
	if _, err := rt.Load(t.Context(), runtime.Program{Function: "f", Path: filepath.Join(dir, "missing")}); err == nil {
		t.Error("nothing there: no error")
	}
	if _, err := rt.Load(t.Context(), runtime.Program{Function: "f", Path: dir, Memory: 1 << 20}); wire.KindOf(err) != wire.KindInvalid {
		t.Errorf("a mebibyte of memory: got %v", err)
	}
	if err := (python.Config{Memory: 1, Concurrency: -1, Idle: -1}).Validate(); err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("validate: got %v, want three errors", err)
	}
}

// An import that takes long ends with the context.
func TestLoadEnds(t *testing.T) {
	cause := errors.New("enough")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 200*time.Millisecond, cause)
	defer cancel()
	cfg := config(t, "python3")
	_, err := python.New(cfg).Load(ctx, runtime.Program{Function: "f", Path: program(t, "main.py", "while True: pass")})
	if !errors.Is(err, cause) {
		t.Errorf("got %v, want %v", err, cause)
	}
	if err := left(cfg.Scratch); err != nil {
		t.Errorf("left: %v", err)
	}
}

func TestEntries(t *testing.T) {
	for _, tc := range []struct {
		entry string
		files []string
	}{
		{"", []string{"any.py", "def handler(cb): return 'here'"}},
		{"work", []string{"any.py", "def work(cb): return 'here'"}},
		{"", []string{"main.py", "from other import handler", "other.py", "def handler(cb): return 'here'"}},
		{"work", []string{"work.py", "def work(cb): return 'here'", "other.py", "1/0"}},
		{"other:work", []string{"main.py", "1/0", "other.py", "def work(cb): return 'here'"}},
		{"sub.other:work", []string{"main.py", "1/0", "sub/__init__.py", "", "sub/other.py", "def work(cb): return 'here'"}},
		{"", []string{"__init__.py", "from .other import handler", "other.py", "def handler(cb): return 'here'"}},
		{"", []string{"__init__.py", "from . import other\nhandler = other.handler", "other.py", "def handler(cb): return 'here'"}},
		{"app.work", []string{"main.py", "class App:\n  def work(self, cb): return 'here'\napp = App()"}},
		{"", []string{"main.py", "import functools\ndef f(a, cb): return a\nhandler = functools.partial(f, 'here')"}},
		{"", []string{"main.py", "from pathlib import Path\ntext = (Path(__file__).parent / 'data.txt').read_text()\ndef handler(cb): return text", "data.txt", "here"}},
		{"", []string{"main.py", "def handler(*all): return 'here'"}},
		{"", []string{"project/main.py", "import other\ndef handler(cb): return other.x", "project/other.py", "x = 'here'"}},
		{"", []string{"project/main.py", "from project import other\ndef handler(cb): return other.x", "project/other.py", "x = 'here'"}},
		{"work", []string{"project-main/work.py", "def work(cb): return 'here'", ".hidden", "", "__MACOSX/._x", ""}},
		{"other:work", []string{"project/other.py", "def work(cb): return 'here'"}},
		{"project.other:work", []string{"project/other.py", "def work(cb): return 'here'"}},
		{"project:work", []string{"project/__init__.py", "from .other import work", "project/other.py", "def work(cb): return 'here'"}},
		{"", []string{"cloudburst.py", "import cloudburst\nassert cloudburst.Permanent\ndef handler(cb): return 'here'"}},
		{"", []string{"types.py", "import types\nassert types.SimpleNamespace\ndef handler(cb): return 'here'"}},
		{"", []string{"json.py", "def handler(cb): return 'here'"}},
		{"", []string{"site.py", "def handler(cb): return 'here'"}},
		{"io:work", []string{"io.py", "def work(cb): return 'here'"}},
		{"", []string{"main.py", "async def handler(cb): return 'here'"}},
		{"", []string{"main.py", "import functools\nasync def f(a, cb): return a\nhandler = functools.partial(f, 'here')"}},
		{"", []string{"main.py", "import cloudburst\nfrom cloudburst import current\ndef handler(): return 'here' if current.info()['run'] == cloudburst.current.getid() else ''"}},
	} {
		f := load(t, python.Config{}, runtime.Program{Path: program(t, tc.files...), Entry: tc.entry})
		if got, err := invoke(t, f, runtimetest.NewCall("f", "")); got != `"here"` || err != nil {
			t.Errorf("%q of %q: got %q %v", tc.entry, tc.files, got, err)
		}
	}
}

func TestMain(m *testing.M) {
	if role := os.Getenv("PYTHON_TEST_ROLE"); role != "" {
		worker(role)
		return
	}
	m.Run()
}
