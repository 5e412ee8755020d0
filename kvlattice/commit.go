package kvlattice

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// ErrCommitted is returned by a Commit whose record is there already: all that
// the first one wrote is stored, and nothing of this one.
var ErrCommitted = errors.New("committed before")

// Transactions are what a Bucket can do with several keys at once. A Bucket
// needn't.
type Transactions interface {
	// Commit stores a record and the slots, all or nothing, and returns the
	// revision of the last. No reader sees some and not others.
	Commit(ctx context.Context, record string, r Record, slots []KeySlot) (last uint64, err error)
	// Recorded returns a record, and whether there is one. Records are kept for a
	// while, not for ever.
	Recorded(ctx context.Context, record string) (r Record, found bool, err error)
	// ReadAll returns one snapshot of several keys, each as Bucket.Read has it.
	ReadAll(ctx context.Context, keys []string, after uint64) ([]Snapshot, error)
}

// A Record tells of a commit: what came of it, and the latest timestamp that its run
// knew of then.
type Record struct {
	Value wire.Value
	At    Timestamp
}

// A KeySlot is a writer's slot of a key.
type KeySlot struct {
	Key   string
	Entry Entry
}

// HeaderBatch says how many elements of the same commit were stored right after
// this one: a reader of one who asks for everything up to the last sees all.
const HeaderBatch = "Cb-Batch"

// upTo is the revision at which all is stored that was written together with e.
func (e *Entry) upTo() uint64 {
	left, err := strconv.ParseUint(wire.First(e.Header, HeaderBatch), 10, 32)
	if err != nil {
		return e.Rev
	}
	return e.Rev + left
}

// transactions returns what the bucket can do with several keys.
func (s *Store) transactions() (Transactions, error) {
	t, ok := s.bucket.(Transactions)
	if !ok {
		return nil, &wire.Error{Kind: wire.KindBadArgument, Msg: "this storage has no transactions"}
	}
	return t, nil
}

// Recorded returns the record of a Commit, and whether there is one.
func (s *Store) Recorded(ctx context.Context, record string) (Record, bool, error) {
	t, err := s.transactions()
	if err != nil {
		return Record{}, false, err
	}
	return t.Recorded(ctx, record)
}

// ReadAll returns what several keys hold at one moment, with every write up to
// revision after, each as Read does. It asks the bucket.
func (s *Store) ReadAll(ctx context.Context, keys []string, after uint64) ([]Lattice, []uint64, error) {
	t, err := s.transactions()
	if err != nil {
		return nil, nil, err
	}
	snaps, err := t.ReadAll(ctx, keys, after)
	if err != nil {
		return nil, nil, fmt.Errorf("read %d keys: %w", len(keys), err)
	}
	all, revs := make([]Lattice, len(snaps)), make([]uint64, len(snaps))
	for i, snap := range snaps {
		if all[i], err = snap.Join(); err != nil {
			return nil, nil, fmt.Errorf("read %q: %w", keys[i], err)
		}
		s.observe(all[i])
		revs[i] = snap.newest()
	}
	return all, revs, nil
}

// Commit joins deltas into their keys, all or nothing, and stores a record of it
// under a name; ErrCommitted if there is one. It returns a revision at which
// everything is stored. Slots are written, whether a key is quiet or not. After
// another error all of it may be stored, now or later, or nothing.
func (s *Store) Commit(ctx context.Context, record string, r Record, deltas map[string]Lattice) (rev uint64, err error) {
	t, err := s.transactions()
	if err != nil {
		return 0, err
	}
	// Turns are taken in one order, and nobody else holds more than one.
	keys := slices.Sorted(maps.Keys(deltas))
	writes := make([]*commitWrite, 0, len(keys))
	defer func() {
		for _, w := range writes {
			<-w.e.turn
			s.unpin(w.e)
		}
	}()
	for _, key := range keys {
		w := &commitWrite{e: s.pin(key), delta: deltas[key]}
		select {
		case w.e.turn <- struct{}{}:
			writes = append(writes, w)
		case <-ctx.Done():
			s.unpin(w.e)
			return 0, context.Cause(ctx)
		}
		if err := s.catchUp(ctx, w); err != nil {
			return 0, fmt.Errorf("commit %q: %w", key, err)
		}
	}
	began := time.Now()
	slots, err := s.prepareAll(writes)
	if err != nil {
		return 0, err
	}
	for _, w := range writes {
		w.begin(s)
	}
	rev, err = t.Commit(ctx, record, r, slots)
	late(began, &err)
	for _, w := range writes {
		if joinErr := w.end(s, rev, err); err == nil {
			err = joinErr
		}
	}
	for i, w := range writes {
		if err == nil && s.overdue(w.e, slots[i].Entry.size()) {
			_ = s.visit(ctx, w.e) // it is stored; a fold that fails is tried again by Run
		}
	}
	return rev, err
}

