package cloudburst_test

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloudburst-nats/cloudburst"
)

// within bounds what would else wait for ever; it is far longer than anything here takes.
const within = 2 * time.Minute

// fib calls itself through the platform, for fib(n-1) and fib(n-2): one after the other, or
// both at once.
func fib(w *cloudburst.Worker, name string, atOnce bool) {
	cloudburst.Handle(w, name, func(ctx context.Context, s *cloudburst.Session, n int) (int, error) {
		if n < 2 {
			return n, nil
		}
		if !atOnce {
			a, err := cloudburst.Call[int](ctx, s.Client(), name, n-1)
			if err != nil {
				return 0, err
			}
			b, err := cloudburst.Call[int](ctx, s.Client(), name, n-2)
			return a + b, err
		}
		a, err := cloudburst.Go[int](ctx, s.Client(), name, n-1)
		if err != nil {
			return 0, err
		}
		b, err := cloudburst.Go[int](ctx, s.Client(), name, n-2)
		if err != nil {
			return 0, err
		}
		x, errX := a.Wait(ctx)
		y, errY := b.Wait(ctx)
		return x + y, errors.Join(errX, errY)
	}, cloudburst.Timeout(within), cloudburst.Attempts(1))
}

// serveWith runs a worker of the default pool until the test ends.
func serveWith(t *testing.T, client *cloudburst.Client, handle func(*cloudburst.Worker), opts ...cloudburst.WorkerOption) {
	t.Helper()
	w := cloudburst.NewWorker(client, opts...)
	handle(w)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.Serve(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	select {
	case <-w.Ready():
	case err := <-ended:
		t.Fatal(err)
	}
}

// Functions that wait for calls of their own pool leave it their slots.
func TestNestedCallsEndInAnyPool(t *testing.T) {
	for _, slots := range []int{1, 2, 4} {
		t.Run(fmt.Sprintf("%d slots", slots), func(t *testing.T) {
			client := platform(t)
			serveWith(t, client, func(w *cloudburst.Worker) {
				fib(w, "fib", false)
				fib(w, "fib-at-once", true)
				for _, pair := range [][2]string{{"even", "odd"}, {"odd", "even"}} {
					cloudburst.Handle(w, pair[0], func(ctx context.Context, s *cloudburst.Session, n int) (bool, error) {
						if n == 0 {
							return pair[0] == "even", nil
						}
						return cloudburst.Call[bool](ctx, s.Client(), pair[1], n-1)
					}, cloudburst.Timeout(within))
				}
			}, cloudburst.Slots(slots))
			ctx, cancel := context.WithTimeout(t.Context(), within)
			defer cancel()
			for _, name := range []string{"fib", "fib-at-once"} {
				if got, err := cloudburst.Call[int](ctx, client, name, 12); err != nil || got != 144 {
					t.Errorf("%s(12) = %d, %v, want 144", name, got, err)
				}
			}
			if even, err := cloudburst.Call[bool](ctx, client, "even", 21); err != nil || even {
				t.Errorf("even(21) = %v, %v", even, err)
			}
			// The last one that fits, and the first that doesn't.
			if even, err := cloudburst.Call[bool](ctx, client, "even", 63); err != nil || even {
				t.Errorf("even(63) = %v, %v", even, err)
			}
			if _, err := cloudburst.Call[bool](ctx, client, "even", 64); err == nil || !strings.Contains(err.Error(), "64 is the most") {
				t.Errorf("even(64), one call too deep: %v", err)
			}
		})
	}
}

// At a worker's bound of calls in hand no call gets lost, and none stands still.
func TestMoreNestedCallsThanAWorkerHasInHand(t *testing.T) {
	client := platform(t)
	serveWith(t, client, func(w *cloudburst.Worker) { fib(w, "fib", true) }, cloudburst.Slots(1), cloudburst.InHand(1)) // the least: 65
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	var all sync.WaitGroup
	for range 150 {
		all.Go(func() {
			if got, err := cloudburst.Call[int](ctx, client, "fib", 3); err != nil || got != 2 {
				t.Errorf("fib(3) = %d, %v, want 2", got, err)
			}
		})
	}
	all.Wait()
}

// A function that calls a DAG whose node is a DAG, and functions that wait for each other's
// messages, need one slot.
func TestWhateverIsWaitedForRunsInOneSlot(t *testing.T) {
	client := platform(t)
	serveWith(t, client, func(w *cloudburst.Worker) {
		cloudburst.Handle(w, "add", func(_ context.Context, _ *cloudburst.Session, n int) (int, error) { return n + 1, nil })
		cloudburst.Handle(w, "outer", func(ctx context.Context, s *cloudburst.Session, n int) (int, error) {
			return cloudburst.Call[int](ctx, s.Client(), "two", n)
		}, cloudburst.Timeout(within))
		cloudburst.Handle(w, "ping", func(ctx context.Context, s *cloudburst.Session, to string) (string, error) {
			if to == "" { // waits to be asked
				msg, _, err := s.Recv(ctx, within)
				if err != nil {
					return "", err
				}
				return msg.From, s.Send(ctx, msg.From, "pong")
			}
			if err := s.Send(ctx, to, "ping"); err != nil {
				return "", err
			}
			msg, _, err := s.Recv(ctx, within)
			return msg.From, err
		}, cloudburst.Timeout(within))
	}, cloudburst.Slots(1))
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	for _, g := range []*cloudburst.Graph{
		{Name: "one", Nodes: []cloudburst.Node{{Name: "a", Function: "add"}, {Name: "b", Function: "add"}}, Edges: []cloudburst.Edge{{From: "a", To: "b"}}},
		{Name: "two", Nodes: []cloudburst.Node{{Name: "x", DAG: "one"}, {Name: "y", DAG: "one"}, {Name: "z", Function: "add"}}, Edges: []cloudburst.Edge{{From: "x", To: "y"}, {From: "y", To: "z"}}},
	} {
		if err := client.ApplyDAG(ctx, g); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := cloudburst.Call[int](ctx, client, "outer", 1); err != nil || got != 6 {
		t.Errorf("a function that calls a DAG of DAGs = %d, %v, want 6", got, err)
	}
	waits, err := cloudburst.Go[string](ctx, client.With(cloudburst.WithRunID("waits")), "ping", "")
	if err != nil {
		t.Fatal(err)
	}
	asks, err := cloudburst.Call[string](ctx, client, "ping", "waits")
	if err != nil || asks != "waits" {
		t.Errorf("the one that asks heard of %q, %v", asks, err)
	}
	if _, err := waits.Wait(ctx); err != nil {
		t.Errorf("the one that is asked: %v", err)
	}
}

// A program of one instance that calls itself gets further instances for its calls.
func TestNestedCallsOfAPython(t *testing.T) {
	if _, err := exec.LookPath("python3"); err != nil {
		t.Fatalf("this test needs Python: %v", err)
	}
	client := platform(t)
	serveWith(t, client, func(*cloudburst.Worker) {}, cloudburst.Deployed(t.TempDir()), cloudburst.Slots(2))
	deploy := func(name string, source string) {
		t.Helper()
		_, err := client.Deploy(t.Context(), cloudburst.Deployment{
			Name: name, Image: []byte(source), Concurrency: 1, Attempts: 1, Timeout: within,
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	deploy("fib", `
def handler(cb, n):
    return n if n < 2 else cb.call("fib", n - 1) + cb.call("fib", n - 2)
`)
	deploy("chain", `
def handler(cb, n):
    return 0 if n == 0 else 1 + cb.call("chain", n - 1)
`)
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() {
			if got, err := cloudburst.Call[int](ctx, client, "fib", 9); err != nil || got != 34 {
				t.Errorf("fib(9) = %d, %v, want 34", got, err)
			}
		})
	}
	all.Wait()
	if got, err := cloudburst.Call[int](ctx, client, "chain", 12); err != nil || got != 12 {
		t.Errorf("chain(12) = %d, %v", got, err)
	}
}
