package cloudburst_test

import (
	"context"
	"testing"
	"time"

	"github.com/cloudburst-nats/cloudburst"
	"github.com/cloudburst-nats/cloudburst/broker/wire"
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
