package gossip_test

import (
	"context"
	"fmt"
	"math"
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
	if _, err := gossip.Gossip(t.Context(), server.Client(), "one", []float64{4}); err != nil {
		t.Error(err)
	}
	if _, err := cloudburst.Call[gossip.Estimate](t.Context(), server.Client(), gossip.Actor, gossip.Part{Index: 3}); err == nil {
		t.Error("an actor that isn't of the group did something")
	}
}
