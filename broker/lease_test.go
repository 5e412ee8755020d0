package broker

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

func TestLockIsHeldByOneAtATime(t *testing.T) {
	p := newPlatform(t)
	var inside, turns atomic.Int32
	var wg sync.WaitGroup
	for _, name := range []string{"a", "b", "c", "d"} {
		b := p.connect(name)
		for range 2 {
			wg.Go(func() {
				for range 5 {
					err := b.withLock(t.Context(), "x", func(context.Context) error {
						if n := inside.Add(1); n != 1 {
							t.Errorf("%d hold the lock at once", n)
						}
						turns.Add(1)
						// A round trip, so that the others get to try meanwhile.
						err := b.nc.Flush()
						inside.Add(-1)
						return err
					})
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	wg.Wait()
	if turns.Load() != 40 {
		t.Errorf("got %d turns, want 40", turns.Load())
	}
}

func TestLockHandsOnTheErrorAndIsReleased(t *testing.T) {
	p := newPlatform(t)
	mine := errors.New("mine")
	if err := p.withLock(t.Context(), "x", func(context.Context) error { return mine }); !errors.Is(err, mine) {
		t.Fatalf("got %v, want fn's own error", err)
	}
	msg, err := p.last(t.Context(), bucketStream(BucketWorkers), bucketSubject(BucketWorkers, "lock.x"))
	if err != nil || msg != nil && !isMarker(msg) {
		t.Errorf("the lock was not released: %v, %v", msg, err)
	}
	if err := p.withLock(t.Context(), "x", func(context.Context) error { return nil }); err != nil {
		t.Fatal(err)
	}
}

func TestLockOutlivesADeadOwnerOnlyBriefly(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	// A dead owner leaves this behind. It lapses long after the short wait below.
	h := nats.Header{"Nats-TTL": {"5s"}}
	if _, err := p.put(t.Context(), &nats.Msg{Subject: bucketSubject(BucketWorkers, "lock.x"), Header: h}); err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := p.withLock(short, "x", func(context.Context) error { return nil }); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v, want the caller's deadline while another holds the lock", err)
	}
	if err := p.withLock(t.Context(), "x", func(context.Context) error { return nil }); err != nil {
		t.Fatalf("after the owner's death: %v", err)
	}
}

func TestLockIsRenewed(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	err := p.withLock(t.Context(), "x", func(ctx context.Context) error {
		before, err := p.last(ctx, bucketStream(BucketWorkers), bucketSubject(BucketWorkers, "lock.x"))
		if err != nil {
			return err
		}
		eventually(t, "the lock is renewed", func() bool {
			now, err := p.last(ctx, bucketStream(BucketWorkers), bucketSubject(BucketWorkers, "lock.x"))
			return err == nil && now != nil && sequenceOf(now) > sequenceOf(before)
		})
		return ctx.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
	msg, err := p.last(t.Context(), bucketStream(BucketWorkers), bucketSubject(BucketWorkers, "lock.x"))
	if err != nil || msg != nil {
		t.Errorf("after the release: %v, %v, want nothing", msg, err)
	}
}

func TestLockThatIsLostEndsTheWork(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	err := p.withLock(t.Context(), "x", func(ctx context.Context) error {
		// Somebody takes it away: the next renewal finds out.
		if _, err := p.put(ctx, &nats.Msg{Subject: bucketSubject(BucketWorkers, "lock.x")}); err != nil {
			return err
		}
		<-ctx.Done()
		return context.Cause(ctx)
	})
	if !errors.Is(err, errLockLapsed) {
		t.Errorf("got %v, want errLockLapsed", err)
	}
	if msg, err := p.last(t.Context(), bucketStream(BucketWorkers), bucketSubject(BucketWorkers, "lock.x")); err != nil || msg == nil {
		t.Errorf("the new owner's lock was released: %v, %v", msg, err)
	}
}

func TestRenewalGivesUpBeforeTheLockLapses(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	l := &lock{b: p.Broker, bucket: BucketWorkers, key: "lock.x"}
	if err := l.acquire(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left := time.Until(l.until); left > lockTTL-time.Second {
		t.Errorf("safe for %v, want clearly less than the storage's %v", left, lockTTL)
	}
	l.until = time.Now().Add(lockRenew + time.Second) // as if earlier renewals had failed
	p.server.Shutdown()
	if l.keep(make(chan struct{})) {
		t.Error("kept a lock without a server")
	}
	if late := time.Since(l.until); late > lockTTL {
		t.Errorf("gave up %v too late", late)
	}
}
