package wasm

import (
	"bytes"
	"os"
	goruntime "runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/cloudburst-nats/cloudburst/broker/wire"
	"github.com/cloudburst-nats/cloudburst/workers/runtime"
)

func TestConcurrency(t *testing.T) {
	r := newRuntime(t, Config{})
	f := loadProgram(t, r, runtime.Program{Function: "test", Path: "testdata/guest.wasm", Entry: "nap", Concurrency: 50})
	var group sync.WaitGroup
	for range 1000 {
		group.Go(func() {
			v, err := invoke(t, f, "")
			if ms, bad := strconv.Atoi(string(v.Body)); err != nil || bad != nil || ms < 15 {
				t.Errorf("a nap of 20 ms took %s, %v", v.Body, err)
			}
		})
	}
	group.Wait()
	if f.total > 50 {
		t.Errorf("%d instances, want 50 at most", f.total)
	}
}

func TestClose(t *testing.T) {
	before := mappings(t)
	for round := range 5 {
		r, err := New(Config{Cache: cacheDir})
		if err != nil {
			t.Fatal(err)
		}
		var all []runtime.Loaded
		for _, entry := range []string{"sleeper", "loop", "", "remember"} {
			all = append(all, load(t, r, entry))
		}
		all = append(all, loadProgram(t, r, runtime.Program{Function: "test", Path: goGuest(t, "goreactor")}))
		var group sync.WaitGroup
		for range 20 {
			for _, f := range all {
				group.Go(func() {
					for {
						_, err := invoke(t, f, "1")
						if wire.KindOf(err) == wire.KindUnavailable {
							return // closed
						}
						if err != nil {
							t.Errorf("a call of what is being closed: %v", err)
							return
						}
					}
				})
			}
		}
		time.Sleep(time.Duration(round) * 20 * time.Millisecond)
		group.Go(func() { _ = all[0].Close() })
		group.Go(func() { _ = all[0].Close() })
		if err := r.Close(); err != nil {
			t.Fatal("close:", err)
		}
		group.Wait()
		if _, err := r.Load(t.Context(), runtime.Program{Path: "testdata/guest.wasm"}); wire.KindOf(err) != wire.KindUnavailable {
			t.Errorf("load after Close: %v", err)
		}
	}
	for range 100 { // code is freed by finalizers
		goruntime.GC()
		if mappings(t) <= before+20 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("%d mappings of memory, and %d before", mappings(t), before)
}

// mappings counts the mappings of memory that the process has, where it can.
func mappings(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return 0
	}
	return bytes.Count(b, []byte("\n"))
}

// Two programs of one module have limits of their own.
func TestSameModuleTwice(t *testing.T) {
	r := newRuntime(t, Config{})
	path := goGuest(t, "goreactor")
	one := loadProgram(t, r, runtime.Program{Function: "one", Path: path, Memory: 32 << 20})
	two := loadProgram(t, r, runtime.Program{Function: "two", Path: path, Entry: "count"})
	if _, err := invoke(t, one, "1"); err != nil {
		t.Fatal(err)
	}
	if err := one.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := invoke(t, two, "1"); err != nil {
		t.Fatal(err)
	}
}
