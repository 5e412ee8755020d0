//go:build unix

package python_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cloudburst-nats/cloudburst/wire"
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
    if what == "spawn":
        import multiprocessing
        with multiprocessing.get_context("spawn").Pool(2) as pool:
            return pool.map(abs, [-1, -2])
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
		for what, want := range map[string]string{"fork": "7", "spawn": "[1,2]", "forked and returned": `"parent"`} {
			if got, err := invoke(t, f, runtimetest.NewCall("f", `"`+what+`"`)); got != want || err != nil {
				t.Errorf("%s: got %s %v, want %s", what, got, err, want)
			}
		}
		// Python 3.12 and later notice.
		_, err := invoke(t, f, runtimetest.NewCall("f", `"stack"`))
		if kind := wire.KindOf(err); kind != wire.KindFunction && (kind != wire.KindPanic || !strings.Contains(stackOf(err), "File \"main.py\", line 48")) {
			t.Errorf("stack: got %v\n%s", err, stackOf(err))
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
			if took := time.Since(began); took > time.Minute {
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
