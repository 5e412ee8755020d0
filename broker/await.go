package broker

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/cloudburst-nats/cloudburst/internal/backoff"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// How long a run is awaited before Await looks whether there is such a run at all, and
// how far apart further looks are at most. Two looks in a row must find nothing: a
// replica may lag, and a call may be on its way from one stream to another.
const (
	missAfter  = time.Second
	missAtMost = 30 * time.Second
)

// Await returns the result of a run as soon as it is stored. It is KindUnknown if there
// is no such run: no result, no call of it that waits or runs, and no state. It is
// ErrClosed on a broker that was closed.
func (b *Broker) Await(ctx context.Context, run wire.RunID) (wire.Result, error) {
	var s search
	s.begin(time.Now())
	for range backoff.Tries(ctx, 2*time.Millisecond, 250*time.Millisecond) {
		r, err := b.storedResult(ctx, run)
		switch {
		case err == nil:
			return b.unpackResult(ctx, r)
		case errors.Is(err, ErrClosed), wire.KindOf(err) != wire.KindUnknown && wire.KindOf(err) != wire.KindUnavailable:
			return wire.Result{}, err
		}
		if s.due(time.Now()) {
			missing, missErr := b.missing(ctx, run)
			if s.looked(time.Now(), missing && missErr == nil) {
				return wire.Result{}, &wire.Error{Op: "await run", Name: string(run), Kind: wire.KindUnknown, Msg: "no such run: it has no result, no call and no state; check the id, or call the function first"}
			}
		}
	}
	return wire.Result{}, &wire.Error{Op: "await run", Name: string(run), Kind: wire.KindTimeout, Msg: "no result yet", Err: context.Cause(ctx)}
}

// A search says when to look whether a run is there, and when that was often enough.
type search struct {
	next time.Time
	gap  time.Duration
	once bool // the last look found nothing
}

func (s *search) begin(now time.Time) { s.next, s.gap = now.Add(missAfter), missAfter }

func (s *search) due(now time.Time) bool { return !now.Before(s.next) }

// looked takes in what a look found, and says whether the run is given up.
func (s *search) looked(now time.Time, missing bool) (giveUp bool) {
	giveUp = missing && s.once
	s.once = missing
	if missing {
		s.gap = missAfter
	} else {
		s.gap = min(2*s.gap, missAtMost)
	}
	s.next = now.Add(s.gap)
	return giveUp
}

// missing says whether nothing but a result can be there of a run: no state, no timer,
// and no call that isn't settled. It is false if a backlog is too long to be read.
func (b *Broker) missing(ctx context.Context, run wire.RunID) (bool, error) {
	token := runToken(run)
	for stream, subjects := range map[string][]string{
		StreamRuns:   {subjectRun + token + ".>"},
		StreamTimers: {subjectTimer + token + ".>", subjectFire + token + ".>"},
	} {
		msgs, err := b.lastMulti(ctx, stream, subjects, 0)
		if err != nil || len(msgs) > 0 { // too many are some
			return false, err
		}
	}
	pools, err := b.Pools(ctx)
	if err != nil {
		return false, err
	}
	for _, pool := range pools {
		missing, err := b.missingIn(ctx, pool, run)
		if err != nil || !missing {
			return false, err
		}
	}
	return true, nil
}

// missingIn says whether a pool's backlog holds no call of a run.
func (b *Broker) missingIn(ctx context.Context, pool string, run wire.RunID) (bool, error) {
	marks, err := b.marks(ctx, pool)
	if err != nil {
		return false, err
	}
	if tail, ok := strings.CutPrefix(string(run), CallsStream(pool)+"-"); ok {
		if seq, err := strconv.ParseUint(tail, 10, 64); err == nil && seq > marks.floor {
			msg, err := b.bySeq(ctx, CallsStream(pool), seq)
			return msg == nil, err
		}
	}
	left, found := callsScanned, false
	err = b.scan(ctx, CallsStream(pool), ">", marks.floor+1, func(msg *nats.Msg) bool {
		left--
		found = found || runOf(msg) == run
		return !found && left > 0
	})
	return !found && left > 0, err
}
