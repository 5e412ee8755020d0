// Package native runs functions that are Go code of the worker's own binary.
//
// Go code can't be stopped from outside: one that ignores its context runs on
// after its time is up, and the worker leaves it behind. Its result and its
// writes are dropped.
package native

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/cloudburst-nats/cloudburst/wire"
	"github.com/cloudburst-nats/cloudburst/workers/runtime"
)

// Func is a Go function as the worker sees it.
type Func func(ctx context.Context, call *runtime.Call) (wire.Value, error)

var _ runtime.Function = Func(nil)

// Invoke runs the function; a panic is the call's error.
func (f Func) Invoke(ctx context.Context, call *runtime.Call) (value wire.Value, err error) {
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

// ListFunc is a Func that takes its arguments one by one: see runtime.Lister.
type ListFunc Func

var _ runtime.Lister = ListFunc(nil)

// Invoke runs the function; a panic is the call's error.
func (f ListFunc) Invoke(ctx context.Context, call *runtime.Call) (wire.Value, error) {
	return Func(f).Invoke(ctx, call)
}

// Lists marks a Lister.
func (ListFunc) Lists() {}
