package wasm

import (
	"context"
	"errors"
	goruntime "runtime"
	"time"

	"github.com/tetratelabs/wazero/api"

	"github.com/cloudburst-nats/cloudburst/workers/runtime"
	"github.com/cloudburst-nats/cloudburst/workers/runtime/guest"
	"github.com/cloudburst-nats/cloudburst/workers/runtime/wasm/fuel"
)

// An execution is a guest while it runs, most often for a call. It is the context
// that wazero hands to the functions that the guest imports, which is how they
// know who asks.
type execution struct {
	context.Context //nolint:containedctx // it is one
	cancel          context.CancelCauseFunc
	f               *function
	inst            *instance
	call            *runtime.Call // nil if there is none: the guest runs ahead of it
	host            *guest.Host
	asked           asked

	in       []byte // what is left of standard input
	out      []byte // standard output
	log      lines  // standard error
	closed   [3]bool
	response []byte
	told     complaint // the last error that it was told

	spent    int64         // fuel
	computed time.Duration // so far, about
	refilled time.Time     // last
	since    time.Time     // when it got its turn
	turn     bool          // holds one of the runtime's turns
	deadline time.Time     // of the context, if there is one
}

// asked is what a guest has had of its host that another might have had otherwise.
type asked uint8

const (
	askedChance asked = 1 << iota // random numbers or the time
	askedCall                     // something that depends on the call
)

type executionKey struct{}

// Value returns the execution itself to executionOf.
func (x *execution) Value(key any) any {
	if _, ok := key.(executionKey); ok {
		return x
	}
	return x.Context.Value(key)
}

// executionOf returns whose context it is.
func executionOf(ctx context.Context) *execution {
	if x, ok := ctx.(*execution); ok {
		return x
	}
	return ctx.Value(executionKey{}).(*execution) //nolint:forcetypeassert,errcheck // nothing else runs guests
}

// execute returns an execution; call is nil if there is none.
func (f *function) execute(ctx context.Context, call *runtime.Call) *execution {
	x := &execution{f: f, call: call}
	x.Context, x.cancel = context.WithCancelCause(ctx)
	x.deadline, _ = ctx.Deadline()
	x.log.most = f.runtime.cfg.MaxLog
	if call != nil {
		x.in = call.Args.Body
		x.host = guest.NewHost(x.Context, call)
		x.log.to = call.Log
	}
	return x
}

// run calls a function of the instance.
func (x *execution) run(inst *instance, fn api.Function) (code uint64, err error) {
	x.inst = inst
	slice := x.f.runtime.cfg.Slice
	if inst.fuel != nil {
		inst.fuel.Set(uint64(slice)) //nolint:gosec // bits
	}
	var results [1]uint64
	err = fn.CallWithStack(x, results[:])
	if inst.fuel != nil {
		x.spent += slice - int64(inst.fuel.Get()) //nolint:gosec // bits
	}
	x.pass()
	return results[0], err
}

// errEnded ends a guest because its context has ended.
var errEnded = errors.New("ended")

// check ends the guest if its context has ended. The panic unwinds the guest, and
// wazero makes an error of it.
func (x *execution) check() {
	if x.Err() != nil {
		panic(errEnded)
	}
}

// charge takes fuel for what the host has done.
func (x *execution) charge(n int64) {
	if x.inst != nil && x.inst.fuel != nil {
		x.inst.fuel.Set(x.inst.fuel.Get() - uint64(n)) //nolint:gosec // bits
	}
}

const (
	// patience is how long a guest computes before it has to wait for a turn. Most
	// calls are over by then.
	patience = 4 * time.Millisecond
	// atMost is how much of that a slice can be: if it took longer, then because the
	// guest waited for a processor.
	atMost = 200 * time.Microsecond
	// quantum is how long a turn is if others wait.
	quantum = 5 * time.Millisecond
	// maxReferences is how many references to functions a guest may make. They are
	// some 50 bytes each, of the host's memory.
	maxReferences = 1 << 20
)

// refill is what a guest calls after each slice.
func (x *execution) refill(mod api.Module) {
	x.check()
	if left, ok := mod.ExportedGlobal(fuel.Global).(api.MutableGlobal); ok {
		slice := x.f.runtime.cfg.Slice
		x.spent += slice - int64(left.Get()) //nolint:gosec // bits
		left.Set(uint64(slice))              //nolint:gosec // bits
	}
	if inst := x.inst; inst != nil { // it is none while it is made
		if inst.in != nil && inst.in.references() > maxReferences {
			panic(errReferences)
		}
		if inst.depth() > maxStack {
			panic(errStack)
		}
	}
	now := time.Now()
	if !x.deadline.IsZero() && now.After(x.deadline) { // whose timer may be late, for want of a processor
		<-x.Done()
		panic(errEnded)
	}
	x.computed += min(now.Sub(x.refilled), atMost)
	switch {
	case x.turn && now.Sub(x.since) > quantum:
		x.pass()
		x.wait()
	case !x.turn && x.computed > patience:
		x.wait()
	}
	x.refilled = now
	if x.f.runtime.crowded {
		goruntime.Gosched()
	}
}

var (
	errReferences = errors.New("too many references to functions (ref.func)")
	errStack      = errors.New("stack overflow")
)

// wait takes a turn.
func (x *execution) wait() {
	select {
	case x.f.runtime.turns <- struct{}{}:
		x.turn, x.since = true, time.Now()
	case <-x.Done():
		panic(errEnded)
	}
}

// pass gives up the turn, if there is one.
func (x *execution) pass() {
	if x.turn {
		x.turn = false
		<-x.f.runtime.turns
	}
}
