package kvlattice

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// own is what this process wrote of a key that may not be in the base yet.
//
// The rule that keeps every acknowledged write: whatever our slot ever held is
// in mine or in the base. So a slot is only overwritten by mine with more
// joined to it, and mine is only dropped when a base is known to include it.
// Who drops it:
//   - a fold, which holds the key's turn: no write of the key is under way, and
//     the base that it put includes mine;
//   - an update of the feed with a base that includes mine. A write may be under
//     way then; what it carries was in mine, hence in that base.
//
// The slot itself may outlive mine until it is purged; what it holds is in the
// base, and the next write may overwrite it.
type own struct {
	mine Lattice // nil: nothing
	name string  // of the slot; empty: none begun
	rev  uint64  // at which the slot was last acknowledged; 0: there is none
	// failed are slots in which a write failed, and which may be stored: what they
	// hold is in mine.
	failed []string
	// unsure says that a commit failed which may be stored: what its slot holds then
	// isn't in mine, so only what was seen of the slot may be purged.
	unsure bool

	contended time.Time // until then, others write the key too
	retry     time.Time // when a large slot may be folded again
	visits    int       // folds since the last write
	fails     int       // folds in a row that failed
	// floors are how far calls were settled, by source, before our last fold.
	floors map[string]uint64
}

// held says whether something of ours may be stored outside the base.
func (o *own) held() bool { return o.mine != nil || o.rev != 0 || len(o.failed) > 0 || o.unsure }

// A batch is a write that several merges share: while one write of a key is
// under way, all that come wait for the next one together.
type batch struct {
	delta   Lattice       // guarded by entry.mu until it is led
	waiters int           // guarded by entry.mu
	cancel  func()        // ends the write when nobody waits; nil until it is led
	done    chan struct{} // closed when rev and err are set
	rev     uint64
	err     error
}

// Merge joins delta into the key, and returns a revision at which the key holds
// it. When the error is nil the storage has acknowledged, and reads of this store
// show it. After an error the write may or may not be stored, now or later;
// merging the same again is harmless. The caller keeps delta. What another kind
// of lattice holds already is an error of wire.KindLattice.
//
// Overwrites are merged as what they make of the key: each replaces what its run
// had seen, and stands beside what it had not.
func (s *Store) Merge(ctx context.Context, key string, delta Lattice) (uint64, error) {
	if s.cfg.Writer == "" {
		return 0, &wire.Error{Op: "write", Kind: wire.KindBadArgument, Name: key, Msg: "the store was opened without a writer's name, only to read"}
	}
	e := s.pin(key)
	defer s.unpin(e)
	rev, err := s.write(ctx, e, delta)
	if err != nil {
		return 0, fmt.Errorf("write %q: %w", key, err)
	}
	return rev, nil
}

// write waits for the batch that delta joins, and leads it if the turn comes.
func (s *Store) write(ctx context.Context, e *entry, delta Lattice) (uint64, error) {
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	b, err := s.enlist(ctx, e, delta)
	if err != nil {
		return 0, err
	}
	for {
		select {
		case <-b.done:
			return b.rev, b.err
		case <-ctx.Done():
			e.leave(b)
			return 0, context.Cause(ctx)
		case e.turn <- struct{}{}:
			s.lead(ctx, e, b)
			<-e.turn // b is done: by us, or by who had the turn before
		}
	}
}

