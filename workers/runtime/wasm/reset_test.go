package wasm

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloudburst-nats/cloudburst/wire"
	"github.com/cloudburst-nats/cloudburst/workers/runtime"
)

func TestNothingIsRemembered(t *testing.T) {
	r := newRuntime(t, Config{})
	f := load(t, r, "remember")
	first, err := invoke(t, f, "")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		v, err := invoke(t, f, "")
		if err != nil || string(v.Body) != string(first.Body) {
			t.Fatalf("call %d = %s, %v; the first was %s", i+2, v.Body, err, first.Body)
		}
	}
	if f.total != 1 {
		t.Errorf("%d instances for calls one after the other, want 1", f.total)
	}
}

// Nor by what isn't memory.
func TestNothingElseIsRemembered(t *testing.T) {
	r := newRuntime(t, Config{})
	f := loadProgram(t, r, runtime.Program{Function: "test", Path: "testdata/tables.wasm"})
	for i := range 5 {
		if v, err := invoke(t, f, ""); err != nil || string(v.Body) != "000012" {
			t.Fatalf("call %d = %s, %v; want 000012", i+1, v.Body, err)
		}
	}
	if f.total != 1 {
		t.Errorf("%d instances for calls one after the other, want 1", f.total)
	}
}

// How an instance gets ready depends on what its _initialize asks for.
func TestModes(t *testing.T) {
	r := newRuntime(t, Config{})
	for _, tt := range []struct {
		path       string
		args, want string
		mode       mode
	}{
		{"testdata/guest.wasm", "5", "5", fromImage},
		{"testdata/command.wasm", "55", "55", fromImage},
		{"testdata/once.wasm", "", "0", fromImage},
		{"testdata/prepared.wasm", "", "", fromImage},
		{"testdata/late.wasm", `"the argument !"`, `"the argument !"`, inCall},
	} {
		f := loadProgram(t, r, runtime.Program{Function: "test", Path: tt.path, Concurrency: 3})
		for i := range 10 {
			v, err := invoke(t, f, tt.args)
			if i == 0 && tt.want == "" { // it is the first that says
				tt.want = string(v.Body)
			}
			if err != nil || string(v.Body) != tt.want {
				t.Errorf("%s: got %q, %v; want %q", tt.path, v.Body, err, tt.want)
			}
		}
		if f.mode != tt.mode {
			t.Errorf("%s: mode %v, want %v", tt.path, f.mode, tt.mode)
		}
		many(t, f, tt.args, tt.want)
		if f.total > 3 {
			t.Errorf("%s: %d instances, want 3 at most", tt.path, f.total)
		}
	}
}

// many calls a function from several goroutines at once.
func many(t *testing.T, f *function, args, want string) {
	t.Helper()
	var group sync.WaitGroup
	for range 6 {
		group.Go(func() {
			for range 20 {
				if v, err := invoke(t, f, args); err != nil || string(v.Body) != want {
					t.Errorf("got %q, %v; want %q", v.Body, err, want)
				}
			}
		})
	}
	group.Wait()
}

