package kvlattice

import (
	"cmp"
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// HeaderStamps is of an ordered set: when its members were written, or "body".
const HeaderStamps = "Cb-Stamps"

// OrderedSet holds members sorted by a score, and by their bytes where scores
// are equal. What a member's score is, or that it was removed, is a register of
// its own: of two writes the later one stays. A removed member is remembered
// for ever, by its name and stamp (some 50 bytes), since a write that is earlier
// than the removal may still come.
type OrderedSet struct {
	cells  map[string]cell // by member
	len    int             // members that aren't removed
	bytes  int             // of all members
	latest Timestamp       // of any write that was ever kept
}

// A cell is the last write of a member. The last two fields only order writes
// of one writer with one timestamp, which honest writers don't make.
type cell struct {
	ts      Timestamp
	writer  string
	removed bool
	score   float64 // 0 if removed; never -0, which JSON readers may lose
}

func (c cell) compare(d cell) int {
	removed := 0
	if c.removed != d.removed {
		removed = -1
		if c.removed {
			removed = 1
		}
	}
	return cmp.Or(c.ts.Compare(d.ts), strings.Compare(c.writer, d.writer), removed, cmp.Compare(c.score, d.score))
}

// NewOrderedSet returns an empty set.
func NewOrderedSet() *OrderedSet { return &OrderedSet{cells: make(map[string]cell)} }

// Put gives the member a score, unless a later write of it is known. A score
// that isn't a finite number, a timestamp before 1970, and a name that isn't
// UTF-8 are errors of wire.KindBadArgument.
func (s *OrderedSet) Put(member string, score float64, ts Timestamp, writer string) error {
	if math.IsNaN(score) || math.IsInf(score, 0) {
		return badArgument(fmt.Sprintf("the score of %q is %v, not a finite number", member, score))
	}
	if score == 0 {
		score = 0 // which may be -0
	}
	return s.write(member, cell{ts: ts, writer: writer, score: score})
}

// Remove removes the member, unless a later write of it is known. What isn't
// there may be removed, too: that beats an earlier Put that comes later. The
// errors are Put's.
func (s *OrderedSet) Remove(member string, ts Timestamp, writer string) error {
	return s.write(member, cell{ts: ts, writer: writer, removed: true})
}

func (s *OrderedSet) write(member string, c cell) error {
	if err := textual("members and writers", member, c.writer); err != nil {
		return err
	}
	if c.ts.Wall < 0 {
		return badArgument(fmt.Sprintf("the write of %q is stamped before 1970", member))
	}
	s.keep(member, c)
	return nil
}

// Score returns the member's score, and whether it is in the set.
func (s *OrderedSet) Score(member string) (score float64, ok bool) {
	c, ok := s.cells[member]
	return c.score, ok && !c.removed
}

// Latest returns when the member was last written or removed: what a later
// write must be stamped after. It is zero for one that was never written.
func (s *OrderedSet) Latest(member string) Timestamp { return s.cells[member].ts }

// Len returns the number of members.
func (s *OrderedSet) Len() int { return s.len }

// All returns the members with their scores, the lowest score first. It sorts
// them each time it is ranged over.
func (s *OrderedSet) All() iter.Seq2[string, float64] { return s.Range(0, s.len) }

// Range returns the members from rank from (0 is the lowest score) to before
// rank to, as a slice's bounds are; what is outside the set is left out.
func (s *OrderedSet) Range(from, to int) iter.Seq2[string, float64] {
	return func(yield func(string, float64) bool) {
		sorted := s.sorted()
		to := min(max(to, 0), len(sorted))
		for _, m := range sorted[min(max(from, 0), to):to] {
			if !yield(m.Member, m.Score) {
				return
			}
		}
	}
}

// Kind returns KindOrderedSet.
func (s *OrderedSet) Kind() Kind { return KindOrderedSet }

// Merge keeps the later write of each member. It takes time for the other set's
// members only.
func (s *OrderedSet) Merge(other Lattice) (changed bool, err error) {
	o, ok := other.(*OrderedSet)
	if !ok {
		return false, differ(s, other)
	}
	for member, c := range o.cells {
		if s.keep(member, c) {
			changed = true
		}
	}
	return changed, nil
}

// keep takes c for the member's last write if it is, and says whether it is news.
func (s *OrderedSet) keep(member string, c cell) bool {
	own, ok := s.cells[member]
	if ok && c.compare(own) <= 0 {
		return false
	}
	if !ok {
		s.bytes += len(member)
	}
	if ok && !own.removed {
		s.len--
	}
	if !c.removed {
		s.len++
	}
	s.cells[member] = c
	s.latest = later(s.latest, c.ts)
	return true
}

// Clone returns an independent copy.
func (s *OrderedSet) Clone() Lattice {
	c := *s
	c.cells = maps.Clone(s.cells)
	return &c
}

// Size returns roughly how many bytes of memory the set takes.
func (s *OrderedSet) Size() int {
	const fixed, perMember = 64, 96 // with the map's own overhead; writers are shared
	return fixed + s.bytes + perMember*len(s.cells)
}

// A scored is a member as users see it.
type scored struct {
	Member string  `json:"member"`
	Score  float64 `json:"score"`
}

func (s *OrderedSet) sorted() []scored {
	members := make([]scored, 0, s.len)
	for member, c := range s.cells {
		if !c.removed {
			members = append(members, scored{member, c.score})
		}
	}
	slices.SortFunc(members, func(a, b scored) int {
		return cmp.Or(cmp.Compare(a.Score, b.Score), strings.Compare(a.Member, b.Member))
	})
	return members
}

// Value returns the members as a JSON array, the lowest score first:
// [{"member":"ann","score":3}].
func (s *OrderedSet) Value() wire.Value { return wire.Value{Body: readable(s.sorted())} }

// rankNotes is what stands beside the members of an OrderedSet, as
// {"writers":["w1"],"stamps":[[1700000000000000000,0,0]]}: some 25 bytes for
// each, so a set of more than some 600 members has them in the body, below the
// array.
type rankNotes struct {
	Writers []string             `json:"writers,omitempty"`
	Stamps  []stampNote          `json:"stamps,omitempty"` // in the order of the members
	Removed map[string]stampNote `json:"removed,omitempty"`
}

// A stampNote is a timestamp, and the number of its writer.
type stampNote [3]uint64

func (n stampNote) read(writers []string) (ts Timestamp, writer string, err error) {
	if n[0] > math.MaxInt64 || n[1] > math.MaxUint32 {
		return Timestamp{}, "", fmt.Errorf("%d is no stamp", n)
	}
	writer, err = nameOf(writers, n[2])
	return Timestamp{Wall: int64(n[0]), Logical: uint32(n[1])}, writer, err
}

// Encode returns the JSON array as the body, and the stamps as a header unless
// they are too long for one.
func (s *OrderedSet) Encode() (wire.Header, []byte) {
	var writers directory
	note := func(c cell) stampNote {
		return stampNote{uint64(c.ts.Wall), uint64(c.ts.Logical), writers.of(c.writer)}
	}
	members := s.sorted()
	n := rankNotes{Stamps: make([]stampNote, len(members)), Removed: make(map[string]stampNote)}
	for i, m := range members {
		n.Stamps[i] = note(s.cells[m.Member])
	}
	for _, member := range slices.Sorted(maps.Keys(s.cells)) {
		if c := s.cells[member]; c.removed {
			n.Removed[member] = note(c)
		}
	}
	n.Writers = writers.names
	return beside(wire.Header{HeaderKind: {string(KindOrderedSet)}}, HeaderStamps, readable(members), n)
}

func decodeOrderedSet(e Entry) (*OrderedSet, error) {
	var n rankNotes
	body, err := readBeside(e, HeaderStamps, &n)
	if err != nil {
		return nil, damaged(KindOrderedSet, err.Error())
	}
	var members []scored
	if err := json.Unmarshal(body, &members); err != nil {
		return nil, damaged(KindOrderedSet, err.Error())
	}
	if members == nil || len(members) != len(n.Stamps) {
		return nil, damaged(KindOrderedSet, "the body isn't an array of as many members as have stamps")
	}
	s := NewOrderedSet()
	for i, m := range members {
		ts, writer, err := n.Stamps[i].read(n.Writers)
		if err == nil {
			err = s.Put(m.Member, m.Score, ts, writer)
		}
		if err != nil {
			return nil, damaged(KindOrderedSet, err.Error())
		}
	}
	for member, stamp := range n.Removed {
		ts, writer, err := stamp.read(n.Writers)
		if err == nil {
			err = s.Remove(member, ts, writer)
		}
		if err != nil {
			return nil, damaged(KindOrderedSet, err.Error())
		}
	}
	return s, nil
}
