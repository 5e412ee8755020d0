package cloudburst

import "github.com/cloudburst-nats/cloudburst/wire"

// Error is a failure as the platform reports it: what was being done, to
// which function or key, what kind of failure it is, and what to do about it.
// errors.As finds it, errors.Is matches it against the sentinels below.
type Error = wire.Error

// Sentinels for errors.Is: conditions that a caller can act on.
var (
	// ErrUnknown: there is no such function, DAG, run or key.
	ErrUnknown error = &wire.Error{Kind: wire.KindUnknown}
	// ErrBadArgument: the argument isn't what the function takes.
	ErrBadArgument error = &wire.Error{Kind: wire.KindBadArgument}
	// ErrTooLarge: a value over the limit; store it in parts.
	ErrTooLarge error = &wire.Error{Kind: wire.KindTooLarge}
	// ErrBusy: the backlog is full; try again later or add workers.
	ErrBusy error = &wire.Error{Kind: wire.KindBusy}
	// ErrTimeout: the time ran out, the function's or the caller's. After a
	// caller's time-out the run goes on: its result can be fetched by its id.
	ErrTimeout error = &wire.Error{Kind: wire.KindTimeout}
	// ErrCancelled: somebody cancelled the run.
	ErrCancelled error = &wire.Error{Kind: wire.KindCancelled}
	// ErrFunction: the function returned an error, at its last attempt.
	ErrFunction error = &wire.Error{Kind: wire.KindFunction}
	// ErrPanic: the function panicked; Error.Stack tells where.
	ErrPanic error = &wire.Error{Kind: wire.KindPanic}
	// ErrPermanent: the function said that retrying is useless (Permanent).
	ErrPermanent error = &wire.Error{Kind: wire.KindPermanent}
	// ErrUnavailable: the server, or its quorum, can't be reached.
	ErrUnavailable error = &wire.Error{Kind: wire.KindUnavailable}
	// ErrNoWorker: no worker serves the pool of the function. The call is stored, and runs
	// once a worker does: the error names its run. See WaitForWorker.
	ErrNoWorker error = &wire.Error{Kind: wire.KindNoWorker}
	// ErrConflict: it exists already, with another configuration or elsewhere.
	ErrConflict error = &wire.Error{Kind: wire.KindConflict}
	// ErrLattice: the key holds another kind of value than the operation is for.
	ErrLattice error = &wire.Error{Kind: wire.KindLattice}
	// ErrInvalid: a DAG that doesn't hold together; the error lists everything.
	ErrInvalid error = &wire.Error{Kind: wire.KindInvalid}
)

// Permanent wraps what a function returns so that the call isn't retried: it
// becomes a dead letter at once and the caller gets the error. Permanent(nil)
// is nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return &wire.Error{Op: "run", Kind: wire.KindPermanent, Msg: err.Error(), Err: err}
}
