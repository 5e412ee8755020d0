package cloudburst

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/cloudburst-nats/cloudburst/consistency"
	"github.com/cloudburst-nats/cloudburst/kvlattice"
	"github.com/cloudburst-nats/cloudburst/kvlattice/latticetest"
)

// memory is a namespace that only sessions write, each as a worker of its own.
type memory struct {
	t   *testing.T
	mem *latticetest.Memory
}

func (m memory) Store(context.Context, string) (consistency.State, error) {
	return m.store(), nil
}

func (m memory) store() *kvlattice.Store {
	return kvlattice.New(kvlattice.Config{Writer: "w"}, m.mem, nil)
}

// began is when the log stored the first call.
var began = time.Now()

// run is a call's attempt; what it writes is stored by the flush.
func (m memory) run(seq uint64, attempt int, write func(s *State) error) (flush func()) {
	m.t.Helper()
	return m.runStored(began.Add(time.Duration(seq)*time.Millisecond), seq, attempt, write)
}

func (m memory) runStored(stored time.Time, seq uint64, attempt int, write func(s *State) error) (flush func()) {
	m.t.Helper()
	session, err := consistency.NewSession(consistency.Config{
		Identity: consistency.Identity{Writer: "w", Log: "pool", Source: "calls", Seq: seq, Attempt: attempt},
		Stores:   m, Level: consistency.LWW, Stored: stored,
	})
	if err == nil {
		err = write(&State{in: session, ns: "ns"})
	}
	if err != nil {
		m.t.Fatal(err)
	}
	return func() {
		m.t.Helper()
		if err := session.Flush(m.t.Context()); err != nil {
			m.t.Error(err)
		}
	}
}

func (m memory) wantMembers(want ...string) {
	m.t.Helper()
	m.run(1000, 1, func(s *State) error {
		got, err := Members[string](m.t.Context(), s.ORSet("k"))
		if err != nil || !slices.Equal(got, want) {
			m.t.Errorf("the set holds %v, %v; want %v", got, err, want)
		}
		return nil
	})
}

// What a call adds comes into an ORSet once, in whichever order its attempts are
// stored, and isn't brought back by a later one once it was removed.
func TestRepeatedRunAddsOnce(t *testing.T) {
	m := memory{t, latticetest.NewMemory()}
	add := func(s *State) error {
		return errors.Join(s.ORSet("k").Add(t.Context(), "x"), s.ORSet("k").Add(t.Context(), "y"))
	}
	remove := func(s *State) error { return s.ORSet("k").Remove(t.Context(), "x") }
	m.run(1, 1, add)() // and its worker dies before the call is acknowledged
	m.wantMembers("x", "y")
	m.run(2, 1, remove)()
	m.wantMembers("y")
	m.run(1, 2, add)()
	m.wantMembers("y")

	paused := m.run(3, 1, add)
	m.run(3, 2, add)()
	m.wantMembers("x", "y")
	m.run(4, 1, remove)()
	paused()
	m.wantMembers("y")
	m.run(5, 1, add)()
	m.wantMembers("x", "y")

	for attempt := range 2 { // the last word of a run counts
		m.run(6, attempt+1, func(s *State) error { return errors.Join(add(s), remove(s)) })()
		m.wantMembers("y")
	}
	for attempt := range 3 {
		m.run(7, attempt+1, func(s *State) error { return errors.Join(add(s), remove(s), add(s)) })()
		m.wantMembers("x", "y")
	}
	for attempt := range 3 { // what it removes is what its first attempt has added
		m.run(8, attempt+1, func(s *State) error { return errors.Join(remove(s), add(s)) })()
		m.wantMembers("x", "y")
	}
	m.run(9, 1, remove)()
	m.run(8, 4, func(s *State) error { return errors.Join(remove(s), s.ORSet("k").Add(t.Context(), "x")) })()
	m.wantMembers("y")
}

