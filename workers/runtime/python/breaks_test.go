package python_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cloudburst-nats/cloudburst/broker/wire"
	"github.com/cloudburst-nats/cloudburst/workers/runtime"
	"github.com/cloudburst-nats/cloudburst/workers/runtime/python"
	"github.com/cloudburst-nats/cloudburst/workers/runtime/runtimetest"
)

const crashesProgram = `
import ctypes, mmap, os, resource, signal, subprocess, sys, threading, time

def handler(cb, what):
    print("before " + what)
    if what == "exit":
        os._exit(3)
    if what == "segfault":
        ctypes.string_at(0)
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "close":
        os.close(3)
    if what == "close and stay":
        os.close(3)
        time.sleep(60)
    if what == "close in a thread":
        threading.Thread(target=os.close, args=(3,)).start()
        time.sleep(60)
    if what == "large frame":
        os.write(3, (0xffffffff).to_bytes(4, "little"))
        time.sleep(60)
    if what == "empty frame":
        os.write(3, bytes(4))
    if what == "unknown frame":
        os.write(3, b"\x03\0\0\0gbc")
        time.sleep(60)
    if what == "half a frame":
        os.write(3, b"\x30\0\0\0gabc")
        os._exit(0)
    if what == "bad result":
        os.write(3, b"\x03\0\0\0Rab")
        time.sleep(60)
    if what == "bad error":
        os.write(3, b"\x03\0\0\0Eab")
        time.sleep(60)
    if what == "two answers":
        os.write(3, b"\x0a\0\0\0R\0\0\0\0\x01\0\0\0" b"1" * 2)
        time.sleep(60)
    if what == "not JSON":
        os.write(3, b"\x0a\0\0\0R\0\0\0\0\x01\0\0\0{")
        time.sleep(60)
    if what == "stack":
        sys.setrecursionlimit(1 << 30)
        def deep(x): return [deep(x)]
        class A:
            def __eq__(self, other): return A() == A()
            __repr__ = lambda self: repr([self])
        repr(A())
    if what == "shared memory":
        held = []
        while True:
            held.append(mmap.mmap(-1, 64 << 20))
    if what == "fork":
        if os.fork() == 0:
            try:
                cb.put("k", 1)
            except RuntimeError:
                os._exit(7)
            os._exit(8)
        return os.waitstatus_to_exitcode(os.wait()[1]) if hasattr(os, "waitstatus_to_exitcode") else os.wait()[1] >> 8
    if what == "forked and returned":
        if os.fork() == 0:
            return "child"
        os.wait()
        return "parent"
    return what
`

func TestCrashes(t *testing.T) {
	for _, interpreter := range interpreters(t) {
		f := load(t, config(t, interpreter), runtime.Program{Path: program(t, "main.py", crashesProgram), Concurrency: 1})
		for _, tc := range []struct{ what, msg, stack string }{
			{"exit", "exit status 3", "before exit"},
			{"segfault", "segmentation fault", `File`},
			{"kill", "was killed: it took more memory than the machine has", "before kill"},
			{"close", "exit status 70", "Bad file descriptor"},
			{"close and stay", "closed its connection", ""},
			{"close in a thread", "closed its connection", ""},
			{"large frame", "garbage to its connection: a frame of 4294967295 bytes", "before large frame"},
			{"empty frame", "an empty frame", ""},
			{"unknown frame", `a frame that begins with "gbc"`, ""},
			{"half a frame", "exit status 0", ""},
			{"bad result", "a result that can't be read", ""},
			{"bad error", "an error that can't be read", ""},
			{"two answers", "bytes after a frame", ""},
			{"not JSON", "not valid JSON", ""},
			{"stack", "segmentation fault", "File \"main.py\", line 48"},
		} {
			call := runtimetest.NewCall("f", `"`+tc.what+`"`)
			var log bytes.Buffer
			call.Log = &log
			_, err := invoke(t, f, call)
			e, ok := err.(*wire.Error) //nolint:errorlint // as runtime.Function promises
			if !ok || e.Kind != wire.KindPanic || !strings.Contains(e.Msg, tc.msg) || !strings.Contains(e.Stack, tc.stack) {
				t.Errorf("%s: got %v\n%s\nwant %q and %q", tc.what, err, stackOf(err), tc.msg, tc.stack)
			}
			if !strings.HasPrefix(log.String(), "before "+tc.what+"\n") {
				t.Errorf("%s: log %q", tc.what, log.String())
			}
			if got, err := invoke(t, f, runtimetest.NewCall("f", `"fine"`)); got != `"fine"` || err != nil {
				t.Fatalf("after %s: got %s %v", tc.what, got, err)
			}
		}
		for what, want := range map[string]string{"fork": "7", "forked and returned": `"parent"`} {
			if got, err := invoke(t, f, runtimetest.NewCall("f", `"`+what+`"`)); got != want || err != nil {
				t.Errorf("%s: got %s %v, want %s", what, got, err, want)
			}
		}
		if _, err := invoke(t, f, runtimetest.NewCall("f", `"shared memory"`)); wire.KindOf(err) != wire.KindFunction {
			t.Errorf("shared memory: got %v", err)
		}
	}
}

