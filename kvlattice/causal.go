package kvlattice

import (
	"bytes"
	"cmp"
	"slices"
	"strings"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// Causal is a register that keeps concurrent writes: of two writes the one stays
// that has seen the other, and if neither has, both do (the paper's causal
// lattice). Its vector clock says which writes are in it, or were replaced by one
// that is.
//
// A plain last-writer-wins register under the same key is one more version, until
// a causal write that has seen it replaces it.
type Causal struct {
	clock    VClock
	versions []version // the latest first; the clock covers all their dots
	// plain is the last-writer-wins register that met this one; nil if there is
	// none, or a write has replaced it: those up to plainSeen are.
	plain     *LWW
	plainSeen Timestamp
	replaced  replaced // what calls have replaced lately, see repeat.go
}

// A version is one write that no other has replaced.
type version struct {
	dot     Dot
	value   wire.Value
	deleted bool
	// after is what a reader of this version must see of other namespaces.
	after map[string]uint64
	call  string // names the write, however often its call runs; empty: no call made it
}

// Lift returns a causal register of a plain one.
func Lift(l *LWW) *Causal {
	plain := *l
	plain.value.Type, plain.writer = textType(l.value), strings.ToValidUTF8(l.writer, "?")
	return &Causal{plain: &plain}
}

// Kind returns KindCausal.
func (c *Causal) Kind() Kind { return KindCausal }

// Merge keeps the versions that both have, and those that the other has not seen.
// A plain register is another kind here: Lift it, as Join does.
func (c *Causal) Merge(other Lattice) (changed bool, err error) {
	o, ok := other.(*Causal)
	if !ok {
		return false, differ(c, other)
	}
	kept := make([]version, 0, len(c.versions)+len(o.versions))
	for _, v := range c.versions {
		theirs := o.find(v.dot)
		switch {
		case theirs == nil && o.clock.Covers(v.dot):
			changed = true
			continue
		case theirs != nil && theirs.compare(&v) > 0: // which honest writers don't bring
			v, changed = *theirs, true
		}
		kept = append(kept, v)
	}
	for _, v := range o.versions {
		if c.find(v.dot) == nil && !c.clock.Covers(v.dot) {
			kept = append(kept, v)
			changed = true
		}
	}
	c.versions = kept
	c.sort()
	if c.clock.Join(&o.clock) {
		changed = true
	}
	if c.replaced.join(o.replaced) {
		changed = true
	}
	return c.mergePlain(o) || changed, nil
}

func (c *Causal) mergePlain(o *Causal) (changed bool) {
	before, seen := c.plain, c.plainSeen
	c.plainSeen = later(c.plainSeen, o.plainSeen)
	if o.plain != nil && (c.plain == nil || c.plain.compare(o.plain) < 0) {
		plain := *o.plain
		c.plain = &plain
	}
	c.hidePlain()
	return c.plainSeen != seen || c.plain != before
}

// hidePlain forgets a plain register that was replaced.
func (c *Causal) hidePlain() {
	if c.plain != nil && c.plain.ts.Compare(c.plainSeen) <= 0 {
		c.plain = nil
	}
}

func (c *Causal) find(d Dot) *version {
	for i := range c.versions {
		if c.versions[i].dot == d {
			return &c.versions[i]
		}
	}
	return nil
}

func (c *Causal) sort() {
	slices.SortFunc(c.versions, func(a, b version) int { return b.dot.compare(a.dot) })
}

// compare orders what one dot may stand for, if a writer used it twice.
func (v *version) compare(o *version) int {
	if v.deleted != o.deleted {
		if v.deleted {
			return 1
		}
		return -1
	}
	return cmp.Or(bytes.Compare(v.value.Body, o.value.Body), strings.Compare(v.value.Type, o.value.Type),
		strings.Compare(afterText(v.after), afterText(o.after)), strings.Compare(v.call, o.call))
}

// Clone returns a copy that shares the bodies.
func (c *Causal) Clone() Lattice {
	d := &Causal{clock: c.clock.Clone(), versions: slices.Clone(c.versions), plainSeen: c.plainSeen, replaced: c.replaced}
	if c.plain != nil {
		plain := *c.plain
		d.plain = &plain
	}
	return d
}

// Context returns what is known here of the key's writes, without their values:
// what a write replaces that has seen this.
func (c *Causal) Context() *Causal {
	d := &Causal{clock: c.clock.Clone(), plainSeen: c.plainSeen}
	if c.plain != nil {
		d.plainSeen = later(d.plainSeen, c.plain.ts)
	}
	return d
}

// live returns the versions with a value, the latest first. Of a call that ran twice it
// is the later one, and none if another call has replaced one.
func (c *Causal) live() []version {
	live := make([]version, 0, len(c.versions)+1)
	for i, v := range c.versions {
		if !v.deleted && !wrote(c.versions[:i], v.call) && !c.replaced.over(v.call) {
			live = append(live, v)
		}
	}
	if c.plain != nil && !c.plain.deleted {
		v := version{dot: Dot{c.plain.writer, c.plain.ts}, value: c.plain.value}
		i, _ := slices.BinarySearchFunc(live, v, func(a, b version) int { return b.dot.compare(a.dot) })
		live = slices.Insert(live, i, v)
	}
	return live
}

// Value returns the latest value that no other has replaced; empty if there is
// none. A value stands against a deletion that hasn't seen it.
func (c *Causal) Value() wire.Value {
	if live := c.live(); len(live) > 0 {
		return live[0].value
	}
	return wire.Value{}
}

// Versions returns all values that no other has replaced, the latest first.
func (c *Causal) Versions() []wire.Value {
	live := c.live()
	values := make([]wire.Value, len(live))
	for i, v := range live {
		values[i] = v.value
	}
	return values
}

// Deleted says whether there is no value.
func (c *Causal) Deleted() bool { return len(c.live()) == 0 }

// Latest returns the latest time of any write that is known here.
func (c *Causal) Latest() Timestamp {
	latest := later(c.clock.Latest(), c.plainSeen)
	if c.plain != nil {
		latest = later(latest, c.plain.ts)
	}
	return latest
}

// After returns what a reader of the versions must see of other namespaces: of
// each, a revision. It is nil if that is nothing.
func (c *Causal) After() map[string]uint64 {
	var after map[string]uint64
	for _, v := range c.versions {
		for ns, rev := range v.after {
			if after == nil {
				after = make(map[string]uint64, len(v.after))
			}
			after[ns] = max(after[ns], rev)
		}
	}
	return after
}

// Clock returns a copy of the vector clock.
func (c *Causal) Clock() VClock { return c.clock.Clone() }

// Size returns roughly how many bytes of memory the register takes.
func (c *Causal) Size() int {
	const fixed, perWriter, perVersion, perAfter = 160, 72, 120, 48 // with the maps' own overhead
	n := fixed
	for writer := range c.clock.last {
		n += perWriter + len(writer)
	}
	for _, v := range c.versions {
		n += perVersion + len(v.value.Body) + len(v.dot.Writer) + perAfter*len(v.after)
	}
	if c.plain != nil {
		n += c.plain.Size()
	}
	return n + c.replaced.size()
}

// moment is the source under which Unsettled and Settle tell of a clock: its
// numbers are times, in nanoseconds since 1970.
const moment = "\x00time"

// wideClock is how many writers a clock may remember before those are folded that
// are gone.
const wideClock = 16

// Unsettled counts the writers that the clock remembers, if they are more than
// need be.
func (c *Causal) Unsettled() map[string]int {
	if n := c.clock.Len(); n > wideClock {
		return map[string]int{moment: n}
	}
	return nil
}

// Settle takes all dots up to a moment for known, and forgets the writers that
// have none later. It is right only on the join of a snapshot that was taken
// after all dots up to then that will ever be acknowledged were stored, and only
// if the result becomes the base. If another base was faster, throw it away.
func (c *Causal) Settle(source string, upTo uint64) {
	if source == moment {
		c.clock.Raise(Timestamp{Wall: int64(upTo &^ (1 << 63))})
	}
}

var _ settled = (*Causal)(nil)