// enlist adds delta to the next write of the key. One of another kind waits for
// a write of its own, which tells whether the key can hold it.
func (s *Store) enlist(ctx context.Context, e *entry, delta Lattice) (*batch, error) {
	for {
		e.mu.Lock()
		b := e.batch
		if b == nil {
			b = &batch{delta: delta.Clone(), waiters: 1, done: make(chan struct{})}
			e.batch = b
			e.mu.Unlock()
			return b, nil
		}
		if _, other := delta.(*Overwrites); b.delta.Kind() == delta.Kind() && isOverwrites(b.delta) == other {
			_, err := b.delta.Merge(delta)
			if err == nil {
				b.waiters++
				s.count.shared.Add(1)
			}
			e.mu.Unlock()
			return b, err
		}
		e.mu.Unlock()
		select {
		case <-b.done:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// leave is a waiter giving up. The last one takes the write back, or ends it.
func (e *entry) leave(b *batch) {
	e.mu.Lock()
	defer e.mu.Unlock()
	b.waiters--
	switch {
	case b.waiters > 0:
	case b.cancel != nil:
		b.cancel()
	case e.batch == b:
		e.batch = nil
	}
}

// lead writes a batch, unless another waiter has done so. Whoever calls it has
// the entry's turn. The write is everybody's who waits: it outlives ctx until
// all of them have given up.
func (s *Store) lead(ctx context.Context, e *entry, b *batch) {
	shared, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.Timeout)
	defer cancel()
	e.mu.Lock()
	led := e.batch != b
	if !led {
		e.batch, b.cancel = nil, cancel
	}
	e.mu.Unlock()
	if led {
		return
	}
	stop := context.AfterFunc(ctx, func() { e.leave(b) })
	size, err := s.publish(shared, e, b.delta)
	stop()
	b.err = err
	e.mu.Lock()
	b.rev = e.rev // of our write, or of one that came after it
	e.mu.Unlock()
	close(b.done)
	if err == nil && s.overdue(e, size) {
		// The write is stored; a fold that fails is tried again by Run.
		_ = s.visit(ctx, e)
	}
}

// errCrowded says that a write had better go to a slot.
var errCrowded = errors.New("base is not for this write")

// publish stores delta: in the base if the key is quiet, else in our slot,
// whose size it returns. Whoever calls it has the entry's turn.
func (s *Store) publish(ctx context.Context, e *entry, delta Lattice) (slotSize int, err error) {
	if unnumbered(delta) {
		return 0, s.putNumbered(ctx, e, delta)
	}
	read := s.mustRead(e, delta)
	if ops, ok := delta.(*Overwrites); ok {
		if read {
			// With all that we wrote: each of our dots stands for the earlier ones.
			if err := s.refresh(ctx, e, 0, s.stored.Load()); err != nil {
				return 0, err
			}
			read = false
		}
		if delta, err = s.dot(e, ops, s.cfg.Clock.After); err != nil {
			return 0, err
		}
		defer late(time.Now(), &err)
	}
	for {
		if read {
			if err := s.refresh(ctx, e, 0, 0); err != nil {
				return 0, err
			}
		}
		err := s.putBase(ctx, e, delta)
		switch {
		case errors.Is(err, ErrStale) && !read && !s.fresh(e):
			read = true // a key taken for new isn't: look, and try once more
		case errors.Is(err, ErrStale):
			e.contend(8 * s.cfg.Idle) // an attempt in vain costs a round trip
			return s.putSlot(ctx, e, delta)
		case errors.Is(err, errCrowded):
			return s.putSlot(ctx, e, delta)
		default:
			return 0, err
		}
	}
}

// mustRead says whether a write has to read first: where nothing is cached,
// because a quiet key's base needs its revision; if what is remembered looks
// like another kind, because it may have been replaced by hand; and if it
// overwrites versions, because what it doesn't overwrite stays.
func (s *Store) mustRead(e *entry, delta Lattice) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return !s.listening.Load() && !e.own.held() ||
		e.state != nil && e.state.Kind() != delta.Kind() ||
		isOverwrites(delta) && e.gen != s.gen.Load()
}

// contend has a key's writes go to slots for a while: others write it too.
func (e *entry) contend(d time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.own.contended = time.Now().Add(d)
}

func (s *Store) fresh(e *entry) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.gen == s.gen.Load()
}

// putBase writes the join of delta and what is known of a quiet key. A base of
// this size costs no more than a slot, needs no fold, and any client can read
// it at once. errCrowded and ErrStale tell that the key isn't quiet.
func (s *Store) putBase(ctx context.Context, e *entry, delta Lattice) error {
	base, rev, err := s.planBase(e, delta)
	if err != nil || base == nil {
		return err
	}
	if rev, err = s.bucket.PutBase(ctx, e.key, *base, rev); err != nil {
		return err
	}
	raise(&s.stored, rev)
	s.count.bases.Add(1)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.baseRev, e.rev = max(e.baseRev, rev), max(e.rev, rev)
	err = e.joinLocked(delta)
	if e.openLocked() && isCausal(e.state) && s.listening.Load() {
		s.dirty.rest(e, time.Now().Add(s.cfg.Idle)) // a quiet key's clock grows too
	}
	s.cache.accountLocked(e)
	return err
}

