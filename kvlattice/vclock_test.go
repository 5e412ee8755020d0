package kvlattice_test

import (
	"maps"
	"math/rand/v2"
	"testing"

	"github.com/cloudburst-nats/cloudburst/kvlattice"
)

// The dots that a clock may hold here. Nobody adds one of "z": whether it is in
// a clock tells how far that clock's floor is, so that the sets of two clocks
// are equal only if the clocks are.
const lastTime = 6

func dotsUpTo(writers string, at int64) map[kvlattice.Dot]bool {
	dots := make(map[kvlattice.Dot]bool)
	for _, writer := range writers {
		for wall := range at {
			dots[kvlattice.Dot{Writer: string(writer), At: kvlattice.Timestamp{Wall: wall + 1}}] = true
		}
	}
	return dots
}

// randomClock returns a clock and, as its naive twin, the set of its dots.
func randomClock(random *rand.Rand) (*kvlattice.VClock, map[kvlattice.Dot]bool) {
	clock, set := new(kvlattice.VClock), make(map[kvlattice.Dot]bool)
	for range random.IntN(6) {
		writer, wall := string("abc"[random.IntN(3)]), 1+random.Int64N(lastTime)
		if random.IntN(4) == 0 {
			clock.Raise(kvlattice.Timestamp{Wall: wall})
			maps.Copy(set, dotsUpTo("abcz", wall))
			continue
		}
		clock.Add(kvlattice.Dot{Writer: writer, At: kvlattice.Timestamp{Wall: wall}})
		maps.Copy(set, dotsUpTo(writer, wall))
	}
	return clock, set
}

func covered(clock *kvlattice.VClock) map[kvlattice.Dot]bool {
	set := make(map[kvlattice.Dot]bool)
	for d := range dotsUpTo("abcz", lastTime) {
		if clock.Covers(d) {
			set[d] = true
		}
	}
	return set
}

// TestVClockTwin checks that a clock is the set of its dots: what it covers,
// what it includes, and what a join makes of two.
func TestVClockTwin(t *testing.T) {
	t.Parallel()
	for seed := range uint64(5000) {
		random := rand.New(rand.NewPCG(seed, 5))
		a, setA := randomClock(random)
		b, setB := randomClock(random)
		textA, textB := a.String(), b.String()
		if !maps.Equal(covered(a), setA) {
			t.Fatalf("seed %d: %s covers %v, want %v", seed, textA, covered(a), setA)
		}
		union := maps.Clone(setA)
		maps.Copy(union, setB)
		included := len(union) == len(setA)
		if got := a.Includes(b); got != included {
			t.Fatalf("seed %d: %s includes %s: %t, want %t", seed, textA, textB, got, included)
		}
		ab, ba := a.Clone(), b.Clone()
		if changed := ab.Join(b); changed == included {
			t.Fatalf("seed %d: joining %s into %s says changed=%t", seed, textB, textA, changed)
		}
		ba.Join(a)
		if !maps.Equal(covered(&ab), union) || ab.String() != ba.String() {
			t.Fatalf("seed %d: %s with %s is %s, the other way round %s, want %v", seed, textA, textB, ab.String(), ba.String(), union)
		}
		if ab.Join(b) || ab.Join(a) || !ab.Includes(a) || !ab.Includes(b) {
			t.Fatalf("seed %d: %s changes when %s or %s is joined again", seed, ab.String(), textA, textB)
		}
		if a.String() != textA || b.String() != textB {
			t.Fatalf("seed %d: joining clones of %s and %s changed them", seed, textA, textB)
		}
		if (a.String() == b.String()) != maps.Equal(setA, setB) {
			t.Fatalf("seed %d: %s and %s: one text must mean one set", seed, textA, textB)
		}
	}
}

// A writer that the floor has passed is remembered no more, and its dots are
// still in the clock.
func TestVClockFoldsWritersThatAreGone(t *testing.T) {
	t.Parallel()
	var clock kvlattice.VClock
	for writer, wall := range map[string]int64{"a": 1, "b": 5, "c": 9} {
		clock.Add(kvlattice.Dot{Writer: writer, At: at(wall)})
	}
	clock.Raise(at(5))
	if n := clock.Len(); n != 1 {
		t.Errorf("%s remembers %d writers, want only c", clock.String(), n)
	}
	clock.Add(kvlattice.Dot{Writer: "a", At: at(4)})
	if n := clock.Len(); n != 1 {
		t.Errorf("a dot below the floor was taken for news: %s", clock.String())
	}
	clock.Raise(at(2))
	for _, d := range []kvlattice.Dot{{Writer: "a", At: at(1)}, {Writer: "b", At: at(5)}, {Writer: "c", At: at(9)}, {Writer: "d", At: at(5)}} {
		if !clock.Covers(d) {
			t.Errorf("%s lost %v", clock.String(), d)
		}
	}
	if d := (kvlattice.Dot{Writer: "b", At: at(6)}); clock.Covers(d) {
		t.Errorf("%s holds %v", clock.String(), d)
	}
}