// An element that is added all the time doesn't grow.
func TestRenewedElementHasOneTag(t *testing.T) {
	m := memory{t, latticetest.NewMemory()}
	add := func(s *State) error { return s.ORSet("k").Add(t.Context(), "x") }
	size := func(settled uint64) int {
		l, _, err := m.store().Read(t.Context(), "k", 0)
		if err != nil {
			t.Fatal(err)
		}
		set, ok := l.(*kvlattice.ORSet)
		if !ok {
			t.Fatalf("the key holds %v", l)
		}
		set.Settle("calls", settled)
		return set.Size()
	}
	m.run(1, 1, add)()
	once := size(1)
	for seq := range uint64(20) {
		m.run(2+seq, 1, add)()
	}
	if got := size(21); got != once {
		t.Errorf("after 21 runs the set takes %d bytes, after one %d", got, once)
	}
}

// Whoever has read a value overwrites it, also if its writer's clock is ahead.
func TestWriteWinsOverWhatItHasRead(t *testing.T) {
	m := memory{t, latticetest.NewMemory()}
	ctx := t.Context()
	ahead := kvlattice.Timestamp{Wall: time.Now().Add(time.Hour).UnixNano()}
	scores, fields := kvlattice.NewOrderedSet(), kvlattice.NewMap()
	_, err := fields.MergeField("name", kvlattice.NewLWW(Value{Body: []byte(`"old"`)}, ahead, "z"))
	if err := errors.Join(err, scores.Put("ann", 1, ahead, "z"), scores.Put("bob", 1, ahead, "z")); err != nil {
		t.Fatal(err)
	}
	for key, l := range map[string]kvlattice.Lattice{"zset": scores, "map": fields} {
		if _, err := m.store().Merge(ctx, key, l); err != nil {
			t.Fatal(err)
		}
	}
	m.run(1, 1, func(s *State) error {
		_, _, err := s.OrderedSet("zset").Score(ctx, "ann")
		_, err2 := s.Map("map").Fields(ctx)
		return errors.Join(err, err2,
			s.OrderedSet("zset").Put(ctx, "ann", 2), s.OrderedSet("zset").Put(ctx, "ann", 3),
			s.OrderedSet("zset").Remove(ctx, "bob"), s.Map("map").Put(ctx, "name", "new"),
		)
	})()
	m.run(2, 1, func(s *State) error {
		got, err := s.OrderedSet("zset").Range(ctx, 0, 9)
		if err != nil || !slices.Equal(got, []Scored{{"ann", 3}}) {
			t.Errorf("the ordered set holds %v, %v", got, err)
		}
		name, err := Get[string](ctx, &s.Map("map").State, "name")
		if err != nil || name != "new" {
			t.Errorf("the name is %q, %v", name, err)
		}
		return nil
	})
}

// kinds writes the n-th value to every kind of state that is ordered by time.
func kinds(ctx context.Context, s *State, n int) error {
	return errors.Join(
		s.Put(ctx, "register", n),
		s.OrderedSet("zset").Put(ctx, "ann", float64(n)),
		s.Map("map").Put(ctx, "name", n),
		s.Map("map").OrderedSet("scores").Put(ctx, "bob", float64(n)),
		s.Map("map").Map("inner").Put(ctx, "name", n),
	)
}

// shown returns what the kinds hold.
func (m memory) shown() (all []int) {
	m.t.Helper()
	m.run(1_000, 1, func(s *State) error {
		ctx := m.t.Context()
		for _, in := range []*State{s, &s.Map("map").State, &s.Map("map").Map("inner").State} {
			key := "name"
			if in == s {
				key = "register"
			}
			v, found, err := in.Get(ctx, key)
			n := -1
			if found {
				err = errors.Join(err, v.Decode(&n))
			}
			if err != nil {
				m.t.Error(err)
			}
			all = append(all, n)
		}
		for set, member := range map[*OrderedSet]string{s.OrderedSet("zset"): "ann", s.Map("map").OrderedSet("scores"): "bob"} {
			score, found, err := set.Score(ctx, member)
			if err != nil {
				m.t.Error(err)
			}
			if !found {
				score = -1
			}
			all = append(all, int(score))
		}
		return nil
	})
	return all
}

