package consistency_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/cloudburst-nats/cloudburst/consistency"
	"github.com/cloudburst-nats/cloudburst/kvlattice"
	"github.com/cloudburst-nats/cloudburst/kvlattice/latticetest"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// holds checks what a key holds, as plain JSON.
func holds(t *testing.T, s *consistency.Session, key, want string) {
	t.Helper()
	v, _, err := s.Get(t.Context(), "ns", key)
	must(t, err)
	if string(v.Body) != want {
		t.Errorf("%s holds %s, want %s", key, v.Body, want)
	}
}

// A run that is repeated counts once, whichever counter that is and wherever it
// stands, also when the later attempt counts less.
func TestCountersInMapsCountEachRunOnce(t *testing.T) {
	mem := latticetest.NewMemory()
	ctx := t.Context()
	count := func(attempt int, delta int64) {
		s := session(t, open(mem, fmt.Sprint("w", attempt)), id(7, attempt))
		for range 2 {
			must(t, s.AddGrow(ctx, "ns", "grow", delta))
			must(t, s.AddCounter(ctx, "ns", "m", -delta, "n"))
			must(t, s.AddGrow(ctx, "ns", "m", delta, "in", "g"))
			must(t, s.AddCounter(ctx, "ns", "m", 3*delta, "in", "n"))
		}
		must(t, s.AddCounter(ctx, "ns", "m", 1, "n")) // down and up again: the last sum counts
		s.SetNode("next")
		must(t, s.AddCounter(ctx, "ns", "m", 100, "n"))
		must(t, s.Flush(ctx))
		must(t, s.AddCounter(ctx, "ns", "m", 1000, "n")) // after a flush: an operation of its own
		must(t, s.Flush(ctx))
	}
	look := session(t, open(mem, ""), id(8, 1))
	count(1, 5)
	holds(t, look, "grow", "10")
	holds(t, look, "m", `{"in":{"g":10,"n":30},"n":1091}`)
	count(2, 3)
	holds(t, look, "grow", "6")
	holds(t, look, "m", `{"in":{"g":6,"n":18},"n":1095}`)
	count(1, 5) // of a worker that was paused
	holds(t, look, "m", `{"in":{"g":6,"n":18},"n":1095}`)
	if total, err := look.Counter(ctx, "ns", "grow"); err != nil || total != 6 {
		t.Errorf("the grow-only counter is at %d, %v", total, err)
	}
}

func TestCountsThatAreRefusedChangeNothing(t *testing.T) {
	mem := latticetest.NewMemory()
	s := session(t, open(mem, "w"), id(1, 1))
	ctx := t.Context()
	must(t, s.AddGrow(ctx, "ns", "grow", 2))
	must(t, s.AddCounter(ctx, "ns", "m", 2, "n"))
	for _, c := range []struct {
		what string
		err  error
		want wire.Kind
	}{
		{"down", s.AddGrow(ctx, "ns", "grow", -1), wire.KindBadArgument},
		{"down in a new key", s.AddGrow(ctx, "ns", "new", -1), wire.KindBadArgument},
		{"another kind of counter", s.AddCounter(ctx, "ns", "grow", 1), wire.KindLattice},
		{"another kind of counter in a field", s.AddGrow(ctx, "ns", "m", 1, "n"), wire.KindLattice},
		{"a map in a counter's field", s.AddCounter(ctx, "ns", "m", 1, "n", "deeper"), wire.KindLattice},
		{"a map as a counter", s.AddCounter(ctx, "ns", "m", 1), wire.KindLattice},
		{"too deep", s.AddCounter(ctx, "ns", "deep", 1, "a", "b", "c", "d", "e"), wire.KindBadArgument},
		{"no UTF-8", s.AddCounter(ctx, "ns", "new", 1, "\xff"), wire.KindBadArgument},
		{"no key", s.AddGrow(ctx, "ns", "", 1), wire.KindBadName},
	} {
		if wire.KindOf(c.err) != c.want {
			t.Errorf("%s: %v, want a %v", c.what, c.err, c.want)
		}
	}
	must(t, s.AddCounter(ctx, "ns", "deepest", 1, "a", "b", "c", "d"))
	must(t, s.Flush(ctx))
	look := session(t, open(mem, ""), id(2, 1))
	holds(t, look, "grow", "2")
	holds(t, look, "m", `{"n":2}`)
	holds(t, look, "deepest", `{"a":{"b":{"c":{"d":1}}}}`)
	for _, key := range []string{"new", "deep"} {
		if _, found, err := look.Get(ctx, "ns", key); found || err != nil {
			t.Errorf("%s is there: %v", key, err)
		}
	}
}

// The tags of a run are all different, and those of its next attempt the same,
// also where that begins with another node.
func TestTags(t *testing.T) {
	mem := latticetest.NewMemory()
	tags := func(attempt int, nodes ...string) (all []kvlattice.Tag, fresh bool) {
		s := session(t, open(mem, "w"), id(7, attempt))
		for _, node := range nodes {
			s.SetNode(node)
			for range 2 {
				var tag kvlattice.Tag
				tag, fresh = s.Tag()
				all = append(all, tag)
			}
		}
		return all, fresh
	}
	first, fresh := tags(1, "n", "n", "next")
	if !fresh {
		t.Error("the first attempt's tags aren't fresh")
	}
	again, fresh := tags(2, "n", "n", "next")
	if fresh {
		t.Error("the second attempt's tags are fresh")
	}
	seen := make(map[kvlattice.Tag]bool)
	for i, tag := range first {
		if seen[tag] || tag != again[i] || tag.Source != "calls" || tag.Seq != 7 {
			t.Errorf("tag %d is %v, then %v, among %v", i, tag, again[i], first)
		}
		seen[tag] = true
	}
	if last, _ := tags(2, "next"); !slices.Equal(last, first[4:]) {
		t.Errorf("the last node's tags are %v, then %v", first[4:], last)
	}
	for attempt := 1; attempt <= 3; attempt++ {
		s := session(t, open(mem, "w"), id(7, attempt))
		s.Retag()
		tag, fresh := s.Tag()
		if again := attempt > 1; seen[tag] == again || !fresh {
			t.Errorf("after a removal, attempt %d makes the tag %v; fresh: %t", attempt, tag, fresh)
		}
		seen[tag] = true
		s.SetNode("next")
		if tag, _ := s.Tag(); tag != first[4] {
			t.Errorf("at the next node, attempt %d makes the tag %v", attempt, tag)
		}
	}
}

func TestCountersInMapsAreAddedToConcurrently(t *testing.T) {
	mem := latticetest.NewMemory()
	s := session(t, open(mem, "w"), id(1, 1))
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 50 {
				if err := s.AddCounter(context.Background(), "ns", "m", 1, "n"); err != nil {
					t.Error(err)
				}
				if err := s.AddGrow(context.Background(), "ns", "m", 1, "g"); err != nil {
					t.Error(err)
				}
			}
			if err := s.Flush(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	must(t, s.Flush(t.Context()))
	holds(t, session(t, open(mem, ""), id(2, 1)), "m", `{"g":400,"n":400}`)
}
