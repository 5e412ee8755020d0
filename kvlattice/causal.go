package kvlattice

import (
	"encoding/base64"
	"encoding/json"
	"slices"

	"github.com/cloudburst-nats/cloudburst/broker/wire"
)

const KindCausal Kind = "causal"

type version struct {
	Dot     Dot
	Value   wire.Value
	Deleted bool
	After   map[string]uint64
}

type Causal struct {
	clock     VClock
	versions  []version // latest first
	plain     *LWW
	plainSeen Timestamp
}

func Lift(l *LWW) *Causal { return &Causal{plain: l.Clone().(*LWW)} }

func (c *Causal) Kind() Kind { return KindCausal }

func (c *Causal) Merge(other Lattice) (bool, error) {
	if l, ok := other.(*LWW); ok {
		other = Lift(l)
	}
	o, ok := other.(*Causal)
	if !ok {
		return false, differ(c, other)
	}
	var kept []version
	changed := false
	for _, v := range c.versions {
		in := slices.ContainsFunc(o.versions, func(w version) bool { return w.Dot == v.Dot })
		if in || !o.clock.Covers(v.Dot) {
			kept = append(kept, v)
		} else {
			changed = true
		}
	}
	for _, v := range o.versions {
		in := slices.ContainsFunc(c.versions, func(w version) bool { return w.Dot == v.Dot })
		if !in && !c.clock.Covers(v.Dot) {
			kept = append(kept, v)
			changed = true
		}
	}
	c.versions = kept
	c.sort()
	before := c.clock.Clone()
	c.clock.Join(&o.clock)
	if !before.equal(&c.clock) {
		changed = true
	}
	if o.plainSeen.Compare(c.plainSeen) > 0 {
		c.plainSeen = o.plainSeen
		changed = true
	}
	if o.plain != nil {
		if c.plain == nil {
			if o.plain.ts.Compare(c.plainSeen) > 0 {
				c.plain, changed = o.plain.Clone().(*LWW), true
			}
		} else if more, _ := c.plain.Merge(o.plain); more {
			changed = true
		}
	}
	c.hide()
	return changed, nil
}

func (c *Causal) hide() {
	if c.plain != nil && c.plain.ts.Compare(c.plainSeen) <= 0 {
		c.plain = nil
	}
}

func (c *Causal) sort() {
	slices.SortFunc(c.versions, func(a, b version) int { return b.Dot.compare(a.Dot) })
}

func (c *Causal) Clone() Lattice {
	d := &Causal{clock: *c.clock.Clone(), versions: slices.Clone(c.versions), plainSeen: c.plainSeen}
	if c.plain != nil {
		d.plain = c.plain.Clone().(*LWW)
	}
	return d
}

func (c *Causal) Context() *Causal {
	d := &Causal{clock: *c.clock.Clone(), plainSeen: c.plainSeen}
	if c.plain != nil {
		d.plainSeen = later(d.plainSeen, c.plain.ts)
	}
	return d
}

func (c *Causal) live() []version {
	all := slices.Clone(c.versions)
	if c.plain != nil {
		all = append(all, version{Dot: Dot{c.plain.writer, c.plain.ts}, Value: c.plain.value, Deleted: c.plain.deleted})
	}
	all = slices.DeleteFunc(all, func(v version) bool { return v.Deleted })
	slices.SortFunc(all, func(a, b version) int { return b.Dot.compare(a.Dot) })
	return all
}

func (c *Causal) Deleted() bool { return len(c.live()) == 0 }
func (c *Causal) Value() wire.Value {
	if l := c.live(); len(l) > 0 {
		return l[0].Value
	}
	return wire.Value{}
}
func (c *Causal) Versions() []wire.Value {
	var out []wire.Value
	for _, v := range c.live() {
		out = append(out, v.Value)
	}
	return out
}
func (c *Causal) Latest() Timestamp {
	t := later(c.clock.floor, c.plainSeen)
	for _, at := range c.clock.last {
		t = later(t, at)
	}
	if c.plain != nil {
		t = later(t, c.plain.ts)
	}
	return t
}
func (c *Causal) After() map[string]uint64 {
	var after map[string]uint64
	for _, v := range c.versions {
		for ns, r := range v.After {
			if after == nil {
				after = make(map[string]uint64)
			}
			after[ns] = max(after[ns], r)
		}
	}
	return after
}
func (c *Causal) Size() int { return 200 + 60*c.clock.Len() + 150*len(c.versions) }

