package kvlattice

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// largeSlot is the size (bytes) at which a slot is folded although it isn't
	// resting: every write sends all of it. A counter has some 600 operations
	// then, and a server refuses headers of 64 KiB.
	largeSlot = 16 << 10
	// maxDirty is how many unfolded keys are left to Run: at 8 folders about a
	// second's work. Past it a writer folds the key it wrote, which slows it down.
	maxDirty = 10_000
	// maxVisits is how often a counter's key is looked at again for operations
	// that weren't settled yet, each time after twice as long: for a minute in
	// all by default. Whoever folds the key next settles what is left.
	maxVisits = 8
)

// overdue says whether the writer of a slot should fold it itself, now.
func (s *Store) overdue(e *entry, slotSize int) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.own.held() {
		return false
	}
	return slotSize > largeSlot && time.Now().After(e.own.retry) || s.dirty.size() > maxDirty
}

// Fold folds all that this process wrote into the bases, as Run does at its
// end; a store that isn't run calls it when it is done. The error names a key
// that could not be folded: what it holds is safe, in slots.
func (s *Store) Fold(ctx context.Context) error {
	group, folding := errgroup.WithContext(context.WithoutCancel(ctx)) // one key's error doesn't end the others
	_ = folding
	group.SetLimit(folders)
	for _, e := range s.dirty.all() {
		group.Go(func() error {
			for {
				err := s.tryFold(ctx, e)
				switch {
				case err == nil:
					return nil
				case !errors.Is(err, ErrStale):
					return fmt.Errorf("fold %q: %w", e.key, err)
				}
				// Others fold the same key: one of them succeeded.
				if err := pause(ctx, rand.N(20*time.Millisecond)); err != nil {
					return fmt.Errorf("fold %q: %w", e.key, err)
				}
			}
		})
	}
	return group.Wait()
}
