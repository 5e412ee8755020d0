package cloudburst_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloudburst-nats/cloudburst"
	"github.com/cloudburst-nats/cloudburst/kvlattice"
)

// A conflict has the branches of a run read two versions of a key in its first try.
type conflict struct {
	tries        atomic.Int64  // of branch a
	reads        atomic.Int64  // of branch b
	goOn         chan struct{} // for branch a, in its first try
	bReads, bEnd chan struct{} // of branch b, likewise
}

func newConflict() *conflict {
	return &conflict{goOn: make(chan struct{}), bReads: make(chan struct{}), bEnd: make(chan struct{})}
}

// countOne counts in every kind of counter.
func countOne(ctx context.Context, s *cloudburst.State) error {
	return errors.Join(s.Counter("hits").Add(ctx, 1), s.Grow("grow").Add(ctx, 1), s.Map("map").Counter("n").Add(ctx, 1))
}

// A run begins again after the calls of its first try were folded into the totals of what
// others count, too. Whether its first try had counted or not, it counts once.
func TestCountsOfARunThatBeginsAgain(t *testing.T) {
	client := platform(t)
	var now atomic.Pointer[conflict]
	counting := func(w *cloudburst.Worker) {
		cloudburst.Handle(w, "src", func(_ context.Context, _ *cloudburst.Session, n int) (int, error) { return n, nil })
		cloudburst.Handle(w, "a", func(ctx context.Context, s *cloudburst.Session, n int) (string, error) {
			c := now.Load()
			first := c.tries.Add(1) == 1
			if first {
				<-c.goOn
			}
			v, err := cloudburst.Get[string](ctx, &s.State, fmt.Sprint("k", n))
			if err == nil && (!first || n%2 == 1) {
				err = countOne(ctx, &s.State)
			}
			return v, err
		})
		cloudburst.Handle(w, "j", func(_ context.Context, _ *cloudburst.Session, p struct{ A, B string }) (string, error) {
			return p.A + " " + p.B, nil
		})
		cloudburst.Handle(w, "bump", func(ctx context.Context, s *cloudburst.Session, n int) (int, error) {
			return n, countOne(ctx, &s.State)
		})
	}
	serve(t, client, "one", counting) // two workers write the counters, so that they are folded
	serve(t, client, "one", counting)
	serve(t, client, "two", func(w *cloudburst.Worker) {
		cloudburst.Handle(w, "b", func(ctx context.Context, s *cloudburst.Session, n int) (string, error) {
			c := now.Load()
			v, err := cloudburst.Get[string](ctx, &s.State, fmt.Sprint("k", n))
			if c.reads.Add(1) == 1 {
				close(c.bReads)
				<-c.bEnd
			}
			return v, err
		})
	})
	err := client.ApplyDAG(t.Context(), &cloudburst.Graph{
		Name: "g", Level: cloudburst.Repeatable,
		Nodes: []cloudburst.Node{{Name: "src"}, {Name: "a"}, {Name: "b"}, {Name: "j"}},
		Edges: []cloudburst.Edge{{From: "src", To: "a"}, {From: "src", To: "b"}, {From: "a", To: "j", Arg: "A"}, {From: "b", To: "j", Arg: "B"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := 0
	for n := range 4 {
		c := newConflict()
		now.Store(c)
		key := fmt.Sprint("k", n)
		if err := client.State().Put(t.Context(), key, "old"); err != nil {
			t.Fatal(err)
		}
		run, err := cloudburst.Go[string](t.Context(), client, "g", n)
		if err != nil {
			t.Fatal(err)
		}
		<-c.bReads
		if err := client.State().Put(t.Context(), key, "new"); err != nil {
			t.Fatal(err)
		}
		close(c.goOn)
		want += bump(t, client, 20)
		want += fold(t, client)
		close(c.bEnd)
		result, err := run.Wait(t.Context())
		if err != nil || result != "old old" {
			t.Fatalf("run %d: %q, %v", n, result, err)
		}
		run.Close()
		want++
		totals(t, client, want, n)
	}
	want += fold(t, client)
	totals(t, client, want, -1)
}

// bump counts n times at once.
func bump(t *testing.T, client *cloudburst.Client, n int) int {
	t.Helper()
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			if _, err := cloudburst.Call[int](t.Context(), client, "bump", 1); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	return n
}

// fold has others count until all calls that have ended by now are in the totals, and
// returns how often they counted.
func fold(t *testing.T, client *cloudburst.Client) (bumps int) {
	t.Helper()
	b, marks := client.Broker(), client.Broker().NewWatermarks()
	bucket, err := b.OpenBucket(t.Context(), "state")
	if err != nil {
		t.Fatal(err)
	}
	store := kvlattice.New(kvlattice.Config{}, bucket, nil)
	target, settled, counted := uint64(0), uint64(0), time.Time{}
	for began := time.Now(); time.Since(began) < time.Minute; {
		if target == 0 {
			lag, err := b.Lag(t.Context(), "one")
			if err != nil {
				t.Fatal(err)
			}
			if lag.Pending > 0 || lag.AckPending > 0 {
				continue
			}
			if target, _, err = marks.Pool(t.Context(), "one"); err != nil {
				t.Fatal(err)
			}
		}
		settled = target
		for _, key := range []string{"hits", "grow"} {
			l, _, err := store.Read(t.Context(), key, 0)
			if err != nil {
				t.Fatal(err)
			}
			settled = min(settled, settledUpTo(t, l))
		}
		if settled >= target {
			return bumps
		}
		if time.Since(counted) > time.Second { // slots are folded once they rest
			bumps += bump(t, client, 2)
			counted = time.Now()
		}
	}
	t.Fatalf("the counters were folded up to call %d of %d within a minute", settled, target)
	return 0
}

// settledUpTo returns up to which call of the pool a counter has all in its total.
func settledUpTo(t *testing.T, l kvlattice.Lattice) uint64 {
	t.Helper()
	h, _ := l.Encode()
	for part := range strings.SplitSeq(strings.Join(h["Cb-Counter"], ""), ";") {
		fields := strings.Split(part, "|")
		if source, err := url.PathUnescape(fields[0]); err != nil || !strings.HasPrefix(source, "CB_CALLS_one@") || strings.HasSuffix(source, "!") {
			continue
		}
		n, err := strconv.ParseUint(fields[1], 10, 64)
		if err != nil {
			t.Fatalf("the counter says %q: %v", part, err)
		}
		return n
	}
	return 0
}

func totals(t *testing.T, client *cloudburst.Client, want, run int) {
	t.Helper()
	ctx, s := t.Context(), client.State()
	hits, err := s.Counter("hits").Value(ctx)
	grow, err2 := s.Grow("grow").Value(ctx)
	field, err3 := s.Map("map").Counter("n").Value(ctx)
	if err := errors.Join(err, err2, err3); err != nil || hits != int64(want) || grow != int64(want) || field != int64(want) {
		t.Errorf("after run %d: counted %d, %d and %d, %v; want %d", run, hits, grow, field, err, want)
	}
}
