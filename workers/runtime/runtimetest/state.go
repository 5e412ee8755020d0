package runtimetest

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"

	"github.com/cloudburst-nats/cloudburst/broker/wire"
	"github.com/cloudburst-nats/cloudburst/kvlattice"
	"github.com/cloudburst-nats/cloudburst/workers/runtime"
)

// State is the state of functions, in memory: lattices as the store keeps them,
// with every write visible at once. It may be used concurrently.
type State struct {
	mu    sync.Mutex // guards everything below
	clock *kvlattice.Clock
	keys  map[ref]kvlattice.Lattice
	sums  map[sum]int64
	seq   uint64 // of counters' operations
	tags  uint32 // given out
}

type ref struct{ ns, key string }

// A sum is what was added to one counter.
type sum struct {
	ref
	fields string
	kind   kvlattice.Kind
}

var _ runtime.State = (*State)(nil)

// NewState returns a State that holds nothing.
func NewState() *State {
	return &State{clock: kvlattice.NewClock(nil), keys: make(map[ref]kvlattice.Lattice), sums: make(map[sum]int64)}
}

// Get returns the value of a key.
func (s *State) Get(ctx context.Context, ns, key string) (wire.Value, bool, error) {
	l, err := s.Read(ctx, ns, key)
	if err != nil {
		return wire.Value{}, false, err
	}
	v := kvlattice.ViewOf(l, 0)
	return v.Value, v.Found, nil
}

// Put sets a key.
func (s *State) Put(_ context.Context, ns, key string, v wire.Value) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mergeLocked(ref{ns, key}, kvlattice.NewLWW(v, s.clock.Now(), writer))
}

// Delete removes a key's value.
func (s *State) Delete(_ context.Context, ns, key string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mergeLocked(ref{ns, key}, kvlattice.NewTombstone(s.clock.Now(), writer))
}

// Versions returns the value of a key, if there is one: nobody writes concurrently.
func (s *State) Versions(ctx context.Context, ns, key string) ([]wire.Value, error) {
	l, err := s.Read(ctx, ns, key)
	return kvlattice.VersionsOf(l), err
}

// Merge joins delta into a key.
func (s *State) Merge(_ context.Context, ns, key string, delta kvlattice.Lattice) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mergeLocked(ref{ns, key}, delta)
}

// Read returns a copy of what a key holds.
func (s *State) Read(_ context.Context, ns, key string) (kvlattice.Lattice, error) {
	if _, err := kvlattice.EscapeKey(key); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.keys[ref{ns, key}]
	if l == nil {
		return nil, nil //nolint:nilnil // as runtime.Lattices has it
	}
	return l.Clone(), nil
}

// GetAll returns the values of several keys.
func (s *State) GetAll(ctx context.Context, ns string, keys ...string) ([]wire.Value, []bool, error) {
	values, found := make([]wire.Value, len(keys)), make([]bool, len(keys))
	for i, key := range keys {
		var err error
		if values[i], found[i], err = s.Get(ctx, ns, key); err != nil {
			return nil, nil, err
		}
	}
	return values, found, nil
}

// AddCounter counts up or down.
func (s *State) AddCounter(_ context.Context, ns, key string, delta int64, fields ...string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := kvlattice.NewCounter()
	return s.countLocked(ref{ns, key}, fields, l, delta, func(total int64) error {
		l.AddTotal(writer, s.seq, total)
		return nil
	})
}

// AddGrow counts up.
func (s *State) AddGrow(_ context.Context, ns, key string, delta int64, fields ...string) error {
	if err := kvlattice.NewGrow().AddTotal("", 1, delta); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	l := kvlattice.NewGrow()
	return s.countLocked(ref{ns, key}, fields, l, delta, func(total int64) error { return l.AddTotal(writer, s.seq, total) })
}

// Counter returns the total of a counter.
func (s *State) Counter(ctx context.Context, ns, key string) (int64, error) {
	l, err := s.Read(ctx, ns, key)
	if err != nil || absent(l) {
		return 0, err
	}
	c, ok := l.(interface{ Total() int64 })
	if !ok {
		return 0, otherKind(key, l)
	}
	return c.Total(), nil
}

// AddSet adds to a set.
func (s *State) AddSet(ctx context.Context, ns, key string, elements ...json.RawMessage) error {
	set := kvlattice.NewSet()
	for _, element := range elements {
		if _, err := set.Add(element); err != nil {
			return err
		}
	}
	return s.Merge(ctx, ns, key, set)
}

// Set returns the elements of a set.
func (s *State) Set(ctx context.Context, ns, key string) ([]json.RawMessage, error) {
	l, err := s.Read(ctx, ns, key)
	if err != nil || absent(l) {
		return nil, err
	}
	set, ok := l.(*kvlattice.Set)
	if !ok {
		return nil, otherKind(key, l)
	}
	return slices.Collect(set.All()), nil
}

// Tag returns a tag that was never given out before.
func (s *State) Tag() (tag kvlattice.Tag, fresh bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tags++
	return kvlattice.Tag{Source: writer, Seq: 1, N: s.tags}, true
}

// Retag does nothing: every tag is a new one.
func (s *State) Retag() {}

// Stamp returns the next timestamp.
func (s *State) Stamp(_ context.Context, _, _ string, after kvlattice.Timestamp) (kvlattice.Timestamp, string, error) {
	return s.clock.After(after), writer, nil
}

const writer = "test"

func (s *State) mergeLocked(at ref, delta kvlattice.Lattice) error {
	if _, err := kvlattice.EscapeKey(at.key); err != nil {
		return err
	}
	joined, _, err := kvlattice.Join(s.keys[at], delta)
	if err == nil {
		s.keys[at] = joined
	}
	return err
}

// countLocked has raise bring the counter l to its new total, and merges it.
func (s *State) countLocked(at ref, fields []string, l kvlattice.Lattice, delta int64, raise func(total int64) error) error {
	place := sum{at, fmt.Sprintf("%q", fields), l.Kind()}
	s.seq++
	if err := raise(s.sums[place] + delta); err != nil {
		return err
	}
	for _, field := range slices.Backward(fields) {
		m := kvlattice.NewMap()
		if _, err := m.MergeField(field, l); err != nil {
			return err
		}
		l = m
	}
	if err := s.mergeLocked(at, l); err != nil {
		return err
	}
	s.sums[place] += delta
	return nil
}

func absent(l kvlattice.Lattice) bool {
	d, ok := l.(interface{ Deleted() bool })
	return l == nil || ok && d.Deleted()
}

func otherKind(key string, l kvlattice.Lattice) error {
	return &wire.Error{Op: "read", Name: key, Kind: wire.KindLattice, Msg: "the key holds a " + string(l.Kind())}
}