const logProgram = `
import os, subprocess, sys, threading, time

def handler(cb, what):
    if what == "all":
        print("printed", end="")
        print(" and more")
        sys.stderr.write("to stderr\n")
        os.write(1, b"raw\n")
        os.system("echo from a child")
        cb.log("logged", 1)
        print("\udcff\xe4")
        os.write(2, b"\xff\n")
        print("no end of line", end="")
    if what == "long":
        print("x" * 100000)
    if what == "flood":
        for i in range(100000):
            print(i, "flood" * 10)
    if what == "later":
        def late():
            time.sleep(0.05)
            print("late")
        threading.Thread(target=late).start()
    if what == "wait":
        time.sleep(0.1)
    if what == "closed":
        sys.stdout.close()
    if what == "replaced":
        sys.stdout = None
`

func TestLog(t *testing.T) {
	f := load(t, python.Config{}, runtime.Program{Path: program(t, "main.py", "print('imported')\n"+logProgram), Concurrency: 1})
	run := func(what string) string {
		t.Helper()
		call := runtimetest.NewCall("f", `"`+what+`"`)
		var log bytes.Buffer
		call.Log = &log
		if _, err := invoke(t, f, call); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		return log.String()
	}
	const all = "printed and more\nto stderr\nraw\nfrom a child\nlogged 1\n\\udcffä\n\xff\nno end of line\n"
	for range 50 {
		if got := run("all"); got != all {
			t.Fatalf("got %q, want %q", got, all)
		}
	}
	if got, want := run("long"), strings.Repeat("x", 64<<10)+"\n"+strings.Repeat("x", 100000-64<<10)+"\n"; got != want {
		t.Errorf("a long line: got %d bytes, want %d", len(got), len(want))
	}
	lines := strings.Split(run("flood"), "\n")
	if len(lines) != 100001 || lines[99999] != "99999 "+strings.Repeat("flood", 10) {
		t.Errorf("a flood: got %d lines, the last %q", len(lines), lines[len(lines)-1])
	}
	if got := run("later"); got != "" {
		t.Errorf("what is printed later: got %q at once", got)
	}
	if got := run("wait"); got != "late\n" { // documented: in the log of a later call
		t.Errorf("what is printed later: got %q", got)
	}
	run("closed")
	run("replaced")
	if got := run("nothing"); got != "" {
		t.Errorf("nothing: got %q", got)
	}
}