// A commitWrite is one key of a commit, whose turn it has.
type commitWrite struct {
	e     *entry
	delta Lattice // with its dots
	mine  Lattice // what our slot is to hold
}

// catchUp reads a key that may have been written since it was read last.
func (s *Store) catchUp(ctx context.Context, w *commitWrite) error {
	if s.fresh(w.e) && !s.mustRead(w.e, w.delta) {
		return nil
	}
	return s.refresh(ctx, w.e, 0, s.stored.Load())
}

// prepareAll returns the slots to write. All causal registers get one timestamp: of
// two commits that wrote the same keys at once, the same one is shown first in all.
func (s *Store) prepareAll(writes []*commitWrite) ([]KeySlot, error) {
	var last Timestamp
	for _, w := range writes {
		w.e.mu.Lock()
		last = later(last, later(Latest(w.e.state), Latest(w.e.own.mine)))
		w.e.mu.Unlock()
		if ops, ok := w.delta.(*Overwrites); ok {
			for _, op := range ops.ops {
				last = later(last, op.at)
			}
		}
	}
	at := s.cfg.Clock.After(last)
	slots := make([]KeySlot, len(writes))
	for i, w := range writes {
		entry, err := s.prepare(w, at)
		if err != nil {
			return nil, fmt.Errorf("commit %q: %w", w.e.key, err)
		}
		if left := len(writes) - 1 - i; left > 0 {
			entry.Header[HeaderBatch] = []string{strconv.Itoa(left)}
		}
		slots[i] = KeySlot{w.e.key, entry}
	}
	return slots, nil
}

// prepare returns the slot to write. Nothing has happened yet when it fails.
func (s *Store) prepare(w *commitWrite, at Timestamp) (Entry, error) {
	e := w.e
	if ops, ok := w.delta.(*Overwrites); ok {
		delta, err := s.dot(e, ops, func(Timestamp) Timestamp { return at })
		if err != nil {
			return Entry{}, err
		}
		w.delta = delta
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.state != nil && !joinable(e.state, w.delta) && !deleted(e.state) {
		return Entry{}, differ(e.state, w.delta)
	}
	if e.own.mine != nil {
		w.mine = e.own.mine.Clone()
	}
	var err error
	if w.mine, _, err = Join(w.mine, w.delta.Clone()); err != nil {
		return Entry{}, err
	}
	entry := Entry{Writer: e.own.name}
	if !e.own.held() {
		entry.Writer = *s.slot.Load()
	}
	entry.Header, entry.Body = w.mine.Encode()
	return entry, nil
}

// begin notes that a slot is about to be stored. What it will hold is kept apart from
// what is ours: nobody is shown it, and no fold stores it, before all of the commit is
// acknowledged.
func (w *commitWrite) begin(s *Store) {
	e := w.e
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.own.held() {
		e.own.name = *s.slot.Load()
	}
	e.own.visits = 0
	s.dirty.rest(e, time.Now().Add(s.cfg.Idle))
}

// end notes what became of it. A slot that may or may not have been stored isn't
// written to any more, so what it holds isn't lost; and if it was stored, so was all
// that was committed with it.
func (w *commitWrite) end(s *Store, rev uint64, failed error) error {
	e := w.e
	e.mu.Lock()
	defer e.mu.Unlock()
	defer s.cache.accountLocked(e)
	switch {
	case errors.Is(failed, ErrCommitted):
		return nil
	case e.own.name == "": // the bucket was purged meanwhile: what is stored counts
		e.gen = 0
		return nil
	case failed != nil:
		e.own.unsure = true
		e.own.name, e.own.rev = s.abandon(e.own.name), 0
		return nil
	}
	raise(&s.stored, rev)
	s.count.slots.Add(1)
	e.own.mine, e.own.rev, e.rev = w.mine, rev, max(e.rev, rev)
	return e.joinLocked(w.delta)
}
