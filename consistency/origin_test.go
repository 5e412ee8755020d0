package consistency_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/cloudburst-nats/cloudburst/consistency"
	"github.com/cloudburst-nats/cloudburst/kvlattice"
	"github.com/cloudburst-nats/cloudburst/kvlattice/latticetest"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// tally counts n in every kind of counter, and adds an element to a set.
func tally(ctx context.Context, s *consistency.Session, n int64, element string) error {
	set := kvlattice.NewORSet()
	tag, _ := s.Tag()
	return errors.Join(
		s.AddCounter(ctx, "ns", "n", n), s.AddGrow(ctx, "ns", "grow", n),
		s.AddCounter(ctx, "ns", "m", n, "n"), s.AddGrow(ctx, "ns", "m", n, "in", "g"),
		set.Add(tag, raw(element)), s.Merge(ctx, "ns", "o", set),
	)
}

// settle folds all keys as a worker does that knows up to where calls are settled.
func settle(t *testing.T, mem *latticetest.Memory, floors map[string]uint64) {
	t.Helper()
	store := kvlattice.New(kvlattice.Config{}, mem, nil)
	for _, key := range []string{"n", "grow", "m", "o"} {
		l, _, err := store.Read(t.Context(), key, 0)
		must(t, err)
		c, ok := l.(interface {
			kvlattice.Lattice
			Settle(source string, upTo uint64)
		})
		if !ok {
			t.Fatalf("%s holds %v", key, l)
		}
		for source, floor := range floors {
			c.Settle(source, floor)
		}
		h, body := c.Encode()
		mem.Put(key, kvlattice.Entry{Header: h, Body: body})
	}
}

// counts describes what is counted.
func counts(t *testing.T, mem *latticetest.Memory) string {
	t.Helper()
	s := session(t, open(mem, ""), id(1_000_000, 1))
	text := ""
	for _, key := range []string{"n", "grow", "m", "o"} {
		v, _, err := s.Get(t.Context(), "ns", key)
		must(t, err)
		text += string(v.Body) + " "
	}
	return text
}

// A run begins again after the calls of its first try were settled. What it counts then
// is neither lost nor counted twice, whether the first try had counted or not.
func TestRunThatBeginsAgainCountsOnce(t *testing.T) {
	ctx := t.Context()
	const first, again = 10, 60 // the run's first call, and that of its second try
	for _, tt := range []struct {
		name  string
		tried bool   // the first try counted, too
		held  uint64 // up to where first calls are settled when the run begins again
		want  string
	}{
		{"the first try counted", true, first - 1, `103 103 {"in":{"g":103},"n":103} ["again","other"] `},
		{"the first try counted nothing", false, first - 1, `103 103 {"in":{"g":103},"n":103} ["again","other"] `},
		{"nothing holds its calls back", true, again, `107 107 {"in":{"g":107},"n":107} ["again","other"] `}, // the control: the second try is ignored
	} {
		mem := latticetest.NewMemory()
		run := func(seq uint64, node string, attempt int, level consistency.Level, past string) *consistency.Session {
			s, err := consistency.NewSession(consistency.Config{
				Identity: consistency.Identity{Writer: fmt.Sprint("w", seq), Log: "pool", Source: "calls@1", Seq: seq, Node: node, Attempt: attempt},
				Stores:   open(mem, fmt.Sprint("w", seq)), Level: level, Run: "r", Past: past, Pins: new(consistency.Pins), Peers: nobody{},
			})
			must(t, err)
			return s
		}
		other := run(11, "", 1, consistency.LWW, "")
		must(t, tally(ctx, other, 100, `"other"`))
		must(t, other.Flush(ctx))
		past, err := consistency.Originate("", "calls@1", first)
		must(t, err)
		try := run(first+5, "a", 1, consistency.Repeatable, past) // in a call of its own
		if tt.tried {
			must(t, tally(ctx, try, 7, `"again"`))
		}
		must(t, try.Flush(ctx))

		settle(t, mem, map[string]uint64{"calls@1": 50, "calls@1" + wire.SourceAgain: tt.held})
		second := run(again+5, "a", 1_000_001, consistency.Repeatable, past)
		must(t, tally(ctx, second, 3, `"again"`))
		must(t, second.Flush(ctx))
		if got := counts(t, mem); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
		settle(t, mem, map[string]uint64{"calls@1": 100, "calls@1" + wire.SourceAgain: 100})
		must(t, try.Flush(ctx))
		late := run(first+5, "a", 2, consistency.Repeatable, past) // of a worker that was paused
		must(t, tally(ctx, late, 7, `"late"`))
		must(t, late.Flush(ctx))
		if got := counts(t, mem); got != tt.want {
			t.Errorf("%s, after all calls were settled: %s, want %s", tt.name, got, tt.want)
		}
	}
}

type nobody struct{}

func (nobody) Fetch(context.Context, string, string, string, string, string) (kvlattice.Lattice, bool, error) {
	return nil, true, nil
}
func (nobody) Release(string, string) {}

// A run's first call goes with it through joins and new beginnings, and to nobody else.
func TestFirstCallGoesWithTheRun(t *testing.T) {
	past, err := consistency.Originate(`{"token":true}`, "calls@1", 7)
	must(t, err)
	if again, err := consistency.Originate(past, "calls@2", 9); err != nil || again != past {
		t.Errorf("a run has two first calls: %s, %v", again, err)
	}
	joined, err := consistency.Join([]string{`{"after":{"ns":3}}`, past})
	must(t, err)
	p, err := consistency.ParsePast(joined)
	must(t, err)
	if p.Origin == nil || *p.Origin != (consistency.Origin{Source: "calls@1!", Seq: 7}) {
		t.Errorf("joined, the first call is %v", p.Origin)
	}
	for _, text := range []string{consistency.Token(joined, ""), consistency.Contained(joined)} {
		if p, err := consistency.ParsePast(text); err != nil || p.Origin != nil {
			t.Errorf("another run is told %s, %v", text, err)
		}
	}
	for floor, kept := range map[uint64]bool{6: true, 7: false, 8: false} {
		text, err := consistency.Reopen(past, func(source string) (uint64, error) {
			if source != "calls@1!" {
				t.Errorf("asked of %s", source)
			}
			return floor, nil
		})
		must(t, err)
		if p, err := consistency.ParsePast(text); err != nil || (p.Origin != nil) != kept || !p.Token {
			t.Errorf("settled up to %d: %s, %v", floor, text, err)
		}
	}
}
