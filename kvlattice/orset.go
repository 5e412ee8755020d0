package kvlattice

import (
	"cmp"
	"encoding/json"
	"iter"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// A Tag names one adding of an element to an ORSet: the N-th (from 0) that the
// node did in call number Seq (from 1) of the source. A call that runs again
// makes the same tags again, so it adds nothing twice, and doesn't bring back
// what was removed after its first run.
type Tag struct {
	Source string // as of Counter: one incarnation of a calls stream, or Programs
	Seq    uint64 // in the source; Settle counts in it
	Node   string // of the DAG; may be empty
	N      uint32 // among what the call adds at the node
}

func (t Tag) compare(u Tag) int {
	return cmp.Or(strings.Compare(t.Source, u.Source), cmp.Compare(t.Seq, u.Seq), strings.Compare(t.Node, u.Node), cmp.Compare(t.N, u.N))
}

// ORSet is a set of JSON values that can be added and removed: a removal takes
// back the addings that it has observed, so what is added concurrently stays
// (add wins). Elements are equal as those of a Set are. What a run adds under a
// tag of an earlier run of its call, but wasn't added then, is added as well.
//
// Each tag of an element is unknown, present or removed, in this order: the
// join takes the later of two. An element is in the set while one of its tags
// is present. That alone would keep removed tags for ever, so a source has a
// watermark, which Settle raises: every tag up to it that isn't present is
// removed, and none of them is remembered.
//
//	source   settled  present                   removed
//	calls@1  1200     "ann": 17, 1203 (node a)  "bob": 1207
//
// That is an observed-remove set with a causal context ("An optimized
// conflict-free replicated set", Bieniusa and others, 2012), but where theirs
// takes a replica's operations in order, so that one number per replica says
// what was observed, tags of a source arrive out of order and with gaps. Hence
// what is above the watermark is listed tag by tag, removed ones too; and the
// watermark only moves with the knowledge that nothing below it is to come.
type ORSet struct {
	elements map[string]tags   // as compact JSON
	settled  map[string]uint64 // watermarks by source; none is 0
	len      int               // elements with a tag that is present
	bytes    int               // of all elements, and of their tags
}

// tags are an element's: sorted, in slices that are never written to, so that
// copies can share them. No tag is in both. A removed one is above the watermark.
type tags struct{ present, removed []Tag }

// NewORSet returns an empty set.
func NewORSet() *ORSet {
	return &ORSet{elements: make(map[string]tags), settled: make(map[string]uint64)}
}

// Add adds an element under the tag. It does nothing if the tag was removed or
// is settled. What isn't JSON in UTF-8, nested by less than ten thousand levels,
// and a tag without a sequence or with a name that isn't UTF-8 are errors of
// wire.KindBadArgument.
func (s *ORSet) Add(tag Tag, element json.RawMessage) error {
	text, err := elementOf(tag, element)
	if err == nil {
		s.merge(addition(text, tags{present: []Tag{tag}}))
	}
	return err
}

// Renewal returns what adds an element under the tag and takes the place of all
// tags that s holds of it, so that an element that is added all the time has few
// tags. It doesn't change s: merge it into s or into any other copy.
//
// It is right only for a tag that nobody can have seen yet, as one of a call's
// first run: had it been removed already, the element would vanish with the tags
// that it took the place of. A later run uses Add. The errors are Add's.
func (s *ORSet) Renewal(tag Tag, element json.RawMessage) (*ORSet, error) {
	text, err := elementOf(tag, element)
	if err != nil {
		return nil, err
	}
	next, own := tags{present: []Tag{tag}}, s.elements[text]
	if !own.has(tag) && !s.covers(tag) {
		next.removed = own.present
	}
	return addition(text, next), nil
}

// Removal returns what removes an element from all copies, as far as s holds it,
// and whether s does. It doesn't change s: merge it into s or any other copy.
func (s *ORSet) Removal(element json.RawMessage) (removal *ORSet, has bool) {
	text, err := canonical(element)
	if err != nil {
		return NewORSet(), false
	}
	observed := s.elements[text].present
	return addition(text, tags{removed: observed}), len(observed) > 0
}

// Remove removes an element and says whether it was there.
func (s *ORSet) Remove(element json.RawMessage) bool {
	removal, has := s.Removal(element)
	s.merge(removal)
	return has
}

// Has says whether the element is in the set. What isn't JSON is in no set.
func (s *ORSet) Has(element json.RawMessage) bool {
	text, err := canonical(element)
	return err == nil && len(s.elements[text].present) > 0
}

// Len returns the number of elements.
func (s *ORSet) Len() int { return s.len }

// All returns the elements as compact JSON, sorted by their bytes.
func (s *ORSet) All() iter.Seq[json.RawMessage] {
	return func(yield func(json.RawMessage) bool) {
		for _, text := range s.sorted() {
			if !yield(json.RawMessage(text)) {
				return
			}
		}
	}
}

// Settle forgets the removed tags of the source's calls numbered up to w, and
// ignores any of those calls' tags that comes later.
//
// It is right only as Counter.Settle is: on the join of a snapshot of all slots
// that was taken after w was known to be settled, and only if the result becomes
// the base. The snapshot then holds all tags up to w that are present anywhere.
func (s *ORSet) Settle(source string, w uint64) {
	if w <= s.settled[source] {
		return
	}
	s.settled[source] = w
	for element, own := range s.elements {
		own.removed = withoutTags(own.removed, func(t Tag) bool { return t.Source == source && t.Seq <= w })
		s.set(element, own)
	}
}

// Unsettled returns how many removed tags of each source are remembered, but for those of
// Programs, which settle their own.
func (s *ORSet) Unsettled() map[string]int {
	n := make(map[string]int)
	for _, own := range s.elements {
		for _, t := range own.removed {
			if t.Source != Programs {
				n[t.Source]++
			}
		}
	}
	return n
}

// byPrograms returns the tags that programs gave, present and removed ones.
func (s *ORSet) byPrograms() iter.Seq[Tag] {
	return func(yield func(Tag) bool) {
		for _, own := range s.elements {
			for _, list := range [][]Tag{own.present, own.removed} {
				for _, t := range list {
					if t.Source == Programs && !yield(t) {
						return
					}
				}
			}
		}
	}
}

func (s *ORSet) numbers() (told []uint64, settled uint64) {
	for t := range s.byPrograms() {
		told = append(told, t.Seq)
	}
	return told, s.settled[Programs]
}

func (s *ORSet) number(name string, n uint64) Lattice {
	d, added := NewORSet(), uint32(0)
	for _, element := range slices.Sorted(maps.Keys(s.elements)) {
		own := s.elements[element]
		next := tags{removed: own.removed}
		if slices.ContainsFunc(own.present, func(t Tag) bool { return t.Source == Unnumbered }) {
			next.present = []Tag{{Source: Programs, Seq: n, Node: name, N: added}}
			added++
		}
		d.set(element, next)
	}
	if added == 0 {
		return nil
	}
	return d
}

func (s *ORSet) tells(name string) bool {
	for t := range s.byPrograms() {
		if t.Node == name {
			return true
		}
	}
	return false
}

// Kind returns KindORSet.
func (s *ORSet) Kind() Kind { return KindORSet }

// Merge keeps what is present in both, and what is present in one and unknown to
// the other. It takes time for the other's elements only if nothing is settled
// there, as in what Add, Renewal and Removal bring.
func (s *ORSet) Merge(other Lattice) (changed bool, err error) {
	o, ok := other.(*ORSet)
	if !ok {
		return false, differ(s, other)
	}
	return s.merge(o), nil
}

func (s *ORSet) merge(o *ORSet) (changed bool) {
	for element, theirs := range o.elements {
		if s.join(element, theirs, o) {
			changed = true
		}
	}
	if len(o.settled) == 0 {
		return changed
	}
	for element := range s.elements { // what o has settled, and hasn't, is removed
		if _, done := o.elements[element]; !done && s.join(element, tags{}, o) {
			changed = true
		}
	}
	for source, w := range o.settled {
		if w > s.settled[source] {
			s.settled[source] = w
			changed = true
		}
	}
	return changed
}

// join joins what o knows of an element, theirs, and says whether that changed
// anything. The watermarks stay where they are.
func (s *ORSet) join(element string, theirs tags, o *ORSet) (changed bool) {
	ours := s.elements[element]
	next := tags{
		present: withoutTags(ours.present, func(t Tag) bool {
			return hasTag(theirs.removed, t) || o.covers(t) && !hasTag(theirs.present, t)
		}),
		removed: withoutTags(ours.removed, o.covers),
	}
	next.present = unionTags(next.present, withoutTags(theirs.present, func(t Tag) bool {
		return hasTag(ours.removed, t) || s.covers(t) // or we have it, and it is in already
	}))
	next.removed = unionTags(next.removed, withoutTags(theirs.removed, s.covers))
	if slices.Equal(next.present, ours.present) && slices.Equal(next.removed, ours.removed) {
		return false
	}
	s.set(element, next)
	return true
}

// covers says whether a tag is settled: removed, that is, unless it is present.
func (s *ORSet) covers(t Tag) bool { return t.Seq <= s.settled[t.Source] }

func (t tags) has(tag Tag) bool { return hasTag(t.present, tag) || hasTag(t.removed, tag) }

func (s *ORSet) set(element string, next tags) {
	before := s.elements[element]
	s.bytes += next.size(element) - before.size(element)
	s.len += min(len(next.present), 1) - min(len(before.present), 1)
	if len(next.present)+len(next.removed) == 0 {
		delete(s.elements, element)
	} else {
		s.elements[element] = next
	}
}

// Clone returns an independent copy.
func (s *ORSet) Clone() Lattice {
	c := *s
	c.elements, c.settled = maps.Clone(s.elements), maps.Clone(s.settled)
	return &c
}

// Value returns the elements as a sorted JSON array.
func (s *ORSet) Value() wire.Value { return wire.Value{Body: jsonArray(s.sorted())} }

// Size returns roughly how many bytes of memory the set takes.
func (s *ORSet) Size() int {
	const fixed, perSource = 128, 48 // with the maps' own overhead
	return fixed + s.bytes + perSource*len(s.settled)
}

func (t tags) size(element string) int {
	const perElement, perTag = 96, 48 // names of sources and nodes are shared
	if n := len(t.present) + len(t.removed); n > 0 {
		return perElement + len(element) + perTag*n
	}
	return 0
}

// sorted returns the elements that are in the set.
func (s *ORSet) sorted() []string {
	texts := make([]string, 0, s.len)
	for text, own := range s.elements {
		if len(own.present) > 0 {
			texts = append(texts, text)
		}
	}
	slices.Sort(texts)
	return texts
}

// addition returns a set that knows nothing but the tags of one element.
func addition(text string, known tags) *ORSet {
	s := NewORSet()
	s.set(text, known)
	return s
}

func elementOf(tag Tag, element json.RawMessage) (text string, err error) {
	if tag.Seq == 0 {
		return "", badArgument("a tag needs a sequence from 1")
	}
	if err := textual("a tag's names", tag.Source, tag.Node); err != nil {
		return "", err
	}
	return elementText(element)
}

func elementText(element json.RawMessage) (text string, err error) {
	if text, err = canonical(element); err != nil {
		return "", err
	}
	if !utf8.ValidString(text) || !fits(text) {
		return "", badArgument("an element of a set must be UTF-8, and nest less than ten thousand levels deep")
	}
	return text, nil
}

func hasTag(sorted []Tag, t Tag) bool {
	_, ok := slices.BinarySearchFunc(sorted, t, Tag.compare)
	return ok
}

// withoutTags returns the tags that drop doesn't want: the same slice if that is all.
func withoutTags(sorted []Tag, drop func(Tag) bool) []Tag {
	if !slices.ContainsFunc(sorted, drop) {
		return sorted
	}
	return slices.DeleteFunc(slices.Clone(sorted), drop)
}

// unionTags returns the tags of both: one of the two slices if that is all.
func unionTags(a, b []Tag) []Tag {
	fresh := withoutTags(b, func(t Tag) bool { return hasTag(a, t) })
	switch {
	case len(fresh) == 0:
		return a
	case len(a) == 0:
		return b
	}
	both := slices.Concat(a, fresh)
	slices.SortFunc(both, Tag.compare)
	return both
}
