// Package native runs functions that are Go code of the worker's own binary.
//
// Go code can't be stopped from outside: a function that ignores its context
// is left behind when its time is up, on its own goroutine, until it returns
// by itself. Its result and its writes are dropped.
package native

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/cloudburst-nats/cloudburst/broker/wire"
	"github.com/cloudburst-nats/cloudburst/workers/runtime"
)

// Func is a Go function as the worker sees it.
type Func func(ctx context.Context, call *runtime.Call) (wire.Value, error)

var _ runtime.Function = Func(nil)

type outcome struct {
	value wire.Value
	err   error
}

// Invoke runs the function and returns its outcome, or ctx's cause if that
// ends first.
func (f Func) Invoke(ctx context.Context, call *runtime.Call) (wire.Value, error) {
	done := make(chan outcome, 1)
	go func() { // outlives Invoke only if f ignores ctx
		value, err := f.guarded(ctx, call)
		done <- outcome{value, err}
	}()
	select {
	case o := <-done:
		return o.value, o.err
	case <-ctx.Done():
	}
	select {
	case o := <-done: // it made it after all
		if o.err == nil {
			return o.value, nil
		}
	default:
	}
	return wire.Value{}, context.Cause(ctx)
}

// guarded turns a panic into the call's error.
func (f Func) guarded(ctx context.Context, call *runtime.Call) (value wire.Value, err error) {
	defer func() {
		if p := recover(); p != nil {
			e := &wire.Error{Op: "invoke", Name: call.Function, Kind: wire.KindPanic, Msg: fmt.Sprint(p), Stack: string(debug.Stack())}
			if cause, ok := p.(error); ok && !errors.Is(cause, e) {
				e.Err = cause
			}
			value, err = wire.Value{}, e
		}
	}()
	return f(ctx, call)
}
