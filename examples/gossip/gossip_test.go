package gossip_test

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"testing"

	"github.com/cloudburst-nats/cloudburst"
	"github.com/cloudburst-nats/cloudburst/examples/gossip"
)

// Ten actors on two workers, and a leader, come to the same average.
func TestAverage(t *testing.T) {
	server, err := cloudburst.Start(t.Context(), cloudburst.ServerConfig{Listen: "none", Store: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	ctx, stop := context.WithCancel(t.Context())
	var serving sync.WaitGroup
	t.Cleanup(func() { stop(); serving.Wait() })
	for range 2 {
		w := cloudburst.NewWorker(server.Client(), cloudburst.Pool(gossip.Pool), cloudburst.Slots(8))
		gossip.Register(w)
		serving.Go(func() {
			if err := w.Serve(ctx); err != nil {
				t.Error(err)
			}
		})
		<-w.Ready()
	}
	values := []float64{5, 1, 9, 100, 3, 20, 7, 8, 30, 17}
	const mean = 20
	for round := range 5 {
		estimates, err := gossip.Gossip(t.Context(), server.Client(), fmt.Sprintf("g%d", round), values)
		if err != nil {
			t.Fatal(err)
		}
		for i, e := range estimates {
			if math.Abs(e.Mean-mean) > 0.05*mean {
				t.Errorf("actor %d: %v after %d rounds, want %v within 5 %%", i, e.Mean, e.Rounds, mean)
			}
		}
		if got, err := gossip.Gather(t.Context(), server.Client(), fmt.Sprintf("h%d", round), values); err != nil || got != mean {
			t.Errorf("gathered: %v, %v, want %v", got, err, mean)
		}
	}
	late(t, server.Client(), values)
	if _, err := gossip.Gossip(t.Context(), server.Client(), "one", []float64{4}); err != nil {
		t.Error(err)
	}
	if _, err := cloudburst.Call[gossip.Estimate](t.Context(), server.Client(), gossip.Actor, gossip.Part{Index: 3}); err == nil {
		t.Error("an actor that isn't of the group did something")
	}
}

// late has the last actor begin when the others have talked for a while: they wait for
// what it has, which is most of the average.
func late(t *testing.T, c *cloudburst.Client, values []float64) {
	t.Helper()
	values = append(slices.Clone(values), 1000)
	mean := 0.0
	for _, v := range values {
		mean += v / float64(len(values))
	}
	var futures []*cloudburst.Future[gossip.Estimate]
	begin := func(i int) {
		run := cloudburst.RunID(fmt.Sprintf("late/%d", i))
		part := gossip.Part{Group: "late", Index: i, Size: len(values), Value: values[i]}
		f, err := cloudburst.Go[gossip.Estimate](t.Context(), c.With(cloudburst.WithRunID(run)), gossip.Actor, part)
		if err != nil {
			t.Fatal(err)
		}
		futures = append(futures, f)
	}
	for i := range len(values) - 1 {
		begin(i)
	}
	for i := range 20 { // takes longer than gossip does
		if _, err := gossip.Gather(t.Context(), c, fmt.Sprintf("meanwhile%d", i), values[:4]); err != nil {
			t.Fatal(err)
		}
	}
	begin(len(values) - 1)
	for i, f := range futures {
		if e, err := f.Wait(t.Context()); err != nil || math.Abs(e.Mean-mean) > 0.05*mean {
			t.Errorf("actor %d, with a late one: %+v, %v, want %v within 5 %%", i, e, err, mean)
		}
	}
}