// Instances that aren't used any more are closed.
func TestUnused(t *testing.T) {
	r := newRuntime(t, Config{})
	f := loadProgram(t, r, runtime.Program{Function: "test", Path: "testdata/guest.wasm", Entry: "nap", Concurrency: 10})
	var group sync.WaitGroup
	for range 10 {
		group.Go(func() {
			if _, err := invoke(t, f, ""); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	before := f.total
	f.mu.Lock()
	for _, inst := range f.idle {
		inst.used = inst.used.Add(-2 * unused)
	}
	f.mu.Unlock()
	for range before {
		if _, err := invoke(t, f, ""); err != nil {
			t.Fatal(err)
		}
	}
	if before != 10 || f.total != 1 || len(f.idle) != 1 {
		t.Errorf("%d instances, then %d of which %d are idle; want 10, then 1", before, f.total, len(f.idle))
	}
}

// What was compiled and is damaged on disk is compiled again.
func TestDamagedCache(t *testing.T) {
	dir := t.TempDir()
	for range 3 {
		r, err := New(Config{Cache: dir})
		if err != nil {
			t.Fatal(err)
		}
		if v, err := invoke(t, load(t, r, ""), "5"); err != nil || string(v.Body) != "5" {
			t.Fatalf("got %s, %v", v.Body, err)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		if err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			return os.Truncate(path, info.Size()/2)
		}); err != nil {
			t.Fatal(err)
		}
	}
}

// In Go, each call has the memory of its first, and random numbers of its own.
func TestGo(t *testing.T) {
	r := newRuntime(t, Config{})
	f := loadProgram(t, r, runtime.Program{Function: "test", Path: goGuest(t, "conformance"), Entry: "run_count", Concurrency: 3})
	var mu sync.Mutex
	seen := make(map[uint64]bool)
	var group sync.WaitGroup
	for range 6 {
		group.Go(func() {
			for range 20 {
				v, err := invoke(t, f, "")
				var got []uint64
				if err != nil || v.Decode(&got) != nil {
					t.Errorf("got %s, %v", v.Body, err)
					return
				}
				mu.Lock()
				if got[0] != 1 || seen[got[1]] {
					t.Errorf("got %s; want 1 and a number that wasn't there before", v.Body)
				}
				seen[got[1]] = true
				mu.Unlock()
			}
		})
	}
	group.Wait()
	if f.mode != ahead || f.total > 3 {
		t.Errorf("mode %v and %d instances, want %v, for it asks for random numbers, and 3 at most", f.mode, f.total, ahead)
	}
	fail := loadProgram(t, r, runtime.Program{Function: "test", Path: goGuest(t, "conformance"), Entry: "run_fail"})
	_, err := invoke(t, fail, `"on purpose"`)
	if e, ok := errors.AsType[*wire.Error](err); !ok || e.Kind != wire.KindPanic || e.Msg != "panic: on purpose" || !strings.Contains(e.Stack, "main.explode") {
		t.Errorf("got %v with the stack\n%s", err, stackIn(e))
	}
}

func TestClocksAndChance(t *testing.T) {
	r := newRuntime(t, Config{})
	f := load(t, r, "chance")
	last := int64(-1)
	for range 5 {
		v, err := invoke(t, f, "")
		var got []int64
		if err != nil || v.Decode(&got) != nil {
			t.Fatalf("got %s, %v", v.Body, err)
		}
		at := time.Unix(got[0], got[1])
		if d := time.Since(at); d < 0 || d > time.Minute || got[1]%int64(time.Millisecond) != 0 {
			t.Errorf("the time is %v, %v ago; want it exact to 1 ms", at, d)
		}
		if got[2] == last {
			t.Errorf("the random number %d twice", last)
		}
		last = got[2]
	}
}

// Where the system doesn't tell what was written to, memory is put back as well;
// where an instance can't be put back at all, each call has one of its own.
func TestFallbacks(t *testing.T) {
	r := newRuntime(t, Config{})
	pagemap := r.pagemap
	r.pagemap = nil
	t.Cleanup(func() { r.pagemap = pagemap })
	for _, tt := range []struct{ path, entry, want string }{
		{"testdata/once.wasm", "", "0"}, {"testdata/guest.wasm", "remember", ""}, {goGuest(t, "conformance"), "run_remember", "0"},
	} {
		f := loadProgram(t, r, runtime.Program{Function: "test", Path: tt.path, Entry: tt.entry})
		for i := range 12 {
			if i > 8 {
				f.hand.Wait() // those that are being made ready
				for _, inst := range f.idle {
					inst.in = nil
				}
			}
			v, err := invoke(t, f, "")
			if tt.want == "" {
				tt.want = string(v.Body)
			}
			if err != nil || string(v.Body) != tt.want {
				t.Errorf("%s, call %d: got %s, %v; want %s", tt.path, i, v.Body, err, tt.want)
			}
		}
	}
}
