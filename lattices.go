package cloudburst

import (
	"context"
	"encoding/json"

	"github.com/cloudburst-nats/cloudburst/kvlattice"
	"github.com/cloudburst-nats/cloudburst/wire"
	"github.com/cloudburst-nats/cloudburst/workers/runtime/handle"
)

// Max returns the maximum of a key. Nothing is read until it is used.
func (s *State) Max(key string) *Max { return &Max{s.at(key)} }

// Min returns the minimum of a key. Nothing is read until it is used.
func (s *State) Min(key string) *Min { return &Min{s.at(key)} }

// Grow returns the grow-only counter of a key. Nothing is read until it is used.
func (s *State) Grow(key string) *GrowCounter { return &GrowCounter{s.at(key)} }

// ORSet returns the set with removal of a key. Nothing is read until it is used.
func (s *State) ORSet(key string) *ORSet { return &ORSet{s.at(key)} }

// OrderedSet returns the ordered set of a key. Nothing is read until it is used.
func (s *State) OrderedSet(key string) *OrderedSet { return &OrderedSet{s.at(key)} }

// Priority returns the value with a priority of a key. Nothing is read until it
// is used.
func (s *State) Priority(key string) *Priority { return &Priority{s.at(key)} }

func (s *State) at(key string) handle.Place { return handle.Place{In: s.in, NS: s.ns, Key: key} }

// A Max is the greatest of the numbers and strings that it was raised to. Of two
// the greater stays, so no order of writes matters, and none waits for another.
// It is Anna's max lattice.
type Max struct{ at handle.Place }

// Raise has the maximum be v, unless it is greater already. v is a number or a
// string, or encodes as one in JSON: all else is ErrBadArgument. Numbers are
// compared exactly, and all of them are less than any string; strings are
// compared by their bytes. If the key holds another kind that is ErrLattice: here
// for a client, and for a function when it ends, which then has failed.
func (m *Max) Raise(ctx context.Context, v any) error {
	raw, err := wire.JSON(v)
	if err != nil {
		return err
	}
	delta, err := kvlattice.NewMax(raw.Body)
	if err != nil {
		return err
	}
	return m.at.Merge(ctx, delta)
}

// Value returns the maximum, and whether there is one. ErrLattice if the key
// holds another kind.
func (m *Max) Value(ctx context.Context) (Value, bool, error) {
	l, err := handle.Held[*kvlattice.Max](ctx, m.at, nil)
	if err != nil || l == nil {
		return Value{}, false, err
	}
	return l.Value(), true, nil
}

// A Min is the least of the numbers and strings that it was lowered to: a Max in
// the other direction.
type Min struct{ at handle.Place }

// Lower has the minimum be v, unless it is less already. See Max.Raise for what v
// can be, how it is compared, and the errors.
func (m *Min) Lower(ctx context.Context, v any) error {
	raw, err := wire.JSON(v)
	if err != nil {
		return err
	}
	delta, err := kvlattice.NewMin(raw.Body)
	if err != nil {
		return err
	}
	return m.at.Merge(ctx, delta)
}

// Value returns the minimum, and whether there is one. ErrLattice if the key
// holds another kind.
func (m *Min) Value(ctx context.Context) (Value, bool, error) {
	l, err := handle.Held[*kvlattice.Min](ctx, m.at, nil)
	if err != nil || l == nil {
		return Value{}, false, err
	}
	return l.Value(), true, nil
}

// A GrowCounter counts up only, and is else as a Counter: many may add at once,
// and each call counts once, however often it is retried. It is the grow-only
// counter of the literature (G-counter).
type GrowCounter struct{ at handle.Place }

// Add adds delta; ErrBadArgument if that is below 0.
func (c *GrowCounter) Add(ctx context.Context, delta int64) error {
	return c.at.In.AddGrow(ctx, c.at.NS, c.at.Key, delta)
}

// Value returns the count; 0 if nothing was ever added. ErrLattice if the key
// holds no counter.
func (c *GrowCounter) Value(ctx context.Context) (int64, error) {
	return c.at.In.Counter(ctx, c.at.NS, c.at.Key)
}

// An ORSet is a set of JSON values that can be added and removed. A removal takes
// back what the one who removes has seen: an element that is added at the same
// time stays. It is the observed-remove set of the literature.
//
// A call that is retried adds nothing twice, and nothing that was removed since,
// but for what it adds after it has itself removed something. Of an element that
// is removed, or added again, the earlier adding is remembered in some 50 bytes:
// until its call has ended, and for ever if a program outside of functions had
// added it.
type ORSet struct{ at handle.Place }

// Add adds elements, each anything that encodes as JSON; what doesn't is
// ErrBadArgument, and nothing is added. It reads the set.
func (s *ORSet) Add(ctx context.Context, elements ...any) error {
	raw, err := encoded(elements)
	if err != nil {
		return err
	}
	return s.at.Include(ctx, raw)
}

