package runtimetest

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/cloudburst-nats/cloudburst/wire"
	"github.com/cloudburst-nats/cloudburst/workers/runtime"
)

// A chain is what a call of a program has to call: the same program again, in a call one
// deeper, or "end", which returns its argument.
type chain struct {
	f runtime.Function

	mu   sync.Mutex // guards runs
	runs map[wire.RunID]chan outcome
}

var _ runtime.Functions = (*chain)(nil)

// Start runs the program beside the call that starts it.
func (c *chain) Start(ctx context.Context, name string, args wire.Value, _ wire.RunID) (wire.RunID, error) {
	depth, err := runtime.Nested(ctx, name)
	if err != nil {
		return "", err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	run := wire.RunID(fmt.Sprintf("%s-%d", name, len(c.runs)+1))
	ended := make(chan outcome, 1)
	c.runs[run] = ended
	if name == "end" {
		ended <- outcome{args, nil}
		return run, nil
	}
	call := NewCall(name, string(args.Body))
	call.Functions = c
	inner := runtime.Within(context.WithoutCancel(ctx), depth, slotless{})
	go func() {
		v, err := c.f.Invoke(inner, call)
		ended <- outcome{v, err}
	}()
	return run, nil
}

// Await waits for the program.
func (c *chain) Await(ctx context.Context, run wire.RunID) (v wire.Value, err error) {
	c.mu.Lock()
	ended := c.runs[run]
	c.mu.Unlock()
	err = runtime.Block(ctx, func() error {
		select {
		case o := <-ended:
			v = o.value
			return o.err
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	})
	return v, err
}

// slotless is a worker that has slots for all.
type slotless struct{}

func (slotless) Block(_ context.Context, wait func() error) error { return wait() }

// nested has calls wait for calls of the same program, with room for one at a time: a
// chain of them ends, and so do many chains beside each other, and one too deep says so.
func (s Suite) nested(t *testing.T) {
	f := s.load(t, "call", runtime.Program{Concurrency: 1})
	of := func(depth int, value string) string {
		return strings.Repeat(`["call",`, depth) + `["end",` + value + "]" + strings.Repeat("]", depth)
	}
	start := func(args string) (wire.Value, error) {
		call := NewCall("call", args)
		call.Functions = &chain{f: f, runs: make(map[wire.RunID]chan outcome)}
		ctx, cancel := context.WithTimeout(t.Context(), within)
		defer cancel()
		return f.Invoke(runtime.Within(ctx, 0, slotless{}), call)
	}
	if v, err := start(of(12, "7")); err != nil || string(v.Body) != "7" {
		t.Fatalf("a chain of twelve calls: got %s, %v", v.Body, err)
	}
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			want := fmt.Sprint(i)
			if v, err := start(of(i%4, want)); err != nil || string(v.Body) != want {
				t.Errorf("chain %d beside others: got %s, %v", i, v.Body, err)
			}
		})
	}
	all.Wait()
	call := NewCall("call", of(1, "7"))
	call.Functions = &chain{f: f, runs: make(map[wire.RunID]chan outcome)}
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	_, err := f.Invoke(runtime.Within(ctx, wire.MaxDepth-1, slotless{}), call)
	if wire.KindOf(err) != wire.KindPermanent || !strings.Contains(err.Error(), fmt.Sprint(wire.MaxDepth)+" is the most") {
		t.Errorf("a call too deep: got %v", err)
	}
}
