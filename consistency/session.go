package consistency

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/cloudburst-nats/cloudburst/broker/wire"
	"github.com/cloudburst-nats/cloudburst/kvlattice"
)

// State is one namespace: what a session needs of a *kvlattice.Store.
type State interface {
	// Get returns a user's view of the key, and whether there is a value.
	Get(ctx context.Context, key string) (wire.Value, bool, error)
	// Read returns a copy of the key's lattice; nil if there is none.
	Read(ctx context.Context, key string) (kvlattice.Lattice, error)
	// Merge returns when delta is stored.
	Merge(ctx context.Context, key string, delta kvlattice.Lattice) error
	// Stamp returns a timestamp that wins over what is known of the key.
	Stamp(key string) kvlattice.Timestamp
}

// Stores opens namespaces. An unknown one is an error of wire.KindUnknown.
type Stores interface {
	Store(ctx context.Context, namespace string) (State, error)
}

// An Identity says whose writes a session makes. Source, Seq and Node key what
// the run counts: a run that is repeated must have the same ones and a higher
// Attempt, and then replaces what it counted before.
type Identity struct {
	Writer  string // the worker's incarnation
	Source  string // the calls stream's incarnation, or the client's
	Seq     uint64 // of the call, in its source; from 1
	Node    string // of the DAG; empty for a single function
	Attempt int    // 1 is the first
}

// maxFlush is how many keys a Flush writes at once: enough to keep a server
// busy, and no flood from one run.
const maxFlush = 32

// A Session is the state of one run at level LWW. It may be used concurrently,
// as by a function that starts goroutines; what is written while a Flush is
// under way is left to the next one.
type Session struct {
	stores Stores

	mu      sync.Mutex // guards everything below; no I/O happens while it is held
	id      Identity
	flushes int            // begun at this node
	writes  map[ref]*write // what isn't stored yet
}

// ref is a key of a namespace.
type ref struct{ namespace, key string }

// write is all that a session wrote to a key and that isn't stored yet.
type write struct {
	delta   kvlattice.Lattice
	sums    map[string]int64 // of a counter: what each operation adds up to
	changes int              // so that a Flush sees whether there were more meanwhile
}

// NewSession returns an empty session.
func NewSession(stores Stores, id Identity) *Session {
	return &Session{stores: stores, id: id, writes: make(map[ref]*write)}
}

// SetNode says that the run goes on with another node of its DAG.
func (s *Session) SetNode(node string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.id.Node != node {
		s.id.Node, s.flushes = node, 0
	}
}

// Get returns what a user sees of the key, and whether there is a value. The
// value's body is shared and must not be written to.
func (s *Session) Get(ctx context.Context, namespace, key string) (wire.Value, bool, error) {
	state, err := s.stores.Store(ctx, namespace)
	if err != nil {
		return wire.Value{}, false, err
	}
	own := s.own(namespace, key)
	if own == nil {
		return state.Get(ctx, key)
	}
	l, err := s.joined(ctx, state, key, own)
	if err != nil || absent(l) {
		return wire.Value{}, false, err
	}
	return l.Value(), true, nil
}

// Put writes a last-writer-wins value. The session keeps its body, so nobody
// may write to that any more.
func (s *Session) Put(ctx context.Context, namespace, key string, v wire.Value) error {
	return s.register(ctx, namespace, key, func(ts kvlattice.Timestamp) kvlattice.Lattice {
		return kvlattice.NewLWW(v, ts, s.id.Writer)
	})
}

// Delete removes a last-writer-wins value; what isn't there may be deleted, too.
func (s *Session) Delete(ctx context.Context, namespace, key string) error {
	return s.register(ctx, namespace, key, func(ts kvlattice.Timestamp) kvlattice.Lattice {
		return kvlattice.NewTombstone(ts, s.id.Writer)
	})
}

func (s *Session) register(ctx context.Context, namespace, key string, stamped func(kvlattice.Timestamp) kvlattice.Lattice) error {
	state, err := s.stores.Store(ctx, namespace)
	if err != nil {
		return err
	}
	return s.buffer(namespace, key, stamped(state.Stamp(key)))
}

// AddCounter adds delta, which may be negative, to a counter. All that one node
// of a run adds to a counter is one operation of it.
func (s *Session) AddCounter(_ context.Context, namespace, key string, delta int64) error {
	if err := check(key); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.writes[ref{namespace, key}]
	if w == nil {
		w = &write{delta: kvlattice.NewCounter()}
		s.writes[ref{namespace, key}] = w
	}
	c, ok := w.delta.(*kvlattice.Counter)
	if !ok {
		return otherKind(key, w.delta, kvlattice.KindCounter)
	}
	// What a flush has begun to store must not change under its name.
	operation := s.id.Node
	if s.flushes > 0 {
		operation += "+" + strconv.Itoa(s.flushes)
	}
	if w.sums == nil {
		w.sums = make(map[string]int64)
	}
	w.sums[operation] += delta
	w.changes++
	c.AddOp(s.id.Source, operation, s.id.Seq, s.id.Attempt, w.sums[operation])
	return nil
}

