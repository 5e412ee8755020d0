package workers

import (
	"context"
	"errors"

	"github.com/cloudburst-nats/cloudburst/consistency"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// future returns the result of another run, which an argument stands for.
func (j *job) future(ctx context.Context, run wire.RunID) (wire.Value, error) {
	ctx, cancel := context.WithTimeout(ctx, j.limits.Timeout)
	defer cancel()
	r, err := j.await(ctx, run)
	switch {
	case err != nil:
		return wire.Value{}, err
	case r.Status != wire.StatusOK:
		return wire.Value{}, &wire.Error{Op: "resolve", Name: string(run), Kind: wire.KindPermanent, Msg: "the run that the argument waits for ended " + string(r.Status), Err: r.Err}
	}
	past, err := j.w.values.Past(ctx, r.Past)
	if err == nil {
		j.session.Learn(past) // what the run writes comes after what that one wrote
	}
	return r.Value, err
}

// await waits for another run's result without a slot.
func (j *job) await(ctx context.Context, run wire.RunID) (r wire.Result, err error) {
	err = j.place.Block(ctx, func() (err error) {
		r, err = j.w.values.Await(ctx, run)
		return err
	})
	return r, err
}

// contained returns the result of a run that this one contains, which takes as long
// as it takes unless the node says otherwise. It ends with this one.
func (j *job) contained(ctx context.Context, step Step) (wire.Value, error) {
	j.limits = override(wire.Function{}.Limits(), step.Limits)
	if step.Limits.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, step.Limits.Timeout, timeoutError(step.Node, step.Limits.Timeout))
		defer cancel()
	}
	r, err := j.await(ctx, step.Await)
	switch {
	case context.Cause(j.ctx) == error(errCancelled): //nolint:errorlint // this very cause, no other cancellation
		return wire.Value{}, errors.Join(errCancelled, j.w.values.Cancel(context.WithoutCancel(ctx), step.Await))
	case err != nil:
		return wire.Value{}, err
	case r.Status != wire.StatusOK:
		return wire.Value{}, &wire.Error{Op: "run", Name: step.Node, Kind: wire.KindPermanent, Msg: "its run " + string(step.Await) + " ended " + string(r.Status) + ": " + r.Err.Error(), Err: r.Err}
	}
	past, err := j.w.values.Past(ctx, r.Past)
	if err == nil {
		j.past, err = consistency.Contain(j.past, past)
	}
	return r.Value, err
}
