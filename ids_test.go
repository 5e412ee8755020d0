package cloudburst_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/cloudburst-nats/cloudburst"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// TestCallsUnderIDsDerivedOfTheirRuns has the functions of a DAG call others under every
// id that looks like one which the platform derives of their run's. The run must come to
// its end, each node once, and so must each of the calls.
func TestCallsUnderIDsDerivedOfTheirRuns(t *testing.T) {
	client := platform(t)
	derived := []string{"/ship", "/inner", "/parts", "/parts.0", "/0/ship", "/again", "/again1", "/1", "/ship=1", "-1"}
	ran := make(chan string, 100)
	node := func(name string) func(context.Context, *cloudburst.Session, int) (int, error) {
		return func(_ context.Context, s *cloudburst.Session, n int) (int, error) {
			ran <- name + " of " + string(s.Run())
			return n, nil
		}
	}
	serve(t, client, "default", func(w *cloudburst.Worker) {
		cloudburst.Handle(w, "check", func(ctx context.Context, s *cloudburst.Session, n int) (int, error) {
			for i, suffix := range derived {
				got, err := cloudburst.Call[int](ctx, s.Client().With(cloudburst.WithRunID(s.Run()+cloudburst.RunID(suffix))), "echo", i)
				if err != nil || got != i {
					t.Errorf("the call under %s%s = %d, %v, want %d", s.Run(), suffix, got, err, i)
				}
			}
			return n, nil
		})
		cloudburst.Handle(w, "echo", func(_ context.Context, _ *cloudburst.Session, n int) (int, error) { return n, nil })
		cloudburst.Handle(w, "ship", node("ship"))
		cloudburst.Handle(w, "parts", node("parts"))
		cloudburst.Handle(w, "list", func(_ context.Context, _ *cloudburst.Session, n int) ([]int, error) { return []int{n, n}, nil })
		cloudburst.Handle(w, "leaf", node("leaf"))
	})
	for _, g := range []*cloudburst.Graph{
		{Name: "contained", Nodes: []cloudburst.Node{{Name: "leaf"}}},
		{
			Name:  "order",
			Nodes: []cloudburst.Node{{Name: "check"}, {Name: "ship"}, {Name: "inner", DAG: "contained"}, {Name: "list"}, {Name: "parts", Each: true}},
			Edges: []cloudburst.Edge{{From: "check", To: "ship"}, {From: "check", To: "inner"}, {From: "check", To: "list"}, {From: "list", To: "parts"}},
		},
	} {
		if err := client.ApplyDAG(t.Context(), g); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	got, err := cloudburst.Call[map[string]any](ctx, client.With(cloudburst.WithRunID("order-17")), "order", 5)
	if err != nil || len(got) != 3 || got["ship"] != 5.0 || got["inner"] != 5.0 {
		t.Fatalf("the run ended with %v, %v", got, err)
	}
	times := map[string]int{}
	for len(ran) > 0 {
		times[<-ran]++
	}
	for what, want := range map[string]int{"ship of order-17": 1, "leaf of order-17/inner=dag": 1, "parts of order-17": 2} {
		if times[what] != want {
			t.Errorf("%s ran %d times, want %d", what, times[what], want)
		}
	}
	for _, id := range []cloudburst.RunID{"order-17/ship=dag", "order-17-1=replay", "CB_CALLS_default-3"} {
		if _, err := cloudburst.Call[int](ctx, client.With(cloudburst.WithRunID(id)), "echo", 1); wire.KindOf(err) != wire.KindBadName {
			t.Errorf("a call under the platform's own id %q: %v, want it refused", id, err)
		}
	}
}

// An id is one call's, in whatever pool: a later call of another function, or with another
// argument, hears so when it is stored, also if nobody waits for its result.
func TestAnIDIsOneCallsAtEveryDoor(t *testing.T) {
	client := platform(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	begun, gate := make(chan struct{}, 1), make(chan struct{})
	same := func(_ context.Context, _ *cloudburst.Session, n int) (int, error) { return n, nil }
	serve(t, client, "one", func(w *cloudburst.Worker) {
		cloudburst.Handle(w, "f", same)
		cloudburst.Handle(w, "hold", func(_ context.Context, _ *cloudburst.Session, n int) (int, error) {
			begun <- struct{}{}
			<-gate
			return n, nil
		})
	})
	serve(t, client, "two", func(w *cloudburst.Worker) { cloudburst.Handle(w, "g", same) })
	as := func(id string) *cloudburst.Client { return client.With(cloudburst.WithRunID(cloudburst.RunID(id))) }
	later := cloudburst.After(time.Hour)
	if _, err := cloudburst.Call[int](ctx, as("ended"), "f", 1); err != nil {
		t.Fatal(err)
	}
	held, err := cloudburst.Go[int](ctx, as("held"), "hold", 1)
	if err == nil {
		_, err = cloudburst.Go[int](ctx, as("later").With(later), "f", 1)
	}
	if err != nil {
		t.Fatal(err)
	}
	<-begun
	start := func(c *cloudburst.Client, name string, arg int) error {
		_, err := cloudburst.Go[int](ctx, c, name, arg)
		return err
	}
	call := func(c *cloudburst.Client, name string, arg int) error {
		_, err := cloudburst.Call[int](ctx, c, name, arg)
		return err
	}
	for _, c := range []struct {
		what string
		err  error
	}{
		{"start of another pool's, the first has ended", start(as("ended"), "g", 1)},
		{"start with another argument, the first has ended", start(as("ended"), "f", 2)},
		{"timer, the first has ended", start(as("ended").With(later), "g", 1)},
		{"start of another pool's, the first runs", start(as("held"), "g", 1)},
		{"timer, the first runs", start(as("held").With(later), "g", 1)},
		{"start, the first waits for its time", start(as("later"), "g", 1)},
		{"start with another argument, the first waits for its time", start(as("later"), "f", 2)},
		{"call, the first waits for its time", call(as("later"), "g", 1)},
		{"timer with another argument, the first waits for its time", start(as("later").With(later), "f", 2)},
	} {
		if !errors.Is(c.err, cloudburst.ErrConflict) {
			t.Errorf("%s: %v, want ErrConflict", c.what, c.err)
		}
	}
	if err := start(as("ended"), "f", 1); err != nil {
		t.Errorf("the same call again: %v", err)
	}
	close(gate)
	if n, err := held.Wait(ctx); n != 1 || err != nil {
		t.Errorf("the first call returns %d, %v", n, err)
	}
}