// A server that is killed forgets which calls it had handed out, and hands them out
// again as if for the first time. What they write merges into what is there: nothing
// that was acknowledged since goes back, whatever the order of the repeats.
func TestRepeatedCallsChangeNothing(t *testing.T) {
	const calls = 30
	repeat := func(stored func(seq uint64) time.Time) []int {
		m := memory{t, latticetest.NewMemory()}
		run := func(seq uint64) {
			m.runStored(stored(seq), seq, 1, func(s *State) error { return kinds(t.Context(), s, int(seq)) })()
		}
		for seq := range uint64(calls) {
			run(seq + 1)
		}
		for _, seq := range []uint64{calls - 1, calls, 3, calls - 2, 1} {
			run(seq)
		}
		return m.shown()
	}
	byLog := func(seq uint64) time.Time { return began.Add(time.Duration(seq)) }
	if got := repeat(byLog); !slices.Equal(got, []int{calls, calls, calls, calls, calls}) {
		t.Errorf("after repeats of earlier calls there is %v, want %d everywhere", got, calls)
	}
	// Without the log, the clock of who repeats a call tells the time.
	if got := repeat(func(uint64) time.Time { return time.Now() }); slices.Contains(got, calls) {
		t.Errorf("by the worker's clock there is %v: the test can't see repeats", got)
	}
}

// A deletion is a write like others.
func TestRepeatedDeletionsChangeNothing(t *testing.T) {
	m := memory{t, latticetest.NewMemory()}
	ctx := t.Context()
	remove := func(s *State) error {
		return errors.Join(s.Delete(ctx, "register"), s.OrderedSet("zset").Remove(ctx, "ann"), s.Map("map").Delete(ctx, "name"),
			s.Map("map").OrderedSet("scores").Remove(ctx, "bob"), s.Map("map").Map("inner").Delete(ctx, "name"))
	}
	m.run(1, 1, remove)()
	m.run(2, 1, func(s *State) error { return kinds(ctx, s, 2) })()
	m.run(1, 1, remove)()
	if got := m.shown(); !slices.Equal(got, []int{2, 2, 2, 2, 2}) {
		t.Errorf("after a repeated deletion there is %v", got)
	}
	m.run(3, 1, remove)()
	m.run(2, 1, func(s *State) error { return kinds(ctx, s, 2) })()
	if got := m.shown(); !slices.Equal(got, []int{-1, -1, -1, -1, -1}) {
		t.Errorf("a repeated write brought back %v", got)
	}
}

// Who was told of a result finds that attempt's writes, though an earlier attempt wrote
// more before it died.
func TestLaterAttemptWins(t *testing.T) {
	m := memory{t, latticetest.NewMemory()}
	ctx := t.Context()
	first := m.run(1, 1, func(s *State) error {
		return errors.Join(kinds(ctx, s, 1), kinds(ctx, s, 2), kinds(ctx, s, 3))
	})
	first()
	m.run(1, 2, func(s *State) error { return kinds(ctx, s, 7) })()
	first() // it was only paused
	if got := m.shown(); !slices.Equal(got, []int{7, 7, 7, 7, 7}) {
		t.Errorf("after the second attempt there is %v, want 7 everywhere", got)
	}
	m.run(2, 1, func(s *State) error { return kinds(ctx, s, 8) })()
	m.run(1, 3, func(s *State) error { return kinds(ctx, s, 9) })()
	if got := m.shown(); !slices.Equal(got, []int{8, 8, 8, 8, 8}) {
		t.Errorf("after a further attempt of an earlier call there is %v, want 8 everywhere", got)
	}
}