// Remove removes elements as far as the set, as seen from here, has them. Removing
// what isn't there is no error.
func (s *ORSet) Remove(ctx context.Context, elements ...any) error {
	raw, err := encoded(elements)
	if err != nil {
		return err
	}
	return s.at.Exclude(ctx, raw)
}

// Has says whether an element is in the set. Elements are equal if their JSON
// texts without white space are.
func (s *ORSet) Has(ctx context.Context, element any) (bool, error) {
	v, err := wire.JSON(element)
	if err != nil {
		return false, err
	}
	set, err := handle.Held(ctx, s.at, kvlattice.NewORSet())
	return err == nil && set.Has(v.Body), err
}

// Len returns the number of elements.
func (s *ORSet) Len(ctx context.Context) (int, error) {
	set, err := handle.Held(ctx, s.at, kvlattice.NewORSet())
	return set.Len(), err
}

// Members returns the elements of an ORSet as Elements does those of a Set:
// decoded from JSON, in the order of their JSON text. ErrLattice if the key holds
// another kind.
func Members[T any](ctx context.Context, s *ORSet) ([]T, error) {
	set, err := handle.Held(ctx, s.at, kvlattice.NewORSet())
	if err != nil {
		return nil, err
	}
	out := make([]T, 0, set.Len())
	for raw := range set.All() {
		var element T
		if err := (wire.Value{Body: raw}).Decode(&element); err != nil {
			return nil, err
		}
		out = append(out, element)
	}
	return out, nil
}

// An OrderedSet is a set of members sorted by score: a ranking, or a queue by
// time. Of two writes of a member, its score or its removal, the later one stays.
// It is Anna's ordered set, with scores and removal.
type OrderedSet struct{ at handle.Place }

// A Scored is a member of an OrderedSet.
type Scored struct {
	Member string  `json:"member"`
	Score  float64 `json:"score"`
}

// Put adds a member or changes its score. One that isn't a finite number is
// ErrBadArgument, and so is a member that isn't UTF-8.
func (s *OrderedSet) Put(ctx context.Context, member string, score float64) error {
	return s.at.Score(ctx, member, score)
}

// Remove removes a member. Removing what isn't there is no error. That it was
// removed is remembered, in some 50 bytes.
func (s *OrderedSet) Remove(ctx context.Context, member string) error {
	return s.at.Unscore(ctx, member)
}

// Score returns a member's score, and whether it is in the set.
func (s *OrderedSet) Score(ctx context.Context, member string) (score float64, found bool, err error) {
	set, err := handle.Held(ctx, s.at, kvlattice.NewOrderedSet())
	if err != nil {
		return 0, false, err
	}
	score, found = set.Score(member)
	return score, found, nil
}

// Range returns the members from rank from (0 is the lowest score) to before rank
// to, as a slice's bounds are; what is outside the set is left out. Members of
// equal scores are in the order of their bytes.
func (s *OrderedSet) Range(ctx context.Context, from, to int) ([]Scored, error) {
	set, err := handle.Held(ctx, s.at, kvlattice.NewOrderedSet())
	if err != nil {
		return nil, err
	}
	var members []Scored
	for member, score := range set.Range(from, to) {
		members = append(members, Scored{member, score})
	}
	return members, nil
}

// Len returns the number of members.
func (s *OrderedSet) Len(ctx context.Context) (int, error) {
	set, err := handle.Held(ctx, s.at, kvlattice.NewOrderedSet())
	return set.Len(), err
}

// A Priority is a value that came with the lowest number, as rank 1 goes before
// rank 2: the best offer, or who asked first. Of equal numbers the value with the
// greater bytes stays. It is Anna's priority lattice.
type Priority struct{ at handle.Place }

// Put offers a value, anything that encodes as JSON, or a Value.
func (p *Priority) Put(ctx context.Context, priority int64, v any) error {
	value, err := wire.JSON(v)
	if err != nil {
		return err
	}
	return p.at.Merge(ctx, kvlattice.NewPriority(priority, value))
}

// Get returns the value with the lowest number, that number, and whether there is
// one. ErrLattice if the key holds another kind.
func (p *Priority) Get(ctx context.Context) (v Value, priority int64, found bool, err error) {
	l, err := handle.Held[*kvlattice.Priority](ctx, p.at, nil)
	if err != nil || l == nil {
		return Value{}, 0, false, err
	}
	return l.Value(), l.Priority(), true, nil
}

// encoded returns values as JSON.
func encoded(values []any) ([]json.RawMessage, error) {
	raw := make([]json.RawMessage, len(values))
	for i, v := range values {
		value, err := wire.JSON(v)
		if err != nil {
			return nil, err
		}
		raw[i] = value.Body
	}
	return raw, nil
}
