package cloudburst_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"

	"github.com/cloudburst-nats/cloudburst"
)

// start runs a platform inside the process and serves what handle adds. The
// returned func ends both.
func start(handle func(w *cloudburst.Worker)) (*cloudburst.Client, func()) {
	ctx, stop := context.WithCancel(context.Background())
	dir, err := os.MkdirTemp("", "cloudburst")
	if err != nil {
		log.Fatal(err)
	}
	server, err := cloudburst.Start(ctx, cloudburst.ServerConfig{Listen: "none", Store: dir})
	if err != nil {
		log.Fatal(err)
	}
	w := cloudburst.NewWorker(server.Client())
	handle(w)
	served := make(chan error, 1)
	go func() { served <- w.Serve(ctx) }()
	select {
	case <-w.Ready():
	case err := <-served:
		log.Fatal(err)
	}
	return server.Client(), func() {
		stop()
		if err := errors.Join(<-served, server.Close(), os.RemoveAll(dir)); err != nil {
			log.Fatal(err)
		}
	}
}

func square(_ context.Context, _ *cloudburst.Session, x int) (int, error) { return x * x, nil }

func increment(_ context.Context, _ *cloudburst.Session, x int) (int, error) { return x + 1, nil }

func ExampleCall() {
	client, stop := start(func(w *cloudburst.Worker) { cloudburst.Handle(w, "square", square) })
	defer stop()
	y, err := cloudburst.Call[int](context.Background(), client, "square", 5)
	fmt.Println(y, err)
	_, err = cloudburst.Call[int](context.Background(), client, "squer", 5)
	fmt.Println(errors.Is(err, cloudburst.ErrUnknown))
	// Output:
	// 25 <nil>
	// true
}

func ExampleGo() {
	ctx := context.Background()
	client, stop := start(func(w *cloudburst.Worker) { cloudburst.Handle(w, "square", square) })
	defer stop()
	nine, err := cloudburst.Go[int](ctx, client, "square", 3) // stored: it will run
	if err != nil {
		fmt.Println(err)
		return
	}
	defer nine.Close()
	// The future is the argument of another call, whose worker waits for it.
	y, err := cloudburst.Call[int](ctx, client, "square", nine)
	fmt.Println(y, err)
	// Output: 81 <nil>
}

func ExampleHandle() {
	ctx := context.Background()
	client, stop := start(func(w *cloudburst.Worker) {
		cloudburst.Handle(w, "visit", func(ctx context.Context, s *cloudburst.Session, page string) (int64, error) {
			visits := s.Counter("visits:" + page)
			if err := visits.Add(ctx, 1); err != nil {
				return 0, err
			}
			return visits.Value(ctx) // reads its own write
		})
	})
	defer stop()
	for range 3 {
		if _, err := cloudburst.Call[int](ctx, client, "visit", "home"); err != nil {
			fmt.Println(err)
		}
	}
	fmt.Println(client.State().Counter("visits:home").Value(ctx))
	// Output: 3 <nil>
}

func ExampleRef() {
	ctx := context.Background()
	client, stop := start(func(w *cloudburst.Worker) {
		cloudburst.Handle(w, "sum", func(_ context.Context, _ *cloudburst.Session, lists [][]float64) (sum float64, err error) {
			for _, list := range lists {
				for _, x := range list {
					sum += x
				}
			}
			return sum, nil
		})
	})
	defer stop()
	for key, list := range map[string][]float64{"a": {1, 2}, "b": {3, 4}} {
		if err := client.State().Put(ctx, key, list); err != nil {
			fmt.Println(err)
		}
	}
	// The worker resolves references from its cache before the function runs.
	fmt.Println(cloudburst.Call[float64](ctx, client, "sum", cloudburst.Ref("a"), cloudburst.Ref("b")))
	// Output: 10 <nil>
}

func ExampleClient_ApplyDAG() {
	ctx := context.Background()
	client, stop := start(func(w *cloudburst.Worker) {
		cloudburst.Handle(w, "square", square)
		cloudburst.Handle(w, "increment", increment)
	})
	defer stop()
	err := client.ApplyDAG(ctx, &cloudburst.Graph{
		Name:  "compose",
		Nodes: []cloudburst.Node{{Name: "increment"}, {Name: "square"}},
		Edges: []cloudburst.Edge{{From: "increment", To: "square"}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(cloudburst.Call[int](ctx, client, "compose", 4))
	// Output: 25 <nil>
}

func ExampleClient_With() {
	ctx := context.Background()
	client, stop := start(func(w *cloudburst.Worker) {
		cloudburst.Handle(w, "charge", func(ctx context.Context, s *cloudburst.Session, amount int64) (int64, error) {
			return amount, s.Counter("charged").Add(ctx, amount)
		})
	})
	defer stop()
	order := client.With(cloudburst.WithRunID("order-17"))
	for range 2 { // the second one is the same run: it isn't run again
		if _, err := cloudburst.Call[int64](ctx, order, "charge", 100); err != nil {
			fmt.Println(err)
		}
	}
	fmt.Println(client.State().Counter("charged").Value(ctx))
	// Output: 100 <nil>
}

func ExampleState_OrderedSet() {
	ctx := context.Background()
	type game struct {
		Player string
		Score  float64
	}
	client, stop := start(func(w *cloudburst.Worker) {
		cloudburst.Handle(w, "score", func(ctx context.Context, s *cloudburst.Session, g game) (any, error) {
			player := s.Map("player:" + g.Player) // each field merges as what it is
			return nil, errors.Join(
				s.OrderedSet("ranking").Put(ctx, g.Player, g.Score),
				player.Counter("games").Add(ctx, 1),
				player.Max("best").Raise(ctx, g.Score),
			)
		})
	})
	defer stop()
	for _, g := range []game{{"ann", 3}, {"bob", 5}, {"ann", 9}, {"ann", 4}} {
		if _, err := cloudburst.Call[any](ctx, client, "score", g); err != nil {
			fmt.Println(err)
		}
	}
	fmt.Println(client.State().OrderedSet("ranking").Range(ctx, 0, 10))
	ann, _, err := client.State().Get(ctx, "player:ann")
	fmt.Println(string(ann.Body), err)
	// Output:
	// [{ann 4} {bob 5}] <nil>
	// {"best":9,"games":3} <nil>
}
