package kvlattice

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// What programs outside of functions count, and what they add to observed-remove sets, has
// no call whose number names it. The key numbers it: all programs share the source Programs,
// and each write gets the next number when it replaces the base that it has read. So
//
//   - a write that was stored and whose acknowledgement was lost is found by its name in the
//     next base, and isn't repeated;
//   - a write that was delayed, for however long, is refused: the base isn't the one that it
//     would replace. It is stored before all later numbers, or never;
//   - so every write settles all numbers but the latest few, and a value holds few of them,
//     however many programs there were.
//
// Nothing of this is ever in a slot, and no clock decides anything.
const (
	// Programs is the source of what programs count and add.
	Programs = "programs"
	// Unnumbered is the source of what has no number yet, in what is merged into a Store. Its
	// sequences only have to differ from each other.
	Unnumbered = ""

	// keptNumbers is how many of the latest numbers a value tells of one by one. A write whose
	// acknowledgement was lost is looked for among them.
	keptNumbers = 32
)

// numberable is a lattice that programs number operations of.
type numberable interface {
	Lattice
	// numbers returns the numbers that the value tells of one by one, in any order, and up to
	// which they are settled.
	numbers() (told []uint64, settled uint64)
	// number returns what a write of unnumbered operations brings under a name and a number;
	// nil if the receiver has none.
	number(name string, n uint64) Lattice
	// tells says whether the value tells of the write with that name.
	tells(name string) bool
	Settle(source string, upTo uint64)
}

// unnumbered says whether a delta has operations without a number.
func unnumbered(delta Lattice) bool {
	if m, ok := delta.(*Map); ok {
		return slices.ContainsFunc(slices.Collect(maps.Values(m.fields)), unnumbered)
	}
	l, ok := delta.(numberable)
	return ok && l.number("", 1) != nil
}

// An attempt is one try to store a numbered write.
type attempt struct {
	delta Lattice // numbered, and what else the write brings
	rev   uint64  // of the base to be replaced
	took  []place // the numbers that it has
}

// A place is where an attempt has a number: in a lattice of its own, or a field of a map.
type place struct {
	fields []string
	n      uint64
}

// numbered returns delta with the numbers that come next after those of held.
func numbered(delta, held Lattice, name string, now uint64, fields ...string) (Lattice, []place) {
	switch d := delta.(type) {
	case *Map:
		m, took := NewMap(), []place(nil)
		for field, l := range d.fields {
			inner, places := numbered(l, at(held, field), name, now, append(slices.Clip(fields), field)...)
			m.fields[field], took = inner, append(took, places...)
		}
		return m, took
	case numberable:
		n := max(now, 1) // a number is never given twice, not even after a base was removed by hand
		if h, ok := held.(numberable); ok {
			told, settled := h.numbers()
			n = max(n, slices.Max(append(told, settled))+1)
		}
		if l := d.number(name, n); l != nil {
			return l, []place{{fields, n}}
		}
	}
	return delta, nil
}

// at returns what a field of a map holds, nil if nothing.
func at(l Lattice, fields ...string) Lattice {
	for _, field := range fields {
		m, ok := l.(*Map)
		if !ok {
			return nil
		}
		l = m.fields[field]
	}
	return l
}

// settleNumbers settles all numbers but the latest few, wherever a write has brought one.
func settleNumbers(l Lattice, took []place) {
	for _, p := range took {
		if h, ok := at(l, p.fields...).(numberable); ok {
			told, _ := h.numbers()
			slices.Sort(told)
			if told = slices.Compact(told); len(told) > keptNumbers {
				h.Settle(Programs, told[len(told)-keptNumbers-1])
			}
		}
	}
}

// storedIn says whether held, which was read after the attempt's base had been replaced,
// tells that the attempt was stored. sure is false if it may have been, and was settled.
func (a *attempt) storedIn(held Lattice, name string) (stored, sure bool) {
	for _, p := range a.took {
		h, ok := at(held, p.fields...).(numberable)
		if !ok {
			continue
		}
		if h.tells(name) {
			return true, true
		}
		if _, settled := h.numbers(); settled < p.n {
			return false, true
		}
		return false, false
	}
	return false, true
}

