package runtimetest

import (
	"cmp"
	"context"
	"fmt"
	"sync"

	"github.com/cloudburst-nats/cloudburst/wire"
	"github.com/cloudburst-nats/cloudburst/workers/runtime"
)

// Functions are what functions can call: Go functions, by name. A run ends before
// Start returns. It may be used concurrently.
type Functions struct {
	code map[string]func(args wire.Value) (wire.Value, error)

	mu   sync.Mutex // guards runs
	runs map[wire.RunID]outcome
}

type outcome struct {
	value wire.Value
	err   error
}

var _ runtime.Functions = (*Functions)(nil)

// NewFunctions returns the Functions of that code.
func NewFunctions(code map[string]func(args wire.Value) (wire.Value, error)) *Functions {
	return &Functions{code: code, runs: make(map[wire.RunID]outcome)}
}

// Start runs a function, unless there is a run of that id.
func (f *Functions) Start(_ context.Context, name string, args wire.Value, run wire.RunID) (wire.RunID, error) {
	code := f.code[name]
	if code == nil {
		return "", &wire.Error{Op: "call", Name: name, Kind: wire.KindUnknown, Msg: "no such function"}
	}
	f.mu.Lock()
	_, there := f.runs[run]
	f.mu.Unlock()
	if there {
		return run, nil
	}
	value, err := code(args)
	f.mu.Lock()
	defer f.mu.Unlock()
	run = cmp.Or(run, wire.RunID(fmt.Sprintf("%s-%d", name, len(f.runs)+1)))
	f.runs[run] = outcome{value, err}
	return run, nil
}

// Await returns what a run returned.
func (f *Functions) Await(_ context.Context, run wire.RunID) (wire.Value, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	o, ok := f.runs[run]
	if !ok {
		return wire.Value{}, &wire.Error{Op: "await", Name: string(run), Kind: wire.KindUnknown, Msg: "no such run"}
	}
	return o.value, o.err
}
