package kvlattice_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cloudburst-nats/cloudburst/kvlattice"
	"github.com/cloudburst-nats/cloudburst/kvlattice/latticetest"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// A ranked write is one of the log that all states of an ordered set come from.
type ranked struct {
	member  string
	score   float64
	removed bool
	wall    int64
	writer  string
}

func (w ranked) to(s *kvlattice.OrderedSet) {
	var err error
	if w.removed {
		err = s.Remove(w.member, at(w.wall), w.writer)
	} else {
		err = s.Put(w.member, w.score, at(w.wall), w.writer)
	}
	if err != nil {
		panic(err)
	}
}

// randomRanks returns a set and the writes that made it. No two writes have the
// same timestamp and writer but another content unless dishonest says so.
func randomRanks(random *rand.Rand, dishonest bool) (*kvlattice.OrderedSet, []ranked) {
	s, log := kvlattice.NewOrderedSet(), []ranked(nil)
	for range random.IntN(10) {
		wall := random.Int64N(8)
		w := ranked{
			member: []string{"ann", "bob", `<"é\n`, ""}[random.IntN(4)], score: []float64{-2.5, 0, 1e21, 3}[wall%4],
			removed: wall%3 == 0, wall: wall, writer: []string{"w1", "w2"}[random.IntN(2)],
		}
		if dishonest {
			w.score, w.removed = float64(random.IntN(3)), random.IntN(2) == 0
		}
		w.to(s)
		log = append(log, w)
	}
	return s, log
}

func TestOrderedSetLaws(t *testing.T) {
	t.Parallel()
	for _, dishonest := range []bool{false, true} {
		latticetest.Laws(t, "zset", func(random *rand.Rand) kvlattice.Lattice {
			s, _ := randomRanks(random, dishonest)
			return s
		})
	}
}

// TestOrderedSetTwin checks the set against the log of all writes.
func TestOrderedSetTwin(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(5, 7))
	for range 1000 {
		a, log := randomRanks(random, false)
		b, more := randomRanks(random, false)
		merge(t, a, b)
		log = append(log, more...)
		slices.SortStableFunc(log, func(x, y ranked) int { return cmp.Or(cmp.Compare(x.wall, y.wall), strings.Compare(x.writer, y.writer)) })
		last := make(map[string]ranked)
		for _, w := range log {
			last[w.member] = w
		}
		var want []ranked
		for member, w := range last {
			score, ok := a.Score(member)
			if ok == w.removed || ok && score != w.score || a.Latest(member) != at(w.wall) {
				t.Fatalf("%q: got %v, %t, written %v, want %+v", member, score, ok, a.Latest(member), w)
			}
			if !w.removed {
				want = append(want, w)
			}
		}
		slices.SortFunc(want, func(x, y ranked) int {
			return cmp.Or(cmp.Compare(x.score, y.score), strings.Compare(x.member, y.member))
		})
		i := 0
		for member, score := range a.All() {
			if i >= len(want) || member != want[i].member || score != want[i].score {
				t.Fatalf("rank %d is %q: %v, want %+v", i, member, score, want)
			}
			i++
		}
		if i != len(want) || a.Len() != len(want) {
			t.Fatalf("%d of %d members, want %+v", i, a.Len(), want)
		}
	}
}

func TestOrderedSetLooksReadable(t *testing.T) {
	t.Parallel()
	s := kvlattice.NewOrderedSet()
	if got := string(s.Value().Body); got != "[]" {
		t.Errorf("empty: %s, want []", got)
	}
	for _, w := range []ranked{{"bob", 1234567, false, 1, "w"}, {"ann", 3, false, 2, "w"}, {"<é>", -0.5, false, 3, "w"}, {"eve", 1, false, 4, "w"}, {"eve", 0, true, 5, "w"}} {
		w.to(s)
	}
	want := `[{"member":"<é>","score":-0.5},{"member":"ann","score":3},{"member":"bob","score":1234567}]`
	h, body := s.Encode()
	if string(body) != want {
		t.Errorf("got %s, want %s", body, want)
	}
	if notes := `{"writers":["w"],"stamps":[[3,0,0],[2,0,0],[1,0,0]],"removed":{"eve":[5,0,0]}}`; wire.First(h, "Cb-Stamps") != notes {
		t.Errorf("got %s, want %s", wire.First(h, "Cb-Stamps"), notes)
	}
}

