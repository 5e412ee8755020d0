package kvlattice_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloudburst-nats/cloudburst/kvlattice"
	"github.com/cloudburst-nats/cloudburst/kvlattice/latticetest"
	"github.com/cloudburst-nats/cloudburst/wire"
)

func ts(wall int64) kvlattice.Timestamp { return kvlattice.Timestamp{Wall: wall} }

// ticking stamps dots one after another, each after what it is asked for.
func ticking(now *int64) func(kvlattice.Timestamp) kvlattice.Timestamp {
	return func(after kvlattice.Timestamp) kvlattice.Timestamp {
		*now = max(*now, after.Wall) + 1
		return ts(*now)
	}
}

func text(s string) wire.Value { return wire.Value{Body: []byte(s)} }

// shown are the bodies of a register's versions.
func shown(c *kvlattice.Causal) []string {
	var bodies []string
	for _, v := range c.Versions() {
		bodies = append(bodies, string(v.Body))
	}
	return bodies
}

// history returns registers that some writers made of one key: they write over
// what they know, and now and then hear of each other.
func history(random *rand.Rand) []*kvlattice.Causal {
	at := make([]*kvlattice.Causal, 3)
	for i := range at {
		at[i] = new(kvlattice.Causal)
	}
	var now int64
	for range random.IntN(12) {
		i, j := random.IntN(3), random.IntN(3)
		switch random.IntN(6) {
		case 0, 1:
			if _, err := at[i].Merge(at[j]); err != nil {
				panic(err)
			}
		case 2:
			now++
			if _, err := at[i].Merge(kvlattice.Lift(kvlattice.NewLWW(text(fmt.Sprint(now)), ts(now), "hand"))); err != nil {
				panic(err)
			}
		default:
			at[i] = overwrite(random, at[i]).Apply(at[i], fmt.Sprint("w", i), ticking(&now))
		}
	}
	return at
}

func overwrite(random *rand.Rand, seen *kvlattice.Causal) *kvlattice.Overwrites {
	var after map[string]uint64
	if random.IntN(3) == 0 {
		after = map[string]uint64{"shop": random.Uint64N(9) + 1}
	}
	if random.IntN(5) == 0 {
		seen = new(kvlattice.Causal) // a run that saw an older state
	}
	v := text(fmt.Sprintf(`"%d"`, random.IntN(100)))
	call := ""
	if random.IntN(2) == 0 {
		call = fmt.Sprint("c", random.IntN(6)) // which may have run before
	}
	switch random.IntN(5) {
	case 0:
		return kvlattice.NewCausalDelete(seen, after).By(call, nil, ts(0))
	case 1:
		v = wire.Value{Body: []byte{byte(random.IntN(256)), '"', '\n'}, Type: "image/x"}
	}
	return kvlattice.NewOverwrite(seen, v, after).By(call, nil, ts(0))
}

func TestCausalLaws(t *testing.T) {
	t.Parallel()
	var now int64
	latticetest.Laws(t, "causal", func(random *rand.Rand) kvlattice.Lattice {
		c := history(rand.New(rand.NewPCG(random.Uint64N(20), 0)))[random.IntN(3)]
		if random.IntN(4) == 0 {
			c = overwrite(random, c).Apply(c, "x"+fmt.Sprint(random.Uint64()), ticking(&now))
		}
		if random.IntN(4) == 0 {
			c.Settle("\x00time", random.Uint64N(12))
		}
		return c
	})
}

// Any register that can be decoded obeys the laws, whoever wrote it.
func TestDishonestCausalLaws(t *testing.T) {
	t.Parallel()
	latticetest.Laws(t, "causal", func(random *rand.Rand) kvlattice.Lattice {
		var versions []string
		dots := map[string]bool{}
		body := []byte("[")
		for range random.IntN(4) {
			dot := fmt.Sprintf(`"w":"w%d","t":"%d"`, random.IntN(3), 1+random.IntN(4))
			if dots[dot] {
				continue
			}
			dots[dot] = true
			dot += fmt.Sprintf(`,"c":"c%d"`, random.IntN(3))
			if random.IntN(4) == 0 {
				versions = append(versions, `{`+dot+`,"del":true}`)
				continue
			}
			versions = append(versions, `{`+dot+`,"n":1}`)
			body = append(body, byte('0'+random.IntN(3)), ',')
		}
		if len(body) == 1 {
			body = nil
		} else {
			body[len(body)-1] = ']'
		}
		var replaced []string
		for by := 2; by >= 0; by-- {
			for call := range 3 {
				if random.IntN(3) == 0 {
					replaced = append(replaced, fmt.Sprintf("c%d:c%d", call, by))
				}
			}
		}
		clock := fmt.Sprintf("%d w0:%d w1:%d", random.IntN(3), random.IntN(5), random.IntN(5))
		l, err := kvlattice.Decode(kvlattice.Entry{Header: wire.Header{
			kvlattice.HeaderKind: {"causal"}, kvlattice.HeaderClock: {clock},
			kvlattice.HeaderVersions: {fmt.Sprintf(`{"v":[%s],"seen":"%d"}`, strings.Join(versions, ","), random.IntN(4))},
			kvlattice.HeaderReplaced: {strings.Join(replaced, " ")},
		}, Body: body})
		if err != nil {
			panic(err)
		}
		return l
	})
}

