package broker

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cloudburst-nats/cloudburst/internal/backoff"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// A lock is a key that only one process can create, and that its owner writes
// anew every lockRenew. lockTTL is after how long the storage drops the key of
// an owner who died; lockHold is how long an owner may work after it wrote the
// key, counted from before it asked: the difference is the drift between two
// clocks and the slowness of one reply that we tolerate.
const (
	lockTTL   = 10 * time.Second
	lockHold  = 8 * time.Second
	lockRenew = 3 * time.Second
	lockWait  = 100 * time.Millisecond // between two tries, at most, before jitter
	leadWait  = time.Second            // the same, of those who wait to lead: they may wait for days
)

// errLockLapsed is the cause of a context that ended because its lock was
// about to.
var errLockLapsed = errors.New("the lock could not be renewed in time")

// withLock runs fn while no other process runs one under the same name. It
// waits for its turn until ctx ends. The context that fn is given ends when the
// lock is lost, and before it can lapse: fn must heed it, and what it does should
// still be harmless when repeated.
func (b *Broker) withLock(ctx context.Context, name string, fn func(ctx context.Context) error) error {
	l := &lock{b: b, bucket: BucketWorkers, key: "lock." + name, patience: lockWait}
	return l.hold(ctx, name, fn)
}

// Lead runs fn while no other process leads under the same name, again each time
// that the lead was lost, until ctx ends or fn returns by itself. The context that
// fn is given ends before the lead can pass to another: fn must return then.
// One that waits asks every leadWait, and takes over at most lockTTL, and one of
// these, after the leader was last heard. It is ErrClosed on a broker that was closed.
func (b *Broker) Lead(ctx context.Context, name string, fn func(ctx context.Context) error) error {
	if err := wire.CheckName("lead", name); err != nil {
		return err
	}
	for ctx.Err() == nil {
		l := &lock{b: b, bucket: BucketWorkers, key: "lock.lead." + name, patience: leadWait}
		var lost, led bool
		err := l.hold(ctx, name, func(held context.Context) error {
			b.observe.leads(name)
			err := fn(held)
			led, lost = true, held.Err() != nil
			return err
		})
		switch {
		case led && !lost:
			return err
		case led && ctx.Err() == nil:
			b.observe.leadLost(name, err)
		case errors.Is(err, ErrClosed):
			return err
		case err != nil && ctx.Err() == nil:
			b.observe.leadUnasked(name, err)
			select { // the storage can't be asked
			case <-ctx.Done():
			case <-time.After(leadWait):
			}
		}
	}
	return nil
}

// hold is withLock, for a lock that nobody has used yet.
func (l *lock) hold(ctx context.Context, name string, fn func(ctx context.Context) error) error {
	if err := l.acquire(ctx); err != nil {
		return apiError("lock", name, err)
	}
	held, lose := context.WithCancelCause(ctx)
	defer lose(nil)
	done := make(chan struct{})
	var keeper sync.WaitGroup
	keeper.Go(func() {
		if !l.keep(done) {
			lose(errLockLapsed)
		}
	})
	err := fn(held)
	close(done)
	keeper.Wait()
	l.release()
	return err
}

// A lock belongs to one goroutine at a time.
type lock struct {
	b        *Broker
	bucket   string // that the key is in
	key      string
	patience time.Duration // between two tries, at most
	seq      uint64        // of the key as we wrote it
	until    time.Time     // when it is no longer safe
}

func (l *lock) subject() string { return bucketSubject(l.bucket, l.key) }

// acquire waits until the lock is ours.
func (l *lock) acquire(ctx context.Context) error {
	var expect uint64
	for range backoff.Tries(ctx, 2*time.Millisecond, l.patience) {
		err := l.write(ctx, expect)
		if !isStale(err) {
			return err
		}
		if expect, err = l.expected(ctx); err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

// keep renews the lock until done is closed; false: it is lost, or soon will be.
func (l *lock) keep(done <-chan struct{}) bool {
	wait := lockRenew
	for {
		select {
		case <-done:
			return true
		case <-time.After(wait):
		}
		ctx, cancel := context.WithDeadline(context.Background(), l.until)
		err := l.write(ctx, l.seq)
		cancel()
		switch {
		case err == nil:
			wait = lockRenew
		case isStale(err) || !time.Now().Add(lockWait).Before(l.until):
			return false
		default:
			wait = lockWait
		}
	}
}

// write writes the key if its last sequence is expect.
func (l *lock) write(ctx context.Context, expect uint64) error {
	began := time.Now()
	h := nats.Header{
		jetstream.ExpectedLastSubjSeqHeader: {strconv.FormatUint(expect, 10)},
		jetstream.MsgTTLHeader:              {lockTTL.String()},
	}
	seq, err := l.b.put(ctx, &nats.Msg{Subject: l.subject(), Header: h})
	if err == nil {
		l.seq, l.until = seq, began.Add(lockHold)
	}
	return err
}

// expected returns what a create has to expect to be the last sequence: 0, but
// where the storage left a marker in place of a lock that lapsed.
func (l *lock) expected(ctx context.Context) (uint64, error) {
	msg, err := l.b.last(ctx, bucketStream(l.bucket), l.subject())
	if err != nil || msg == nil || !isMarker(msg) {
		return 0, err
	}
	return sequenceOf(msg), nil
}

// release removes the lock unless it is somebody else's by now.
func (l *lock) release() {
	if err := l.b.purgeThrough(context.Background(), bucketStream(l.bucket), l.subject(), l.seq); err != nil {
		l.b.observe.lockKept(l.subject(), err) // it lapses by itself
	}
}

// isStale says whether a write was refused because another was faster.
func isStale(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && (api.ErrorCode == codeWrongLastSeq || api.ErrorCode == codeWrongLastSeq2)
}

// isMarker says whether a message of a bucket stands for a removed value.
func isMarker(msg *nats.Msg) bool {
	h := wire.Header(msg.Header)
	return wire.First(h, jetstream.MarkerReasonHeader) != "" || wire.First(h, headerKVOperation) != ""
}

// sequenceOf returns a directly got message's sequence.
func sequenceOf(msg *nats.Msg) uint64 {
	seq, err := strconv.ParseUint(msg.Header.Get(jetstream.SequenceHeader), 10, 64)
	if err != nil {
		return 0
	}
	return seq
}

const headerKVOperation = "KV-Operation"
