package consistency_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cloudburst-nats/cloudburst/consistency"
	"github.com/cloudburst-nats/cloudburst/kvlattice"
	"github.com/cloudburst-nats/cloudburst/kvlattice/latticetest"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// stores has one namespace, "ns".
type stores struct{ state consistency.State }

func (s stores) Store(_ context.Context, namespace string) (consistency.State, error) {
	if namespace != "ns" {
		return nil, &wire.Error{Kind: wire.KindUnknown, Name: namespace}
	}
	return s.state, nil
}

var _ consistency.State = (*kvlattice.Store)(nil)

func open(mem *latticetest.Memory, writer string) stores {
	return stores{kvlattice.New(kvlattice.Config{Writer: writer}, mem, nil)}
}

func id(seq uint64, attempt int) consistency.Identity {
	return consistency.Identity{Writer: "w", Source: "calls", Seq: seq, Node: "n", Attempt: attempt}
}

// session is one at level LWW.
func session(t testing.TB, all consistency.Stores, id consistency.Identity) *consistency.Session {
	t.Helper()
	s, err := consistency.NewSession(consistency.Config{Identity: id, Stores: all, Level: consistency.LWW})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// look describes what a session sees of the keys r, n and s.
func look(t *testing.T, s *consistency.Session) string {
	t.Helper()
	r, found, err := s.Get(t.Context(), "ns", "r")
	must(t, err)
	n, err := s.Counter(t.Context(), "ns", "n")
	must(t, err)
	set, err := s.Set(t.Context(), "ns", "s")
	must(t, err)
	var elements []string
	for _, e := range set {
		elements = append(elements, string(e))
	}
	return fmt.Sprintf("%s %v, %d, %v", r.Body, found, n, elements)
}

func wantLook(t *testing.T, s *consistency.Session, want string) {
	t.Helper()
	if got := look(t, s); got != want {
		t.Errorf("sees %s, want %s", got, want)
	}
}

func raw(s string) json.RawMessage { return json.RawMessage(s) }

func TestSessionSeesItsWritesAndOthersDoAfterFlush(t *testing.T) {
	mem := latticetest.NewMemory()
	all := open(mem, "w")
	s, other := session(t, all, id(1, 1)), session(t, all, id(2, 1))
	ctx := t.Context()
	wantLook(t, s, " false, 0, []")
	must(t, s.Put(ctx, "ns", "r", wire.Value{Body: []byte("1")}))
	must(t, s.Put(ctx, "ns", "r", wire.Value{Body: []byte("2")}))
	must(t, s.AddCounter(ctx, "ns", "n", 5))
	must(t, s.AddCounter(ctx, "ns", "n", -2))
	must(t, s.AddSet(ctx, "ns", "s", raw("2"), raw("1")))
	must(t, s.AddSet(ctx, "ns", "s", raw("3"), raw("1")))
	wantLook(t, s, "2 true, 3, [1 2 3]")
	wantLook(t, other, " false, 0, []")
	must(t, s.Flush(ctx))
	wantLook(t, s, "2 true, 3, [1 2 3]")
	wantLook(t, other, "2 true, 3, [1 2 3]")

	// It goes on, at the same node and at the next.
	must(t, s.AddCounter(ctx, "ns", "n", -1))
	must(t, s.Delete(ctx, "ns", "r"))
	s.SetNode("next")
	must(t, s.AddCounter(ctx, "ns", "n", 10))
	must(t, s.AddSet(ctx, "ns", "s", raw("4")))
	wantLook(t, s, " false, 12, [1 2 3 4]")
	must(t, s.Flush(ctx))
	must(t, s.Flush(ctx))
	wantLook(t, other, " false, 12, [1 2 3 4]")
}

func TestRunThatIsRepeatedCountsOnce(t *testing.T) {
	mem := latticetest.NewMemory()
	for attempt := 1; attempt <= 3; attempt++ {
		s := session(t, open(mem, fmt.Sprint("w", attempt)), id(7, attempt))
		must(t, s.AddCounter(t.Context(), "ns", "n", 5))
		must(t, s.AddCounter(t.Context(), "ns", "n", int64(attempt)))
		must(t, s.Flush(t.Context()))
	}
	wantLook(t, session(t, open(mem, ""), id(8, 1)), " false, 8, []")
}

func TestFlushThatFailedIsRepeated(t *testing.T) {
	for _, outcome := range []latticetest.Outcome{latticetest.Fails, latticetest.Stores} {
		mem := latticetest.NewMemory()
		s := session(t, open(mem, "w"), id(1, 1))
		ctx := t.Context()
		must(t, s.Put(ctx, "ns", "r", wire.Value{Body: []byte("1")}))
		must(t, s.AddCounter(ctx, "ns", "n", 5))
		must(t, s.AddSet(ctx, "ns", "s", raw("1")))
		mem.Fault(func(o latticetest.Op) latticetest.Outcome {
			if o.Name == "put base" || o.Name == "put slot" {
				return outcome
			}
			return latticetest.Works
		})
		if err := s.Flush(ctx); !errors.Is(err, latticetest.ErrInjected) {
			t.Fatalf("outcome %d: %v", outcome, err)
		}
		wantLook(t, s, "1 true, 5, [1]")
		mem.Fault(nil)
		must(t, s.AddCounter(ctx, "ns", "n", -4))
		wantLook(t, s, "1 true, 1, [1]")
		must(t, s.Flush(ctx))
		wantLook(t, s, "1 true, 1, [1]")
		wantLook(t, session(t, open(mem, ""), id(8, 1)), "1 true, 1, [1]")
	}
}

func TestSessionErrors(t *testing.T) {
	s := session(t, open(latticetest.NewMemory(), "w"), id(1, 1))
	ctx := t.Context()
	must(t, s.AddCounter(ctx, "ns", "n", 1))
	_, _, unknown := s.Get(ctx, "nowhere", "k")
	_, notASet := s.Set(ctx, "ns", "n")
	for _, c := range []struct {
		name string
		err  error
		want wire.Kind
	}{
		{"namespace", unknown, wire.KindUnknown},
		{"write to a namespace", s.Put(ctx, "nowhere", "k", wire.Value{}), wire.KindUnknown},
		{"put over a counter", s.Put(ctx, "ns", "n", wire.Value{}), wire.KindLattice},
		{"add to a counter as a set", s.AddSet(ctx, "ns", "n", raw("1")), wire.KindLattice},
		{"read a counter as a set", notASet, wire.KindLattice},
		{"no JSON", s.AddSet(ctx, "ns", "s", raw("{")), wire.KindBadArgument},
		{"no key", s.AddCounter(ctx, "ns", "", 1), wire.KindBadName},
		{"long key", s.AddSet(ctx, "ns", strings.Repeat("k", 1000), raw("1")), wire.KindTooLarge},
	} {
		if got := wire.KindOf(c.err); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, c.err, c.want)
		}
	}
}

