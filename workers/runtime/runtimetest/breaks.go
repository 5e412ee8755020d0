package runtimetest

import (
	"bytes"
	"context"
	"errors"
	stdruntime "runtime"
	"sync"
	"testing"
	"time"

	"github.com/cloudburst-nats/cloudburst/wire"
	"github.com/cloudburst-nats/cloudburst/workers/runtime"
)

// errTime ends calls of these tests.
var errTime = &wire.Error{Op: "run", Kind: wire.KindTimeout, Msg: "its time is up"}

func (s Suite) time(t *testing.T) {
	sleep := s.load(t, "sleep", runtime.Program{})
	s.stopped(t, sleep, NewCall("sleep", "60000"))
	returns(t, sleep, NewCall("sleep", "1"), `"fine"`)

	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errTime)
	if _, err := sleep.Invoke(ctx, NewCall("sleep", "1")); !errors.Is(err, errTime) {
		t.Errorf("a call whose time was up before: got %v, want %v", err, errTime)
	}
	if s.NoStop != "" {
		t.Log("a loop isn't stopped: ", s.NoStop)
		return
	}
	loop := s.load(t, "loop", runtime.Program{Concurrency: 2})
	fine(t, loop, "loop")
	for range 3 {
		s.stopped(t, loop, NewCall("loop", "true"))
		fine(t, loop, "loop")
	}
	s.waits(t)
}

// stopped runs a call that doesn't end by itself until its time is up.
func (s Suite) stopped(t *testing.T, f runtime.Function, call *runtime.Call) {
	t.Helper()
	const limit = 100 * time.Millisecond
	ctx, cancel := context.WithTimeoutCause(t.Context(), limit, errTime)
	defer cancel()
	began := time.Now()
	_, err := f.Invoke(ctx, call)
	if took := time.Since(began); took > limit+5*time.Second {
		t.Errorf("%s: ended %v after its time was up", call.Function, took-limit)
	}
	if !errors.Is(err, errTime) {
		t.Errorf("%s: got %v, want %v", call.Function, err, errTime)
	}
}

// waits has calls wait for an instance, some longer than they can.
func (s Suite) waits(t *testing.T) {
	t.Helper()
	f := s.load(t, "sleep", runtime.Program{Concurrency: 1})
	ctx, cancel := context.WithCancelCause(t.Context())
	var group sync.WaitGroup
	for range 5 {
		group.Go(func() {
			if _, err := f.Invoke(ctx, NewCall("sleep", "60000")); !errors.Is(err, errTime) {
				t.Errorf("got %v, want %v", err, errTime)
			}
		})
	}
	s.stopped(t, f, NewCall("sleep", "60000"))
	cancel(errTime)
	group.Wait()
	returns(t, f, NewCall("sleep", "0"), `"fine"`)
}

func (s Suite) misbehaving(t *testing.T) {
	if s.NoMemory != "" {
		t.Log("memory isn't bounded: ", s.NoMemory)
	} else {
		f := s.load(t, "memory", runtime.Program{Memory: 128 << 20, Concurrency: 1})
		s.survives(t, f, "memory", true)
	}
	if s.NoCrash != "" {
		t.Log("doesn't outlive a crash: ", s.NoCrash)
		return
	}
	f := s.load(t, "crash", runtime.Program{Concurrency: 1})
	s.survives(t, f, "crash", true)
	f = s.load(t, "garbage", runtime.Program{Concurrency: 1})
	s.survives(t, f, "garbage", false)
}

// survives has a program misbehave, which must be an error if mustFail.
func (s Suite) survives(t *testing.T, f runtime.Function, program string, mustFail bool) {
	t.Helper()
	fine(t, f, program)
	for range 2 {
		call := NewCall(program, "true")
		call.Log = new(bytes.Buffer)
		_, err := invoke(t, f, call)
		switch kind := wire.KindOf(err); {
		case err == nil && mustFail:
			t.Errorf("%s: no error", program)
		case err != nil && kind != wire.KindFunction && kind != wire.KindPanic && (program != "memory" || kind != wire.KindPermanent):
			t.Errorf("%s: got %v, want a function that failed or panicked", program, err)
		case err != nil:
			t.Logf("%s: %v", program, err)
		}
		fine(t, f, program)
	}
}

func (s Suite) close(t *testing.T) {
	idle := s.load(t, "echo", runtime.Program{})
	returns(t, idle, NewCall("echo", "1"), "1")
	if s.NoStop != "" {
		t.Log("calls in hand don't end with Close: ", s.NoStop)
		return
	}
	f := s.load(t, "sleep", runtime.Program{Concurrency: 2})
	returns(t, f, NewCall("sleep", "0"), `"fine"`)
	var group sync.WaitGroup
	for range 4 { // two of which wait
		group.Go(func() {
			if _, err := invoke(t, f, NewCall("sleep", "120000")); err == nil || errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("a call in hand when its function was closed: got %v, want an error at once", err)
			}
		})
	}
	if err := f.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	group.Wait()
	if _, err := invoke(t, f, NewCall("sleep", "0")); err == nil {
		t.Error("a call of what is closed: no error")
	}
}

// noneLeft waits until there are no more goroutines than before, and nothing else.
func noneLeft(t *testing.T, before int, left func() error) {
	t.Helper()
	deadline := time.Now().Add(within)
	for {
		now := goroutines()
		var err error
		if left != nil {
			err = left()
		}
		if now <= before && err == nil {
			return
		}
		if time.Now().After(deadline) {
			stacks := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, and %d before; left: %v\n%s", now, before, err, stacks[:stdruntime.Stack(stacks, true)])
		}
		<-time.After(10 * time.Millisecond)
	}
}

func goroutines() int { return stdruntime.NumGoroutine() }
