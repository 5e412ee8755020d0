package workers

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudburst-nats/cloudburst/wire"
	"github.com/cloudburst-nats/cloudburst/workers/runtime"
)

// A function that waits has no slot until it goes on, on however many goroutines it waits.
func TestFunctionThatWaitsGivesUpItsSlot(t *testing.T) {
	r := newRig(t)
	first, second, goOn := make(chan struct{}), make(chan struct{}), make(chan struct{})
	r.host(wire.Function{Name: "f"}, func(ctx context.Context, c *runtime.Call) (wire.Value, error) {
		var both sync.WaitGroup
		for _, over := range []chan struct{}{first, second} {
			both.Go(func() { _ = runtime.Block(ctx, func() error { <-over; return nil }) })
		}
		both.Wait()
		<-goOn
		return wire.Value{}, nil
	})
	d, slots := newDelivery(), newSlots(1)
	r.Take(wire.Call{Name: "f", Run: "x", Attempt: 1}, d, slots)
	slots.wait(0)
	if r.Blocked() != 1 {
		t.Errorf("%d calls are blocked, want the one", r.Blocked())
	}
	close(first)
	if slots.taken != 0 {
		t.Error("a function took its slot back that still waits on another goroutine")
	}
	close(second)
	slots.mu.Lock()
	for slots.taken == 0 {
		slots.free.Wait()
	}
	slots.mu.Unlock()
	if r.Blocked() != 0 {
		t.Errorf("%d calls are blocked, and the one runs on", r.Blocked())
	}
	close(goOn)
	if end := <-d.ended; end != "finish" {
		t.Errorf("ended with %q", end)
	}
	slots.wait(0)
	if stats := r.Stats()["f"]; stats.Waited <= 0 || stats.Waited > stats.Took {
		t.Errorf("waited %v of %v", stats.Waited, stats.Took)
	}
}

// A function whose time is up while it waits gives nothing back twice.
func TestTimeoutWhileWaiting(t *testing.T) {
	r := newRig(t)
	over := make(chan struct{})
	returned := make(chan struct{})
	r.host(wire.Function{Name: "f", Timeout: time.Millisecond, Attempts: 1}, func(ctx context.Context, _ *runtime.Call) (wire.Value, error) {
		defer close(returned)
		return wire.Value{}, runtime.Block(ctx, func() error { <-over; return nil })
	})
	d := newDelivery()
	if end := r.take(t, wire.Call{Name: "f"}, d); end != "finish" || wire.KindOf(d.buried) != wire.KindTimeout {
		t.Errorf("ended with %q, buried with %v", end, d.buried)
	}
	close(over)
	<-returned
	if r.Blocked() != 0 || r.held != 0 || len(r.back) != 0 {
		t.Errorf("left: %d blocked, %d held, %d back", r.Blocked(), r.held, len(r.back))
	}
}

// At its bound a worker keeps calls until others end, and hands back still more. It takes
// those that the others wait for.
func TestCallsBeyondTheBound(t *testing.T) {
	r := newRig(t)
	r.cfg.InHand = wire.MaxDepth + 1
	over := make(chan struct{})
	var began atomic.Int32
	r.host(wire.Function{Name: "f"}, func(ctx context.Context, _ *runtime.Call) (wire.Value, error) {
		began.Add(1)
		return wire.Value{}, runtime.Block(ctx, func() error { <-over; return nil })
	})
	slots := newSlots(0)
	take := func(depth, attempt int) *delivery {
		d := newDelivery()
		slots.Retake()
		r.Take(wire.Call{Name: "f", Run: wire.RunID(strconv.Itoa(depth)), Attempt: attempt, Depth: depth}, d, slots)
		slots.wait(0)
		return d
	}
	const fit = 2 // of depth 0
	var held []*delivery
	for range fit + r.cfg.InHand {
		held = append(held, take(0, 1))
	}
	if n := began.Load(); n != fit || len(r.parked) != r.cfg.InHand {
		t.Errorf("%d calls began and %d are kept, want %d and %d", n, len(r.parked), fit, r.cfg.InHand)
	}
	for attempt, want := range []string{"nak 250ms", "nak 500ms", "nak 1s"} {
		if end := <-take(0, attempt+1).ended; end != want {
			t.Errorf("one more call ended with %q, want %q", end, want)
		}
	}
	for depth := 1; depth < wire.MaxDepth; depth++ {
		held = append(held, take(depth, 1))
	}
	if n := began.Load(); n != fit+wire.MaxDepth-1 {
		t.Errorf("%d calls began, with those that others wait for", n)
	}
	close(over)
	for i, d := range held {
		if end := <-d.ended; end != "finish" {
			t.Errorf("call %d ended with %q", i, end)
		}
	}
	slots.wait(0)
	if r.held != 0 || len(r.parked) != 0 || r.Blocked() != 0 {
		t.Errorf("left: %d held, %d parked, %d blocked", r.held, len(r.parked), r.Blocked())
	}
	if err := r.tooMany("f").Error(); !strings.Contains(err, "begun "+strconv.Itoa(r.cfg.InHand)+" calls") {
		t.Errorf("the log doesn't name the bound: %s", err)
	}
}

// A call that is cancelled before it began leaves nothing behind.
func TestCancelledWhileParked(t *testing.T) {
	r := newRig(t)
	r.cfg.InHand = 1
	over := make(chan struct{})
	r.host(wire.Function{Name: "f"}, func(ctx context.Context, _ *runtime.Call) (wire.Value, error) {
		return wire.Value{}, runtime.Block(ctx, func() error { <-over; return nil })
	})
	first, second, slots := newDelivery(), newDelivery(), newSlots(2)
	r.Take(wire.Call{Name: "f", Run: "a", Attempt: 1}, first, slots)
	r.Take(wire.Call{Name: "f", Run: "b", Attempt: 1}, second, slots)
	slots.wait(0)
	r.Cancel("b")
	if end := <-second.ended; end != "finish" || second.result.Status != wire.StatusCancelled || len(r.parked) != 0 {
		t.Errorf("ended with %q, %+v; %d parked", end, second.result, len(r.parked))
	}
	close(over)
	<-first.ended
}

// A worker that stops doesn't wait for what it may itself have to run.
func TestStoppingWorkerLeavesBlockedCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.SetAckWait(time.Second)
		r.host(wire.Function{Name: "f", Timeout: time.Hour}, func(ctx context.Context, _ *runtime.Call) (wire.Value, error) {
			return wire.Value{}, runtime.Block(ctx, func() error { <-ctx.Done(); return context.Cause(ctx) })
		})
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx) }()
		d, slots := newDelivery(), newSlots(1)
		r.Take(wire.Call{Name: "f", Run: "x", Attempt: 1}, d, slots)
		slots.wait(0)
		stop()
		if end := <-d.ended; end != "nak 250ms" || d.buried != nil {
			t.Errorf("ended with %q, buried %v, want it left to another worker", end, d.buried)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// The depth of calls is bounded, in words that say so.
func TestNestedTooDeep(t *testing.T) {
	ctx := runtime.Within(t.Context(), wire.MaxDepth-1, &place{})
	_, err := runtime.Nested(ctx, "f")
	e, ok := errors.AsType[*wire.Error](err)
	if !ok || e.Kind != wire.KindPermanent || !strings.Contains(e.Error(), "65th call") || !strings.Contains(e.Error(), "64 is the most") {
		t.Errorf("got %v", err)
	}
}
