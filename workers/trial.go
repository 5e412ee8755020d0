package workers

import (
	"fmt"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// A call may bring down each worker that runs it, and no worker is left to say so. Such a
// call must end as a dead letter. But being handed out often is no proof: a call comes
// back for as long as the storage can't be reached. So executions are counted from the
// call's sixth delivery beyond its attempts on: those that no worker survived, and those
// that found no code. A failure of the storage counts as neither.
const (
	unwatched  = 6
	lostAtMost = 30
	// Waits for a worker that hosts the function grow to waitAtMost: so many of them
	// take a quarter of an hour.
	missingAtMost = 30
)

// watch notes that a call begins that was handed out often, and gives up on one that its
// workers don't survive.
func (j *job) watch() error {
	j.limits = j.limitsOf(j.call.Name)
	ledger := j.w.cfg.Ledger
	if ledger == nil || j.call.Attempt <= j.limits.Attempts+unwatched {
		return nil
	}
	t, err := ledger.Begin(j.ctx, &j.call)
	if err != nil {
		return &storageError{err}
	}
	j.trials = &t
	switch {
	case t.Lost >= lostAtMost:
		return &wire.Error{
			Op: "run", Name: j.call.Name, Kind: wire.KindCrashed,
			Msg: fmt.Sprintf("handed out %d times, and %d times no worker answered: it may be bringing its worker down", j.call.Attempt-1, t.Lost),
		}
	case t.Missing >= missingAtMost:
		return &wire.Error{
			Op: "run", Name: j.call.Name, Kind: wire.KindCrashed,
			Msg: fmt.Sprintf("handed out %d times, and %d times to a worker that can't run it: deploy it, then replay the dead letter", j.call.Attempt-1, t.Missing),
		}
	}
	return nil
}

// survived notes that the worker hands the call back; missing says that it lacks the code.
func (j *job) survived(missing bool) {
	if j.trials == nil {
		return
	}
	if missing {
		j.trials.Missing++
	}
	j.w.cfg.Ledger.Survived(&j.call, *j.trials)
	j.trials = nil
}