func TestSessionIsUsedConcurrently(t *testing.T) {
	mem := latticetest.NewMemory()
	s := session(t, open(mem, "w"), id(1, 1))
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for j := range 50 {
				if err := errors.Join(
					s.AddCounter(context.Background(), "ns", "n", 1),
					s.AddSet(context.Background(), "ns", "s", raw(fmt.Sprint(i*50+j))),
				); err != nil {
					t.Error(err)
				}
				if j%10 == i {
					if err := s.Flush(context.Background()); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	all.Wait()
	must(t, s.Flush(t.Context()))
	fresh := session(t, open(mem, ""), id(2, 1))
	n, err := fresh.Counter(t.Context(), "ns", "n")
	must(t, err)
	set, err := fresh.Set(t.Context(), "ns", "s")
	must(t, err)
	if n != 400 || len(set) != 400 {
		t.Errorf("counted %d, %d elements; want 400 of each", n, len(set))
	}
}

// What came between a read and the write is kept.
func TestWriteKeepsWhatItsRunWasNotShown(t *testing.T) {
	for _, level := range []consistency.Level{consistency.CausalKey, consistency.Causal, consistency.SessionCausal} {
		mem := latticetest.NewMemory()
		at := func(seq uint64, w string) *consistency.Session {
			s, err := consistency.NewSession(consistency.Config{Identity: id(seq, 1), Stores: open(mem, w), Level: level, Pins: new(consistency.Pins)})
			must(t, err)
			return s
		}
		a, b := at(1, "wa"), at(2, "wb")
		ctx := t.Context()
		_, err := a.Versions(ctx, "ns", "k") // a is shown nothing
		must(t, err)
		must(t, b.Put(ctx, "ns", "k", wire.Value{Body: []byte(`"b"`)}))
		must(t, b.Flush(ctx))
		must(t, a.Put(ctx, "ns", "k", wire.Value{Body: []byte(`"a"`)}))
		must(t, a.Flush(ctx))
		got, err := at(3, "wc").Versions(ctx, "ns", "k")
		must(t, err)
		if len(got) != 2 {
			t.Errorf("%s: key holds %d versions, want 2: a's write replaced b's, which a was not shown", level, len(got))
		}
	}
}

func TestLevels(t *testing.T) {
	for _, l := range consistency.Levels() {
		got, err := consistency.ParseLevel(string(l))
		if got != l || err != nil {
			t.Errorf("ParseLevel(%q) = %q, %v", l, got, err)
		}
	}
	if l, err := consistency.ParseLevel(""); l != consistency.LWW || err != nil {
		t.Errorf("no level: %q, %v", l, err)
	}
	_, err := consistency.ParseLevel("strong")
	if wire.KindOf(err) != wire.KindBadArgument || slices.ContainsFunc(consistency.Levels(), func(l consistency.Level) bool {
		return !strings.Contains(err.Error(), string(l))
	}) {
		t.Errorf("unknown level: %v", err)
	}
}

func BenchmarkSessionGet(b *testing.B) {
	mem := latticetest.NewMemory()
	mem.Put("k", kvlattice.Entry{Body: []byte(`{"some":"value"}`)})
	store := kvlattice.New(kvlattice.Config{Writer: "w"}, mem, mem.Feed())
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- store.Run(ctx) }()
	s := session(b, stores{store}, id(1, 1))
	b.ReportAllocs()
	for b.Loop() {
		if _, found, err := s.Get(ctx, "ns", "k"); !found || err != nil {
			b.Fatal(found, err)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
}
