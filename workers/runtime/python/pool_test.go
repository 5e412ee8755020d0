//go:build unix

package python

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloudburst-nats/cloudburst/workers/runtime"
	"github.com/cloudburst-nats/cloudburst/workers/runtime/runtimetest"
)

const poolProgram = `
import os, time

n = 0

def handler(cb, gate):
    global n
    n += 1
    while gate and not os.path.exists(gate):
        time.sleep(0.002)
    return [os.getpid(), n]
`

// pool is a function whose calls return the process that ran them, and their number
// there, once the file exists that is their argument.
type pool struct {
	*testing.T
	f    *function
	next *atomic.Int64 // gate
	dir  string        // of gates, which instances see although their /tmp is another one
}

func newPool(t *testing.T, cfg Config, concurrency int) pool {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "main.py"), []byte(poolProgram), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg.Scratch, cfg.Read = t.TempDir(), []string{dir}
	f, err := New(cfg).Load(t.Context(), runtime.Program{Function: "f", Path: dir, Concurrency: concurrency})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return pool{t, f.(*function), new(atomic.Int64), dir}
}

func (p pool) call(ctx context.Context, gate string) (pid, n int, err error) {
	v, err := p.f.Invoke(ctx, runtimetest.NewCall("f", `"`+gate+`"`))
	if err != nil {
		return 0, 0, err
	}
	var got [2]int
	err = v.Decode(&got)
	return got[0], got[1], err
}

func (p pool) must(gate string) int {
	ctx, cancel := context.WithTimeout(p.Context(), time.Minute)
	defer cancel()
	pid, _, err := p.call(ctx, gate)
	if err != nil {
		p.Error(err)
	}
	return pid
}

// gate returns a file that isn't there, and what makes it.
func (p pool) gate() (path string, open func()) {
	path = filepath.Join(p.dir, fmt.Sprint("open", p.next.Add(1)))
	return path, func() {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			p.Error(err)
		}
	}
}

// until waits for a fact about the function.
func (p pool) until(what string, fact func(f *function) bool) {
	p.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		p.f.mu.Lock()
		ok := fact(p.f)
		state := fmt.Sprintf("%d places, %d starting, %d live, %d idle, %d waiting", p.f.places, p.f.starting, len(p.f.live), len(p.f.idle), p.f.room.Waiting())
		p.f.mu.Unlock()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			p.Fatalf("not yet: %s: %s", what, state)
		}
		<-time.After(time.Millisecond)
	}
}

func TestInstances(t *testing.T) {
	p := newPool(t, Config{Idle: 100 * time.Millisecond}, 3)
	gate, open := p.gate()
	var group sync.WaitGroup
	var mu sync.Mutex
	pids := make(map[int]int)
	for range 10 {
		group.Go(func() {
			pid := p.must(gate)
			mu.Lock()
			defer mu.Unlock()
			pids[pid]++
		})
	}
	p.until("three instances, seven calls that wait", func(f *function) bool {
		return len(f.live) == 3 && f.starting == 0 && len(f.waiting) == 0 && f.room.Waiting() == 7
	})
	open()
	group.Wait()
	if len(pids) != 3 {
		t.Errorf("ran in %v, want three processes", pids)
	}
	last := p.must("")
	for range 5 {
		if pid := p.must(""); pid != last {
			t.Errorf("ran in %d, want the one that was used last: %d", pid, last)
		}
	}
	p.until("the others have ended", func(f *function) bool { return len(f.live) == 1 && len(f.idle) == 1 && f.places == f.room.Held()-1 })
	if pid := p.must(""); pid != last {
		t.Errorf("ran in %d, want the one that stays: %d", pid, last)
	}
}

// Calls are served in the order in which they came.
func TestOrder(t *testing.T) {
	p := newPool(t, Config{}, 1)
	gate, open := p.gate()
	var group sync.WaitGroup
	group.Go(func() { p.must(gate) })
	p.until("it is in a call", func(f *function) bool { return len(f.idle) == 0 })
	for i := range 10 {
		group.Go(func() {
			if _, n, err := p.call(t.Context(), ""); n != i+2 || err != nil {
				t.Errorf("call %d was served as number %d, %v", i+2, n, err)
			}
		})
		p.until("it waits", func(f *function) bool { return f.room.Waiting() == i+1 })
	}
	open()
	group.Wait()
}

// A call that goes away while it waits leaves its turn to the next, whatever happens
// at the same time.
func TestWaitersLeave(t *testing.T) {
	p := newPool(t, Config{}, 2)
	errGone := errors.New("gone")
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			for j := range 40 {
				ctx, cancel := context.WithTimeoutCause(t.Context(), time.Duration((i*37+j*11)%50)*20*time.Microsecond, errGone)
				if _, _, err := p.call(ctx, ""); err != nil && !errors.Is(err, errGone) {
					t.Error(err)
				}
				cancel()
			}
		})
	}
	group.Wait()
	p.until("all is as before", func(f *function) bool {
		return f.room.Waiting() == 0 && len(f.waiting) == 0 && f.starting == 0 && len(f.live) == len(f.idle) && len(f.live) <= 2 && f.places == f.room.Held()-len(f.idle)
	})
	p.must("")
}

// Close while calls come, wait, and start instances.
func TestCloseAtAnyTime(t *testing.T) {
	for i := range 12 {
		p := newPool(t, Config{}, 3)
		var group sync.WaitGroup
		for range 6 {
			group.Go(func() {
				for {
					if _, _, err := p.call(t.Context(), ""); err != nil {
						return
					}
				}
			})
		}
		<-time.After(time.Duration(i) * 3 * time.Millisecond)
		p.f.Close()
		group.Wait()
		if len(p.f.live) != 0 || len(p.f.waiting) != 0 {
			t.Errorf("left: %v %v", p.f.live, p.f.waiting)
		}
	}
}

// An instance that dies while it is idle isn't used.
func TestIdleDies(t *testing.T) {
	p := newPool(t, Config{}, 2)
	pid := p.must("")
	killGroup(pid)
	p.until("it is gone", func(f *function) bool { return len(f.live) == 0 && f.places == f.room.Held() })
	if again := p.must(""); again == pid {
		t.Errorf("ran in %d", again)
	}
}

// A start goes on when the call that needed it has gone.
func TestStartGoesOn(t *testing.T) {
	p := newPool(t, Config{}, 2)
	gate, open := p.gate()
	var group sync.WaitGroup
	group.Go(func() { p.must(gate) })
	p.until("it is in a call", func(f *function) bool { return len(f.idle) == 0 })
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, _, err := p.call(ctx, ""); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want no time for a start", err)
	}
	p.until("a second instance", func(f *function) bool { return len(f.idle) == 1 })
	open()
	group.Wait()
}
