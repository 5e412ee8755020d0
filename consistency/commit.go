package consistency

import (
	"context"
	"errors"

	"github.com/cloudburst-nats/cloudburst/kvlattice"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// Atomic is what a namespace can do with several keys at once. A State needn't.
type Atomic interface {
	// Commit stores all deltas and a record, or nothing; kvlattice.ErrCommitted if
	// the record is there.
	Commit(ctx context.Context, record string, r kvlattice.Record, deltas map[string]kvlattice.Lattice) (rev uint64, err error)
	// Recorded returns a record, and whether there is one.
	Recorded(ctx context.Context, record string) (r kvlattice.Record, found bool, err error)
	// ReadAll returns what several keys hold at one moment, each as State.Read does.
	ReadAll(ctx context.Context, keys []string, after uint64) (all []kvlattice.Lattice, revs []uint64, err error)
}

func (s *Session) atomic(ctx context.Context, namespace string) (State, Atomic, error) {
	state, err := s.cfg.Stores.Store(ctx, namespace)
	if err != nil {
		return nil, nil, err
	}
	a, ok := state.(Atomic)
	if !ok {
		return nil, nil, &wire.Error{Kind: wire.KindBadArgument, Name: namespace, Msg: "the namespace has no transactions"}
	}
	return state, a, nil
}

// Committed returns the result of an execution that has committed under the
// record, and whether there was one. What the run writes from then on comes after what
// that execution wrote.
func (s *Session) Committed(ctx context.Context, namespace, record string) (wire.Value, bool, error) {
	_, a, err := s.atomic(ctx, namespace)
	if err != nil {
		return wire.Value{}, false, err
	}
	r, found, err := a.Recorded(ctx, record)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clock.Follow(r.At, s.cfg.Now)
	return r.Value, found, err
}

// Commit is Flush, but all or nothing, and once: it stores what was written
// together with a record that holds the execution's result. If another execution
// has committed under that record already, nothing is stored, and its result is
// returned in place of v. All must have been written to one namespace.
func (s *Session) Commit(ctx context.Context, namespace, record string, v wire.Value) (wire.Value, error) {
	batch, err := s.begin(ctx, false)
	if err != nil {
		return wire.Value{}, err
	}
	_, a, err := s.atomic(ctx, namespace)
	if err != nil {
		return wire.Value{}, err
	}
	deltas, at := make(map[string]kvlattice.Lattice, len(batch)), s.commitStamp(batch)
	for i := range batch {
		f := &batch[i]
		if f.at.namespace != namespace {
			return wire.Value{}, &wire.Error{
				Op: "commit", Kind: wire.KindBadArgument, Name: f.at.namespace,
				Msg: "a transaction writes one namespace, " + namespace + ": this one also wrote " + f.at.key + " in another",
			}
		}
		if r, ok := f.delta.(*kvlattice.LWW); ok {
			f.delta = r.Stamped(at)
		}
		deltas[f.at.key] = s.stamped(*f)
	}
	rev, err := a.Commit(ctx, record, kvlattice.Record{Value: v, At: at}, deltas)
	if errors.Is(err, kvlattice.ErrCommitted) {
		first, found, err := s.Committed(ctx, namespace, record)
		if err == nil && !found {
			err = &wire.Error{Op: "commit", Kind: wire.KindUnavailable, Msg: "the record of an earlier commit can't be read yet"}
		}
		if err == nil {
			s.forget(batch)
		}
		return first, err
	}
	if err != nil {
		return wire.Value{}, err
	}
	for _, f := range batch {
		if err := s.wrote(f, rev); err != nil {
			return wire.Value{}, err
		}
	}
	return v, nil
}

// commitStamp returns the one timestamp of all registers of a commit: of two commits
// that write the same keys at once, the same one wins in all of them.
func (s *Session) commitStamp(batch []flushing) kvlattice.Timestamp {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := s.clock.Next()
	for _, f := range batch {
		if t := kvlattice.Latest(f.delta); t.Compare(at) > 0 { // it overwrites one that is too far ahead
			at = t
		}
	}
	return at
}

// forget drops writes that another execution has made in our place.
func (s *Session) forget(batch []flushing) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range batch {
		delete(s.writes, f.at)
	}
}

// GetAll returns what a user sees of several keys at one moment: of what was
// committed together, all or nothing. It asks the storage. What the run itself
// wrote, and at level Repeatable what it has read before, is as the run has it.
func (s *Session) GetAll(ctx context.Context, namespace string, keys ...string) ([]wire.Value, []bool, error) {
	state, a, err := s.atomic(ctx, namespace)
	if err != nil {
		return nil, nil, err
	}
	all, revs, err := a.ReadAll(ctx, keys, s.needs(state, ref{namespace: namespace}))
	if err != nil {
		return nil, nil, s.failed(ctx, err)
	}
	values, found := make([]wire.Value, len(keys)), make([]bool, len(keys))
	for i, l := range all {
		at := ref{namespace, keys[i]}
		v := kvlattice.ViewOf(l, revs[i])
		if s.cfg.Level == Repeatable {
			s.holdFirst(at, l, revs[i])
		}
		if s.cfg.Level == Repeatable || s.own(at) != nil {
			if values[i], found[i], err = s.Get(ctx, namespace, keys[i]); err != nil {
				return nil, nil, err
			}
			continue
		}
		if err := s.shown(ctx, state, at, v); err != nil {
			return nil, nil, err
		}
		values[i], found[i] = v.Value, v.Found
	}
	return values, found, nil
}

// holdFirst has the run hold what it has now read of a key, unless it has
// something of it already.
func (s *Session) holdFirst(at ref, l kvlattice.Lattice, rev uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, pinned := s.past.pin(at); pinned || s.held[at] != nil {
		return
	}
	s.holdLocked(at, s.firstRead(l, rev))
}
