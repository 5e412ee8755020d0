package workers

import (
	"context"

	"github.com/cloudburst-nats/cloudburst/consistency"
	"github.com/cloudburst-nats/cloudburst/wire"
	"github.com/cloudburst-nats/cloudburst/workers/runtime"
)

// Try runs code once as a function that isn't hosted yet, within its time-out. It
// reads the state as any call does; what it writes is dropped, and it can call no
// other functions.
func (w *Worker) Try(ctx context.Context, spec wire.Function, code runtime.Function, args wire.Value) (wire.Value, error) {
	limits := spec.Limits()
	ctx, cancel := context.WithTimeoutCause(ctx, limits.Timeout, timeoutError(spec.Name, limits.Timeout))
	defer cancel()
	session, err := consistency.NewSession(consistency.Config{
		Identity: consistency.Identity{Writer: w.cfg.ID, Source: w.cfg.Source, Attempt: 1},
		Stores:   w.stores, Run: "try", Pins: &w.pins, Peers: w.peers,
	})
	if err != nil {
		return wire.Value{}, err
	}
	return code.Invoke(ctx, &runtime.Call{
		Run: "try", Function: spec.Name, Attempt: 1, Args: args, Namespace: w.cfg.Namespace, State: session, Functions: noFunctions{},
	})
}

// noFunctions is what a function can call while it is tried.
type noFunctions struct{}

func (noFunctions) Start(_ context.Context, name string, _ wire.Value, _ wire.RunID) (wire.RunID, error) {
	return "", &wire.Error{Op: "call", Name: name, Kind: wire.KindPermanent, Msg: "a function that is only tried calls no others"}
}

func (noFunctions) Await(_ context.Context, run wire.RunID) (wire.Value, error) {
	return wire.Value{}, &wire.Error{Op: "await", Name: string(run), Kind: wire.KindPermanent, Msg: "a function that is only tried awaits no others"}
}
