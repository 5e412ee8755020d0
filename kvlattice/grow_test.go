package kvlattice_test

import (
	"math/rand/v2"
	"testing"

	"github.com/cloudburst-nats/cloudburst/kvlattice"
	"github.com/cloudburst-nats/cloudburst/kvlattice/latticetest"
	"github.com/cloudburst-nats/cloudburst/wire"
)

func TestGrowLaws(t *testing.T) {
	t.Parallel()
	latticetest.Laws(t, "gcounter", func(random *rand.Rand) kvlattice.Lattice {
		g := kvlattice.NewGrow()
		for range random.IntN(12) {
			source, seq := []string{"a", "b"}[random.IntN(2)], random.Uint64N(6)
			var err error
			switch random.IntN(5) {
			case 0:
				err = g.AddTotal(source, seq, random.Int64N(9))
			case 1:
				g.Settle(source, seq)
			default:
				err = g.AddOp(source, []string{"", "n"}[random.IntN(2)], seq, random.IntN(3), random.Int64N(5))
			}
			if err != nil {
				panic(err)
			}
		}
		return g
	})
}

func TestGrowRefusesToShrink(t *testing.T) {
	t.Parallel()
	g := kvlattice.NewGrow()
	for what, err := range map[string]error{
		"an operation of -1": g.AddOp("s", "", 1, 1, -1),
		"a total of -1":      g.AddTotal("s", 1, -1),
	} {
		if wire.KindOf(err) != wire.KindBadArgument {
			t.Errorf("%s: got %v, want an error of %q", what, err, wire.KindBadArgument)
		}
	}
	if err := g.AddOp("s", "", 1, 1, 5); err != nil {
		t.Fatal(err)
	}
	if err := g.AddOp("s", "", 1, 2, 3); err != nil { // the run that counts
		t.Fatal(err)
	}
	if err := g.AddTotal("client", 4, 10); err != nil {
		t.Fatal(err)
	}
	if g.Total() != 13 || string(g.Value().Body) != "13" {
		t.Errorf("counted %d, shown as %s, want 13", g.Total(), g.Value().Body)
	}
	if n := g.Unsettled(); n["s"] != 1 {
		t.Errorf("unsettled: %v, want one of s", n)
	}
	copied := g.Clone()
	g.Settle("s", 1)
	if n := g.Unsettled(); len(n) != 0 || g.Total() != 13 {
		t.Errorf("settled: %v, total %d, want none and 13", n, g.Total())
	}
	if n := copied.(*kvlattice.Grow).Unsettled(); n["s"] != 1 {
		t.Errorf("settling changed a clone: %v", n)
	}
	if _, err := g.Merge(kvlattice.NewCounter()); wire.KindOf(err) != wire.KindLattice {
		t.Errorf("merging a counter: got %v, want an error of %q", err, wire.KindLattice)
	}
	if _, err := kvlattice.NewCounter().Merge(g); wire.KindOf(err) != wire.KindLattice {
		t.Errorf("merging into a counter: got %v, want an error of %q", err, wire.KindLattice)
	}
}

func TestDecodeGrowRefuses(t *testing.T) {
	t.Parallel()
	for name, e := range map[string]kvlattice.Entry{
		"a delta below 0": {Header: header("Cb-Kind", "gcounter", "Cb-Counter", "s|0|5|n|1-2"), Body: []byte("3")},
		"another body":    {Header: header("Cb-Kind", "gcounter", "Cb-Counter", "s|1|5"), Body: []byte("6")},
	} {
		if l, err := kvlattice.Decode(e); l != nil || wire.KindOf(err) != wire.KindInvalid {
			t.Errorf("%s: got %v, %v, want an error of %q", name, l, err, wire.KindInvalid)
		}
	}
}

func FuzzDecodeGrow(f *testing.F) {
	f.Add("client|2|4;r|0|0|n|3+10;s|3|7|a|1x2+3,2+4|b|1+5", []byte("33"))
	f.Add("s|0|0|n|3-10", []byte("-10"))
	f.Add("body", []byte("4\nclient|2|4"))
	f.Fuzz(func(t *testing.T, components string, body []byte) {
		survives(t, kvlattice.Entry{Header: header("Cb-Kind", "gcounter", "Cb-Counter", components), Body: body})
	})
}