// errForgotten says that a write may have been stored, and that too many came after it to tell.
var errForgotten = &wire.Error{
	Kind: wire.KindUnavailable,
	Msg:  fmt.Sprintf("the acknowledgement was lost, and %d later writes came before the value could be read again", keptNumbers),
}

// putNumbered stores a delta that has operations without numbers. The caller has the entry's
// turn.
func (s *Store) putNumbered(ctx context.Context, e *entry, delta Lattice) error {
	name := s.cfg.Writer + "." + strconv.FormatUint(s.writes.Add(1), 36)
	var doubtful *attempt // may have been stored
	for tries := 0; ; tries++ {
		held, rev, err := s.readBase(ctx, e)
		if err == nil && doubtful != nil && rev > doubtful.rev { // now it is stored, or never will be
			switch stored, sure := doubtful.storedIn(held, name); {
			case !sure:
				return inDoubt(errForgotten)
			case stored:
				return s.tookBase(e, held, rev)
			}
			doubtful = nil
		}
		if err == nil {
			a := doubtful // which replaces the base that is still there
			if a == nil {
				a = &attempt{rev: rev}
				a.delta, a.took = numbered(delta, held, name, uint64(max(s.cfg.Clock.Wall().UnixNano(), 0)))
			}
			if err = s.replace(ctx, e, held, a); err == nil || refused(err) {
				return err
			}
			if !errors.Is(err, ErrStale) {
				doubtful = a
			}
		} else if doubtful == nil {
			return err
		}
		if pause(ctx, rand.N(time.Millisecond<<min(tries, 6))) != nil {
			if doubtful != nil {
				err = inDoubt(err)
			}
			return err
		}
	}
}

func inDoubt(err error) error {
	return fmt.Errorf("it may be stored, so look before you write it again: %w", err)
}

// refused says whether a write failed so that it isn't stored, and would fail again.
func refused(err error) bool {
	switch wire.KindOf(err) { //nolint:exhaustive // of the others nobody knows
	case wire.KindBusy, wire.KindTooLarge, wire.KindLattice, wire.KindBadArgument, wire.KindBadName:
		return true
	}
	return false
}

// readBase returns what a key holds, and the revision of its base.
func (s *Store) readBase(ctx context.Context, e *entry) (held Lattice, rev uint64, err error) {
	snap, err := s.bucket.Read(ctx, e.key, 0)
	if err != nil {
		return nil, 0, err
	}
	if held, err = snap.Join(); err != nil {
		return nil, 0, err
	}
	s.observe(held)
	if snap.Base != nil {
		rev = snap.Base.Rev
	}
	return held, rev, nil
}

// replace puts a base that holds an attempt besides what the one before holds.
func (s *Store) replace(ctx context.Context, e *entry, held Lattice, a *attempt) error {
	joined := a.delta.Clone()
	switch {
	case held == nil:
	case joinable(held, joined):
		var err error
		if joined, _, err = Join(held.Clone(), joined); err != nil {
			return err
		}
	case !deleted(held):
		return differ(held, joined)
	}
	settleNumbers(joined, a.took)
	next := new(Entry)
	next.Header, next.Body = joined.Encode()
	limited, cancel := context.WithTimeout(ctx, s.cfg.Timeout/3) // leaves time to look what became of it
	defer cancel()
	rev, err := s.bucket.PutBase(limited, e.key, *next, a.rev)
	if err != nil {
		return err
	}
	return s.tookBase(e, joined, rev)
}

// tookBase notes what the base at rev holds.
func (s *Store) tookBase(e *entry, held Lattice, rev uint64) error {
	raise(&s.stored, rev)
	s.count.bases.Add(1)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.state != nil && !joinable(e.state, held) {
		e.forgetLocked() // what is stored counts
	}
	err := e.joinLocked(held)
	e.baseRev, e.rev = max(e.baseRev, rev), max(e.rev, rev)
	s.cache.accountLocked(e)
	return err
}