// A call that is stopped has in its log what it had printed, and takes with it what
// it has started.
func TestStopped(t *testing.T) {
	const text = `
import subprocess, sys, time

def handler(cb, how):
    child = subprocess.Popen(["sleep", "1000"], start_new_session=how == "escape")
    print(child.pid, flush=True)
    if how == "C":
        import re
        re.match("(a|a)*$", "a" * 200 + "b")
    while True:
        pass
`
	for _, interpreter := range interpreters(t) {
		var warned string
		cfg := config(t, interpreter)
		cfg.Warn = func(text string) { warned = text }
		f := load(t, cfg, runtime.Program{Path: program(t, "main.py", text)})
		for _, how := range []string{"loop", "C", "escape"} {
			if how == "escape" && (warned != "" || os.Getuid() != 0) {
				t.Logf("%s: what leaves its process group isn't ended where instances have no user of their own", interpreter)
				continue
			}
			cause := errors.New("time is up")
			ctx, cancel := context.WithCancelCause(t.Context())
			call := runtimetest.NewCall("f", `"`+how+`"`)
			printed := newLines()
			call.Log = printed
			var pid int
			var group sync.WaitGroup
			group.Go(func() {
				pid, _ = strconv.Atoi(<-printed.first)
				cancel(cause)
			})
			began := time.Now()
			if _, err := f.Invoke(ctx, call); !errors.Is(err, cause) {
				t.Errorf("%s: got %v, want %v", how, err, cause)
			}
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("%s: took %v", how, took)
			}
			group.Wait()
			eventually(t, func() error {
				if pid > 0 && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) || zombie(pid) {
					return nil
				}
				return fmt.Errorf("%s: its child %d is still there", how, pid)
			})
		}
	}
}

func zombie(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || bytes.Contains(text, []byte(") Z "))
}

// lines takes a log, and hands out its first line as soon as it is there.
type lines struct {
	once  sync.Once
	first chan string
}

func newLines() *lines { return &lines{first: make(chan string, 1)} }

func (l *lines) Write(text []byte) (int, error) {
	line, _, _ := strings.Cut(string(text), "\n")
	l.once.Do(func() { l.first <- line })
	return len(text), nil
}

// The worker's death is its instances', even in the midst of C code.
func TestWorkerDies(t *testing.T) {
	for _, interpreter := range interpreters(t) {
		cmd := exec.Command(os.Args[0]) //nolint:gosec // this test
		cfg := config(t, interpreter)
		cmd.Env = append(os.Environ(), "PYTHON_TEST_ROLE="+interpreter, "TMPDIR="+cfg.Scratch)
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
	}
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
	dir, err := os.MkdirTemp("", "program-")
	if err == nil {
		err = os.WriteFile(dir+"/main.py", []byte(busyProgram), 0o600)
	}
	var f runtime.Loaded
	if err == nil {
		f, err = python.New(python.Config{Interpreter: interpreter}).Load(context.Background(), runtime.Program{Path: dir, Concurrency: 3})
	}
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, how := range []string{"loop", "C", "sleep"} {
		go func() {
			call := runtimetest.NewCall("f", `"`+how+`"`)
			call.Log = os.Stdout
			_, err := f.Invoke(context.Background(), call)
			fmt.Println(err)
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
	if got, err := invoke(t, f, call); got != `["the call that this belonged to has ended"]` || err != nil {
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
	for _, interpreter := range interpreters(t) {
		cfg := config(t, interpreter)
		switched, confined := os.Getuid() == 0, true
		cfg.Warn = func(text string) {
			t.Log(text)
			if strings.Contains(text, "Landlock") || strings.Contains(text, "ctypes") {
				confined = false
			}
			switched = false
		}
		f := load(t, cfg, runtime.Program{Path: program(t, "main.py", isolationProgram), Memory: 128 << 20})
		paths := []string{secret, fmt.Sprintf("/proc/%d/environ", os.Getpid()), fmt.Sprintf("/proc/%d/mem", os.Getpid())}
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
		if switched && (got.UID < 65534 || len(got.Groups) > 0) || fmt.Sprint(got.Reads) != "[PermissionError PermissionError PermissionError]" || got.Kills != "PermissionError" {
			t.Errorf("%s: got %+v", interpreter, got)
		}
	}
}