// planBase returns the base to put and the revision it replaces; nil if delta
// is stored already.
func (s *Store) planBase(e *entry, delta Lattice) (*Entry, uint64, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	joined := delta
	if e.state != nil && !joinable(e.state, delta) {
		if !deleted(e.state) {
			return nil, 0, differ(e.state, delta)
		}
		if e.crowdedLocked() {
			return nil, 0, errCrowded
		}
	} else if e.state != nil {
		// Cloning is for small values only: a large set isn't copied for one element.
		if e.crowdedLocked() || e.state.Size() > max(4*s.cfg.SmallBase, 4*delta.Size()) {
			return nil, 0, errCrowded
		}
		var changed bool
		var err error
		if joined, changed, err = Join(e.state.Clone(), delta); err != nil {
			return nil, 0, err
		}
		if !changed {
			s.count.skipped.Add(1)
			return nil, 0, nil
		}
	} else if e.crowdedLocked() {
		return nil, 0, errCrowded
	}
	base := new(Entry)
	base.Header, base.Body = joined.Encode()
	// What is mostly delta would fill a slot of that size just as well.
	if base.size() > s.cfg.SmallBase && joined.Size() > 2*delta.Size() {
		return nil, 0, errCrowded
	}
	return base, e.baseRev, nil
}

// crowdedLocked says whether somebody has a slot of the key, or is about to.
func (e *entry) crowdedLocked() bool {
	return e.own.held() || len(e.slots) > 0 || time.Now().Before(e.own.contended)
}

// putSlot overwrites our slot with all that isn't known to be in the base.
func (s *Store) putSlot(ctx context.Context, e *entry, delta Lattice) (size int, err error) {
	e.mu.Lock()
	if !e.own.held() {
		e.own.name = *s.slot.Load()
	}
	mine, _, err := Join(e.own.mine, delta.Clone())
	if err != nil {
		e.mu.Unlock()
		return 0, err
	}
	e.own.mine = mine
	slot := Entry{Writer: e.own.name}
	slot.Header, slot.Body = e.own.mine.Encode()
	e.own.visits = 0
	s.dirty.rest(e, time.Now().Add(s.cfg.Idle))
	e.mu.Unlock()

	rev, err := s.bucket.PutSlot(ctx, e.key, slot)

	e.mu.Lock()
	defer e.mu.Unlock()
	if e.own.name != slot.Writer { // the bucket was purged meanwhile, before or after this
		raise(&s.stored, rev)
		e.gen = 0
		return slot.size(), err
	}
	if err != nil {
		e.own.failed = append(e.own.failed, slot.Writer)
		e.own.name, e.own.rev = s.abandon(slot.Writer), 0
		s.cache.accountLocked(e)
		return 0, err
	}
	raise(&s.stored, rev)
	s.count.slots.Add(1)
	e.own.rev, e.rev = rev, max(e.rev, rev)
	if len(e.own.failed) > 0 && e.own.mine != nil {
		delta = e.own.mine.Clone() // what failed before is stored now
	}
	err = e.joinLocked(delta)
	s.cache.accountLocked(e)
	return slot.size(), err
}

// abandon returns the name of the slot that takes the place of one in which a
// write failed. The failed write may still be on its way, and must not
// overwrite what is acknowledged later; nothing ever writes to that slot again.
// A fold removes it. A write that arrives after that leaves a slot which says
// nothing new, for the next reader that sees too many.
func (s *Store) abandon(name string) string {
	now := s.slot.Load()
	if *now != name {
		return *now // another key's write failed first, and renamed all
	}
	next := s.cfg.Writer + "=" + strconv.FormatUint(s.renamed.Add(1), 36)
	if s.slot.CompareAndSwap(now, &next) {
		return next
	}
	return *s.slot.Load()
}

// size is how many bytes of header and body the entry takes on its way.
func (e *Entry) size() int {
	n := len(e.Body)
	for name, values := range e.Header {
		for _, v := range values {
			n += len(name) + len(v)
		}
	}
	return n
}
