package consistency

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/cloudburst-nats/cloudburst/kvlattice"
)

// AddCounter adds delta, which may be negative, to a counter. All that one node
// of a run adds to a counter is one operation of it. The counter is the key, or,
// with fields, the last of them: the first is a field of the map that the key
// holds, the next a field of the map in that one.
func (s *Session) AddCounter(_ context.Context, namespace, key string, delta int64, fields ...string) error {
	return s.count(ref{namespace, key}, fields, kvlattice.NewCounter(), delta)
}

// AddGrow is AddCounter for a counter that only grows. A delta below 0 is an
// error of wire.KindBadArgument, and counts nothing.
func (s *Session) AddGrow(_ context.Context, namespace, key string, delta int64, fields ...string) error {
	if err := kvlattice.NewGrow().AddOp("", "", 1, 1, delta); err != nil {
		return err // also where the sum of all would be positive
	}
	return s.count(ref{namespace, key}, fields, kvlattice.NewGrow(), delta)
}

// An operation is what one node of a run counts in one place, between two flushes:
// what a flush has begun to store must not change under its name.
type operation struct {
	fields string // quoted; empty if the key is the counter
	node   string
}

// count adds delta to the place that the fields name, where an empty counter of
// the kind is.
func (s *Session) count(at ref, fields []string, empty kvlattice.Lattice, delta int64) error {
	place, err := Within(fields, empty)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	w, err := s.bufferLocked(at, place)
	if err != nil {
		return err
	}
	op := operation{node: s.id.Node}
	if s.flushes > 0 {
		op.node += "+" + strconv.Itoa(s.flushes)
	}
	if len(fields) > 0 {
		op.fields = fmt.Sprintf("%q", fields)
	}
	if w.sums == nil {
		w.sums = make(map[operation]int64)
	}
	w.sums[op] += delta
	for _, l := range w.lattices() {
		switch c := field(l, fields).(type) {
		case *kvlattice.Counter:
			c.AddOp(s.id.Source, op.node, s.id.Seq, s.attemptLocked(w), w.sums[op])
		case *kvlattice.Grow:
			if err := c.AddOp(s.id.Source, op.node, s.id.Seq, s.attemptLocked(w), w.sums[op]); err != nil {
				return err
			}
		}
	}
	return nil
}

// Within returns the map that has l in the last of the fields, which are within
// each other from the first on; l itself if there are none. The errors are those
// of kvlattice.Map.MergeField.
func Within(fields []string, l kvlattice.Lattice) (kvlattice.Lattice, error) {
	for _, field := range slices.Backward(fields) {
		m := kvlattice.NewMap()
		if _, err := m.MergeField(field, l); err != nil {
			return nil, err
		}
		l = m
	}
	return l, nil
}

// field returns what Within has put into a lattice that it was merged into. It
// belongs to that.
func field(l kvlattice.Lattice, fields []string) kvlattice.Lattice {
	for _, name := range fields {
		m, ok := l.(*kvlattice.Map)
		if !ok {
			return nil
		}
		l = m.Field(name)
	}
	return l
}

// Tag names the next adding to an ORSet. A run that is repeated, and adds in the
// same order, makes the same tags again. Fresh says that nobody can have seen this
// one, so that it may take the place of others.
func (s *Session) Tag() (tag kvlattice.Tag, fresh bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	tag = kvlattice.Tag{Source: s.id.Source, Seq: s.id.Seq, Node: s.id.Node, N: s.tags}
	s.tags++
	if s.retagged {
		tag.Node += "@" + strconv.Itoa(s.id.Attempt)
	}
	return tag, s.id.Attempt == 1 || s.retagged
}

// Retag has the tags that follow at this node differ from those of the run's
// earlier attempts. A run that has removed an element may have removed what an
// earlier attempt added further on, as where it removes an element and adds it
// again: under the same tag that would stay removed.
func (s *Session) Retag() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.retagged = s.id.Attempt > 1
}
