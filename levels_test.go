package cloudburst_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cloudburst-nats/cloudburst"
)

// platform is a server in this process, with a client.
func platform(t *testing.T) *cloudburst.Client {
	t.Helper()
	server, err := cloudburst.Start(t.Context(), cloudburst.ServerConfig{Listen: "none", Store: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return server.Client()
}

// serve runs a worker of a pool until the test ends.
func serve(t *testing.T, client *cloudburst.Client, pool string, handle func(*cloudburst.Worker)) {
	t.Helper()
	w := cloudburst.NewWorker(client, cloudburst.Pool(pool))
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

// A key that changes between two nodes of a run, on two workers, is what it was
// at level Repeatable, and what it is at the others.
func TestRepeatableRunSeesOneVersion(t *testing.T) {
	client := platform(t)
	state := client.State()
	serve(t, client, "one", func(w *cloudburst.Worker) {
		cloudburst.Handle(w, "first", func(ctx context.Context, s *cloudburst.Session, next string) (string, error) {
			seen, err := cloudburst.Get[string](ctx, &s.State, "k")
			if err != nil {
				return "", err
			}
			return seen, state.Put(ctx, "k", next) // somebody else's write
		})
	})
	serve(t, client, "two", func(w *cloudburst.Worker) {
		cloudburst.Handle(w, "second", func(ctx context.Context, s *cloudburst.Session, first string) (string, error) {
			seen, err := cloudburst.Get[string](ctx, &s.State, "k")
			return first + " " + seen, err
		})
	})
	ctx := t.Context()
	if err := client.ApplyDAG(ctx, &cloudburst.Graph{
		Name:  "twice",
		Nodes: []cloudburst.Node{{Name: "first"}, {Name: "second"}},
		Edges: []cloudburst.Edge{{From: "first", To: "second"}},
	}); err != nil {
		t.Fatal(err)
	}
	// With a token the first node reads what was put before the call.
	client = client.With(cloudburst.WithToken(cloudburst.NewToken()))
	run := func(i int, level string) (first, second string) {
		old, next := fmt.Sprint("old", i), fmt.Sprint("new", i)
		if err := client.State().Put(ctx, "k", old); err != nil {
			t.Fatal(err)
		}
		got, err := cloudburst.Call[string](ctx, client.With(cloudburst.WithLevel(level)), "twice", next)
		first, second, _ = strings.Cut(got, " ")
		if err != nil || first != old || second != old && second != next {
			t.Fatalf("%s: read %q, %v, where %q became %q", level, got, err, old, next)
		}
		return first, second
	}
	for i := range 50 {
		if first, second := run(i, cloudburst.Repeatable); first != second {
			t.Fatalf("repeatable: read %q, then %q", first, second)
		}
	}
	for i := 50; ; i++ {
		if first, second := run(i, cloudburst.LWW); first != second {
			return
		}
		if i == 1000 {
			t.Fatal("lww: no run ever saw the key change")
		}
	}
}

// Concurrent writes of a register stand beside each other at the causal levels,
// until a run that saw them writes.
func TestConcurrentWritesAreKept(t *testing.T) {
	client := platform(t)
	var both sync.WaitGroup
	both.Add(2)
	serve(t, client, "default", func(w *cloudburst.Worker) {
		cloudburst.Handle(w, "set", func(ctx context.Context, s *cloudburst.Session, to string) (string, error) {
			if _, _, err := s.Get(ctx, "k"); err != nil {
				return "", err
			}
			both.Done()
			both.Wait() // neither has seen the other's write
			return to, s.Put(ctx, "k", to)
		})
		cloudburst.Handle(w, "settle", func(ctx context.Context, s *cloudburst.Session, to string) (int, error) {
			versions, err := s.Versions(ctx, "k")
			if err != nil {
				return 0, err
			}
			return len(versions), s.Put(ctx, "k", to)
		})
	})
	ctx := t.Context()
	causal := client.With(cloudburst.WithLevel(cloudburst.CausalKey))
	var calls sync.WaitGroup
	for _, to := range []string{"a", "b"} {
		calls.Go(func() {
			if _, err := cloudburst.Call[string](ctx, causal, "set", to); err != nil {
				t.Error(err)
			}
		})
	}
	calls.Wait()
	if got := versions(t, client); !slices.Equal(got, []string{`"a"`, `"b"`}) {
		t.Errorf("the key holds %v", got)
	}
	if seen, err := cloudburst.Call[int](ctx, causal, "settle", "c"); err != nil || seen != 2 {
		t.Errorf("a run saw %d versions, %v", seen, err)
	}
	if got := versions(t, client); !slices.Equal(got, []string{`"c"`}) {
		t.Errorf("the key holds %v", got)
	}
}

func versions(t *testing.T, client *cloudburst.Client) []string {
	t.Helper()
	all, err := client.State().Versions(t.Context(), "k")
	if err != nil {
		t.Fatal(err)
	}
	var bodies []string
	for _, v := range all {
		bodies = append(bodies, string(v.Body))
	}
	slices.Sort(bodies)
	return bodies
}

// What a transactional function writes is read all or nothing.
func TestTransaction(t *testing.T) {
	client := platform(t)
	serve(t, client, "default", func(w *cloudburst.Worker) {
		cloudburst.Handle(w, "move", func(ctx context.Context, s *cloudburst.Session, n int) (int, error) {
			if err := s.Put(ctx, "left", n); err != nil {
				return 0, err
			}
			return n, s.Put(ctx, "right", n)
		}, cloudburst.Transactional())
	})
	ctx := t.Context()
	var calls sync.WaitGroup
	calls.Go(func() {
		for n := range 50 {
			if got, err := cloudburst.Call[int](ctx, client, "move", n); err != nil || got != n {
				t.Errorf("move %d: %d, %v", n, got, err)
			}
		}
	})
	done := make(chan struct{})
	go func() { calls.Wait(); close(done) }()
	for reads := 0; ; reads++ {
		v, found, err := client.State().GetAll(ctx, "left", "right")
		if err != nil {
			t.Fatal(err)
		}
		if found[0] != found[1] || string(v[0].Body) != string(v[1].Body) {
			t.Fatalf("read %s and %s", v[0].Body, v[1].Body)
		}
		select {
		case <-done:
			if string(v[0].Body) == "49" && reads > 10 {
				return
			}
		default:
		}
	}
}

// A caller's token has its next call see what the last one wrote.
func TestTokenGoesFromCallToCall(t *testing.T) {
	client := platform(t)
	serve(t, client, "default", func(w *cloudburst.Worker) {
		cloudburst.Handle(w, "keep", func(ctx context.Context, s *cloudburst.Session, v string) (string, error) {
			return v, s.Put(ctx, "k", v)
		})
	})
	token := cloudburst.NewToken()
	fresh := token.String()
	if _, err := cloudburst.Call[string](t.Context(), client.With(cloudburst.WithToken(token)), "keep", "x"); err != nil {
		t.Fatal(err)
	}
	if token.String() == fresh {
		t.Errorf("the token is still %s", token)
	}
	again, err := cloudburst.ParseToken(token.String())
	if err != nil || again.String() != token.String() {
		t.Errorf("parsed again: %v, %v", again, err)
	}
}
