package kvlattice

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// pin returns the key's entry, which stays in the cache until unpin.
func (s *Store) pin(key string) *entry {
	for {
		e := s.cache.findOrAdd(key)
		e.mu.Lock()
		dead := e.dead
		if !dead {
			e.pins++
			if e.size == 0 {
				s.cache.accountLocked(e)
			}
		}
		e.mu.Unlock()
		if !dead {
			return e
		}
		s.cache.bury(e) // whoever killed it is about to, too
	}
}

// unpin ends a use of the entry. Where nothing is cached, the last use of an
// entry without unfolded writes forgets it.
func (s *Store) unpin(e *entry) {
	e.mu.Lock()
	e.pins--
	if e.pins == 0 && !s.listening.Load() && !e.own.held() {
		s.killLocked(e)
	}
	dead := e.dead
	e.mu.Unlock()
	if dead {
		s.cache.bury(e)
	}
	s.evict()
}

func (s *Store) killLocked(e *entry) {
	e.dead = true
	e.served.Store(nil)
	s.cache.bytes.Add(-e.size)
	s.dirty.remove(e)
}

// load makes a pinned entry fresh, with every write up to revision after: many
// may ask, one reads. It returns false if nothing can be cached because nobody
// listens.
func (s *Store) load(ctx context.Context, e *entry, after uint64) (bool, error) {
	for {
		gen := s.gen.Load() // before the question who listens: see Run
		if !s.listening.Load() {
			return false, nil
		}
		e.mu.Lock()
		if e.gen == gen && max(e.asOf.Load(), s.progress.Load()) >= after {
			e.mu.Unlock()
			e.touch()
			s.cache.at(e.key).hits.Add(1)
			return true, nil
		}
		f := e.flight
		if f == nil {
			f = &flight{done: make(chan struct{})}
			e.flight = f
			e.mu.Unlock()
			f.err = s.fill(ctx, e, gen, after)
			e.mu.Lock()
			e.flight = nil
			e.mu.Unlock()
			close(f.done)
			return true, f.err
		}
		e.mu.Unlock()
		select {
		case <-f.done:
			// An error may be the reader's own, its context's for one: look again,
			// and read for ourselves if need be.
		case <-ctx.Done():
			return false, context.Cause(ctx)
		}
	}
}

// fill follows and reads a key. Whoever calls it holds the entry's flight.
func (s *Store) fill(ctx context.Context, e *entry, gen, after uint64) error {
	s.count.misses.Add(1)
	e.mu.Lock()
	followed, complete := e.followed, e.gen == gen
	e.mu.Unlock()
	if !followed {
		if err := s.feed.Follow(e.key); err != nil {
			return fmt.Errorf("follow: %w", err)
		}
		e.mu.Lock()
		e.followed = true
		e.mu.Unlock()
	}
	if !complete {
		fence, err := s.feed.Fence(ctx)
		if err != nil {
			return fmt.Errorf("follow: %w", err)
		}
		after = max(after, fence)
	}
	return s.refresh(ctx, e, gen, after)
}

// refresh joins a pinned entry with what is stored. A gen says that this makes
// it fresh, because the key was followed before; 0 that it doesn't.
func (s *Store) refresh(ctx context.Context, e *entry, gen, after uint64) error {
	e.mu.Lock()
	missed := e.missed
	e.mu.Unlock()
	snap, err := s.bucket.Read(ctx, e.key, after)
	if err != nil {
		return err
	}
	stored, err := snap.Join()
	if err != nil {
		return err
	}
	s.observe(stored)
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := s.absorbLocked(e, snap, stored); err != nil {
		return err
	}
	s.cache.accountLocked(e)
	if gen != 0 && e.missed == missed {
		e.gen = gen
		raise(&e.asOf, snap.AsOf)
		if len(snap.Slots) > s.cfg.CompactSlots {
			s.dirty.urge(e, s.soon())
		}
	}
	return nil
}

// absorbLocked joins the entry with a snapshot and what that holds. Where the
// kinds differ, what is stored counts and what was remembered does not: then
// somebody replaced the key by hand. What we wrote ourselves and is not in the
// base yet can't be forgotten: the difference is an error until it is resolved.
func (s *Store) absorbLocked(e *entry, snap Snapshot, stored Lattice) error {
	if stored != nil && e.state != nil && !joinable(stored, e.state) {
		e.forgetLocked()
	}
	if err := e.joinLocked(stored); err != nil {
		return err
	}
	if e.own.mine != nil {
		if err := e.joinLocked(e.own.mine.Clone()); err != nil {
			e.forgetLocked()
			return err
		}
	}
	newest := uint64(0)
	if snap.Base != nil {
		newest = snap.Base.Rev
		e.baseRev = max(e.baseRev, snap.Base.Rev)
	}
	seen := make(map[string]bool, len(snap.Slots))
	for _, slot := range snap.Slots {
		newest = max(newest, slot.Rev)
		if !s.isOwn(slot.Writer) {
			seen[slot.Writer] = true
			e.slotSeenLocked(slot.Writer, slot.Rev)
		}
	}
	e.rev = max(e.rev, snap.newest())
	for writer, rev := range e.slots {
		if !seen[writer] && rev <= newest {
			delete(e.slots, writer) // it was purged
		}
	}
	return nil
}

