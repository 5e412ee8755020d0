package workers

import (
	"context"
	"errors"
	"time"

	"github.com/cloudburst-nats/cloudburst/consistency"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// How long a call waits, the first time, for another worker or for the storage;
// each time that it is handed out doubles it.
const (
	waitForHost = 250 * time.Millisecond
	waitAtMost  = 30 * time.Second

	// The same for the storage, which may be back at any moment.
	waitForStorage = time.Second
	storageAtMost  = 4 * time.Second

	// The same for a call whose run is under way in another one: at most lookAtMost.
	lookFirst  = 100 * time.Millisecond
	lookAtMost = 5 * time.Second
)

// errUnderWay is the error of a call whose run is under way in another one, by the
// same id: it is handed out again, until that has ended.
var errUnderWay = errors.New("another call of the run is under way")

// longer is the wait at the job's attempt.
func (j *job) longer(wait, most time.Duration) time.Duration {
	return min(wait<<min(j.call.Attempt-1, 10), most)
}

// notHostedError is what a worker says of a function of its pool that it does not
// have: during a rolling deployment, the others do.
type notHostedError struct {
	function string
	why      error // may be nil
}

// NotHosted is the error of a call that another worker of the pool can run, or
// this one later: why is what it lacks, or nil. A function may return it.
func NotHosted(function string, why error) error { return &notHostedError{function, why} }

func (e *notHostedError) Error() string {
	if e.why != nil {
		return "this worker can't run " + e.function + ": " + e.why.Error()
	}
	return "this worker does not host " + e.function
}

func (e *notHostedError) Unwrap() error { return e.why }

// storageError marks a failure that is not the function's: the call is handed
// out again, with growing waits, until the storage is back.
type storageError struct{ err error }

func (e *storageError) Error() string { return "storage: " + e.err.Error() }
func (e *storageError) Unwrap() error { return e.err }

// finish stores the result, tells the caller and acknowledges the call.
func (j *job) finish(r *wire.Result) {
	r.Run, r.Name, r.Worker, r.Digest = j.call.Run, j.call.Name, j.w.cfg.ID, j.call.Digest
	r.Started, r.Took, r.Attempts, r.Restarts = j.began, j.took, j.call.Attempt, j.call.Epoch
	r.Kept = r.Kept || j.trials != nil
	if !j.w.Hosts(r.Name) {
		r.Kept, r.Node = r.Kept || r.Status != wire.StatusOK, j.call.Node
		j.w.dag(r.Name).count(time.Since(j.call.Stored), errOf(r))
	}
	j.store(r, storeTries)
}

// storeTries is how often a result is to be stored that couldn't be, a third of the
// acknowledgement wait apart.
const storeTries = 12

// store stores a result, and tries again if that fails. The caller may have heard of it:
// were the call run again instead, it would write once more over what came after it.
func (j *job) store(r *wire.Result, tries int) {
	j.d.Finish(context.Background(), r, func(err error) {
		if r.Status == wire.StatusOK && wire.KindOf(err) == wire.KindTooLarge {
			j.fail(err) // no attempt will make it smaller
			return
		}
		if err != nil {
			j.w.observe.unsettled(j, err)
			if tries > 1 && !j.w.stopping() {
				time.AfterFunc(j.w.cfg.AckWait/3, func() { j.store(r, tries-1) })
				return
			}
			j.nak(j.longer(waitForStorage, storageAtMost))
		} else {
			consistency.Release(j.past, string(j.call.Run), j.call.Node == "" && j.call.Epoch == 0, &j.w.pins, j.w.peers)
			j.discard()
		}
		j.w.settled(j)
	})
}

func errOf(r *wire.Result) error {
	if r.Err == nil {
		return nil
	}
	return r.Err
}

// end acknowledges a call whose run goes on in other calls.
func (j *job) end() {
	// The first attempt may have gone on to the run's end, which was told then.
	if j.call.Again() && j.w.pins.Holds(string(j.call.Run)) && j.w.values.Ended(context.Background(), j.call.Run) {
		j.w.pins.Release(string(j.call.Run))
	}
	if err := j.d.Ack(); err != nil {
		j.w.observe.unsettled(j, err)
	}
	j.discard()
	j.w.settled(j)
}

// discard removes what was sent to steps that won't be run again.
func (j *job) discard() {
	for _, box := range j.received {
		box.Discard()
	}
}

// fail decides between another attempt and the end of the run.
func (j *job) fail(err error) {
	var missing *notHostedError
	var storage *storageError
	switch {
	case errors.Is(err, errUnderWay):
		j.nak(j.longer(lookFirst, lookAtMost))
		j.w.settled(j)
		return
	case errors.As(err, &missing):
		j.survived(true)
		j.again(j.longer(waitForHost, waitAtMost), err)
		return
	case errors.As(err, &storage), wire.KindOf(err) == wire.KindUnavailable, wire.KindOf(err) == wire.KindBusy:
		j.again(j.longer(waitForStorage, storageAtMost), err)
		return
	}
	e, known := errors.AsType[*wire.Error](err)
	if !known { // a function's failure always is one: this is the platform's
		j.again(j.longer(waitForStorage, storageAtMost), err)
		return
	}
	if e.Kind.Retry() && j.call.Attempt < j.limits.Attempts {
		j.again(j.limits.Wait(j.call.Attempt), e)
		return
	}
	if err := j.d.Bury(context.Background(), e); err != nil {
		j.again(j.longer(waitForStorage, storageAtMost), err)
		return
	}
	j.w.observe.buried(j, e)
	j.finish(&wire.Result{Status: wire.StatusFailed, Err: e, Nodes: j.nodes})
}

// again has the call handed out once more.
func (j *job) again(wait time.Duration, why error) {
	j.w.observe.retried(j, wait, why)
	j.nak(wait)
	j.w.settled(j)
}

func (j *job) nak(wait time.Duration) {
	j.survived(false)
	j.w.letGo(j) // it may come back before this returns
	if err := j.d.Nak(wait); err != nil {
		j.w.observe.unsettled(j, err) // it is handed out again after AckWait
	}
}

// functionError is what a function's failure is to the platform: a function
// that reports a full or missing server (it called another, say) has failed,
// and that must not pass for a failure of the platform, which is retried for ever.
func functionError(err error, name string) *wire.Error {
	e := errorOf(err, name)
	if e.Kind != wire.KindBusy && e.Kind != wire.KindUnavailable {
		if e.Name == "" {
			named := *e
			named.Op, named.Name = "run", name
			return &named
		}
		return e
	}
	return &wire.Error{Op: "run", Name: name, Kind: wire.KindFunction, Msg: e.Error(), Err: e}
}

// errorOf makes what a function returned an Error, if it isn't one.
func errorOf(err error, name string) *wire.Error {
	if e, ok := errors.AsType[*wire.Error](err); ok {
		return e
	}
	return &wire.Error{Op: "run", Name: name, Kind: wire.KindFunction, Msg: err.Error(), Err: err}
}
