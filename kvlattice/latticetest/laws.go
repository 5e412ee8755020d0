// Package latticetest holds what every lattice and every bucket is tested
// with: the laws of merging, and a bucket in memory that fails on demand.
package latticetest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/cloudburst-nats/cloudburst/kvlattice"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// Laws checks the laws of a lattice on a thousand random triples from gen,
// which must return lattices of the kind that often have something in common.
// A failure prints its seed; LATTICE_SEED in the environment repeats it.
func Laws(t *testing.T, kind string, gen func(*rand.Rand) kvlattice.Lattice) {
	t.Helper()
	seed, rounds := rand.Uint64(), 1000
	if again, err := strconv.ParseUint(os.Getenv("LATTICE_SEED"), 10, 64); err == nil {
		seed, rounds = again, 1
	}
	for _, l := range laws() {
		t.Run(l.name, func(t *testing.T) {
			for round := range uint64(rounds) {
				random := rand.New(rand.NewPCG(seed+round, 0))
				if err := l.broken(kind, gen(random), gen(random), gen(random)); err != nil {
					t.Fatalf("LATTICE_SEED=%d: %v", seed+round, err)
				}
			}
		})
	}
}

type law struct {
	name string
	// broken returns how the law doesn't hold for a, b and c, which are its own.
	broken func(kind string, a, b, c kvlattice.Lattice) error
}

func laws() []law {
	return []law{
		{"commutative", commutative},
		{"associative", associative},
		{"idempotent", idempotent},
		{"tells changes", tellsChanges},
		{"leaves its input alone", leavesInput},
		{"clones are independent", clonesIndependently},
		{"survives encoding", survivesEncoding},
		{"refuses other kinds", refusesOthers},
	}
}

func commutative(_ string, a, b, _ kvlattice.Lattice) error {
	ab, err := join(a, b)
	if err != nil {
		return err
	}
	ba, err := join(b, a)
	if err != nil {
		return err
	}
	return same("a+b against b+a", ab, ba)
}

func associative(_ string, a, b, c kvlattice.Lattice) error {
	ab, err := join(a, b)
	if err != nil {
		return err
	}
	left, err := join(ab, c)
	if err != nil {
		return err
	}
	bc, err := join(b, c)
	if err != nil {
		return err
	}
	right, err := join(a, bc)
	if err != nil {
		return err
	}
	return same("(a+b)+c against a+(b+c)", left, right)
}

func idempotent(_ string, a, b, _ kvlattice.Lattice) error {
	ab, err := join(a, b)
	if err != nil {
		return err
	}
	for _, part := range []kvlattice.Lattice{a, b, ab, ab.Clone()} {
		again, err := join(ab, part)
		if err != nil {
			return err
		}
		if err := same("a+b against itself with a part of it merged again", ab, again); err != nil {
			return err
		}
	}
	return nil
}

func tellsChanges(_ string, a, b, _ kvlattice.Lattice) error {
	before := show(a)
	changed, err := a.Merge(b)
	if err != nil {
		return err
	}
	if really := show(a) != before; changed != really {
		return fmt.Errorf("merge said changed=%t\nbefore %s\nmerged %s\nafter  %s", changed, before, show(b), show(a))
	}
	return nil
}

// leavesInput also merges again into what shares parts with b by then.
func leavesInput(_ string, a, b, c kvlattice.Lattice) error {
	before := show(b)
	for _, other := range []kvlattice.Lattice{b, c} {
		if _, err := a.Merge(other); err != nil {
			return err
		}
		if after := show(b); after != before {
			return fmt.Errorf("merging b changed it\nbefore %s\nafter  %s", before, after)
		}
	}
	return nil
}

func clonesIndependently(_ string, a, b, c kvlattice.Lattice) error {
	copied, before := a.Clone(), show(a)
	if err := same("a clone against its original", a, copied); err != nil {
		return err
	}
	if _, err := copied.Merge(b); err != nil {
		return err
	}
	if after := show(a); after != before {
		return fmt.Errorf("merging into a clone changed the original\nbefore %s\nafter  %s", before, after)
	}
	before = show(copied)
	if _, err := a.Merge(c); err != nil {
		return err
	}
	if after := show(copied); after != before {
		return fmt.Errorf("merging into the original changed a clone\nbefore %s\nafter  %s", before, after)
	}
	return nil
}

func survivesEncoding(kind string, a, b, _ kvlattice.Lattice) error {
	if got := string(a.Kind()); got != kind {
		return fmt.Errorf("kind is %q, want %q", got, kind)
	}
	if a.Size() <= 0 {
		return fmt.Errorf("size of %s is %d, want more than 0", show(a), a.Size())
	}
	h, body := a.Encode()
	for key, values := range h {
		for _, v := range values {
			if strings.ContainsAny(v, "\r\n") || strings.TrimSpace(v) != v {
				return fmt.Errorf("header %s: %q isn't one trimmed line", key, v)
			}
		}
	}
	back, err := kvlattice.Decode(kvlattice.Entry{Header: h, Body: body})
	if err != nil {
		return err
	}
	if err := same("decoded against encoded", back, a); err != nil {
		return err
	}
	if !reflect.DeepEqual(back.Value(), a.Value()) {
		return fmt.Errorf("value %+v, once decoded %+v", a.Value(), back.Value())
	}
	merged, err := join(a, b)
	if err != nil {
		return err
	}
	mergedBack, err := join(back, b)
	if err != nil {
		return err
	}
	return same("a+b against decoded a+b", merged, mergedBack)
}

func refusesOthers(kind string, a, _, _ kvlattice.Lattice) error {
	before := show(a)
	for _, other := range []kvlattice.Lattice{kvlattice.NewSet(), kvlattice.NewCounter(), &kvlattice.LWW{}} {
		if string(other.Kind()) == kind {
			continue
		}
		changed, err := a.Merge(other)
		if changed || !errors.Is(err, &wire.Error{Kind: wire.KindLattice}) {
			return fmt.Errorf("merging a %s: changed=%t, error %w, want false and one of %q", other.Kind(), changed, err, wire.KindLattice)
		}
	}
	if after := show(a); after != before {
		return fmt.Errorf("merging other kinds changed it\nbefore %s\nafter  %s", before, after)
	}
	return nil
}

// join returns the join of a and b, and leaves both alone.
func join(a, b kvlattice.Lattice) (kvlattice.Lattice, error) {
	j := a.Clone()
	_, err := j.Merge(b)
	return j, err
}

func same(what string, a, b kvlattice.Lattice) error {
	if x, y := show(a), show(b); x != y {
		return fmt.Errorf("%s differ:\n%s\n%s", what, x, y)
	}
	return nil
}

// show returns the encoding as text: lattices are equal if it is.
func show(l kvlattice.Lattice) string {
	h, body := l.Encode()
	return fmt.Sprintf("%q %q", h, body) // fmt sorts the keys of maps
}