type causalDoc struct {
	Versions  []version
	Plain     *plainDoc `json:",omitempty"`
	PlainSeen Timestamp
}
type plainDoc struct {
	Value   wire.Value
	TS      Timestamp
	Writer  string
	Deleted bool
}

func (c *Causal) Encode() (wire.Header, []byte) {
	doc := causalDoc{Versions: c.versions, PlainSeen: c.plainSeen}
	if c.plain != nil {
		doc.Plain = &plainDoc{c.plain.value, c.plain.ts, c.plain.writer, c.plain.deleted}
	}
	b, _ := json.Marshal(doc)
	return wire.Header{HeaderKind: {string(KindCausal)}, "Cb-Clock": {c.clock.String()}, "Cb-Versions": {base64.StdEncoding.EncodeToString(b)}}, c.Value().Body
}

func decodeCausal(e Entry) (*Causal, error) {
	cl, err := parseVClock(wire.First(e.Header, "Cb-Clock"))
	if err != nil {
		return nil, damaged(KindCausal, err.Error())
	}
	raw, err := base64.StdEncoding.DecodeString(wire.First(e.Header, "Cb-Versions"))
	if err != nil {
		return nil, damaged(KindCausal, err.Error())
	}
	var doc causalDoc
	if err := json.Unmarshal(raw, &doc); err != nil {
		return nil, damaged(KindCausal, err.Error())
	}
	c := &Causal{clock: *cl, versions: doc.Versions, plainSeen: doc.PlainSeen}
	if doc.Plain != nil {
		c.plain = &LWW{doc.Plain.Value, doc.Plain.TS, doc.Plain.Writer, doc.Plain.Deleted}
	}
	return c, nil
}

type overwrite struct {
	seen    *Causal
	value   wire.Value
	deleted bool
	after   map[string]uint64
}
type Overwrites struct{ ops []overwrite }

func newOverwrites(seen Lattice, o overwrite) *Overwrites {
	switch l := seen.(type) {
	case *LWW:
		o.seen = &Causal{plainSeen: l.ts}
	case *Causal:
		o.seen = l.Context()
	}
	return &Overwrites{[]overwrite{o}}
}
func NewOverwrite(seen Lattice, v wire.Value, after map[string]uint64) *Overwrites {
	return newOverwrites(seen, overwrite{value: v, after: after})
}
func NewCausalDelete(seen Lattice, after map[string]uint64) *Overwrites {
	return newOverwrites(seen, overwrite{deleted: true, after: after})
}
func (o *Overwrites) Kind() Kind { return KindCausal }
func (o *Overwrites) Merge(other Lattice) (bool, error) {
	p, ok := other.(*Overwrites)
	if !ok {
		return false, differ(o, other)
	}
	o.ops = append(o.ops, p.ops...)
	return true, nil
}
func (o *Overwrites) Clone() Lattice                { return &Overwrites{slices.Clone(o.ops)} }
func (o *Overwrites) Value() wire.Value             { return o.ops[len(o.ops)-1].value }
func (o *Overwrites) Encode() (wire.Header, []byte) { panic("overwrites are never stored") }
func (o *Overwrites) Size() int                     { return 100 * len(o.ops) }
func (o *Overwrites) Apply(onto *Causal, writer string, stamp func(Timestamp) Timestamp) *Causal {
	c := new(Causal)
	if onto != nil {
		c = onto.Clone().(*Causal)
	}
	for _, op := range o.ops {
		if op.seen != nil {
			c.versions = slices.DeleteFunc(c.versions, func(v version) bool { return op.seen.clock.Covers(v.Dot) })
			c.plainSeen = later(c.plainSeen, op.seen.plainSeen)
			c.clock.Join(&op.seen.clock)
			c.hide()
		}
		d := Dot{writer, stamp(c.Latest())}
		c.versions = append(c.versions, version{d, op.value, op.deleted, op.after})
		c.clock.Add(d)
		c.sort()
	}
	return c
}
