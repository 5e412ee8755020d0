package workers

import (
	"context"
	"errors"
	"time"

	"github.com/cloudburst-nats/cloudburst/broker/wire"
	"github.com/cloudburst-nats/cloudburst/consistency"
)

// future returns the result of another run, which an argument stands for.
func (j *job) future(ctx context.Context, run wire.RunID) (wire.Value, error) {
	ctx, cancel := context.WithTimeout(ctx, j.limits.Timeout)
	defer cancel()
	r, err := j.await(ctx, run, j.w.values.Await)
	switch {
	case err != nil:
		return wire.Value{}, err
	case r.Status != wire.StatusOK:
		return wire.Value{}, &wire.Error{Op: "resolve", Name: string(run), Kind: wire.KindPermanent, Msg: "the run that the argument waits for ended " + string(r.Status), Err: r.Err}
	}
	return r.Value, nil
}

// await waits for another run's result without keeping a slot from a call that
// could run. Then it waits for one of as many places as there are slots, so that
// no more than twice as many functions run as the worker has slots.
func (j *job) await(ctx context.Context, run wire.RunID, wait func(context.Context, wire.RunID) (wire.Result, error)) (wire.Result, error) {
	release := j.release
	j.release = func() {}
	release()
	r, err := wait(ctx, run)
	if err != nil || r.Status != wire.StatusOK {
		return r, err
	}
	select {
	case j.w.back <- struct{}{}:
		j.release = func() { <-j.w.back }
		return r, nil
	case <-ctx.Done():
		return wire.Result{}, &wire.Error{Op: "run", Name: j.call.Name, Kind: wire.KindUnavailable, Msg: "every slot of the worker is taken", Err: context.Cause(ctx)}
	}
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
	r, err := j.await(ctx, step.Await, j.patiently)
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

// lookAround is how long a job that waits for a run goes without asking whether its
// worker is about to stop.
const lookAround = time.Second

// patiently waits for a run's result, but doesn't hold up a worker that stops: the
// call is left to another one.
func (j *job) patiently(ctx context.Context, run wire.RunID) (wire.Result, error) {
	for {
		look, cancel := context.WithTimeout(ctx, lookAround)
		r, err := j.w.values.Await(look, run)
		cancel()
		switch {
		case err == nil, look.Err() == nil:
			return r, err
		case ctx.Err() != nil:
			return wire.Result{}, context.Cause(ctx)
		case j.w.stopping():
			return wire.Result{}, NotHosted(string(run), errors.New("it stops"))
		}
	}
}