// knowing remembers every write, and who had seen which: shown is what no other
// write has seen.
type knowing struct{ knows []map[int]bool }

func (w *knowing) write(seen map[int]bool) (id int) {
	past := map[int]bool{}
	for id := range seen {
		past[id] = true
		maps.Copy(past, w.knows[id])
	}
	w.knows = append(w.knows, past)
	return len(w.knows) - 1
}

func (w *knowing) shown(known map[int]bool) []string {
	var ids []int
	for id := range known {
		if !slices.ContainsFunc(slices.Collect(maps.Keys(known)), func(other int) bool { return w.knows[other][id] }) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	var bodies []string
	for _, id := range ids {
		bodies = append(bodies, fmt.Sprint(id))
	}
	return bodies
}

func TestCausalIsItsTwin(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 7))
		all := new(knowing)
		var now int64
		registers := make([]*kvlattice.Causal, 4)
		known := make([]map[int]bool, 4)
		for i := range registers {
			registers[i], known[i] = new(kvlattice.Causal), map[int]bool{}
		}
		for step := range 60 {
			i, j := random.IntN(4), random.IntN(4)
			if random.IntN(2) == 0 {
				if _, err := registers[i].Merge(registers[j]); err != nil {
					t.Fatal(err)
				}
				maps.Copy(known[i], known[j])
			} else {
				id := all.write(known[i])
				known[i][id] = true
				op := kvlattice.NewOverwrite(registers[i].Context(), text(fmt.Sprint(id)), nil)
				registers[i] = op.Apply(registers[i], fmt.Sprint("w", i), ticking(&now))
			}
			got := shown(registers[i])
			slices.SortFunc(got, func(a, b string) int { return len(a)*1000 - len(b)*1000 + strings.Compare(a, b) })
			if want := all.shown(known[i]); !slices.Equal(got, want) {
				t.Fatalf("seed %d step %d: shows %v, want %v", seed, step, got, want)
			}
		}
	}
}

// Two runs of one worker that saw the same write at once: both stay.
func TestWritesThatWaitTogetherStandBesideEachOther(t *testing.T) {
	var now int64
	base := kvlattice.NewOverwrite(nil, text("0"), nil).Apply(nil, "w", ticking(&now))
	ops := kvlattice.NewOverwrite(base.Context(), text("1"), nil)
	if _, err := ops.Merge(kvlattice.NewOverwrite(base.Context(), text("2"), nil)); err != nil {
		t.Fatal(err)
	}
	both := ops.Apply(base, "w", ticking(&now))
	if got := shown(both); !slices.Equal(got, []string{"2", "1"}) {
		t.Errorf("shows %v", got)
	}
	one := kvlattice.NewOverwrite(both.Context(), text("3"), nil).Apply(both, "v", ticking(&now))
	if got := shown(one); !slices.Equal(got, []string{"3"}) {
		t.Errorf("after a write that saw both: %v", got)
	}
}

func TestPlainRegisterIsAVersion(t *testing.T) {
	var now int64 = 10
	c := kvlattice.NewOverwrite(nil, text("1"), nil).Apply(nil, "w", ticking(&now))
	hand := kvlattice.NewLWW(text("2"), ts(20), "")
	joined, changed, err := kvlattice.Join(hand.Clone(), c.Clone())
	if err != nil || !changed {
		t.Fatal(changed, err)
	}
	both := joined.(*kvlattice.Causal)
	if got := shown(both); !slices.Equal(got, []string{"2", "1"}) {
		t.Errorf("shows %v", got)
	}
	seen := kvlattice.NewOverwrite(both, text("3"), nil).Apply(both, "w", ticking(&now))
	if got := shown(seen); !slices.Equal(got, []string{"3"}) {
		t.Errorf("after a write that saw both: %v", got)
	}
	if _, _, err := kvlattice.Join(seen, hand); err != nil || len(shown(seen)) != 1 {
		t.Errorf("the one by hand came back: %v, %v", shown(seen), err)
	}
}

