package kvlattice

import (
	"fmt"
	"iter"
	"maps"
	"slices"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// maxMaps is how many maps may stand within each other, the outermost one
// included.
const maxMaps = 4

// Map is a lattice of named fields, each of which is a lattice itself and merges
// with the field of the same name. Fields can't be removed: a field that is to
// come and go is a register, or an element of a set.
type Map struct {
	fields map[string]Lattice
}

// NewMap returns a map without fields.
func NewMap() *Map { return &Map{fields: make(map[string]Lattice)} }

// MergeField joins l, of which it keeps a copy, into a field and says whether
// that changed it. A field that holds another kind is an error of
// wire.KindLattice. Errors of wire.KindBadArgument are a name that isn't UTF-8,
// more than four maps within each other, and a causal register, whose versions
// are numbered by key. An error changes nothing.
func (m *Map) MergeField(field string, l Lattice) (changed bool, err error) {
	if err := textual("fields", field); err != nil {
		return false, err
	}
	if err := nestable(l, maxMaps-1); err != nil {
		return false, err
	}
	own, ok := m.fields[field]
	if !ok {
		m.fields[field] = l.Clone()
		return true, nil
	}
	if err := conflict(field, own, l); err != nil {
		return false, err
	}
	return own.Merge(l)
}

// nestable says why l can't be a field, if it can't. It may be so many maps deep.
func nestable(l Lattice, levels int) error {
	switch nested, ok := l.(*Map); {
	case l.Kind() == KindCausal:
		return badArgument("a causal register can't be a field of a map: use a key of its own")
	case !ok:
		return nil
	case levels == 0:
		return badArgument(fmt.Sprintf("more than %d maps within each other", maxMaps))
	default:
		for _, l := range nested.fields {
			if err := nestable(l, levels-1); err != nil {
				return err
			}
		}
		return nil
	}
}

// conflict returns an error if a field, or one within it, is of two kinds.
func conflict(field string, a, b Lattice) error {
	if a.Kind() != b.Kind() {
		return &wire.Error{
			Op: "merge", Kind: wire.KindLattice, Name: field,
			Msg: fmt.Sprintf("the field holds a %s, and a %s can't be merged into that; use another field", a.Kind(), b.Kind()),
		}
	}
	into, isMap := a.(*Map)
	from, both := b.(*Map)
	if !isMap || !both {
		return nil
	}
	return into.conflict(field+".", from)
}

func (m *Map) conflict(path string, o *Map) error {
	for field, theirs := range o.fields {
		if own, ok := m.fields[field]; ok {
			if err := conflict(path+field, own, theirs); err != nil {
				return err
			}
		}
	}
	return nil
}

// Field returns what a field holds, nil if nothing. It belongs to the map, so
// only a Clone of it may be changed.
func (m *Map) Field(field string) Lattice { return m.fields[field] }

// Len returns the number of fields.
func (m *Map) Len() int { return len(m.fields) }

// All returns the fields, sorted by name. What they hold belongs to the map.
func (m *Map) All() iter.Seq2[string, Lattice] {
	return func(yield func(string, Lattice) bool) {
		for _, field := range slices.Sorted(maps.Keys(m.fields)) {
			if !yield(field, m.fields[field]) {
				return
			}
		}
	}
}

// Settle settles what the fields hold of a source's calls numbered up to w, as
// Counter.Settle does and with its conditions.
func (m *Map) Settle(source string, w uint64) {
	for _, l := range m.fields {
		if c, ok := l.(settled); ok {
			c.Settle(source, w)
		}
	}
}

// Unsettled returns how many operations of each source the fields remember.
func (m *Map) Unsettled() map[string]int {
	sum := make(map[string]int)
	for _, l := range m.fields {
		if c, ok := l.(settled); ok {
			for source, n := range c.Unsettled() {
				sum[source] += n
			}
		}
	}
	return sum
}

// Kind returns KindMap.
func (m *Map) Kind() Kind { return KindMap }

// Merge merges each of the other map's fields. If one is of another kind here,
// none is merged, and the error of wire.KindLattice names it.
func (m *Map) Merge(other Lattice) (changed bool, err error) {
	o, ok := other.(*Map)
	if !ok {
		return false, differ(m, other)
	}
	if err := m.conflict("", o); err != nil {
		return false, err
	}
	for field, theirs := range o.fields {
		own, ok := m.fields[field]
		if !ok {
			m.fields[field] = theirs.Clone()
			changed = true
			continue
		}
		news, err := own.Merge(theirs)
		if err != nil {
			return changed, fmt.Errorf("field %q: %w", field, err)
		}
		changed = changed || news
	}
	return changed, nil
}

// Clone returns an independent copy.
func (m *Map) Clone() Lattice {
	c := &Map{fields: make(map[string]Lattice, len(m.fields))}
	for field, l := range m.fields {
		c.fields[field] = l.Clone()
	}
	return c
}

// Value returns a JSON object of the fields' values, sorted by name. A value
// that isn't JSON is a string, in base64 if it isn't text; a register that was
// deleted is left out.
func (m *Map) Value() wire.Value {
	object, _ := m.notes()
	return wire.Value{Body: object}
}

// Size returns roughly how many bytes of memory the map takes.
func (m *Map) Size() int {
	const fixed, perField = 64, 48 // with the map's own overhead
	n := fixed
	for field, l := range m.fields {
		n += perField + len(field) + l.Size()
	}
	return n
}
