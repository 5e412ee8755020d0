package latticetest

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/cloudburst-nats/cloudburst/kvlattice"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// A faulty set breaks one law on purpose.
type faulty struct {
	*kvlattice.Set
	merge    func(into, from *kvlattice.Set) (bool, error)
	clone    func(*kvlattice.Set) *kvlattice.Set
	encode   func(*kvlattice.Set) (wire.Header, []byte)
	takesAll bool
}

func (f faulty) Merge(other kvlattice.Lattice) (bool, error) {
	from, ok := other.(*kvlattice.Set) // once decoded
	if o, bad := other.(faulty); bad {
		from, ok = o.Set, true
	}
	switch {
	case !ok && f.takesAll:
		return true, nil
	case !ok:
		return f.Set.Merge(other)
	case f.merge != nil:
		return f.merge(f.Set, from)
	}
	return f.Set.Merge(from)
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
		if _, err := s.Add([]byte{'0' + byte(random.IntN(6))}); err != nil {
			panic(err)
		}
	}
	return s
}

// faults returns for each law a set that breaks it.
func faults() map[string]faulty {
	return map[string]faulty{
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
		"idempotent": {merge: func(into, from *kvlattice.Set) (bool, error) {
			return into.Add(fmt.Appendf(nil, "%d", 10+into.Len()+from.Len()))
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
		"refuses other kinds": {takesAll: true},
	}
}

func TestLawsFindFaults(t *testing.T) {
	t.Parallel()
	faults := faults()
	for _, l := range laws() {
		fault, ok := faults[l.name]
		if !ok {
			t.Errorf("no fault for the law %q", l.name)
			continue
		}
		found := false
		for round := range uint64(200) {
			random := rand.New(rand.NewPCG(round, 0))
			a, b, c := numbers(random), numbers(random), numbers(random)
			if err := l.broken("set", a.Clone(), b.Clone(), c.Clone()); err != nil {
				t.Fatalf("the law %q fails for a sound set: %v", l.name, err)
			}
			bad := func(s *kvlattice.Set) kvlattice.Lattice { f := fault; f.Set = s; return f }
			if l.broken("set", bad(a), bad(b), bad(c)) != nil {
				found = true
			}
		}
		if !found {
			t.Errorf("the law %q didn't find its fault in 200 rounds", l.name)
		}
	}
}
