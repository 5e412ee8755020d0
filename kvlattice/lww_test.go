package kvlattice_test

import (
	"math/rand/v2"
	"testing"

	"github.com/cloudburst-nats/cloudburst/kvlattice"
	"github.com/cloudburst-nats/cloudburst/kvlattice/latticetest"
	"github.com/cloudburst-nats/cloudburst/wire"
)

func at(wall int64) kvlattice.Timestamp { return kvlattice.Timestamp{Wall: wall} }

func jsonValue(s string) wire.Value { return wire.Value{Body: []byte(s)} }

func merge(t *testing.T, into, from kvlattice.Lattice) bool {
	t.Helper()
	changed, err := into.Merge(from)
	if err != nil {
		t.Fatalf("merging a %s into a %s: %v", from.Kind(), into.Kind(), err)
	}
	return changed
}

func TestLWWLaws(t *testing.T) {
	t.Parallel()
	// Few timestamps, writers and values, so that ties of every sort occur.
	latticetest.Laws(t, "lww", func(random *rand.Rand) kvlattice.Lattice {
		ts := kvlattice.Timestamp{Wall: random.Int64N(3), Logical: random.Uint32N(2)}
		writer := []string{"", "w1", "w2"}[random.IntN(3)]
		if random.IntN(4) == 0 {
			return kvlattice.NewTombstone(ts, writer)
		}
		return kvlattice.NewLWW(wire.Value{
			Body: [][]byte{nil, []byte("1"), []byte("2"), {0xff, 0}}[random.IntN(4)],
			Type: []string{"", "application/json", "text/plain"}[random.IntN(3)],
		}, ts, writer)
	})
}

// TestLWWTwin checks the register against its definition: of the writes so
// far the one with the latest time, and of those the one of the last writer.
func TestLWWTwin(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(3, 4))
	for round := range 500 {
		register := kvlattice.NewLWW(jsonValue("start"), at(0), "")
		want, last, lastWriter := "start", 0, -1
		for i, writer := range random.Perm(10) {
			wall, value := random.IntN(5), string(rune('a'+i))
			if wall > last || wall == last && writer > lastWriter {
				want, last, lastWriter = value, wall, writer
			}
			merge(t, register, kvlattice.NewLWW(jsonValue(value), at(int64(wall)), string(rune('0'+writer))))
			if got := string(register.Value().Body); got != want {
				t.Fatalf("round %d, write %d: got %q, want %q", round, i, got, want)
			}
		}
	}
}

func TestLWWTies(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name         string
		loser, wins  *kvlattice.LWW
		winnerIsGone bool
	}{
		{"later wall clock", kvlattice.NewLWW(jsonValue("9"), at(1), "z"), kvlattice.NewLWW(jsonValue("1"), at(2), "a"), false},
		{
			"later logical clock", kvlattice.NewLWW(jsonValue("9"), kvlattice.Timestamp{Wall: 1, Logical: 1}, "z"),
			kvlattice.NewLWW(jsonValue("1"), kvlattice.Timestamp{Wall: 1, Logical: 2}, "a"), false,
		},
		{"one time: the writer", kvlattice.NewLWW(jsonValue("9"), at(1), "a"), kvlattice.NewLWW(jsonValue("1"), at(1), "b"), false},
		{"one time and writer: the bytes", kvlattice.NewLWW(jsonValue("1"), at(1), "a"), kvlattice.NewLWW(jsonValue("2"), at(1), "a"), false},
		{"deletion later", kvlattice.NewLWW(jsonValue("1"), at(1), "a"), kvlattice.NewTombstone(at(2), "a"), true},
		{"written again", kvlattice.NewTombstone(at(2), "a"), kvlattice.NewLWW(jsonValue("1"), at(3), "a"), false},
	}
	for _, tt := range tests {
		if a := tt.loser.Clone(); !merge(t, a, tt.wins) || a.(*kvlattice.LWW).Deleted() != tt.winnerIsGone {
			t.Errorf("%s: the winner didn't replace the loser", tt.name)
		}
		if b := tt.wins.Clone(); merge(t, b, tt.loser) {
			t.Errorf("%s: the loser replaced the winner", tt.name)
		}
	}
}

func TestLWWType(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]string{
		"": "", "application/json": "", "image/png": "image/png",
		"text/plain\r\nCb-Kind: set": "application/octet-stream", " x": "application/octet-stream",
	} {
		l := kvlattice.NewLWW(wire.Value{Body: []byte("x"), Type: given}, at(1), "w")
		h, _ := l.Encode()
		if got := wire.First(h, wire.HeaderType); got != want || l.Value().Type != want {
			t.Errorf("type %q: header %q, value %q, want %q", given, got, l.Value().Type, want)
		}
	}
}

func TestLWWTombstoneLooksDeletedToNATS(t *testing.T) {
	t.Parallel()
	h, body := kvlattice.NewTombstone(at(1), "w").Encode()
	if got := wire.First(h, "KV-Operation"); got != "DEL" || len(body) != 0 {
		t.Errorf("KV-Operation %q and body %q, want DEL and none", got, body)
	}
}

// TestLWWValueCostsNothing isn't parallel: allocations are counted globally.
func TestLWWValueCostsNothing(t *testing.T) {
	body := make([]byte, 1<<20)
	l := kvlattice.NewLWW(wire.Value{Body: body}, at(1), "w")
	var got []byte
	if n := testing.AllocsPerRun(100, func() { got = l.Value().Body }); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
	if &got[0] != &body[0] {
		t.Error("the body was copied")
	}
}

func BenchmarkLWWMerge(b *testing.B) {
	b.ReportAllocs()
	register := kvlattice.NewLWW(jsonValue("0"), at(0), "w")
	next := kvlattice.NewLWW(jsonValue("1"), at(1), "w")
	old := register.Clone()
	for b.Loop() {
		*register = *old.(*kvlattice.LWW)
		if _, err := register.Merge(next); err != nil {
			b.Fatal(err)
		}
	}
}
