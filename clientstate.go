package cloudburst

import (
	"context"
	"encoding/json"

	"github.com/cloudburst-nats/cloudburst/broker/wire"
	"github.com/cloudburst-nats/cloudburst/kvlattice"
	"github.com/cloudburst-nats/cloudburst/workers/runtime"
)

// State returns a handle on the default namespace, for programs that are not
// functions: every read goes to the server, every write is stored when the
// method returns.
func (c *Client) State() *State { return &State{in: clientState{c}, ns: DefaultNamespace} }

// clientState is the State of a program outside of any run.
type clientState struct{ c *Client }

var _ runtime.State = clientState{}

// store returns the client's store of a namespace. It caches nothing, so
// nothing has to run beside it.
func (s clientState) store(ctx context.Context, ns string) (*kvlattice.Store, error) {
	s.c.mu.Lock()
	st := s.c.stores[ns]
	s.c.mu.Unlock()
	if st != nil {
		return st, nil
	}
	bucket, err := s.c.broker.OpenBucket(ctx, ns)
	if err != nil {
		return nil, err
	}
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if st := s.c.stores[ns]; st != nil {
		return st, nil
	}
	st = kvlattice.New(kvlattice.Config{
		Writer: s.c.writer, Clock: s.c.clock, Settled: s.c.broker.NewWatermarks().Settled,
	}, bucket, nil)
	s.c.stores[ns] = st
	return st, nil
}

func (s clientState) Get(ctx context.Context, ns, key string) (wire.Value, bool, error) {
	st, err := s.store(ctx, ns)
	if err != nil {
		return wire.Value{}, false, err
	}
	return st.Get(ctx, key)
}

func (s clientState) Put(ctx context.Context, ns, key string, v wire.Value) error {
	st, err := s.store(ctx, ns)
	if err != nil {
		return err
	}
	if err := st.Put(ctx, key, v); err != nil {
		return err
	}
	return s.saw(ctx, ns, key)
}

// saw has the caller's token know what a key holds by now.
func (s clientState) saw(ctx context.Context, ns, key string) error {
	if s.c.call.token == nil {
		return nil
	}
	st, err := s.store(ctx, ns)
	if err != nil {
		return err
	}
	v, err := st.View(ctx, key, 0)
	if err != nil {
		return err
	}
	return s.c.call.token.saw(ns, v.Rev)
}

func (s clientState) Delete(ctx context.Context, ns, key string) error {
	st, err := s.store(ctx, ns)
	if err != nil {
		return err
	}
	if err := st.Delete(ctx, key); err != nil {
		return err
	}
	return s.saw(ctx, ns, key)
}

func (s clientState) Versions(ctx context.Context, ns, key string) ([]wire.Value, error) {
	l, err := s.Read(ctx, ns, key)
	return kvlattice.VersionsOf(l), err
}

func (s clientState) Merge(ctx context.Context, ns, key string, delta kvlattice.Lattice) error {
	st, err := s.store(ctx, ns)
	if err != nil {
		return err
	}
	rev, err := st.Merge(ctx, key, delta)
	if err != nil || s.c.call.token == nil {
		return err
	}
	return s.c.call.token.saw(ns, rev)
}

func (s clientState) Read(ctx context.Context, ns, key string) (kvlattice.Lattice, error) {
	st, err := s.store(ctx, ns)
	if err != nil {
		return nil, err
	}
	l, rev, err := st.Read(ctx, key, 0)
	if err != nil || s.c.call.token == nil {
		return l, err
	}
	return l, s.c.call.token.saw(ns, rev)
}

func (s clientState) GetAll(ctx context.Context, ns string, keys ...string) ([]wire.Value, []bool, error) {
	st, err := s.store(ctx, ns)
	if err != nil {
		return nil, nil, err
	}
	all, _, err := st.ReadAll(ctx, keys, 0)
	if err != nil {
		return nil, nil, err
	}
	values, found := make([]wire.Value, len(keys)), make([]bool, len(keys))
	for i, l := range all {
		v := kvlattice.ViewOf(l, 0)
		values[i], found[i] = v.Value, v.Found
	}
	return values, found, nil
}

type counterKey struct{ ns, key string }

// A tally is what this client has added to a counter: its n-th operation
// brought it to total. It is the client's own component of the counter, which
// only the client writes, so that a repeated write changes nothing.
type tally struct {
	n     uint64
	total int64
}

func (s clientState) AddCounter(ctx context.Context, ns, key string, delta int64) error {
	s.c.mu.Lock()
	t := s.c.counters[counterKey{ns, key}]
	t = tally{t.n + 1, t.total + delta}
	s.c.counters[counterKey{ns, key}] = t
	s.c.mu.Unlock()
	sum := kvlattice.NewCounter()
	sum.AddTotal(s.c.writer, t.n, t.total)
	return s.Merge(ctx, ns, key, sum)
}

func (s clientState) Counter(ctx context.Context, ns, key string) (int64, error) {
	var total int64
	err := view(ctx, s, ns, key, func(c *kvlattice.Counter) { total = c.Total() })
	return total, err
}

func (s clientState) AddSet(ctx context.Context, ns, key string, elements ...json.RawMessage) error {
	set := kvlattice.NewSet()
	for _, e := range elements {
		if _, err := set.Add(e); err != nil {
			return err
		}
	}
	return s.Merge(ctx, ns, key, set)
}

func (s clientState) Set(ctx context.Context, ns, key string) ([]json.RawMessage, error) {
	var out []json.RawMessage
	err := view(ctx, s, ns, key, func(set *kvlattice.Set) {
		for e := range set.All() {
			out = append(out, e)
		}
	})
	return out, err
}

// view shows fn the lattice of a key if it is an L, and nothing if there is none.
func view[L kvlattice.Lattice](ctx context.Context, s clientState, ns, key string, fn func(L)) error {
	l, err := s.Read(ctx, ns, key)
	if err != nil || l == nil {
		return err
	}
	if r, ok := l.(*kvlattice.LWW); ok && r.Deleted() {
		return nil // `nats kv del`
	}
	typed, ok := l.(L)
	if !ok {
		return &wire.Error{Op: "read", Name: key, Kind: wire.KindLattice, Msg: "the key holds a " + string(l.Kind())}
	}
	fn(typed)
	return nil
}