func TestReadableCausalBody(t *testing.T) {
	var now int64
	one := kvlattice.NewOverwrite(nil, text(`{"a":1}`), nil).Apply(nil, "w", ticking(&now))
	two := kvlattice.NewOverwrite(nil, wire.Value{Body: []byte("raw"), Type: "text/plain"}, nil).Apply(one, "v", ticking(&now))
	gone := kvlattice.NewCausalDelete(two.Context(), nil).Apply(two, "w", ticking(&now))
	for _, tt := range []struct {
		c    *kvlattice.Causal
		want string
	}{{one, `{"a":1}`}, {two, `["cmF3",{"a":1}]`}, {gone, ""}} {
		h, body := tt.c.Encode()
		if string(body) != tt.want || len(tt.want) > 2 && !json.Valid(body) {
			t.Errorf("body %q, want %q", body, tt.want)
		}
		if deleted := wire.First(h, kvlattice.HeaderOperation) != ""; deleted != tt.c.Deleted() {
			t.Errorf("%q looks deleted: %v", tt.want, deleted)
		}
	}
}

// Workers come and go, two at a time; the clock remembers those that wrote lately,
// and no write is lost.
func TestClockStaysSmallWhileWritersChurn(t *testing.T) {
	const writes, writers = 10_000, 1000
	clock := int64(time.Hour)
	random := rand.New(rand.NewPCG(1, 1))
	base := new(kvlattice.Causal)
	widest, longest := 0, 0
	for n := range writes {
		clock += int64(time.Second) // two writers live 20 s each
		life := n * writers / writes
		names := []string{fmt.Sprintf("w-%d", life), fmt.Sprintf("w-%d", life+1)}
		a := kvlattice.NewOverwrite(base.Context(), text(fmt.Sprint(n, "a")), nil).Apply(base, names[0], ticking(&clock))
		if random.IntN(2) == 0 { // the other at the same time
			b := kvlattice.NewOverwrite(base.Context(), text(fmt.Sprint(n, "b")), nil).Apply(base, names[1], ticking(&clock))
			if _, err := a.Merge(b); err != nil || len(shown(a)) != 2 {
				t.Fatalf("write %d: a concurrent write is lost: %v, %v", n, shown(a), err)
			}
		} else if got := shown(a); !slices.Equal(got, []string{fmt.Sprint(n, "a")}) {
			t.Fatalf("write %d: shows %v", n, got)
		}
		base = a
		for source := range base.Unsettled() {
			base.Settle(source, uint64(clock-int64(2*time.Minute)))
		}
		c := base.Clock()
		h, _ := base.Encode()
		size := 0
		for _, v := range h {
			size += len(v[0])
		}
		widest, longest = max(widest, c.Len()), max(longest, size)
	}
	if widest > 20 || longest > 1200 {
		t.Errorf("the clock remembered up to %d writers, in %d bytes of headers", widest, longest)
	}
	t.Logf("at most %d writers, %d bytes of headers", widest, longest)
}

func FuzzDecodeCausal(f *testing.F) {
	for seed := range uint64(30) {
		for _, c := range history(rand.New(rand.NewPCG(seed, 0))) {
			h, body := c.Encode()
			f.Add(wire.First(h, kvlattice.HeaderClock), wire.First(h, kvlattice.HeaderVersions), wire.First(h, kvlattice.HeaderDot), body)
		}
	}
	f.Fuzz(func(t *testing.T, clock, versions, dot string, body []byte) {
		h := wire.Header{kvlattice.HeaderKind: {"causal"}, kvlattice.HeaderClock: {clock}, kvlattice.HeaderVersions: {versions}, kvlattice.HeaderDot: {dot}}
		l, err := kvlattice.Decode(kvlattice.Entry{Header: h, Body: body})
		if err != nil {
			return
		}
		h, body = l.Encode()
		again, err := kvlattice.Decode(kvlattice.Entry{Header: h, Body: body})
		if err != nil {
			t.Fatalf("what was decoded can't be stored: %v", err)
		}
		if kvlattice.Version(l) != kvlattice.Version(again) {
			t.Fatalf("%+v became %+v", l, again)
		}
	})
}

func BenchmarkCausal(b *testing.B) {
	var now int64
	c := new(kvlattice.Causal)
	for w := range 3 {
		c = kvlattice.NewOverwrite(c.Context(), text(`"some value"`), nil).Apply(c, fmt.Sprintf("w-0123456789a%d", w), ticking(&now))
	}
	h, body := c.Encode()
	other := kvlattice.NewOverwrite(c.Context(), text(`"another"`), nil).Apply(c, "w-0123456789ab", ticking(&now))
	b.Run("Merge", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := c.Clone().Merge(other); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Apply", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			kvlattice.NewOverwrite(c, text("1"), nil).Apply(c, "w", ticking(&now))
		}
	})
	b.Run("Encode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			c.Encode()
		}
	})
	b.Run("Decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := kvlattice.Decode(kvlattice.Entry{Header: h, Body: body}); err != nil {
				b.Fatal(err)
			}
		}
	})
}
