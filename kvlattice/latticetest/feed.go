package latticetest

import (
	"context"
	"sync"

	"github.com/cloudburst-nats/cloudburst/kvlattice"
)

// A Feed tells a store of writes to a Memory. Its updates can be held back and
// dropped.
type Feed struct {
	bucket *Memory

	// mu guards everything below. It is taken after Memory.mu, or alone.
	mu       sync.Mutex
	followed map[string]bool
	queue    []kvlattice.Update
	held     bool
	news     chan struct{} // capacity 1: the queue has something
}

var _ kvlattice.Feed = (*Feed)(nil)

// Follow has updates of the key told from now on.
func (f *Feed) Follow(key string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.followed[key] = true
	return nil
}

// Unfollow ends that.
func (f *Feed) Unfollow(key string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.followed, key)
	return nil
}

// Fence returns the revision that the bucket has come to.
func (f *Feed) Fence(ctx context.Context) (uint64, error) {
	f.bucket.mu.Lock()
	defer f.bucket.mu.Unlock()
	return f.bucket.rev, ctx.Err()
}

// Following returns how many keys are followed.
func (f *Feed) Following() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.followed)
}

// Hold keeps updates back until Release.
func (f *Feed) Hold() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.held = true
}

// Release lets updates through again, those that were held back first.
func (f *Feed) Release() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.held = false
	f.ringLocked()
}

// Drop loses the updates that weren't told yet, and says so: as a client does
// that was disconnected. Whoever reads after that sees what was lost.
func (f *Feed) Drop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.queue = []kvlattice.Update{{Lost: true}}
	f.ringLocked()
}

// Listen hands updates to fn until ctx ends.
func (f *Feed) Listen(ctx context.Context, fn func(kvlattice.Update)) error {
	for {
		for u, ok := f.next(); ok; u, ok = f.next() {
			fn(u)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-f.news:
		}
	}
}

func (f *Feed) next() (kvlattice.Update, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.held || len(f.queue) == 0 {
		return kvlattice.Update{}, false
	}
	u := f.queue[0]
	f.queue = f.queue[1:]
	return u, true
}

func (f *Feed) hear(u kvlattice.Update) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.followed[u.Key] {
		f.queue = append(f.queue, u)
		f.ringLocked()
	}
}

func (f *Feed) ringLocked() {
	select {
	case f.news <- struct{}{}:
	default:
	}
}
