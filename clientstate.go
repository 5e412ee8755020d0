package cloudburst

import (
	"context"
	"encoding/json"

	"github.com/cloudburst-nats/cloudburst/consistency"
	"github.com/cloudburst-nats/cloudburst/kvlattice"
	"github.com/cloudburst-nats/cloudburst/wire"
	"github.com/cloudburst-nats/cloudburst/workers/runtime"
	"github.com/cloudburst-nats/cloudburst/workers/runtime/handle"
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
		Writer: s.c.writer, Clock: s.c.clock, Settled: s.c.broker.NewWatermarks().Settled, FoldAtOnce: true,
	}, bucket, nil)
	s.c.stores[ns] = st
	return st, nil
}

func (s clientState) Get(ctx context.Context, ns, key string) (wire.Value, bool, error) {
	st, err := s.store(ctx, ns)
	if err != nil {
		return wire.Value{}, false, err
	}
	after, err := s.c.call.token.needs(ns, key)
	if err != nil {
		return wire.Value{}, false, err
	}
	v, err := st.View(ctx, key, after)
	if err == nil {
		err = s.read(ctx, ns, v.Rev, v.At)
	}
	return v.Value, v.Found, err
}

// read has the caller's token know what it was shown, and the function of ctx.
func (s clientState) read(ctx context.Context, ns string, rev uint64, at kvlattice.Timestamp) error {
	if run := runtime.StampsOf(ctx, nil); run != nil {
		run.Learn(consistency.Stamped(at))
	}
	if s.c.call.token == nil {
		return nil
	}
	return s.c.call.token.saw(ns, rev)
}

func (s clientState) Put(ctx context.Context, ns, key string, v wire.Value) error {
	st, err := s.writing(ctx, ns)
	if err != nil {
		return err
	}
	if err := st.Put(ctx, key, v); err != nil {
		return err
	}
	s.wrote(ctx)
	return s.saw(ctx, ns, key)
}

// writing returns the store of a namespace for a write that is ordered by time: by the
// servers', and after all that the program knows of.
func (s clientState) writing(ctx context.Context, ns string) (*kvlattice.Store, error) {
	st, err := s.store(ctx, ns)
	if err == nil {
		err = s.c.broker.Sync(ctx, ns)
	}
	if err == nil {
		s.c.clock.Observe(consistency.StampOf(runtime.StampsOf(ctx, &s.c.stamps).Known()).AfterRepeats())
	}
	return st, err
}

// wrote has what the function of ctx writes next come after what it wrote here.
func (s clientState) wrote(ctx context.Context) {
	if run := runtime.StampsOf(ctx, nil); run != nil {
		run.Learn(consistency.Stamped(s.c.clock.Latest()))
	}
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
	st, err := s.writing(ctx, ns)
	if err != nil {
		return err
	}
	if err := st.Delete(ctx, key); err != nil {
		return err
	}
	s.wrote(ctx)
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
	after, err := s.c.call.token.needs(ns, key)
	if err != nil {
		return nil, err
	}
	l, rev, err := st.Read(ctx, key, after)
	if err != nil {
		return l, err
	}
	return l, s.read(ctx, ns, rev, kvlattice.Latest(l))
}

func (s clientState) GetAll(ctx context.Context, ns string, keys ...string) ([]wire.Value, []bool, error) {
	st, err := s.store(ctx, ns)
	if err != nil {
		return nil, nil, err
	}
	var after uint64
	for _, key := range keys {
		need, err := s.c.call.token.needs(ns, key)
		if err != nil {
			return nil, nil, err
		}
		after = max(after, need)
	}
	all, revs, err := st.ReadAll(ctx, keys, after)
	if err != nil {
		return nil, nil, err
	}
	values, found := make([]wire.Value, len(keys)), make([]bool, len(keys))
	for i, l := range all {
		v := kvlattice.ViewOf(l, 0)
		values[i], found[i] = v.Value, v.Found
		if err := s.read(ctx, ns, revs[i], v.At); err != nil {
			return nil, nil, err
		}
	}
	return values, found, nil
}

// Tag names addings by nothing: the key numbers them, see kvlattice.Programs.
func (s clientState) Tag() (tag kvlattice.Tag, fresh bool) {
	return kvlattice.Tag{Source: kvlattice.Unnumbered, Seq: s.c.operations.Add(1)}, true
}

// Retag does nothing: what a client does isn't repeated.
func (s clientState) Retag() {}

// Stamp reads the key first: what a program writes wins over what it could have seen.
func (s clientState) Stamp(ctx context.Context, ns, key string) (kvlattice.Timestamp, string, error) {
	st, err := s.writing(ctx, ns)
	if err != nil {
		return kvlattice.Timestamp{}, "", err
	}
	held, _, err := st.Read(ctx, key, 0)
	if err != nil {
		return kvlattice.Timestamp{}, "", err
	}
	ts := s.c.clock.After(kvlattice.Latest(held))
	s.wrote(ctx)
	return ts, s.c.writer, nil
}

func (s clientState) AddCounter(ctx context.Context, ns, key string, delta int64, fields ...string) error {
	sum := kvlattice.NewCounter()
	sum.AddOp(kvlattice.Unnumbered, "", s.c.operations.Add(1), 1, delta)
	return s.mergeWithin(ctx, ns, key, fields, sum)
}

func (s clientState) AddGrow(ctx context.Context, ns, key string, delta int64, fields ...string) error {
	sum := kvlattice.NewGrow()
	if err := sum.AddOp(kvlattice.Unnumbered, "", s.c.operations.Add(1), 1, delta); err != nil {
		return err
	}
	return s.mergeWithin(ctx, ns, key, fields, sum)
}

func (s clientState) mergeWithin(ctx context.Context, ns, key string, fields []string, l kvlattice.Lattice) error {
	delta, err := consistency.Within(fields, l)
	if err != nil {
		return err
	}
	return s.Merge(ctx, ns, key, delta)
}

func (s clientState) Counter(ctx context.Context, ns, key string) (int64, error) {
	return handle.Place{In: s, NS: ns, Key: key}.Total(ctx)
}

func (s clientState) AddSet(ctx context.Context, ns, key string, elements ...json.RawMessage) error {
	return handle.Place{In: s, NS: ns, Key: key}.Union(ctx, elements)
}

func (s clientState) Set(ctx context.Context, ns, key string) ([]json.RawMessage, error) {
	return handle.Place{In: s, NS: ns, Key: key}.Elements(ctx)
}
