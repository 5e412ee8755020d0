//go:build unix

package python_test

import (
	"bufio"
	"context"
	"encoding/json"
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

// The worker's death is its instances', even in the midst of C code.
func TestWorkerDies(t *testing.T) {
	for _, interpreter := range interpreters(t) {
		cmd := exec.Command(os.Args[0]) //nolint:gosec // this test
		cfg := config(t, interpreter)
		cmd.Env = append(os.Environ(), "PYTHON_TEST_ROLE="+interpreter, "PYTHON_TEST_PROGRAM="+program(t, "main.py", busyProgram), "TMPDIR="+cfg.Scratch)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		said := bufio.NewScanner(out)
		var pids []int
		for len(pids) < 3 && said.Scan() {
			pid, err := strconv.Atoi(said.Text())
			if err != nil {
				t.Errorf("the worker says %s", said.Text())
				break
			}
			pids = append(pids, pid)
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		for i, pid := range pids {
			eventually(t, func() error {
				if zombie(pid) {
					return nil
				}
				return fmt.Errorf("%s: instance %d of %d has outlived its worker", interpreter, i+1, len(pids))
			})
		}
		clears(t, cfg)
	}
}

// clears has another worker load a function, after which only a directory that is
// new, or in use, is left of what a killed one has had.
func clears(t *testing.T, cfg python.Config) {
	t.Helper()
	load(t, cfg, runtime.Program{Path: "testdata/suite", Entry: "add"}) // in use
	old := time.Now().Add(-time.Hour)
	dirs, err := filepath.Glob(cfg.Scratch + "/cloudburst-python-*")
	if err != nil || len(dirs) != 2 {
		t.Fatalf("got %v %v, want the directories of two workers", dirs, err)
	}
	for _, dir := range dirs {
		if err := os.Chtimes(dir, old, old); err != nil {
			t.Fatal(err)
		}
	}
	f, err := python.New(cfg).Load(t.Context(), runtime.Program{Path: "testdata/suite", Entry: "add"})
	if err != nil {
		t.Fatal(err)
	}
	if now, err := filepath.Glob(cfg.Scratch + "/cloudburst-python-*"); err != nil || len(now) != 2 {
		t.Errorf("got %v %v, want the directories of the two functions that are loaded", now, err)
	}
	f.Close()
}

const busyProgram = `
import os, re, time

def handler(cb, how):
    print(os.getpid(), flush=True)
    if how == "C":
        re.match("(a|a)*$", "a" * 200 + "b")
    while how == "loop":
        pass
    time.sleep(1000)
`

// worker is the process that TestWorkerDies kills: it has an instance that loops, one
// that is in C code, and one that sleeps.
func worker(interpreter string) {
	f, err := python.New(python.Config{Interpreter: interpreter}).Load(context.Background(), runtime.Program{
		Path: os.Getenv("PYTHON_TEST_PROGRAM"), Concurrency: 3,
	})
	if err != nil {
		fmt.Fprintln(os.Stdout, err)
		return
	}
	for _, how := range []string{"loop", "C", "sleep"} {
		go func() {
			call := runtimetest.NewCall("f", `"`+how+`"`)
			call.Log = os.Stdout
			_, err := f.Invoke(context.Background(), call)
			fmt.Fprintln(os.Stdout, err)
		}()
	}
	select {}
}

const leftProgram = `
import threading

go, done, seen = threading.Event(), threading.Event(), []

def handler(cb, what):
    if what == "leave":
        def late():
            go.wait()
            try:
                seen.append(cb.get("k"))
            except Exception as e:
                seen.append(str(e))
            done.set()
        threading.Thread(target=late, daemon=True).start()
        return None
    if what == "threads":
        def many(i):
            for j in range(100):
                cb.put(f"{i}-{j}", [i, j])
                assert cb.get(f"{i}-{j}") == [i, j]
            cb.counter("threads").add(1)
        all = [threading.Thread(target=many, args=(i,)) for i in range(8)]
        for t in all: t.start()
        for t in all: t.join()
        return cb.counter("threads").value()
    go.set()
    done.wait()
    return seen
`

func TestThreads(t *testing.T) {
	f := load(t, python.Config{}, runtime.Program{Path: program(t, "main.py", leftProgram), Concurrency: 1})
	if _, err := invoke(t, f, runtimetest.NewCall("f", `"leave"`)); err != nil {
		t.Fatal(err)
	}
	call := runtimetest.NewCall("f", `"look"`)
	if err := call.State.Put(t.Context(), "default", "k", wire.Value{Body: []byte(`"secret"`)}); err != nil {
		t.Fatal(err)
	}
	if got, err := invoke(t, f, call); !strings.HasPrefix(got, `["only a call in hand can ask`) || err != nil {
		t.Errorf("a thread that was left behind: got %s %v", got, err)
	}
	if got, err := invoke(t, f, runtimetest.NewCall("f", `"threads"`)); got != "8" || err != nil {
		t.Errorf("threads of a call: got %s %v", got, err)
	}
}

const isolationProgram = `
import os, resource, stat

def handler(cb, paths):
    def reads(path):
        try:
            with open(path, "rb") as f: return len(f.read(10)) >= 0
        except OSError as e:
            return type(e).__name__
    with open("written", "w") as f: f.write("x")
    with open(os.path.join(os.environ["TMPDIR"], "temporary"), "w") as f: f.write("x")
    def kills(pid):
        try: os.kill(pid, 0)
        except OSError as e: return type(e).__name__
        return True
    limits = {n: resource.getrlimit(getattr(resource, "RLIMIT_" + n))[0] for n in ("DATA", "CORE", "NOFILE", "FSIZE")}
    fds = sorted(int(fd) for fd in os.listdir("/proc/self/fd"))[:-1] if os.path.exists("/proc/self/fd") else [0, 1, 2, 3, 4]
    return {
        "env": sorted(os.environ), "cwd": os.getcwd() == os.environ["HOME"], "fds": fds, "limits": limits,
        "group": os.getpgrp() == os.getpid(), "stdin": os.read(0, 1) == b"", "uid": os.getuid(), "groups": os.getgroups(),
        "reads": [reads(p) for p in paths], "kills": kills(os.getppid()), "mode": stat.S_IMODE(os.stat(".").st_mode),
    }
`

func TestIsolation(t *testing.T) {
	t.Setenv("SECRET", "hush")
	secret := t.TempDir() + "/secret"
	if err := os.WriteFile(secret, []byte("hush"), 0o600); err != nil {
		t.Fatal(err)
	}
	readable := t.TempDir()
	if err := os.WriteFile(readable+"/data", []byte("data"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, interpreter := range interpreters(t) {
		cfg := config(t, interpreter)
		cfg.Read = []string{readable}
		switched, confined := os.Getuid() == 0, true
		cfg.Warn = func(text string) {
			t.Log(text)
			if strings.Contains(text, "Landlock") || strings.Contains(text, "ctypes") {
				confined = false
			}
			switched = false
		}
		f := load(t, cfg, runtime.Program{Path: program(t, "main.py", isolationProgram), Memory: 128 << 20})
		paths := []string{secret, fmt.Sprintf("/proc/%d/environ", os.Getpid()), fmt.Sprintf("/proc/%d/mem", os.Getpid()), readable + "/data"}
		args, _ := json.Marshal(paths)
		v, err := f.Invoke(t.Context(), runtimetest.NewCall("f", string(args)))
		if err != nil {
			t.Fatal(err)
		}
		var got struct {
			Env          []string
			CWD          bool
			FDs          []int
			Limits       map[string]int64
			Group, Stdin bool
			UID          int
			Groups       []int
			Reads        []any
			Kills        any
			Mode         int
		}
		if err := v.Decode(&got); err != nil {
			t.Fatal(err)
		}
		if env := strings.Join(got.Env, " "); env != "HOME LANG LC_ALL MKL_NUM_THREADS OMP_NUM_THREADS OPENBLAS_NUM_THREADS PATH TMPDIR" {
			t.Errorf("environment: %s", env)
		}
		if !got.CWD || !got.Group || !got.Stdin || fmt.Sprint(got.FDs) != "[0 1 2 3 4]" || got.Mode != 0o700 {
			t.Errorf("got %+v", got)
		}
		if l := got.Limits; l["DATA"] != 128<<20 || l["CORE"] != 0 || l["NOFILE"] != 256 || l["FSIZE"] != 256<<20 {
			t.Errorf("limits: got %v", l)
		}
		if !switched && !confined {
			t.Logf("%s: as the worker's own user: reads %v, kills %v", interpreter, got.Reads, got.Kills)
			continue
		}
		if got.Reads[0] == "FileNotFoundError" && os.Geteuid() == 0 {
			got.Reads[0] = "PermissionError" // /tmp is another one
		}
		if switched && (got.UID < 65534 || len(got.Groups) > 0) || fmt.Sprint(got.Reads[:3]) != "[PermissionError PermissionError PermissionError]" || got.Kills != "PermissionError" {
			t.Errorf("%s: got %+v", interpreter, got)
		}
		if !switched && got.Reads[3] != true {
			t.Errorf("%s: a file of Config.Read: %v", interpreter, got.Reads[3])
		}
	}
}

// A program's own files don't stand in for the modules that bound it.
func TestShadows(t *testing.T) {
	const shadow = "raise SystemExit('shadow')\n"
	for _, name := range []string{"fcntl", "resource", "json", "signal", "types", "cloudburst"} {
		for _, file := range []string{name + ".py", name + "/__init__.py"} {
			_, err := python.New(config(t, "python3")).Load(t.Context(), runtime.Program{Function: "f", Path: program(t, "main.py", "def handler(cb): pass", file, shadow)})
			if wire.KindOf(err) != wire.KindInvalid || !strings.Contains(err.Error(), strings.TrimSuffix(file, "__init__.py")+" can't be imported") {
				t.Errorf("%s: got %v", file, err)
			}
		}
	}
}
