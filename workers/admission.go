package workers

import (
	"context"
	"fmt"
	"slices"

	"github.com/cloudburst-nats/cloudburst/wire"
	"github.com/cloudburst-nats/cloudburst/workers/runtime"
)

// Calls that wait for others have no slot. So a worker could take calls without end, each of
// which waits for one that is still in the queue. It begins Config.InHand at most.
//
//	Take ──► begun (runs or waits) ──► ended
//	  │ too many      ▲ some ended
//	  ├──► parked ────┘
//	  └──► handed back (too many are parked)
//
// The calls that others wait for are deeper than those, and always get in: see
// runtime.Admits. That is why a worker takes calls at all when it has too many.

// admitLocked has a job begin, parks it, or returns false.
func (w *Worker) admitLocked(j *job) bool {
	behind := slices.ContainsFunc(w.parked, func(o *job) bool { return o.call.Depth >= j.call.Depth })
	switch {
	case !behind && runtime.Admits(w.held, w.cfg.InHand, j.call.Depth):
		w.held++
		j.held = true
	case len(w.parked) < w.cfg.InHand:
		j.begin = make(chan struct{})
		at := slices.IndexFunc(w.parked, func(o *job) bool { return o.call.Depth < j.call.Depth })
		if at < 0 {
			at = len(w.parked)
		}
		w.parked = slices.Insert(w.parked, at, j)
	default:
		return false
	}
	return true
}

// park waits without a slot until the job may begin, or has lost its context.
func (j *job) park() {
	if j.begin == nil {
		return
	}
	_ = j.place.Block(j.ctx, func() error {
		select {
		case <-j.begin:
			return nil
		case <-j.ctx.Done():
			return context.Cause(j.ctx)
		}
	})
}

// ended has parked jobs begin, once there is room.
func (w *Worker) ended(j *job) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if j.held {
		j.held = false
		w.held--
	} else if i := slices.Index(w.parked, j); i >= 0 {
		w.parked = slices.Delete(w.parked, i, i+1)
	}
	for len(w.parked) > 0 && runtime.Admits(w.held, w.cfg.InHand, w.parked[0].call.Depth) {
		w.held++
		w.parked[0].held = true
		close(w.parked[0].begin)
		w.parked = slices.Delete(w.parked, 0, 1)
	}
}

// tooMany is why a call is handed back.
func (w *Worker) tooMany(function string) error {
	return &wire.Error{
		Op: "run", Name: function, Kind: wire.KindBusy,
		Msg: fmt.Sprintf("the worker has begun %d calls that run or wait for others, which is its bound, and keeps as many more; it takes only calls that those wait for", w.cfg.InHand),
	}
}
