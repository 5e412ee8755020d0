package kvlattice

import (
	"maps"
	"slices"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// An overwrite is a write that waits for its dot.
type overwrite struct {
	seen    VClock // what its run was shown
	plain   Timestamp
	value   wire.Value
	deleted bool
	after   map[string]uint64
	at      Timestamp // its dot is after that
	trail   *Trail    // of its run; nil for none
	call    string    // as version.call
}

// Overwrites are writes of a causal register that wait to be published. A dot is
// only given then, in the key's turn: two runs of one worker may write at once,
// and neither has seen the other's write. They are a Lattice so that they can be
// handed to Store.Merge, and are never stored as they are.
type Overwrites struct{ ops []overwrite }

// NewOverwrite returns the write of a value that replaces what was seen of the
// key: a register, or nil for nothing. It keeps v.Body and after.
func NewOverwrite(seen Lattice, v wire.Value, after map[string]uint64) *Overwrites {
	v.Type = textType(v)
	return newOverwrites(seen, overwrite{value: v, after: after})
}

// NewCausalDelete returns the deletion of what was seen.
func NewCausalDelete(seen Lattice, after map[string]uint64) *Overwrites {
	return newOverwrites(seen, overwrite{deleted: true, after: after})
}

func newOverwrites(seen Lattice, o overwrite) *Overwrites {
	switch l := seen.(type) {
	case *LWW:
		o.plain = l.ts
	case *Causal:
		context := l.Context()
		o.seen, o.plain = context.clock, context.plainSeen
	}
	return &Overwrites{[]overwrite{o}}
}

// By has a write that was just made get its dot after a time, and replace what the
// run's earlier writes of the key left, which the trail knows. Call names the write: an
// execution that repeats the call must give the same name. Empty is no name.
func (o *Overwrites) By(call string, trail *Trail, after Timestamp) *Overwrites {
	last := &o.ops[len(o.ops)-1]
	last.at, last.trail = after, trail
	if checkWriter(call) == nil { // else no header holds it
		last.call = call
	}
	return o
}

// Apply returns what the register holds after the writes; onto is what it holds
// before, nil if nothing. Their dots are writer's, at times that stamp returns:
// each is asked to be after all that is known. A write that the register has, or had
// until another replaced it, changes nothing.
func (o *Overwrites) Apply(onto *Causal, writer string, stamp func(after Timestamp) Timestamp) *Causal {
	c := new(Causal)
	if onto != nil {
		c, _ = onto.Clone().(*Causal)
	}
	for _, op := range o.ops {
		if c.repeats(&op) {
			continue
		}
		v := version{value: op.value, deleted: op.deleted, after: maps.Clone(op.after), call: op.call}
		v.dot = Dot{writer, stamp(later(c.Latest(), op.at))}
		c.versions = slices.DeleteFunc(c.versions, func(old version) bool {
			gone := op.seen.Covers(old.dot) || op.trail.has(old.dot) || old.call != "" && old.call == op.call
			if gone {
				c.replaced.add(old.call, op.call)
			}
			return gone
		})
		c.plainSeen = later(c.plainSeen, op.plain)
		c.hidePlain()
		c.clock.Join(&op.seen)
		op.trail.add(v.dot)
		c.clock.Add(v.dot)
		c.versions = append(c.versions, v)
		c.sort()
	}
	return c
}

// Kind returns KindCausal.
func (o *Overwrites) Kind() Kind { return KindCausal }

// Merge adds the other's writes to the receiver's.
func (o *Overwrites) Merge(other Lattice) (changed bool, err error) {
	more, ok := other.(*Overwrites)
	if !ok {
		return false, differ(o, other)
	}
	o.ops = append(o.ops, more.ops...)
	return len(more.ops) > 0, nil
}

// Clone returns a copy that can be added to.
func (o *Overwrites) Clone() Lattice { return &Overwrites{slices.Clone(o.ops)} }

// Value returns the value that is written last.
func (o *Overwrites) Value() wire.Value { return o.ops[len(o.ops)-1].value }

// Encode panics: overwrites are never stored, but what Apply makes of them.
func (o *Overwrites) Encode() (wire.Header, []byte) {
	panic("kvlattice: overwrites are applied before they are stored")
}

// Size returns roughly how many bytes of memory the writes take.
func (o *Overwrites) Size() int {
	n := 0
	for _, op := range o.ops {
		n += 200 + len(op.value.Body)
	}
	return n
}