// fetch reads a key past the cache, joined with what we wrote ourselves: a
// replica may lag behind that.
func (s *Store) fetch(ctx context.Context, e *entry, after uint64) (Lattice, uint64, error) {
	s.count.misses.Add(1)
	snap, err := s.bucket.Read(ctx, e.key, after)
	if err != nil {
		return nil, 0, err
	}
	stored, err := snap.Join()
	if err != nil {
		return nil, 0, err
	}
	s.observe(stored)
	if s.cfg.FoldAtOnce && s.cfg.Writer != "" && len(snap.Slots) > s.cfg.CompactSlots {
		s.tidy(ctx, e)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	rev := snap.newest()
	if e.own.mine != nil {
		rev = max(rev, e.own.rev)
		stored, _, err = Join(stored, e.own.mine.Clone())
	}
	return stored, rev, err
}

// newest is the newest revision of what the snapshot shows.
func (s Snapshot) newest() uint64 {
	rev := uint64(0)
	if s.Base != nil {
		rev = s.Base.upTo()
	}
	for _, slot := range s.Slots {
		rev = max(rev, slot.upTo())
	}
	return rev
}

// observe shows the clock the stamps that were read, so that what is written
// next is newer.
func (s *Store) observe(l Lattice) {
	if ts := Latest(l); ts != (Timestamp{}) {
		s.cfg.Clock.Observe(ts)
	}
}

// apply takes in an update of the feed. It does no I/O.
func (s *Store) apply(u Update) {
	if u.Purged {
		s.purged()
		return
	}
	if u.Lost {
		s.count.lost.Add(1)
		s.gen.Add(1)
		return
	}
	if e := s.cache.find(u.Key); e != nil && s.wants(e, u.Entry) {
		s.update(e, u)
	}
	raise(&s.progress, u.AsOf)
}

// purged forgets all that is known, what this process wrote included: the slot that it
// is in may be gone. A slot that isn't is never written again, as after a write that
// failed, so it keeps what it holds.
func (s *Store) purged() {
	s.count.lost.Add(1)
	s.abandon(*s.slot.Load())
	for _, e := range s.cache.ring.all() {
		e.mu.Lock()
		e.forgetLocked()
		e.own = own{contended: e.own.contended}
		s.dirty.remove(e)
		e.mu.Unlock()
	}
	s.gen.Add(1)
}

// update joins an update into the entry that follows its key.
func (s *Store) update(e *entry, u Update) {
	if u.Missed {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.gen = 0
		e.missed++
		e.served.Store(nil)
		return
	}
	l, err := Decode(u.Entry)
	if err == nil {
		s.observe(l)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.dead {
		return
	}
	if err != nil || e.state != nil && !joinable(e.state, l) {
		e.forgetLocked() // the next read says what is wrong, if that is still so
		return
	}
	base := u.Entry.Writer == ""
	if !base && !s.isOwn(u.Entry.Writer) {
		e.slotSeenLocked(u.Entry.Writer, u.Entry.Rev)
		if len(e.slots) > s.cfg.CompactSlots {
			s.dirty.urge(e, s.soon())
		}
	}
	// The state may keep l, so what l includes is asked of a base only before.
	if base && e.own.mine != nil {
		if more, err := l.Merge(e.own.mine); err == nil && !more {
			e.own.mine = nil // see own
		}
	}
	if err := e.joinLocked(l); err != nil {
		e.forgetLocked()
		return
	}
	e.rev = max(e.rev, u.Entry.upTo())
	if base {
		e.baseRev = max(e.baseRev, u.Entry.Rev)
		for writer, rev := range e.slots {
			if rev < u.Entry.Rev {
				delete(e.slots, writer) // most likely folded; if not, its writer will
			}
		}
	}
	s.cache.accountLocked(e)
}

// wants says whether an update is news: not if we know a newer base, or wrote it
// and have heard of that already. What we wrote and are told of before the
// acknowledgement is news: another worker may have been shown it.
func (s *Store) wants(e *entry, u Entry) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if u.Writer == "" {
		return u.Rev > e.baseRev
	}
	return !s.isOwn(u.Writer) || u.Rev > e.own.rev
}

// isOwn says whether a slot is one of this process: see Store.slot.
func (s *Store) isOwn(writer string) bool {
	rest, ok := strings.CutPrefix(writer, s.cfg.Writer)
	return ok && s.cfg.Writer != "" && (rest == "" || rest[0] == '=')
}

// evict forgets entries until the cache fits its bound, or all are in use.
func (s *Store) evict() {
	if s.cache.bytes.Load() <= s.cfg.CacheBytes {
		return
	}
	for tries := 2 * s.cache.ring.len(); tries > 0 && s.cache.bytes.Load() > s.cfg.CacheBytes; tries-- {
		e := s.cache.ring.next()
		if e == nil {
			continue // a round of second chances: each of them is used up now
		}
		s.forget(e)
	}
}

// forget evicts an entry unless it is in use, or holds writes of ours that are
// not in the base: those are folded as soon as can be.
func (s *Store) forget(e *entry) {
	e.mu.Lock()
	if e.dead || e.pins > 0 || e.flight != nil || e.own.held() {
		dead := e.dead
		if !dead && e.own.held() {
			s.dirty.urge(e, time.Now())
		}
		e.mu.Unlock()
		if dead {
			s.cache.bury(e)
		}
		return
	}
	// While the flight lasts nobody else follows or reads the key.
	f := &flight{done: make(chan struct{})}
	e.flight = f
	e.gen = 0
	e.served.Store(nil)
	followed := e.followed
	e.mu.Unlock()
	if followed {
		// A key that is still followed although it is forgotten costs traffic, no
		// more: its updates find no entry.
		_ = s.feed.Unfollow(e.key)
	}
	e.mu.Lock()
	e.flight = nil
	e.followed = false
	if e.pins == 0 && !e.own.held() { // else it was wanted again meanwhile
		s.killLocked(e)
		s.count.evictions.Add(1)
	}
	dead := e.dead
	e.mu.Unlock()
	close(f.done)
	if dead {
		s.cache.bury(e)
	}
}
