package consistency

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/cloudburst-nats/cloudburst/kvlattice"
)

// A flushing is a write on its way to the storage.
type flushing struct {
	at    ref
	delta kvlattice.Lattice
	last  int
	whole bool // all that was written to the key, not a part
}

// Flush stores what was written, and returns when all of it is acknowledged.
// After an error some of it may be stored: the rest is kept, and Flush may be
// called again.
//
// All keys are written at once, except at levels Causal and SessionCausal: there
// writes are stored one after another in the order in which the run made them, since
// whoever is shown the later must be shown the earlier. Only writes of one key that
// follow each other are stored as one.
func (s *Session) Flush(ctx context.Context) error {
	batch, err := s.begin(ctx, s.cfg.Level.ordered() && !faulty("order"))
	if err != nil {
		return err
	}
	if s.cfg.Level.ordered() {
		for _, f := range batch {
			if err := s.store(ctx, f); err != nil {
				return err
			}
		}
		return nil
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(maxFlush)
	for _, f := range batch {
		group.Go(func() error { return s.store(ctx, f) })
	}
	return group.Wait()
}

// begin takes what there is to store, in the order in which it was written: in parts,
// or all that was written to a key as one.
func (s *Session) begin(ctx context.Context, parts bool) ([]flushing, error) {
	s.mu.Lock()
	if len(s.writes) == 0 {
		s.mu.Unlock()
		return nil, nil
	}
	s.flushes++
	s.sealed = s.puts
	batch := make([]flushing, 0, len(s.writes))
	for at, w := range s.writes {
		if !parts {
			batch = append(batch, flushing{at, w.delta.Clone(), w.last, true})
			continue
		}
		for _, p := range w.parts { // which nobody changes any more
			batch = append(batch, flushing{at, p.delta, p.last, false})
		}
	}
	s.mu.Unlock()
	slices.SortFunc(batch, func(a, b flushing) int { return cmp.Compare(a.last, b.last) })
	if s.cfg.Level != Repeatable {
		return batch, nil
	}
	// What only adds to a key is read with what it adds to, also further on in
	// the run: that is held before it changes.
	for _, f := range batch {
		if _, register := f.delta.(*kvlattice.LWW); register {
			continue
		}
		state, err := s.cfg.Stores.Store(ctx, f.at.namespace)
		if err == nil {
			_, err = s.hold(ctx, state, f.at)
		}
		if err != nil {
			return nil, fmt.Errorf("flush %s: %w", f.at.namespace, err)
		}
	}
	return batch, nil
}

// store stores one key's writes.
func (s *Session) store(ctx context.Context, f flushing) error {
	state, err := s.cfg.Stores.Store(ctx, f.at.namespace)
	if err != nil {
		return fmt.Errorf("flush %s: %w", f.at.namespace, err)
	}
	rev, err := state.Merge(ctx, f.at.key, s.stamped(f))
	if err != nil {
		return fmt.Errorf("flush %s: %w", f.at.namespace, err)
	}
	return s.wrote(f, rev)
}

// wrote notes that a write is stored.
func (s *Session) wrote(f flushing, rev uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w := s.writes[f.at]; w != nil && w.stored(f) {
		delete(s.writes, f.at)
	}
	if trail := s.trails[f.at]; trail != nil {
		trail.Stored()
		s.clock.Follow(trail.Latest(), s.cfg.Now)
	}
	if s.cfg.Level != LWW || s.past.Token {
		s.past.saw(s.cfg.Level, f.at, rev)
	}
	delete(s.seen, f.at) // this write has replaced it; the next one replaces this one
	if s.cfg.Level == Repeatable {
		return s.wroteLocked(f, rev)
	}
	return nil
}

// stamped returns what a write is at this level: at the causal ones, a register's
// value replaces what the run was shown, and nothing else.
func (s *Session) stamped(f flushing) kvlattice.Lattice {
	r, register := f.delta.(*kvlattice.LWW)
	if !register || !s.cfg.Level.causal() || faulty("clock") {
		return f.delta
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var after map[string]uint64
	if s.cfg.Level != CausalKey {
		after = s.past.elsewhere(f.at.namespace)
	}
	trail := s.trails[f.at]
	if trail == nil {
		if s.trails == nil {
			s.trails = make(map[ref]*kvlattice.Trail)
		}
		trail = new(kvlattice.Trail)
		s.trails[f.at] = trail
	}
	name := s.writeLocked(trail.Writes())
	if r.Deleted() {
		return kvlattice.NewCausalDelete(s.seen[f.at], after).By(name, trail, r.Timestamp())
	}
	return kvlattice.NewOverwrite(s.seen[f.at], r.Value(), after).By(name, trail, r.Timestamp())
}

// wroteLocked notes what the run has of a key that it wrote.
func (s *Session) wroteLocked(f flushing, rev uint64) error {
	next := &holding{lattice: f.delta, rev: rev, wrote: true}
	if h := s.held[f.at]; h != nil {
		next.read, next.first = h.read, h.first
		if _, register := f.delta.(*kvlattice.LWW); !register && h.lattice != nil {
			joined, _, err := kvlattice.Join(h.lattice.Clone(), f.delta)
			if err != nil {
				return err
			}
			next.lattice = joined
		}
	} else if pin, ok := s.past.pin(f.at); ok {
		next.read = pin.Read
	}
	s.holdLocked(f.at, next)
	return nil
}

// Past returns what the nodes that come next must know of this run. The versions
// that it has read and written stay pinned on this worker until Release.
func (s *Session) Past() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for at, h := range s.held {
		pin := Pin{Read: h.read}
		if h.read != nil && h.first != nil {
			pin.Read = s.pinLocked(at, h.first, h.read.Rev)
		} else if h.read != nil && h.read.At == s.id.Writer {
			s.cfg.Pins.keep(s.cfg.Run, at, h.read.ID, nil)
		}
		if h.wrote {
			pin.Wrote = []Version{*s.pinLocked(at, h.lattice, h.rev)}
		}
		s.past.setPin(at, pin)
	}
	if len(s.held) > 0 {
		s.past.keptBy(s.id.Writer)
	}
	s.past.Stamp = stampText(s.clock.Known())
	return s.past.String()
}

func (s *Session) pinLocked(at ref, l kvlattice.Lattice, rev uint64) *Version {
	v := &Version{ID: kvlattice.Version(l), At: s.id.Writer, Rev: rev}
	s.cfg.Pins.keep(s.cfg.Run, at, v.ID, l)
	return v
}

// Token returns what a caller hands to its next call: the time that its writes come
// after, and if it was asked for what reads must include, so that it sees what this run
// has seen and written. It is nothing if the caller, who sent before, knows all of it.
func Token(past, before string) string {
	p, err := ParsePast(past)
	switch {
	case err != nil, past == before && !p.Token:
		return ""
	case !p.Token:
		return (&Past{Stamp: p.Stamp}).String()
	}
	return (&Past{After: p.After, Token: true, Stamp: p.Stamp}).String()
}

// Release tells that a run has ended, if it was one that may begin again: all workers
// forget versions that they kept for it, also those that kept some for an attempt that
// nobody knows of any more. A run that was one call counts as settled with that call.
func Release(past, run string, oneCall bool, pins *Pins, peers Peers) {
	p, err := ParsePast(past)
	if err != nil || len(p.Workers) == 0 && (p.Origin == nil || oneCall) {
		return
	}
	pins.Release(run)
	source := ""
	if p.Origin != nil && !oneCall {
		source = p.Origin.Source
	}
	peers.Release(run, source)
}