// Counter returns a counter's total; 0 if nothing was ever counted.
func (s *Session) Counter(ctx context.Context, namespace, key string) (int64, error) {
	l, err := s.read(ctx, namespace, key)
	if err != nil || absent(l) {
		return 0, err
	}
	c, ok := l.(*kvlattice.Counter)
	if !ok {
		return 0, otherKind(key, l, kvlattice.KindCounter)
	}
	return c.Total(), nil
}

// AddSet adds elements to a set. What isn't JSON is an error of
// wire.KindBadArgument, and nothing is added.
func (s *Session) AddSet(_ context.Context, namespace, key string, elements ...json.RawMessage) error {
	set := kvlattice.NewSet()
	for _, element := range elements {
		if _, err := set.Add(element); err != nil {
			return err
		}
	}
	return s.buffer(namespace, key, set)
}

// Set returns the elements of a set, sorted; none if nothing was ever added.
func (s *Session) Set(ctx context.Context, namespace, key string) ([]json.RawMessage, error) {
	l, err := s.read(ctx, namespace, key)
	if err != nil || absent(l) {
		return nil, err
	}
	set, ok := l.(*kvlattice.Set)
	if !ok {
		return nil, otherKind(key, l, kvlattice.KindSet)
	}
	return slices.Collect(set.All()), nil
}

// Flush stores what was written, all keys at once, and returns when all of it
// is acknowledged. After an error some of it may be stored: the rest is kept,
// and Flush may be called again.
func (s *Session) Flush(ctx context.Context) error {
	s.mu.Lock()
	if len(s.writes) == 0 {
		s.mu.Unlock()
		return nil
	}
	s.flushes++
	batch := make(map[ref]write, len(s.writes))
	for at, w := range s.writes {
		batch[at] = write{delta: w.delta.Clone(), changes: w.changes}
	}
	s.mu.Unlock()
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(maxFlush)
	for at, w := range batch {
		group.Go(func() error {
			state, err := s.stores.Store(ctx, at.namespace)
			if err != nil {
				return fmt.Errorf("flush %s: %w", at.namespace, err)
			}
			if err := state.Merge(ctx, at.key, w.delta); err != nil {
				return fmt.Errorf("flush %s: %w", at.namespace, err)
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			if now := s.writes[at]; now != nil && now.changes == w.changes {
				delete(s.writes, at)
			}
			return nil
		})
	}
	return group.Wait()
}

// buffer joins delta, which is the session's from then on, into what was
// written to the key.
func (s *Session) buffer(namespace, key string, delta kvlattice.Lattice) error {
	if err := check(key); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.writes[ref{namespace, key}]
	if w == nil {
		s.writes[ref{namespace, key}] = &write{delta: delta}
		return nil
	}
	if w.delta.Kind() != delta.Kind() {
		return otherKind(key, w.delta, delta.Kind())
	}
	w.changes++
	_, err := w.delta.Merge(delta)
	return err
}

// own returns a copy of what the session wrote to the key and didn't store yet.
func (s *Session) own(namespace, key string) kvlattice.Lattice {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.writes) == 0 {
		return nil
	}
	w := s.writes[ref{namespace, key}]
	if w == nil {
		return nil
	}
	return w.delta.Clone()
}

func (s *Session) read(ctx context.Context, namespace, key string) (kvlattice.Lattice, error) {
	state, err := s.stores.Store(ctx, namespace)
	if err != nil {
		return nil, err
	}
	return s.joined(ctx, state, key, s.own(namespace, key))
}

// joined returns what is stored together with the session's own writes.
func (s *Session) joined(ctx context.Context, state State, key string, own kvlattice.Lattice) (kvlattice.Lattice, error) {
	stored, err := state.Read(ctx, key)
	if err != nil {
		return nil, err
	}
	l, _, err := kvlattice.Join(stored, own)
	if err != nil {
		return nil, fmt.Errorf("read %q: %w", key, err)
	}
	return l, nil
}

func absent(l kvlattice.Lattice) bool {
	r, ok := l.(*kvlattice.LWW)
	return l == nil || ok && r.Deleted()
}

// check refuses a key that can't be stored when it is written, not at the end.
func check(key string) error {
	_, err := kvlattice.EscapeKey(key)
	return err
}

func otherKind(key string, holds kvlattice.Lattice, wanted kvlattice.Kind) error {
	return &wire.Error{
		Kind: wire.KindLattice, Name: key,
		Msg: fmt.Sprintf("the key holds a %s, which can't be used as a %s", holds.Kind(), wanted),
	}
}
