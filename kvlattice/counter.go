package kvlattice

import (
	"cmp"
	"maps"
	"math"
	"strconv"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// Counter is an up/down counter that counts every operation exactly once,
// however often the call that brought it is run and its state is written.
//
// Operations come from sources. A source numbers its operations upwards from
// 1: it is one incarnation of a calls stream, which numbers its calls, or it is
// Programs, whose writes the counter numbers itself. Earlier versions had a
// source for each incarnation of a client. Of each source the counter
// keeps the total of everything up to a watermark, and above the watermark
// each operation by itself:
//
//	source   settled  total   recent
//	calls@1  1200     57      1203 (node "a", attempt 1): +2, 1207 (node "", attempt 2): -1
//	client7  3        9
//
// Operations are keyed by their number and node, so a call that runs again
// replaces what it did before. Settle moves operations into the total.
type Counter struct {
	sources map[string]*component
}

// A component is what one source has brought. Two honest components with the
// same watermark have the same total.
type component struct {
	settled uint64 // the watermark
	total   int64  // of everything at or below the watermark
	recent  map[opKey]op
}

type opKey struct {
	seq  uint64 // above the watermark
	node string
}

type op struct {
	attempt uint32
	delta   int64
}

// NewCounter returns a counter at 0.
func NewCounter() *Counter {
	return &Counter{sources: make(map[string]*component)}
}

// AddOp records that the node's call number seq (from 1) of the source brings
// delta, as its attempt-th run (1 is the first) has it. It replaces what
// earlier runs of the same call and node brought, and does nothing if a later
// run is known already or the call is settled. A run brings one delta: adding
// another one replaces it here, but where the first was already published the
// larger of the two stays, so a run must sum up before it publishes.
func (c *Counter) AddOp(source, node string, seq uint64, attempt int, delta int64) {
	if seq == 0 {
		return
	}
	own := c.component(source)
	key, n := opKey{seq, node}, uint32(min(max(attempt, 0), math.MaxUint32))
	if seq > own.settled && n >= own.recent[key].attempt {
		own.set(key, op{n, delta})
	}
}

// AddTotal records that the n-th operation (from 1) of a source that counts
// for itself has brought its total to total. An older n does nothing.
func (c *Counter) AddTotal(source string, n uint64, total int64) {
	if n > 0 {
		c.component(source).raise(n, total)
	}
}

// Settle folds what the source's operations numbered up to w brought into the
// total, and ignores any of them that comes later.
//
// It is right only on the join of a snapshot of all slots that was taken after
// w was known to be settled, and only if the result becomes the base: w is the
// ack floor of the calls' consumer, and a call is acknowledged after what it
// wrote was stored. So the snapshot holds every operation up to w, none of
// those calls is run again, and what a stalled worker may still write for one
// of them is ignored by every reader. No time window is needed. What a replica
// that lags answers is no such snapshot. If another base was faster, throw the
// settled copy away.
func (c *Counter) Settle(source string, w uint64) {
	own, ok := c.sources[source]
	if !ok || w <= own.settled {
		return
	}
	total := own.total
	for key, o := range own.recent {
		if key.seq <= w {
			total += o.delta
		}
	}
	own.raise(w, total)
}

// Total returns the count. Past the range of an int64 it wraps around.
func (c *Counter) Total() int64 {
	var sum int64
	for _, own := range c.sources {
		sum += own.total
		for _, o := range own.recent {
			sum += o.delta
		}
	}
	return sum
}

// Unsettled returns how many operations each source has above its watermark.
// Sources without any are left out, and Programs, which settle their own.
func (c *Counter) Unsettled() map[string]int {
	n := make(map[string]int)
	for source, own := range c.sources {
		if len(own.recent) > 0 && source != Programs {
			n[source] = len(own.recent)
		}
	}
	return n
}

func (c *Counter) numbers() (told []uint64, settled uint64) {
	own, ok := c.sources[Programs]
	if !ok {
		return nil, 0
	}
	for key := range own.recent {
		told = append(told, key.seq)
	}
	return told, own.settled
}

func (c *Counter) number(name string, n uint64) Lattice {
	own, ok := c.sources[Unnumbered]
	if !ok {
		return nil
	}
	sum := int64(0)
	for _, o := range own.recent {
		sum += o.delta
	}
	d := NewCounter()
	d.AddOp(Programs, name, n, 1, sum)
	return d
}

func (c *Counter) tells(name string) bool {
	own, ok := c.sources[Programs]
	if ok {
		for key := range own.recent {
			if key.node == name {
				return true
			}
		}
	}
	return false
}

// Kind returns KindCounter.
func (c *Counter) Kind() Kind { return KindCounter }

// Merge keeps for each source the higher watermark with its total, and of the
// operations above it the latest run of each.
func (c *Counter) Merge(other Lattice) (changed bool, err error) {
	o, ok := other.(*Counter)
	if !ok {
		return false, differ(c, other)
	}
	for source, theirs := range o.sources {
		own, ok := c.sources[source]
		if !ok {
			c.sources[source] = theirs.clone()
			changed = true
		} else if own.join(theirs) {
			changed = true
		}
	}
	return changed, nil
}

// Clone returns an independent copy.
func (c *Counter) Clone() Lattice {
	d := &Counter{sources: make(map[string]*component, len(c.sources))}
	for source, own := range c.sources {
		d.sources[source] = own.clone()
	}
	return d
}

// Value returns the total as a JSON number.
func (c *Counter) Value() wire.Value {
	return wire.Value{Body: strconv.AppendInt(nil, c.Total(), 10)}
}

// Size returns roughly how many bytes of memory the counter takes.
func (c *Counter) Size() int {
	const fixed, perSource, perOp = 64, 160, 64 // with the maps' own overhead
	n := fixed
	for source, own := range c.sources {
		n += perSource + len(source) + perOp*len(own.recent)
	}
	return n
}

// component returns the source's component, an empty one if it is new.
func (c *Counter) component(source string) *component {
	own, ok := c.sources[source]
	if !ok {
		own = new(component)
		c.sources[source] = own
	}
	return own
}

func (c *component) join(o *component) (changed bool) {
	changed = c.raise(o.settled, o.total)
	for key, theirs := range o.recent {
		ours, ok := c.recent[key]
		if key.seq > c.settled && (!ok || theirs.compare(ours) > 0) {
			c.set(key, theirs)
			changed = true
		}
	}
	return changed
}

// raise moves the watermark up to w, where the total is total, and drops the
// operations that it passes. Of two totals at one watermark, which honest
// sources don't bring, the larger stays.
func (c *component) raise(w uint64, total int64) (changed bool) {
	if cmp.Or(cmp.Compare(w, c.settled), cmp.Compare(total, c.total)) <= 0 {
		return false
	}
	if w > c.settled {
		maps.DeleteFunc(c.recent, func(key opKey, _ op) bool { return key.seq <= w })
	}
	c.settled, c.total = w, total
	return true
}

func (c *component) set(key opKey, o op) {
	if c.recent == nil {
		c.recent = make(map[opKey]op)
	}
	c.recent[key] = o
}

func (c *component) clone() *component {
	return &component{settled: c.settled, total: c.total, recent: maps.Clone(c.recent)}
}

func (o op) compare(p op) int {
	return cmp.Or(cmp.Compare(o.attempt, p.attempt), cmp.Compare(o.delta, p.delta))
}
