package kvlattice

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// HeaderTags is of an observed-remove set: its tags, or "body".
const HeaderTags = "Cb-Tags"

// setNotes is what stands beside the elements of an ORSet. For the set
//
//	source   settled  present                   removed
//	calls@1  1200     "ann": 17, 1203 (node a)  "bob": 1207
//
// whose value is ["ann"], it reads
//
//	{"sources":["calls@1"],"nodes":["","a"],"present":[[[0,17,0,0],[0,1203,1,0]]],
//	"removed":{"\"bob\"":[[0,1207,0,0]]},"settled":{"calls@1":1200}}
//
// which is some 15 bytes for each tag, so a set of more than about a thousand
// elements has its tags in the body, below the array.
type setNotes struct {
	Sources []string             `json:"sources,omitempty"`
	Nodes   []string             `json:"nodes,omitempty"`
	Present [][]tagNote          `json:"present,omitempty"` // in the order of the elements
	Removed map[string][]tagNote `json:"removed,omitempty"` // by element
	Settled map[string]uint64    `json:"settled,omitempty"` // by source
}

// A tagNote is a tag: the number of its source, its sequence, the number of its
// node, and N.
type tagNote [4]uint64

// Encode returns the sorted JSON array as the body, and the tags as a header
// unless they are too long for one.
func (s *ORSet) Encode() (wire.Header, []byte) {
	texts := s.sorted()
	var sources, nodes directory
	note := func(of []Tag) []tagNote {
		notes := make([]tagNote, len(of))
		for i, t := range of {
			notes[i] = tagNote{sources.of(t.Source), t.Seq, nodes.of(t.Node), uint64(t.N)}
		}
		return notes
	}
	n := setNotes{Present: make([][]tagNote, len(texts)), Removed: make(map[string][]tagNote), Settled: s.settled}
	for i, text := range texts {
		n.Present[i] = note(s.elements[text].present)
	}
	for _, text := range slices.Sorted(maps.Keys(s.elements)) {
		if removed := s.elements[text].removed; len(removed) > 0 {
			n.Removed[text] = note(removed)
		}
	}
	n.Sources, n.Nodes = sources.names, nodes.names
	return beside(wire.Header{HeaderKind: {string(KindORSet)}}, HeaderTags, jsonArray(texts), n)
}

// jsonArray returns texts of JSON as a JSON array.
func jsonArray(texts []string) []byte {
	n := len(texts) + 2
	for _, text := range texts {
		n += len(text)
	}
	body := append(make([]byte, 0, n), '[')
	for i, text := range texts {
		if i > 0 {
			body = append(body, ',')
		}
		body = append(body, text...)
	}
	return append(body, ']')
}

func decodeORSet(e Entry) (*ORSet, error) {
	var n setNotes
	body, err := readBeside(e, HeaderTags, &n)
	if err != nil {
		return nil, damaged(KindORSet, err.Error())
	}
	var elements []json.RawMessage
	if err := json.Unmarshal(body, &elements); err != nil {
		return nil, damaged(KindORSet, err.Error())
	}
	if elements == nil || len(elements) != len(n.Present) {
		return nil, damaged(KindORSet, "the body isn't an array of as many elements as have tags")
	}
	s := NewORSet()
	for source, w := range n.Settled {
		if w > 0 {
			s.settled[source] = w
		}
	}
	for i, element := range elements {
		if err := s.read(element, n, n.Present[i], nil); err != nil {
			return nil, damaged(KindORSet, err.Error())
		}
	}
	for element, removed := range n.Removed {
		if err := s.read(json.RawMessage(element), n, nil, removed); err != nil {
			return nil, damaged(KindORSet, err.Error())
		}
	}
	return s, nil
}

// read adds tags of an element, in the normal form that all sets have.
func (s *ORSet) read(element json.RawMessage, n setNotes, present, removed []tagNote) error {
	text, err := elementText(element)
	if err != nil {
		return err
	}
	if len(present)+len(removed) == 0 {
		return fmt.Errorf("%.40s has no tags", text)
	}
	added, err := n.read(present)
	if err != nil {
		return err
	}
	gone, err := n.read(removed)
	if err != nil {
		return err
	}
	own := s.elements[text]
	next := tags{present: unionTags(own.present, added), removed: unionTags(own.removed, gone)}
	next.present = withoutTags(next.present, func(t Tag) bool { return hasTag(next.removed, t) })
	next.removed = withoutTags(next.removed, s.covers)
	s.set(text, next)
	return nil
}

func (n setNotes) read(notes []tagNote) ([]Tag, error) {
	read := make([]Tag, len(notes))
	for i, note := range notes {
		source, err := nameOf(n.Sources, note[0])
		if err != nil {
			return nil, err
		}
		node, err := nameOf(n.Nodes, note[2])
		if err != nil {
			return nil, err
		}
		if note[1] == 0 || note[3] > math.MaxUint32 {
			return nil, fmt.Errorf("%d is no tag", note)
		}
		read[i] = Tag{Source: source, Seq: note[1], Node: node, N: uint32(note[3])}
	}
	slices.SortFunc(read, Tag.compare)
	return slices.Compact(read), nil
}
