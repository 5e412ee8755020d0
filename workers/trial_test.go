package workers

import (
	"context"
	"errors"
	"testing"

	"github.com/cloudburst-nats/cloudburst/kvlattice/latticetest"
	"github.com/cloudburst-nats/cloudburst/wire"
	"github.com/cloudburst-nats/cloudburst/workers/runtime"
)

// A noted is a ledger that keeps the note of one call, as the storage does.
type noted struct {
	ledger
	wire.Trials
	away error // there is no storage
}

func (n *noted) Begin(context.Context, *wire.Call) (wire.Trials, error) {
	if n.away != nil {
		return wire.Trials{}, n.away
	}
	if n.Begun {
		n.Lost++
	}
	n.Begun = true
	return n.Trials, nil
}

func (n *noted) Survived(_ *wire.Call, t wire.Trials) {
	n.Trials = t
	n.Begun = false
}

// often takes a call at each of many attempts until it ends, and returns the last attempt.
func (r *rig) often(t *testing.T, call wire.Call, n *noted, after func()) (*delivery, int) {
	t.Helper()
	r.cfg.Ledger = n
	for attempt := 1; attempt < 1000; attempt++ {
		d := newDelivery()
		call.Attempt = attempt
		if r.take(t, call, d) == "finish" {
			return d, attempt
		}
		after()
	}
	return nil, 1000
}

// However long the storage fails, its calls don't end: neither if it can't be written to,
// nor if it can't even be asked how often they began.
func TestStorageFailureIsNoCrash(t *testing.T) {
	r := newRig(t)
	r.host(wire.Function{Name: "f", Attempts: 2}, func(ctx context.Context, c *runtime.Call) (wire.Value, error) {
		return wire.Value{}, c.State.Put(ctx, "", "k", wire.Value{Body: []byte("1")})
	})
	r.bucket.Fault(func(latticetest.Op) latticetest.Outcome { return latticetest.Fails })
	n, times := new(noted), 0
	d, attempt := r.often(t, wire.Call{Name: "f"}, n, func() {
		if times++; times == 300 {
			n.away = errors.New("no quorum")
		}
		if times == 600 {
			n.away = nil
			r.bucket.Fault(nil)
		}
	})
	if attempt != 601 || d.buried != nil {
		t.Errorf("the call ended at attempt %d, buried with %v", attempt, d.buried)
	}
	if !d.result.Kept {
		t.Error("the note stays when the run has ended")
	}
}

// A call that its workers don't survive ends, and so does one that no worker can run.
// A failure of the storage in between makes no difference.
func TestCallThatBringsDownItsWorkersEnds(t *testing.T) {
	r := newRig(t)
	r.host(wire.Function{Name: "f", Attempts: 2}, fails(nil))
	n := new(noted)
	r.cfg.Ledger = n
	for attempt := 1; attempt <= 2+unwatched+lostAtMost; attempt++ {
		dying := &job{w: r.Worker, call: wire.Call{Name: "f", Attempt: attempt}}
		if err := dying.watch(); err != nil {
			t.Fatalf("given up at attempt %d: %v", attempt, err)
		}
		if attempt%3 == 0 && dying.trials != nil {
			dying.survived(false)
			if err := dying.watch(); err != nil { // the storage failed, which counts for nothing
				t.Fatalf("given up at attempt %d: %v", attempt, err)
			}
		}
	}
	d := newDelivery()
	end := r.take(t, wire.Call{Name: "f", Attempt: 100}, d)
	if end != "finish" || wire.KindOf(d.buried) != wire.KindCrashed || n.Lost != lostAtMost {
		t.Errorf("ended with %q, buried with %v, after %d lost executions", end, d.buried, n.Lost)
	}

	r.host(wire.Function{Name: "elsewhere", Attempts: 2}, fails(NotHosted("elsewhere", nil)))
	n = new(noted)
	d, attempt := r.often(t, wire.Call{Name: "elsewhere"}, n, func() {})
	if wire.KindOf(d.buried) != wire.KindCrashed || attempt != 2+unwatched+missingAtMost+1 || n.Lost != 0 {
		t.Errorf("buried with %v at attempt %d, %d lost", d.buried, attempt, n.Lost)
	}
}
