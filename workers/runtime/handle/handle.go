// Package handle is how lattices of a run's state are read and changed: a Place is a key, or a
// field of a map, and its methods carry out the changes that take more than a merge. The client
// library and guests do the same by it.
//
// A change reads what is there, makes a delta of it, and merges that. Errors are the state's,
// and of wire.KindLattice if the place holds a lattice of another kind.
package handle

import (
	"context"
	"encoding/json"

	"github.com/cloudburst-nats/cloudburst/kvlattice"
	"github.com/cloudburst-nats/cloudburst/workers/runtime"
)

// A Place is where a lattice is: a key of a state, or a field of a map (see Fields).
type Place struct {
	In      runtime.State
	NS, Key string
}

// Merge joins delta into what the place holds.
func (p Place) Merge(ctx context.Context, delta kvlattice.Lattice) error {
	return p.In.Merge(ctx, p.NS, p.Key, delta)
}

// Held returns the lattice of a place: none if nothing was written there, an
// error of wire.KindLattice if it isn't an L.
func Held[L kvlattice.Lattice](ctx context.Context, p Place, none L) (L, error) {
	l, err := p.In.Read(ctx, p.NS, p.Key)
	if err != nil {
		return none, err
	}
	return kvlattice.As(l, p.Key, none)
}

// Include adds elements to an observed-remove set.
func (p Place) Include(ctx context.Context, elements []json.RawMessage) error {
	set, err := Held(ctx, p, kvlattice.NewORSet())
	if err != nil {
		return err
	}
	delta, err := set.Addition(elements, p.In.Tag)
	if err != nil {
		return err
	}
	return p.Merge(ctx, delta)
}

// Exclude removes elements from an observed-remove set, as far as it is seen to have them.
func (p Place) Exclude(ctx context.Context, elements []json.RawMessage) error {
	set, err := Held(ctx, p, kvlattice.NewORSet())
	if err != nil {
		return err
	}
	delta, news, err := set.Removals(elements)
	if err != nil || !news {
		return err
	}
	p.In.Retag()
	return p.Merge(ctx, delta)
}

// Score adds a member to an ordered set, or changes its score.
func (p Place) Score(ctx context.Context, member string, score float64) error {
	return p.write(ctx, func(delta *kvlattice.OrderedSet, ts kvlattice.Timestamp, writer string) error {
		return delta.Put(member, score, ts, writer)
	})
}

// Unscore removes a member from an ordered set. Removing what isn't there is no error.
func (p Place) Unscore(ctx context.Context, member string) error {
	return p.write(ctx, func(delta *kvlattice.OrderedSet, ts kvlattice.Timestamp, writer string) error {
		return delta.Remove(member, ts, writer)
	})
}

// write writes a member. It doesn't read the set: see Marks.Stamp.
func (p Place) write(ctx context.Context, stamped func(*kvlattice.OrderedSet, kvlattice.Timestamp, string) error) error {
	ts, writer, err := p.In.Stamp(ctx, p.NS, p.Key)
	if err != nil {
		return err
	}
	delta := kvlattice.NewOrderedSet()
	if err := stamped(delta, ts, writer); err != nil {
		return err
	}
	return p.Merge(ctx, delta)
}
