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
	// resting: every write sends all of it. A counter holds some 600 operations
	// then.
	largeSlot = 16 << 10
	// maxDirty is how many unfolded keys are left to Run, at eight folders about a
	// second's work. Past it writers fold the keys they wrote, which slows them down.
	maxDirty = 10_000
	// maxVisits is how often a key is folded again for what was not settled yet,
	// each time after twice as long: four minutes in all by default. Whoever folds
	// the key next settles what is left.
	maxVisits = 10
)

// overdue says whether the writer of a slot should fold it itself, now.
func (s *Store) overdue(e *entry, slotSize int) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	large := slotSize > largeSlot || s.dirty.size() > maxDirty || s.cfg.FoldAtOnce && slotSize > 0
	return large && e.own.held() && !time.Now().Before(e.own.retry)
}

// Fold folds all that this process wrote into the bases, as Run does at its
// end; a store that isn't run calls it when it is done. The error names a key
// that could not be folded: what it holds is safe, in slots.
func (s *Store) Fold(ctx context.Context) error {
	var group errgroup.Group
	group.SetLimit(folders)
	for _, e := range s.dirty.all() {
		group.Go(func() error {
			for {
				err := s.attend(ctx, e, true)
				if err == nil {
					return nil
				}
				if !errors.Is(err, ErrStale) {
					return fmt.Errorf("fold %q: %w", e.key, err)
				}
				// Somebody else replaced the base: that is progress, go on from there.
				if err := pause(ctx, rand.N(20*time.Millisecond)); err != nil {
					return fmt.Errorf("fold %q: %w", e.key, err)
				}
			}
		})
	}
	return group.Wait()
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// attend folds a key of the dirty list when its turn is free; onlyOwn leaves
// keys alone that hold nothing of ours.
func (s *Store) attend(ctx context.Context, e *entry, onlyOwn bool) error {
	e.mu.Lock()
	if e.dead || onlyOwn && !e.own.held() {
		e.mu.Unlock()
		return nil
	}
	e.pins++
	e.mu.Unlock()
	defer s.unpin(e)
	select {
	case e.turn <- struct{}{}:
	case <-ctx.Done():
		s.dirty.urge(e, time.Now())
		return context.Cause(ctx)
	}
	defer func() { <-e.turn }()
	return s.visit(ctx, e)
}

// visit folds a key if it needs that, and plans the next visit if there is to
// be one. Whoever calls it has the entry's turn.
func (s *Store) visit(ctx context.Context, e *entry) error {
	e.mu.Lock()
	needed := e.own.held() || len(e.slots) > s.cfg.CompactSlots || e.openLocked()
	e.mu.Unlock()
	var err error
	if needed {
		err = s.fold(ctx, e)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	o := &e.own
	switch {
	case err != nil && errors.Is(err, ErrStale):
		s.count.staleFolds.Add(1)
		o.retry = s.soon()
		s.dirty.set(e, o.retry)
	case err != nil:
		s.count.failedFolds.Add(1)
		o.fails++
		o.retry = time.Now().Add(s.cfg.Idle/2 + rand.N(s.cfg.Idle<<min(o.fails, 7)))
		s.dirty.set(e, o.retry)
	case o.held():
		s.dirty.set(e, time.Now().Add(s.cfg.Idle))
	case e.openLocked() && o.visits < maxVisits:
		s.dirty.set(e, time.Now().Add(s.cfg.Idle<<o.visits))
		o.visits++
	default:
		s.dirty.remove(e)
	}
	if err == nil {
		o.fails = 0
	}
	return err
}

// settled is a lattice that remembers operations one by one until they are
// known to be in every snapshot. What is open is told by source, how many each.
type settled interface {
	Lattice
	Unsettled() map[string]int
	Settle(source string, upTo uint64)
}

// openLocked says whether the key remembers operations that aren't settled.
func (e *entry) openLocked() bool {
	l, ok := e.state.(settled)
	return ok && len(l.Unsettled()) > 0
}

// fold joins a key's slots into its base and purges them: first the base, so
// that every snapshot of every replica holds every write. Whoever calls it has
// the entry's turn, so nothing of ours is being written meanwhile. Others may
// write: a newer slot of theirs survives the purge, a newer base makes the
// fold fail with ErrStale.
func (s *Store) fold(ctx context.Context, e *entry) error {
	floors := s.floors(ctx, e)
	snap, err := s.bucket.Read(ctx, e.key, 0)
	if err != nil {
		return err
	}
	base, err := Snapshot{Base: snap.Base}.Join()
	if err != nil {
		return err
	}
	joined, err := snap.Join()
	if err != nil {
		return err
	}
	e.mu.Lock()
	fenced, failed := e.own.floors, len(e.own.failed) > 0
	if e.own.mine != nil {
		joined, _, err = Join(joined, e.own.mine.Clone())
	}
	e.mu.Unlock()
	if err != nil {
		return err
	}
	if joined == nil { // never written, or removed by hand
		return s.folded(e, nil, 0, nil)
	}
	s.observe(joined)
	settle(joined, fenced)
	_, grown, err := Join(base, joined)
	if err != nil {
		return err
	}
	rev := uint64(0)
	if snap.Base != nil {
		rev = snap.Base.Rev
	}
	// A base is also put to have a revision after what a failed write stored.
	if grown || failed || behind(fenced, floors, joined) {
		next := new(Entry)
		next.Header, next.Body = joined.Encode()
		if rev, err = s.bucket.PutBase(ctx, e.key, *next, rev); err != nil {
			return err
		}
		fenced = floors
		s.count.folds.Add(1)
	}
	if err := s.folded(e, joined, rev, fenced); err != nil {
		return err
	}
	return s.purge(ctx, e, snap, rev)
}

// tidy folds the slots that others have left, unless a write of the key is under way. What
// can't be folded now is left to the next reader.
func (s *Store) tidy(ctx context.Context, e *entry) {
	select {
	case e.turn <- struct{}{}:
		_ = s.fold(ctx, e)
		<-e.turn
	default:
	}
}

// folded notes that the base at rev includes joined, and hence all of mine.
func (s *Store) folded(e *entry, joined Lattice, rev uint64, floors map[string]uint64) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.own.mine = nil
	e.own.floors = floors
	if joined == nil {
		e.own.rev, e.own.failed, e.own.unsure = 0, nil, false
		return nil
	}
	if e.state != nil && !joinable(e.state, joined) {
		e.forgetLocked() // what is stored counts
	}
	err := e.joinLocked(joined)
	e.baseRev, e.rev = max(e.baseRev, rev), max(e.rev, rev)
	s.cache.accountLocked(e)
	return err
}

// purge removes the slots of a snapshot that the base at rev includes, and ours:
// a lagging replica may have shown older ones than we wrote, or none.
func (s *Store) purge(ctx context.Context, e *entry, snap Snapshot, rev uint64) error {
	gone := make(map[string]uint64, len(snap.Slots)+1)
	for _, slot := range snap.Slots {
		gone[slot.Writer] = slot.Rev
	}
	e.mu.Lock()
	if e.own.rev > 0 {
		gone[e.own.name] = max(gone[e.own.name], e.own.rev)
	}
	for _, name := range e.own.failed {
		gone[name] = max(gone[name], rev)
	}
	e.mu.Unlock()
	for writer, rev := range gone {
		if err := s.bucket.PurgeSlot(ctx, e.key, writer, rev); err != nil {
			return fmt.Errorf("purge slot of %s: %w", writer, err)
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.own.rev, e.own.failed, e.own.unsure = 0, nil, false
	for writer, rev := range gone {
		if e.slots[writer] <= rev {
			delete(e.slots, writer)
		}
	}
	return nil
}

// settle takes operations of a counter for settled up to the floors that were
// known before our last base was put. All that those calls wrote was
// acknowledged by then, so a snapshot that shows this base or a later one
// shows all of it. The floors of just now wouldn't do: a replica that lags may
// not show the last of those writes yet. And if the snapshot is older than our
// last base, its settled join never gets anywhere: its revision is stale.
func settle(l Lattice, floors map[string]uint64) {
	if c, ok := l.(settled); ok {
		for source, floor := range floors {
			c.Settle(source, floor)
		}
	}
}

// behind says whether a base put now would let the next fold settle more of
// what l has open than the last one does.
func behind(last, now map[string]uint64, l Lattice) bool {
	c, ok := l.(settled)
	if !ok {
		return false
	}
	for source := range c.Unsettled() {
		if now[source] > last[source] {
			return true
		}
	}
	return false
}

// floors asks how far that is settled which the key remembers one by one.
func (s *Store) floors(ctx context.Context, e *entry) map[string]uint64 {
	floors := make(map[string]uint64)
	e.mu.Lock()
	for _, l := range []Lattice{e.state, e.own.mine} {
		if c, ok := l.(settled); ok {
			for source := range c.Unsettled() {
				floors[source] = 0
			}
		}
	}
	e.mu.Unlock()
	for source := range floors {
		switch {
		case source == moment:
			floors[source] = uint64(max(s.cfg.Clock.Wall().Add(-foldAfter).UnixNano(), 0))
		case s.cfg.Settled != nil:
			// Where the answer can't be had, operations are remembered for longer.
			if floor, err := s.cfg.Settled(ctx, source); err == nil {
				floors[source] = floor
			}
		}
	}
	return floors
}
