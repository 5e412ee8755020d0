package dagengine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// maxRestarts is how often a run may begin again. Each time it keeps what it had
// agreed on, so a second restart is about other keys.
const maxRestarts = 20

// began returns what is kept of a run's beginning.
func (r *run) began() map[string]wire.Input {
	kept := map[string]wire.Input{pinned: {Value: jsonOf(r.plan.ID())}}
	if r.call.Epoch == 0 && r.pasts.Restarts(r.call.Level) {
		kept[argsOf] = wire.Input{Value: r.call.Args, Past: r.call.Past}
	}
	return kept
}

func jsonOf(v any) wire.Value {
	body, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("dagengine: a value of ours that can't be written: %v", err))
	}
	return wire.Value{Body: body}
}

// again has the run begin again, from its argument, with the past that it agreed
// on so far. Its state is another; what its nodes count stays theirs.
func (r *run) again(ctx context.Context, why restart) (Outcome, error) {
	if r.call.Epoch >= maxRestarts {
		return Outcome{}, &wire.Error{
			Op: "run", Name: r.plan.Name(), Kind: wire.KindConflict, Err: errors.Unwrap(why),
			Msg: fmt.Sprintf("began again %d times, the last because %v: what it reads changes faster than it runs; a causal level doesn't have to begin again", maxRestarts, why),
		}
	}
	kept, err := r.runs.Inputs(ctx, r.call.Run, startNode, 0)
	if err != nil {
		return Outcome{}, err
	}
	args, ok := kept[argsOf]
	if !ok {
		return Outcome{}, &wire.Error{Op: "run", Name: r.plan.Name(), Kind: wire.KindUnavailable, Msg: "it has to begin again, and what it began with can't be read"}
	}
	err = r.dispatch.Dispatch(ctx, wire.Call{
		Run: r.call.Run, Name: r.plan.Name(), DAG: r.plan.ID(), Args: args.Value, Reply: r.call.Reply,
		Level: r.call.Level, Past: why.RestartWith(), Epoch: r.call.Epoch + 1, Depth: r.call.Depth, Digest: r.call.Digest,
	})
	return Outcome{Again: why.Error()}, err
}
