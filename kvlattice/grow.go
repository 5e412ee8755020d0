package kvlattice

import (
	"fmt"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// Grow is a Counter that only counts up: what would count down is refused. It
// merges with its own kind only. A call that runs again replaces what it counted
// before, as in a Counter, so the total may still sink by what a run that
// failed had counted too much. Past the range of an int64 it wraps around.
type Grow struct{ Counter }

// NewGrow returns a grow-only counter at 0.
func NewGrow() *Grow { return &Grow{*NewCounter()} }

// AddOp is Counter.AddOp. A delta below 0 is an error of wire.KindBadArgument
// and counts nothing.
func (g *Grow) AddOp(source, node string, seq uint64, attempt int, delta int64) error {
	if delta < 0 {
		return badArgument(fmt.Sprintf("a counter that only grows can't count %d", delta))
	}
	g.Counter.AddOp(source, node, seq, attempt, delta)
	return nil
}

// AddTotal is Counter.AddTotal. A total below 0 is an error of
// wire.KindBadArgument and counts nothing.
func (g *Grow) AddTotal(source string, n uint64, total int64) error {
	if total < 0 {
		return badArgument(fmt.Sprintf("a counter that only grows can't stand at %d", total))
	}
	g.Counter.AddTotal(source, n, total)
	return nil
}

// Kind returns KindGrow.
func (g *Grow) Kind() Kind { return KindGrow }

// Merge is Counter.Merge, of two that only grow.
func (g *Grow) Merge(other Lattice) (changed bool, err error) {
	o, ok := other.(*Grow)
	if !ok {
		return false, differ(g, other)
	}
	return g.Counter.Merge(&o.Counter)
}

// Clone returns an independent copy.
func (g *Grow) Clone() Lattice {
	c := NewGrow()
	for source, own := range g.sources {
		c.sources[source] = own.clone()
	}
	return c
}

func (g *Grow) number(name string, n uint64) Lattice {
	if c, ok := g.Counter.number(name, n).(*Counter); ok {
		return &Grow{*c}
	}
	return nil
}

// Encode is Counter.Encode with another kind.
func (g *Grow) Encode() (wire.Header, []byte) {
	h, body := g.Counter.Encode()
	h[HeaderKind] = []string{string(KindGrow)}
	return h, body
}

func decodeGrow(e Entry) (*Grow, error) {
	c, err := decodeCounter(e)
	if err != nil {
		return nil, damaged(KindGrow, err.Error())
	}
	for source, own := range c.sources {
		for key, o := range own.recent {
			if o.delta < 0 {
				return nil, damaged(KindGrow, fmt.Sprintf("operation %d of %q counts %d", key.seq, source, o.delta))
			}
		}
	}
	return &Grow{*c}, nil
}
