package wasm

import (
	"fmt"
	"os"
	goruntime "runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloudburst-nats/cloudburst/wire"
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
	before, after := mapped(t), mapping{}
	for round := range 5 {
		r, err := New(Config{Cache: cacheDir})
		if err != nil {
			t.Fatal(err)
		}
		var all []runtime.Loaded
		for _, entry := range []string{"sleeper", "loop", "", "remember"} {
			all = append(all, load(t, r, entry))
		}
		all = append(all, loadProgram(t, r, runtime.Program{Function: "test", Path: goGuest(t, "conformance"), Entry: "run_echo"}))
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
		<-time.After(time.Duration(round) * 20 * time.Millisecond)
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
		if after = mapped(t); after.code <= before.code && after.images == 0 && after.total < before.total+1<<30 {
			return
		}
		<-time.After(10 * time.Millisecond)
	}
	t.Errorf("mapped are %+v, and before it was %+v", after, before)
}

// A mapping is what memory the process has mapped, where the system tells.
type mapping struct {
	code, images int // how many: of machine code that is no file's; of images
	total        int64
}

func mapped(t *testing.T) (m mapping) {
	t.Helper()
	b, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return m
	}
	for line := range strings.Lines(string(b)) {
		var from, to uint64
		var flags, offset, device, inode string
		if n, err := fmt.Sscanf(line, "%x-%x %s %s %s %s", &from, &to, &flags, &offset, &device, &inode); n != 6 {
			t.Fatalf("%q: %v", line, err)
		}
		m.total += int64(to - from)
		if strings.Contains(line, "memfd:cloudburst") {
			m.images++
		}
		if flags[2] == 'x' && inode == "0" && !strings.Contains(line, "[") {
			m.code++
		}
	}
	return m
}

// Two programs of one module have limits of their own.
func TestSameModuleTwice(t *testing.T) {
	r := newRuntime(t, Config{})
	path := goGuest(t, "conformance")
	one := loadProgram(t, r, runtime.Program{Function: "one", Path: path, Entry: "run_echo", Memory: 32 << 20})
	two := loadProgram(t, r, runtime.Program{Function: "two", Path: path, Entry: "run_count"})
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
