//go:build unix

package python_test

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/cloudburst-nats/cloudburst/workers/runtime"
	"github.com/cloudburst-nats/cloudburst/workers/runtime/runtimetest"
)

// Programs use fixed names below /tmp. Each instance has a /tmp of its own where the worker is
// root, and elsewhere none that it can write to, or the machine's: nothing is left in any case.
func TestTemporaryFiles(t *testing.T) {
	const name = "cloudburst-python-test-fixed-name"
	cfg := config(t, "python3")
	var warned strings.Builder
	cfg.Warn = func(text string) { warned.WriteString(text) }
	f := load(t, cfg, runtime.Program{Concurrency: 2, Path: program(t, "main.py", `
import os, tempfile

def handler(cb, me, other):
    path = "/tmp/`+name+`"
    try:
        with open(path, "x") as f:
            f.write(me)
    except PermissionError:
        return [me, "denied"]
    cb.send(other, "written")  # so that both have, before either reads
    cb.recv(timeout=60)
    with open(path) as f:
        read = f.read()
    os.unlink(path)
    with open("/var/tmp/`+name+`", "w") as f:
        f.write(me)  # and stay
    with tempfile.NamedTemporaryFile(delete=False) as f:
        f.write(b"left")
    return [read, os.path.exists(f.name)]
`)})
	post := runtimetest.NewPost()
	got := make([]string, 2)
	var group sync.WaitGroup
	for i, ids := range [][2]string{{"a", "b"}, {"b", "a"}} {
		group.Go(func() {
			call := runtimetest.NewCall("f", `["`+ids[0]+`","`+ids[1]+`"]`)
			call.Mail = post.Mail(ids[0])
			var err error
			if got[i], err = invoke(t, f, call); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if shared := strings.Contains(warned.String(), "share /tmp"); os.Geteuid() == 0 && !shared && (got[0] != `["a",true]` || got[1] != `["b",true]`) {
		t.Errorf("each wrote and read a file of the same name: got %v", got)
	}
	if os.Geteuid() != 0 {
		t.Logf("as another user than root: %v", got)
	}
	f.Close()
	for _, dir := range []string{"/tmp", "/var/tmp"} {
		if _, err := os.Stat(filepath.Join(dir, name)); os.Geteuid() == 0 && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("left in %s: %v", dir, err)
		}
	}
}

// An interpreter that is itself below /tmp runs all the same.
func TestInterpreterBelowTemporary(t *testing.T) {
	dir := config(t, "python3").Scratch // others can enter it
	link := filepath.Join(dir, "bin", "python3")
	if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil { //nolint:gosec // likewise
		t.Fatal(err)
	}
	found := interpreters(t)
	path := found[len(found)-1]
	executable, err := exec.Command(path, "-c", "import sys; print(sys.executable)").Output()
	if err == nil {
		err = os.Symlink(strings.TrimSpace(string(executable)), link)
	}
	if err == nil { // which makes it a virtual environment
		home := "home = " + filepath.Dir(strings.TrimSpace(string(executable))) + "\n"
		err = os.WriteFile(filepath.Join(dir, "pyvenv.cfg"), []byte(home), 0o644) //nolint:gosec // others read it
	}
	if err != nil {
		t.Fatal(err)
	}
	f := load(t, config(t, link), runtime.Program{Path: program(t, "main.py", "import sys\ndef handler(cb): return sys.executable")})
	if got, err := invoke(t, f, runtimetest.NewCall("f", "")); got != `"`+link+`"` || err != nil {
		t.Errorf("got %s %v, want %s", got, err, link)
	}
}
