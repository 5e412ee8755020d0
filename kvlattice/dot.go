package kvlattice

import (
	"fmt"
	"time"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// dot makes of overwrites what the key holds after them, under dots of ours.
// Whoever calls it has the key's turn, so each of our dots is published with all
// that came before it.
func (s *Store) dot(e *entry, ops *Overwrites, stamp func(after Timestamp) Timestamp) (Lattice, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var onto *Causal
	for _, known := range []Lattice{e.state, e.own.mine} {
		switch l := known.(type) {
		case nil:
			continue
		case *Causal:
			known = l.Clone()
		case *LWW:
			known = Lift(l)
		default:
			return nil, differ(known, ops)
		}
		if onto == nil {
			onto, _ = known.(*Causal)
		} else if _, err := onto.Merge(known); err != nil {
			return nil, err
		}
	}
	return ops.Apply(onto, s.cfg.Writer, stamp), nil
}

// How long a dot may be on its way, and after how long a base says that all dots
// of a time are in it: a clock's entry for a writer that is gone lasts as long.
// Writers' clocks may differ by less than foldAfter - flightAtMost.
const (
	flightAtMost = 30 * time.Second
	foldAfter    = 2 * time.Minute
)

// late fails a write that was acknowledged too long after it was given its dots,
// as when the process was stopped: another's base may cover them by then.
func late(began time.Time, err *error) {
	if took := time.Since(began); *err == nil && took > flightAtMost {
		*err = &wire.Error{Kind: wire.KindUnavailable, Msg: fmt.Sprintf("acknowledged after %v, %v at most: write again", took.Round(time.Second), flightAtMost)}
	}
}

func isCausal(l Lattice) bool { return l.Kind() == KindCausal }

func isOverwrites(l Lattice) bool {
	_, ok := l.(*Overwrites)
	return ok
}
