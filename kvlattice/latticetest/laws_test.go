package latticetest

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cloudburst-nats/cloudburst/broker/wire"
	"github.com/cloudburst-nats/cloudburst/kvlattice"
)

// A faulty set breaks one law on purpose.
type faulty struct {
	*kvlattice.Set
	merge  func(into, from *kvlattice.Set) (bool, error)
	clone  func(*kvlattice.Set) *kvlattice.Set
	encode func(*kvlattice.Set) (wire.Header, []byte)
}

func (f faulty) Merge(other kvlattice.Lattice) (bool, error) {
	o, ok := other.(faulty)
	if !ok {
		if s, ok := other.(*kvlattice.Set); ok { // once decoded
			return f.Set.Merge(s)
		}
		return f.Set.Merge(other)
	}
	if f.merge != nil {
		return f.merge(f.Set, o.Set)
	}
	return f.Set.Merge(o.Set)
}

func (f faulty) Clone() kvlattice.Lattice {
	if f.clone != nil {
		f.Set = f.clone(f.Set)
	} else {
		f.Set = f.Set.Clone().(*kvlattice.Set)
	}
	return f
}

func (f faulty) Encode() (wire.Header, []byte) {
	if f.encode != nil {
		return f.encode(f.Set)
	}
	return f.Set.Encode()
}

func numbers(random *rand.Rand) *kvlattice.Set {
	s := kvlattice.NewSet()
	for range random.IntN(4) {
		s.Merge(kvlattice.NewSet([]byte{'0' + byte(random.IntN(6))}))
	}
	return s
}

// TestLawsFindFaults breaks a set in each way that a law is there to find.
func TestLawsFindFaults(t *testing.T) {
	t.Parallel()
	faults := map[string]faulty{
		"commutative": {merge: func(into, from *kvlattice.Set) (bool, error) {
			if into.Len() > 0 {
				return false, nil // the first one wins
			}
			return into.Merge(from)
		}},
		"associative": {merge: func(into, from *kvlattice.Set) (bool, error) {
			if into.Len()+from.Len() > 4 {
				return false, nil
			}
			return into.Merge(from)
		}},
		"idempotent": {merge: func(into, _ *kvlattice.Set) (bool, error) {
			return into.Add([]byte("1" + string(slices.Collect(into.All())[into.Len()-1])))
		}},
		"tells changes": {merge: func(into, from *kvlattice.Set) (bool, error) {
			_, err := into.Merge(from)
			return true, err
		}},
		"leaves its input alone": {merge: func(into, from *kvlattice.Set) (bool, error) {
			if _, err := from.Merge(into); err != nil {
				return false, err
			}
			return into.Merge(from)
		}},
		"clones are independent": {clone: func(s *kvlattice.Set) *kvlattice.Set { return s }},
		"survives encoding": {encode: func(s *kvlattice.Set) (wire.Header, []byte) {
			h, body := s.Encode()
			h["Cb-Note"] = []string{"two\nlines"}
			return h, body
		}},
		"refuses other kinds": {merge: nil},
	}
	for _, l := range laws() {
		fault, ok := faults[l.name]
		if !ok {
			t.Errorf("no fault for the law %q", l.name)
			continue
		}
		found, falseAlarm := 0, error(nil)
		for round := range uint64(200) {
			random := rand.New(rand.NewPCG(round, 0))
			a, b, c := numbers(random), numbers(random), numbers(random)
			if err := l.broken("set", a.Clone(), b.Clone(), c.Clone()); err != nil {
				falseAlarm = err
			}
			if l.name == "idempotent" && a.Len() == 0 {
				continue // that fault needs an element
			}
			kind := "set"
			if l.name == "refuses other kinds" {
				kind = "counter" // so a set counts as foreign, and is merged
			}
			bad := func(s *kvlattice.Set) kvlattice.Lattice { f := fault; f.Set = s; return f }
			if l.broken(kind, bad(a), bad(b), bad(c)) != nil {
				found++
			}
		}
		if falseAlarm != nil {
			t.Errorf("the law %q fails for a sound set: %v", l.name, falseAlarm)
		}
		if found == 0 {
			t.Errorf("the law %q didn't find its fault in 200 rounds", l.name)
		}
	}
}