func TestOrderedSetRange(t *testing.T) {
	t.Parallel()
	s := kvlattice.NewOrderedSet()
	for i := range 5 {
		ranked{member: string(rune('a' + i)), score: float64(i), wall: 1}.to(s)
	}
	for _, tt := range []struct {
		from, to int
		want     string
	}{{0, 5, "abcde"}, {1, 3, "bc"}, {-9, 2, "ab"}, {3, 99, "de"}, {4, 4, ""}, {4, 2, ""}, {9, 12, ""}, {-3, -1, ""}, {math.MinInt, math.MaxInt, "abcde"}} {
		var got strings.Builder
		for member := range s.Range(tt.from, tt.to) {
			got.WriteString(member)
		}
		if got.String() != tt.want {
			t.Errorf("Range(%d, %d) = %q, want %q", tt.from, tt.to, got.String(), tt.want)
		}
	}
	for member := range s.All() { // an iteration may end early
		if member != "a" {
			t.Errorf("the lowest is %q, want a", member)
		}
		break
	}
}

func TestOrderedSetRefuses(t *testing.T) {
	t.Parallel()
	s := kvlattice.NewOrderedSet()
	for what, err := range map[string]error{
		"not a number":    s.Put("m", math.NaN(), at(1), "w"),
		"infinity":        s.Put("m", math.Inf(-1), at(1), "w"),
		"before 1970":     s.Put("m", 1, at(-1), "w"),
		"a member's name": s.Put("\xff", 1, at(1), "w"),
		"a writer's name": s.Remove("m", at(1), "\xff"),
	} {
		if wire.KindOf(err) != wire.KindBadArgument {
			t.Errorf("%s: got %v, want an error of %q", what, err, wire.KindBadArgument)
		}
	}
	if got := string(s.Value().Body); got != "[]" {
		t.Errorf("refused writes left %s", got)
	}
	if err := s.Put("m", math.Copysign(0, -1), at(1), "w"); err != nil || string(s.Value().Body) != `[{"member":"m","score":0}]` {
		t.Errorf("-0 is %s, %v, want 0", s.Value().Body, err)
	}
}

func largeRanking() *kvlattice.OrderedSet {
	s := kvlattice.NewOrderedSet()
	for i := range 1000 {
		ranked{member: fmt.Sprintf("user-%d", i), score: float64(i * 7919 % 1000), wall: 1_700_000_000_000_000_000 + int64(i), writer: "worker-1"}.to(s)
	}
	return s
}

func TestOrderedSetTooLongForAHeader(t *testing.T) {
	t.Parallel()
	s := largeRanking()
	e := entry("", s)
	value, _, _ := strings.Cut(string(e.Body), "\n")
	if wire.First(e.Header, "Cb-Stamps") != "body" || value != string(s.Value().Body) || !json.Valid([]byte(value)) {
		t.Errorf("headers %v, first line %.80s", e.Header, value)
	}
	survives(t, e)
	back, err := kvlattice.Decode(e)
	if err != nil {
		t.Fatal(err)
	}
	if merge(t, s, back) || back.(*kvlattice.OrderedSet).Len() != 1000 {
		t.Errorf("it isn't itself once decoded")
	}
}

func FuzzDecodeOrderedSet(f *testing.F) {
	f.Add(`{"writers":["w"],"stamps":[[3,0,0],[2,1,0]],"removed":{"eve":[5,0,0]}}`, []byte(`[{"member":"ann","score":3},{"member":"bob","score":-1e300}]`))
	f.Add("body", []byte("[]\n{}"))
	f.Add(`{"writers":["w"],"stamps":[[3,0,1]]}`, []byte(`[{"member":"ann","score":-0}]`))
	f.Add(`{"writers":["w"],"stamps":[[3,0,0],[3,0,0]],"removed":{"a":[3,0,0]}}`, []byte(`[{"member":"a","score":1},{"member":"a","score":2}]`))
	f.Fuzz(func(t *testing.T, stamps string, body []byte) {
		survives(t, kvlattice.Entry{Header: header("Cb-Kind", "zset", "Cb-Stamps", stamps), Body: body})
	})
}

func BenchmarkOrderedSetMergeOneIntoThousand(b *testing.B) {
	b.ReportAllocs()
	s, wall := largeRanking(), int64(1_800_000_000_000_000_000)
	one := kvlattice.NewOrderedSet()
	for b.Loop() {
		wall++
		if err := one.Put("user-500", float64(wall%1000), at(wall), "worker-2"); err != nil {
			b.Fatal(err)
		}
		if _, err := s.Merge(one); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOrderedSetTopTenOfThousand(b *testing.B) {
	b.ReportAllocs()
	s := largeRanking()
	for b.Loop() {
		for member := range s.Range(990, 1000) {
			if member == "" {
				b.Fatal("no member")
			}
		}
	}
}

func BenchmarkOrderedSetEncodeThousand(b *testing.B) {
	b.ReportAllocs()
	s := largeRanking()
	for b.Loop() {
		s.Encode()
	}
}
