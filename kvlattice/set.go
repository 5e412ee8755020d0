package kvlattice

import (
	"bytes"
	"encoding/json"
	"iter"
	"maps"
	"slices"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// Set is a set of JSON values that only grows. Elements are equal if their
// texts without white space are: 1 and 1.0 are two elements, and so are
// objects whose fields stand in another order.
type Set struct {
	elements map[string]struct{} // as compact JSON
	bytes    int                 // of the elements together
}

// NewSet returns a set of the elements. Each must be valid JSON; NewSet panics
// if one isn't. Use Add for text that nobody has checked yet.
func NewSet(elements ...json.RawMessage) *Set {
	s := &Set{elements: make(map[string]struct{}, len(elements))}
	for _, element := range elements {
		if _, err := s.Add(element); err != nil {
			panic("kvlattice.NewSet: " + err.Error())
		}
	}
	return s
}

// Add puts an element into the set and says whether it is new. What isn't
// JSON, or nests ten thousand levels deep, is an error of wire.KindBadArgument.
func (s *Set) Add(element json.RawMessage) (added bool, err error) {
	text, err := canonical(element)
	if err != nil {
		return false, err
	}
	return s.insert(text), nil
}

// Has says whether the element is in the set. What isn't JSON is in no set.
func (s *Set) Has(element json.RawMessage) bool {
	text, err := canonical(element)
	if err != nil {
		return false
	}
	_, ok := s.elements[text]
	return ok
}

// Len returns the number of elements.
func (s *Set) Len() int { return len(s.elements) }

// All returns the elements as compact JSON, sorted by their bytes.
func (s *Set) All() iter.Seq[json.RawMessage] {
	return func(yield func(json.RawMessage) bool) {
		for _, text := range slices.Sorted(maps.Keys(s.elements)) {
			if !yield(json.RawMessage(text)) {
				return
			}
		}
	}
}

// Kind returns KindSet.
func (s *Set) Kind() Kind { return KindSet }

// Merge adds the elements of the other set. It takes time for those only,
// however many elements the receiver has.
func (s *Set) Merge(other Lattice) (changed bool, err error) {
	o, ok := other.(*Set)
	if !ok {
		return false, differ(s, other)
	}
	for text := range o.elements {
		if s.insert(text) {
			changed = true
		}
	}
	return changed, nil
}

// Clone returns an independent copy.
func (s *Set) Clone() Lattice {
	return &Set{elements: maps.Clone(s.elements), bytes: s.bytes}
}

// Value returns the elements as a sorted JSON array.
func (s *Set) Value() wire.Value {
	body := make([]byte, 0, s.bytes+len(s.elements)+2)
	body = append(body, '[')
	for i, text := range slices.Sorted(maps.Keys(s.elements)) {
		if i > 0 {
			body = append(body, ',')
		}
		body = append(body, text...)
	}
	return wire.Value{Body: append(body, ']')}
}

// Encode returns the sorted JSON array as the body.
func (s *Set) Encode() (wire.Header, []byte) {
	return wire.Header{HeaderKind: {string(KindSet)}}, s.Value().Body
}

// Size returns roughly how many bytes of memory the set takes.
func (s *Set) Size() int {
	const fixed, perElement = 64, 40 // with the map's own overhead
	return fixed + s.bytes + perElement*len(s.elements)
}

func (s *Set) insert(text string) (added bool) {
	if _, ok := s.elements[text]; ok {
		return false
	}
	s.elements[text] = struct{}{}
	s.bytes += len(text)
	return true
}

func decodeSet(e Entry) (*Set, error) {
	var elements []json.RawMessage
	if err := json.Unmarshal(e.Body, &elements); err != nil {
		return nil, damaged(KindSet, err.Error())
	}
	if elements == nil { // JSON's null
		return nil, damaged(KindSet, "the body isn't an array")
	}
	s := NewSet()
	for _, element := range elements {
		if _, err := s.Add(element); err != nil {
			return nil, damaged(KindSet, err.Error())
		}
	}
	return s, nil
}

func canonical(element json.RawMessage) (string, error) {
	var b bytes.Buffer
	if err := json.Compact(&b, element); err != nil {
		return "", &wire.Error{Kind: wire.KindBadArgument, Msg: "an element of a set must be JSON", Err: err}
	}
	text := b.String()
	if !fits(text) {
		return "", badArgument("an element of a set must nest less than ten thousand levels deep")
	}
	return text, nil
}
