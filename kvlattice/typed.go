package kvlattice

import (
	"encoding/json"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// As returns what a key holds as an L: none if nothing was written there, or it was
// deleted by a client that knows no lattices; an error of wire.KindLattice if it is
// of another kind.
func As[L Lattice](l Lattice, key string, none L) (L, error) {
	if l == nil {
		return none, nil
	}
	if typed, ok := l.(L); ok {
		return typed, nil
	}
	if d, ok := l.(interface{ Deleted() bool }); ok && d.Deleted() {
		return none, nil // as by `nats kv del`
	}
	return none, &wire.Error{Op: "read", Name: key, Kind: wire.KindLattice, Msg: "the key holds a " + string(l.Kind())}
}

// Addition returns what adds elements, each under the tag that next names. It
// doesn't change s. Only what nobody can have removed yet, as next says by fresh,
// may take the place of earlier addings: see Renewal.
func (s *ORSet) Addition(elements []json.RawMessage, next func() (tag Tag, fresh bool)) (*ORSet, error) {
	delta := NewORSet()
	for _, element := range elements {
		tag, fresh := next()
		if !fresh {
			if err := delta.Add(tag, element); err != nil {
				return nil, err
			}
			continue
		}
		renewal, err := s.Renewal(tag, element)
		if err != nil {
			return nil, err
		}
		if _, err := delta.Merge(renewal); err != nil {
			return nil, err
		}
	}
	return delta, nil
}

// Removals returns what removes elements from all copies, as far as s holds them,
// and whether it holds any. It doesn't change s.
func (s *ORSet) Removals(elements []json.RawMessage) (delta *ORSet, has bool, err error) {
	delta = NewORSet()
	for _, element := range elements {
		removal, held := s.Removal(element)
		if _, err := delta.Merge(removal); err != nil {
			return nil, false, err
		}
		has = has || held
	}
	return delta, has, nil
}
