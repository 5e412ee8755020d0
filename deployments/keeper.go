package deployments

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/cloudburst-nats/cloudburst/broker"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// A keeper keeps the platform as its registry says, whatever hands do to it: it takes
// up functions and DAGs that were written with a NATS client, has the pools listen to
// their calls, and makes anew what somebody has deleted. It belongs to a node. Several
// at once do no harm.
type keeper struct {
	b         *broker.Broker
	catalogue *broker.Catalogue
	log       *logrus.Entry
	said      map[string]bool // what a round before could not do, so that each is told once
}

// keepEvery is how long a deletion stays unnoticed whose advisory was lost.
const keepEvery = 5 * time.Second

// keepAgain is the wait before what is left of a round is tried again.
const keepAgain = time.Second

// run keeps until ctx ends.
func (k *keeper) run(ctx context.Context) error {
	deleted := make(chan struct{}, 1)
	var following sync.WaitGroup
	defer following.Wait()
	following.Go(func() {
		err := k.b.FollowDeletions(ctx, func(string, string) {
			select {
			case deleted <- struct{}{}:
			default: // a round is due already
			}
		})
		if err != nil && k.log != nil {
			k.log.WithError(err).Warn("hears of deletions only every few seconds")
		}
	})
	following.Go(func() {
		if err := k.b.FollowPurges(ctx); err != nil && k.log != nil {
			k.log.WithError(err).Warn("doesn't hear of purges: caches may show what was purged")
		}
	})
	for {
		next := keepEvery
		if !k.round(ctx) {
			next = keepAgain
		}
		select {
		case <-ctx.Done():
			return nil
		case <-k.catalogue.News():
		case <-deleted:
		case <-time.After(next):
		}
	}
}

// round does what there is to do. It is false if something is left.
func (k *keeper) round(ctx context.Context) bool {
	failed := []error{k.b.Restore(ctx)}
	have := k.catalogue.Survey()
	for _, by := range have.ByHand {
		failed = append(failed, k.takeUp(ctx, by, have))
	}
	k.b.TellBroken(broken(have)...)
	if ctx.Err() != nil {
		return true
	}
	return k.tell(errors.Join(failed...))
}

// takeUp completes one entry that was written by hand.
func (k *keeper) takeUp(ctx context.Context, by broker.ByHand, have broker.Survey) error {
	if by.Bucket == broker.BucketFunctions {
		return k.b.TakeUpFunction(ctx, by)
	}
	rec, err := recordByHand(by, callablesOf(have))
	if err != nil {
		return nil //nolint:nilerr // broken tells of it
	}
	return k.b.TakeUpDAG(ctx, by, rec)
}

// tell writes a log line of what couldn't be done, once as long as it stays the same.
func (k *keeper) tell(err error) (done bool) {
	said := make(map[string]bool)
	for _, one := range parted(err) {
		text := one.Error()
		if said[text] = true; k.said[text] || k.log == nil || wire.KindOf(one) == wire.KindUnavailable {
			continue // what is unavailable is waited for
		}
		k.log.WithError(one).Error("could not keep the platform as its registry says, trying again")
	}
	k.said = said
	return err == nil
}

// parted returns the errors that were joined.
func parted(err error) []error {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var all []error
	for _, one := range joined.Unwrap() {
		all = append(all, parted(one)...)
	}
	return all
}
