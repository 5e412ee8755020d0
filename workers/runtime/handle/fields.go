package handle

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/cloudburst-nats/cloudburst/kvlattice"
	"github.com/cloudburst-nats/cloudburst/wire"
	"github.com/cloudburst-nats/cloudburst/workers/runtime"
)

// Fields returns a State whose keys are the fields of the map that a key of in holds.
func Fields(in runtime.State, key string) runtime.State { return fields{in, key} }

// FieldNames returns the names of the fields that have a value, sorted, if the place holds a
// map; none if it holds nothing.
func (p Place) FieldNames(ctx context.Context) ([]string, error) {
	l, err := Held(ctx, p, kvlattice.NewMap())
	if err != nil {
		return nil, err
	}
	var names []string
	for name, value := range l.All() {
		if kvlattice.ViewOf(value, 0).Found {
			names = append(names, name)
		}
	}
	return names, nil
}

// fields is a State whose keys are the fields of a key.
type fields struct {
	in  runtime.State
	key string
}

var _ runtime.State = fields{}

func (f fields) Merge(ctx context.Context, ns, field string, delta kvlattice.Lattice) error {
	m := kvlattice.NewMap()
	if _, err := m.MergeField(field, delta); err != nil {
		return err
	}
	return f.in.Merge(ctx, ns, f.key, m)
}

func (f fields) Read(ctx context.Context, ns, field string) (kvlattice.Lattice, error) {
	m, err := Held(ctx, Place{f.in, ns, f.key}, kvlattice.NewMap())
	return m.Field(field), err
}

func (f fields) Get(ctx context.Context, ns, field string) (wire.Value, bool, error) {
	l, err := f.Read(ctx, ns, field)
	v := kvlattice.ViewOf(l, 0)
	return v.Value, v.Found, err
}

func (f fields) GetAll(ctx context.Context, ns string, names ...string) ([]wire.Value, []bool, error) {
	m, err := Held(ctx, Place{f.in, ns, f.key}, kvlattice.NewMap())
	if err != nil {
		return nil, nil, err
	}
	values, found := make([]wire.Value, len(names)), make([]bool, len(names))
	for i, field := range names {
		v := kvlattice.ViewOf(m.Field(field), 0)
		values[i], found[i] = v.Value, v.Found
	}
	return values, found, nil
}

func (f fields) Versions(ctx context.Context, ns, field string) ([]wire.Value, error) {
	l, err := f.Read(ctx, ns, field)
	return kvlattice.VersionsOf(l), err
}

func (f fields) Put(ctx context.Context, ns, field string, v wire.Value) error {
	return f.register(ctx, ns, field, func(ts kvlattice.Timestamp, writer string) *kvlattice.LWW {
		return kvlattice.NewLWW(v, ts, writer)
	})
}

func (f fields) Delete(ctx context.Context, ns, field string) error {
	return f.register(ctx, ns, field, kvlattice.NewTombstone)
}

func (f fields) register(ctx context.Context, ns, field string, stamped func(kvlattice.Timestamp, string) *kvlattice.LWW) error {
	ts, writer, err := f.Stamp(ctx, ns, field)
	if err != nil {
		return err
	}
	return f.Merge(ctx, ns, field, stamped(ts, writer))
}

func (f fields) AddCounter(ctx context.Context, ns, field string, delta int64, within ...string) error {
	return f.in.AddCounter(ctx, ns, f.key, delta, append([]string{field}, within...)...)
}

func (f fields) AddGrow(ctx context.Context, ns, field string, delta int64, within ...string) error {
	return f.in.AddGrow(ctx, ns, f.key, delta, append([]string{field}, within...)...)
}

func (f fields) Counter(ctx context.Context, ns, field string) (int64, error) {
	return Place{f, ns, field}.Total(ctx)
}

func (f fields) AddSet(ctx context.Context, ns, field string, elements ...json.RawMessage) error {
	return Place{f, ns, field}.Union(ctx, elements)
}

func (f fields) Set(ctx context.Context, ns, field string) ([]json.RawMessage, error) {
	return Place{f, ns, field}.Elements(ctx)
}

func (f fields) Tag() (tag kvlattice.Tag, fresh bool) { return f.in.Tag() }

func (f fields) Retag() { f.in.Retag() }

func (f fields) Stamp(ctx context.Context, ns, _ string) (kvlattice.Timestamp, string, error) {
	return f.in.Stamp(ctx, ns, f.key)
}

// Total returns the count of a counter of either kind; 0 if nothing was ever added.
func (p Place) Total(ctx context.Context) (int64, error) {
	type counter interface {
		kvlattice.Lattice
		Total() int64
	}
	c, err := Held[counter](ctx, p, kvlattice.NewCounter())
	return c.Total(), err
}

// Union adds elements to a set that only grows.
func (p Place) Union(ctx context.Context, elements []json.RawMessage) error {
	set := kvlattice.NewSet()
	for _, element := range elements {
		if _, err := set.Add(element); err != nil {
			return err
		}
	}
	return p.Merge(ctx, set)
}

// Elements returns the elements of a set that only grows.
func (p Place) Elements(ctx context.Context) ([]json.RawMessage, error) {
	set, err := Held(ctx, p, kvlattice.NewSet())
	if err != nil {
		return nil, err
	}
	return slices.Collect(set.All()), nil
}
