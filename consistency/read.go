package consistency

import (
	"context"
	"fmt"

	"github.com/cloudburst-nats/cloudburst/kvlattice"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// wasShown says whether the run knows what a write of the register replaces.
func (s *Session) wasShown(at ref) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.seen[at]
	return ok
}

// needs returns the revision that a read must include.
func (s *Session) needs(state State, at ref) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.past.needs(s.cfg.Level, at, func() uint64 { return state.Shown(0) })
}

// view reads a register as the level asks for, but for Repeatable.
func (s *Session) view(ctx context.Context, state State, at ref) (kvlattice.View, error) {
	need := s.needs(state, at)
	v, err := state.View(ctx, at.key, need)
	if err == nil && s.cfg.Level.causal() && v.Rev > need {
		// This worker's own write may be shown before it has heard of what was
		// written before that.
		v, err = state.View(ctx, at.key, v.Rev)
	}
	if err != nil {
		return v, s.failed(ctx, err)
	}
	return v, s.shown(ctx, state, at, v)
}

// shown takes note of a register that the run was shown.
func (s *Session) shown(ctx context.Context, state State, at ref, v kvlattice.View) error {
	if err := s.saw(ctx, state, at, v); err != nil {
		return err
	}
	if s.cfg.Level.causal() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.seen == nil {
			s.seen = make(map[ref]kvlattice.Lattice)
		}
		s.seen[at] = v.Seen
	}
	return nil
}

// stored reads any lattice as the level asks for. The lattice is the caller's own.
func (s *Session) stored(ctx context.Context, state State, at ref) (kvlattice.Lattice, error) {
	if s.cfg.Level == Repeatable {
		h, err := s.hold(ctx, state, at)
		if err != nil || h.lattice == nil {
			return nil, s.failed(ctx, err)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.observeLocked(at, kvlattice.Latest(h.lattice))
		return h.lattice.Clone(), nil
	}
	need := s.needs(state, at)
	l, rev, err := state.Read(ctx, at.key, need)
	if err == nil && s.cfg.Level.causal() && rev > need {
		l, rev, err = state.Read(ctx, at.key, rev) // as in view
	}
	if err != nil {
		return nil, s.failed(ctx, err)
	}
	v := kvlattice.View{Rev: rev, At: kvlattice.Latest(l)}
	v.Seen, v.After = kvlattice.Seen(l)
	return l, s.shown(ctx, state, at, v)
}

// saw takes note of what was shown of a key, and of what a reader of it must see
// of other namespaces.
func (s *Session) saw(ctx context.Context, state State, at ref, v kvlattice.View) error {
	s.mu.Lock()
	s.observeLocked(at, v.At)
	if s.cfg.Level != LWW || s.past.Token {
		s.past.saw(s.cfg.Level, at, v.Rev)
	}
	if s.cfg.Level == SessionCausal || s.past.Token {
		for ns, rev := range v.After {
			s.past.include(ns, rev)
		}
	}
	s.mu.Unlock()
	if s.cfg.Level != Causal {
		return nil
	}
	state.Shown(v.Rev)
	for ns, rev := range v.After {
		other, err := s.cfg.Stores.Store(ctx, ns)
		if err != nil {
			return err
		}
		other.Shown(rev)
	}
	return nil
}

// A holding is what a run at level Repeatable has of a key.
type holding struct {
	lattice kvlattice.Lattice // with what the run has stored; nobody changes it
	rev     uint64
	read    *Version          // the version that the run read first; nil if it wrote before
	first   kvlattice.Lattice // that version
	wrote   bool
}

// hold returns what the run has of a key. Who asks first reads it, and from then
// on it stays.
func (s *Session) hold(ctx context.Context, state State, at ref) (*holding, error) {
	s.mu.Lock()
	h := s.held[at]
	pin, pinned := s.past.pin(at)
	after := s.past.After[at.namespace]
	broken := s.broken
	s.mu.Unlock()
	switch {
	case h != nil:
		return h, nil
	case broken != nil:
		return nil, broken
	}
	var err error
	if pinned && !faulty("pins") {
		h = new(holding)
		err = s.exact(ctx, state, at, pin, h)
	} else {
		var l kvlattice.Lattice
		var rev uint64
		if l, rev, err = state.Read(ctx, at.key, after); err == nil {
			h = s.firstRead(l, rev)
			err = s.saw(ctx, state, at, kvlattice.View{Rev: rev})
		}
	}
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if first := s.held[at]; first != nil {
		return first, nil
	}
	s.holdLocked(at, h)
	return h, nil
}

// firstRead is what a run has of a key that it reads for the first time.
func (s *Session) firstRead(l kvlattice.Lattice, rev uint64) *holding {
	return &holding{
		lattice: l, first: l, rev: rev,
		read: &Version{ID: kvlattice.Version(l), At: s.cfg.Writer, Rev: rev},
	}
}

func (s *Session) holdLocked(at ref, h *holding) {
	if s.held == nil {
		s.held = make(map[ref]*holding)
	}
	s.held[at] = h
}

// exact finds the versions that the run has of a key: what it wrote, or else
// what it read.
func (s *Session) exact(ctx context.Context, state State, at ref, pin Pin, h *holding) error {
	versions := pin.Wrote
	h.read, h.wrote = pin.Read, len(versions) > 0
	if !h.wrote {
		versions = []Version{*pin.Read}
	}
	for _, v := range versions {
		l, err := s.find(ctx, state, at, v)
		if err != nil {
			return err
		}
		h.rev = max(h.rev, v.Rev)
		if h.lattice == nil {
			h.lattice = l
			continue
		}
		joined, _, err := kvlattice.Join(h.lattice.Clone(), l)
		if err != nil {
			return err
		}
		h.lattice = joined
	}
	if !h.wrote {
		h.first = h.lattice
	}
	return nil
}

// find returns a version of a key: what was kept here, or else what the key holds
// if that is it, or else what the worker kept that read or wrote it. When even
// that is gone, the run can't go on.
func (s *Session) find(ctx context.Context, state State, at ref, v Version) (kvlattice.Lattice, error) {
	if l, ok := s.cfg.Pins.Find(s.cfg.Run, at.namespace, at.key, v.ID); ok {
		return l, nil
	}
	l, _, err := state.Read(ctx, at.key, v.Rev)
	if err != nil || kvlattice.Version(l) == v.ID {
		return l, err
	}
	l, gone, err := s.cfg.Peers.Fetch(ctx, v.At, s.cfg.Run, at.namespace, at.key, v.ID)
	if err != nil || !gone {
		return l, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = restart(&s.past, fmt.Sprintf("worker %s is gone, which kept the version of %q that the run had read", v.At, at.key), v.At)
	return nil, s.broken
}

// failed notes that a read failed for want of the storage, and not of time.
func (s *Session) failed(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil {
		return err
	}
	switch wire.KindOf(err) { //nolint:exhaustive // others are what is wrong with the question
	case 0, wire.KindUnavailable, wire.KindBusy:
		s.mu.Lock()
		defer s.mu.Unlock()
		s.away = err
	}
	return err
}

// Away returns why the storage couldn't be read since the node began; nil if it
// always could. A function that failed then hasn't failed by itself.
func (s *Session) Away() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.away
}

// Broken returns why the run has to begin again; nil if it hasn't. A function may
// have taken the error of its read for something else.
func (s *Session) Broken() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken == nil {
		return nil
	}
	return s.broken
}
