package kvlattice_test

import (
	"bytes"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/cloudburst-nats/cloudburst/kvlattice"
	"github.com/cloudburst-nats/cloudburst/kvlattice/latticetest"
	"github.com/cloudburst-nats/cloudburst/wire"
)

func randomPriority(random *rand.Rand) *kvlattice.Priority {
	return kvlattice.NewPriority([]int64{math.MinInt64, -1, 0, 1, math.MaxInt64}[random.IntN(5)], wire.Value{
		Body: []byte([]string{`"a"`, `"b"`, "1"}[random.IntN(3)]),
		Type: []string{"", "text/plain"}[random.IntN(2)],
	})
}

func TestPriorityLaws(t *testing.T) {
	t.Parallel()
	latticetest.Laws(t, "priority", func(random *rand.Rand) kvlattice.Lattice { return randomPriority(random) })
}

// TestPriorityTwin checks a join of many against looking at all of them.
func TestPriorityTwin(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(3, 4))
	for range 1000 {
		first := randomPriority(random)
		joined, best := first.Clone().(*kvlattice.Priority), first
		for range random.IntN(5) {
			next := randomPriority(random)
			merge(t, joined, next)
			switch c := bytes.Compare(next.Value().Body, best.Value().Body); {
			case next.Priority() < best.Priority(), next.Priority() == best.Priority() && c > 0,
				next.Priority() == best.Priority() && c == 0 && next.Value().Type > best.Value().Type:
				best = next
			}
		}
		if joined.Priority() != best.Priority() || !bytes.Equal(joined.Value().Body, best.Value().Body) || joined.Value().Type != best.Value().Type {
			t.Fatalf("got %d %+v, want %d %+v", joined.Priority(), joined.Value(), best.Priority(), best.Value())
		}
	}
}

func TestPriorityIsStoredAsTheUsersBytes(t *testing.T) {
	t.Parallel()
	h, body := kvlattice.NewPriority(-7, wire.Value{Body: []byte("x"), Type: "text/plain"}).Encode()
	if string(body) != "x" || wire.First(h, "Cb-Priority") != "-7" || wire.First(h, "Content-Type") != "text/plain" {
		t.Errorf("got %v %q", h, body)
	}
	h, _ = kvlattice.NewPriority(1, wire.Value{Body: []byte("x"), Type: "a\r\nCb-Kind: lww"}).Encode()
	if got := wire.First(h, "Content-Type"); strings.ContainsAny(got, "\r\n") {
		t.Errorf("a type that is no header line is stored as %q", got)
	}
}

func FuzzDecodePriority(f *testing.F) {
	f.Add("-7", "text/plain", []byte("x"))
	f.Add("9223372036854775808", "", []byte(nil))
	f.Fuzz(func(t *testing.T, priority, mime string, body []byte) {
		survives(t, kvlattice.Entry{Body: body, Header: header("Cb-Kind", "priority", "Cb-Priority", priority, "Content-Type", mime)})
	})
}
