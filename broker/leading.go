package broker

import (
	"context"
	"encoding/json"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/cloudburst-nats/cloudburst/internal/backoff"
	"github.com/cloudburst-nats/cloudburst/kvlattice"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// How often the leader of a replicated bucket is looked at, and how long it may
// take to answer before it counts as out of reach.
const (
	leaderEvery  = 500 * time.Millisecond
	leaderWithin = time.Second
)

// leading is who leads a replicated stream, as it was last seen. Its leader alone
// republishes what is written: what a leader stored and didn't republish before it
// died, nobody ever does; and what it republished while it was out of reach isn't
// heard. Both show as a leader that isn't the one of before, or as a look that
// had no answer.
type leading struct {
	leader string // and since when; empty: it could not be reached
	lost   bool   // updates may have been missed that the listener wasn't told of
}

// Fence asks the stream's leader how far it has come. It hears of what is followed
// before it hears the question, so what it stores from then on is told. A replica
// may lag, and serve a read that lacks what was told before anybody followed.
func (k *Bucket) Fence(ctx context.Context) (uint64, error) {
	if !k.b.replicated() {
		return 0, nil // any read that leaves after the subscriptions will do
	}
	began := time.Now()
	// While there is no leader, the servers answer so at once.
	for range backoff.Tries(ctx, 10*time.Millisecond, leaderEvery) {
		seq, err := k.look(ctx, k.b.timeout)
		err = apiError("find the leader of", k.stream, err)
		if wire.KindOf(err) != wire.KindUnavailable || time.Since(began) > k.b.timeout {
			return seq, err
		}
	}
	return 0, context.Cause(ctx)
}

// look asks the leader for its last sequence, and notes who it is.
func (k *Bucket) look(ctx context.Context, within time.Duration) (seq uint64, err error) {
	asked, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	leader, seq, err := k.b.leaderOf(asked, k.stream)
	if ctx.Err() != nil {
		return 0, context.Cause(ctx) // who asked is gone, which says nothing of the leader
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	was := k.leading.leader
	if leader != was && was != "" {
		k.leading.lost = true
	}
	k.leading.leader = leader
	return seq, err
}

// leaderOf names the incarnation of a stream's leader, which is the one to answer.
func (b *Broker) leaderOf(ctx context.Context, stream string) (leader string, seq uint64, err error) {
	msg, err := b.nc.RequestWithContext(ctx, "$JS.API.STREAM.INFO."+stream, nil)
	if err != nil {
		return "", 0, err
	}
	var answer struct {
		Error   *jetstream.APIError `json:"error"`
		Cluster struct {
			Leader string `json:"leader"`
			Since  string `json:"leader_since"`
		} `json:"cluster"`
		State struct {
			Last uint64 `json:"last_seq"`
		} `json:"state"`
	}
	if err := json.Unmarshal(msg.Data, &answer); err != nil {
		return "", 0, err
	}
	if answer.Error != nil {
		return "", 0, answer.Error
	}
	return answer.Cluster.Leader + " since " + answer.Cluster.Since, answer.State.Last, nil
}

// watch looks at the leader now and then, until ctx ends, and tells on the channel
// that updates were Lost, or that all up to what was heard has been told: the same
// leader told it, in order, and still does.
func (k *Bucket) watch(ctx context.Context, heard *atomic.Uint64) (<-chan kvlattice.Update, *sync.WaitGroup) {
	var watching sync.WaitGroup
	if !k.b.replicated() {
		return nil, &watching // one server's order is the stream's
	}
	looks := make(chan kvlattice.Update)
	watching.Go(func() {
		tick := time.NewTicker(leaderEvery)
		defer tick.Stop()
		for {
			if u, ok := k.watchOnce(ctx, heard.Load()); ok {
				select {
				case looks <- u:
				case <-ctx.Done():
					return
				}
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	})
	return looks, &watching
}

func (k *Bucket) watchOnce(ctx context.Context, heard uint64) (kvlattice.Update, bool) {
	_, err := k.look(ctx, leaderWithin)
	if err != nil {
		return kvlattice.Update{}, false // what is read again now could lack the same again
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	lost := k.leading.lost
	k.leading.lost = false
	if lost {
		return kvlattice.Update{Lost: true}, true
	}
	return kvlattice.Update{AsOf: heard}, true
}
