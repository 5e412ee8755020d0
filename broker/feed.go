package broker

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cloudburst-nats/cloudburst/kvlattice"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// feedQueue is how many updates wait for a listener. When there are more they
// are dropped, and the listener is told to read anew.
const feedQueue = 8192

// A follow is a key's two subscriptions: to its base and to its slots. NATS's
// interest graph is the index from a key to the caches that hold it.
type follow struct{ base, slots *nats.Subscription }

// Follow has updates of the key told from now on.
func (k *Bucket) Follow(key string) error {
	escaped, err := kvlattice.EscapeKey(key)
	if err != nil {
		return err
	}
	subject := subjectUpdate + k.ns + "." + escaped
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, ok := k.followed[key]; ok {
		return nil
	}
	// A request that leaves on this connection after the subscriptions reaches
	// the server after them, so a later Read misses nothing that isn't told.
	var f follow
	if f.base, err = k.b.nc.ChanSubscribe(subject, k.updates); err != nil {
		return apiError("follow", key, err)
	}
	if f.slots, err = k.b.nc.ChanSubscribe(kvlattice.SlotKey(subject, "*"), k.updates); err != nil {
		return apiError("follow", key, errors.Join(err, f.base.Unsubscribe()))
	}
	k.followed[key] = f
	return nil
}

// Unfollow ends that. Updates that are on their way may still be told.
func (k *Bucket) Unfollow(key string) error {
	k.mu.Lock()
	f, ok := k.followed[key]
	delete(k.followed, key)
	k.mu.Unlock()
	if !ok {
		return nil
	}
	err := errors.Join(f.base.Unsubscribe(), f.slots.Unsubscribe())
	if errors.Is(err, nats.ErrConnectionClosed) {
		return nil
	}
	return apiError("unfollow", key, err)
}

// Listen hands updates to fn, one at a time, until ctx ends. One listener at a
// time. After a reconnect, or when fn was too slow, updates may have been
// missed: that is told as an Update that is Lost. So it is when a replicated stream
// has got another leader, or couldn't be reached.
func (k *Bucket) Listen(ctx context.Context, fn func(kvlattice.Update)) error {
	var heard atomic.Uint64 // the newest revision that fn was told of
	looks, watching := k.watch(ctx, &heard)
	defer watching.Wait()
	swept := make(chan *nats.Msg, 16)
	stop, err := k.followSweeps(swept)
	if err != nil {
		return err
	}
	defer stop()
	var missing <-chan time.Time // when the bucket, which was deleted, is made anew
	for {
		k.mu.Lock()
		again := k.again
		k.mu.Unlock()
		select {
		case <-ctx.Done():
			return nil
		case <-again:
			k.mu.Lock()
			k.again = k.b.epoch() // before fn is told: a reconnect from here on is told again
			k.mu.Unlock()
			if k.reconnected() {
				fn(kvlattice.Update{Lost: true})
			}
		case u := <-looks:
			fn(u)
		case msg := <-swept:
			fn(kvlattice.Update{Purged: true})
			if strings.Contains(msg.Subject, ".DELETED.") {
				missing = time.After(absentFor)
			}
		case <-missing:
			if missing = nil; !k.revive(ctx) {
				missing = time.After(time.Second)
			}
		case msg := <-k.updates:
			// What a new connection delivers may come before the news of it.
			if k.reconnected() {
				fn(kvlattice.Update{Lost: true})
			}
			// Only this takes from the queue, so if it was full since the last time,
			// and something dropped, there is room for one now.
			if len(k.updates) >= cap(k.updates)-1 {
				k.discard()
				fn(kvlattice.Update{Lost: true})
				continue
			}
			if u, ok := k.update(ctx, msg); ok {
				if !k.b.replicated() {
					u.AsOf = u.Entry.Rev
				}
				fn(u)
				heard.Store(max(heard.Load(), u.Entry.Rev))
			}
		}
	}
}

// followSweeps hears of what takes keys out of the bucket without a word of each: that
// it is purged, deleted, or restored from a backup. stop ends that.
func (k *Bucket) followSweeps(swept chan *nats.Msg) (stop func(), err error) {
	purges, err := k.b.nc.ChanSubscribe(subjectPurged+k.stream, swept)
	if err != nil {
		return nil, apiError("follow", k.ns, err)
	}
	advisories, err := k.b.nc.Subscribe(subjectAdvisory+"STREAM.*."+k.stream, func(msg *nats.Msg) {
		for _, verb := range []string{".DELETED.", ".CREATED.", ".RESTORE_COMPLETE."} {
			if strings.Contains(msg.Subject, verb) {
				select {
				case swept <- msg:
				default: // there is enough to do already
				}
			}
		}
	})
	if err != nil {
		k.b.unsubscribe(purges)
		return nil, apiError("follow", k.ns, err)
	}
	return func() {
		k.b.unsubscribe(advisories)
		k.b.unsubscribe(purges)
	}, nil
}

// revive makes the bucket anew that somebody has deleted. It is false if it is to be
// tried again.
func (k *Bucket) revive(ctx context.Context) bool {
	switch _, err := k.b.streamConfig(ctx, k.stream); {
	case err == nil:
		return true // somebody was faster
	case !errors.Is(err, jetstream.ErrStreamNotFound), !k.b.absent.mayMake(k.stream, time.Now()):
		return false
	}
	cfg := k.b.topology().namespace(k.ns)
	cfg.FirstSeq = beyond()
	if err := k.b.ensureStream(ctx, cfg); err != nil {
		k.b.observe.catchUpFailed(k.stream, err)
		return false
	}
	k.b.restored(k.stream, "it was deleted, with all that it held")
	return true
}

// reconnected says whether there was a reconnect that it hasn't told of.
func (k *Bucket) reconnected() bool {
	now := k.b.nc.Stats().Reconnects
	k.mu.Lock()
	defer k.mu.Unlock()
	told := k.reconnects
	k.reconnects = now
	return now != told
}

// discard empties the queue.
func (k *Bucket) discard() {
	for {
		select {
		case <-k.updates:
		default:
			return
		}
	}
}

// update reads a republished write. It is false for what no key of ours is
// stored as.
func (k *Bucket) update(ctx context.Context, msg *nats.Msg) (kvlattice.Update, bool) {
	stored := strings.TrimPrefix(msg.Subject, subjectUpdate+k.ns+".")
	escaped, writer := kvlattice.SplitSlot(stored)
	key, err := kvlattice.UnescapeKey(escaped)
	if err != nil {
		return kvlattice.Update{}, false
	}
	e, err := k.entry(ctx, stored, writer, msg)
	if wire.KindOf(err) == wire.KindUnknown {
		return kvlattice.Update{Key: key, Entry: kvlattice.Entry{Writer: writer, Rev: sequenceOf(msg)}, Missed: true}, true
	}
	if err != nil {
		return kvlattice.Update{Lost: true}, true
	}
	return kvlattice.Update{Key: key, Entry: e}, true
}
