package cloudburst_test

import (
	"context"
	"errors"
	"maps"
	"testing"
	"time"

	"github.com/cloudburst-nats/cloudburst"
	"github.com/cloudburst-nats/cloudburst/broker"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// Whatever is asked of a client that was closed ends with an error: nothing waits for
// what can't come any more.
func TestNothingWaitsOnAClosedClient(t *testing.T) {
	server, err := cloudburst.Start(t.Context(), cloudburst.ServerConfig{Listen: "127.0.0.1:0", Store: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	hold := make(chan struct{})
	serve(t, server.Client(), "default", func(w *cloudburst.Worker) {
		cloudburst.Handle(w, "hold", func(context.Context, *cloudburst.Session, int) (int, error) {
			<-hold
			return 1, nil
		})
	})
	t.Cleanup(func() { close(hold) })
	client, err := cloudburst.Connect(t.Context(), server.URL())
	if err != nil {
		t.Fatal(err)
	}
	f, err := cloudburst.Go[int](t.Context(), client, "hold", 1)
	if err != nil {
		t.Fatal(err)
	}
	used := client.State()
	if err := used.Put(t.Context(), "k", 1); err != nil {
		t.Fatal(err)
	}
	attached := cloudburst.Attach[int](client, f.Run())
	client.Close()
	b := client.Broker()
	asked := map[string]func(ctx context.Context) error{
		"Call":        func(ctx context.Context) error { _, err := cloudburst.Call[int](ctx, client, "hold", 1); return err },
		"Go":          func(ctx context.Context) error { _, err := cloudburst.Go[int](ctx, client, "hold", 1); return err },
		"Future.Wait": func(ctx context.Context) error { _, err := f.Wait(ctx); return err },
		"Attach.Wait": func(ctx context.Context) error { _, err := attached.Wait(ctx); return err },
		"Result":      func(ctx context.Context) error { _, err := client.Result(ctx, f.Run()); return err },
		"Cancel":      func(ctx context.Context) error { return client.Cancel(ctx, f.Run()) },
		"Signal":      func(ctx context.Context) error { return client.Signal(ctx, f.Run(), "s", 1) },
		"Send":        func(ctx context.Context) error { return client.Send(ctx, "somebody", 1) },
		"DAGs":        func(ctx context.Context) error { _, err := client.DAGs(ctx); return err },
		"Functions":   func(ctx context.Context) error { _, err := client.Functions(ctx); return err },
		"Rollback":    func(ctx context.Context) error { _, err := client.Rollback(ctx, "hold", 1); return err },
		"Remove":      func(ctx context.Context) error { return client.RemoveFunction(ctx, "hold") },
		"Deploy": func(ctx context.Context) error {
			_, err := client.Deploy(ctx, cloudburst.Deployment{Name: "f", Runtime: "python", Image: []byte("def handler(c):\n  return 1\n")})
			return err
		},
		"Logs": func(ctx context.Context) error {
			return client.Logs(ctx, cloudburst.LogFilter{Function: "hold", Follow: true}, func(cloudburst.LogLine) error { return nil })
		},
		"Put":     func(ctx context.Context) error { return used.Put(ctx, "k", 2) },
		"Get":     func(ctx context.Context) error { _, _, err := used.Get(ctx, "k"); return err },
		"Counter": func(ctx context.Context) error { return client.State().Counter("c").Add(ctx, 1) },
		"In":      func(ctx context.Context) error { return client.State().In("other").Put(ctx, "k", 1) },
		"Serve": func(ctx context.Context) error {
			w := cloudburst.NewWorker(client, cloudburst.Pool("another"))
			cloudburst.Handle(w, "f", func(context.Context, *cloudburst.Session, int) (int, error) { return 1, nil })
			return w.Serve(ctx)
		},
		"Serve what is deployed": func(ctx context.Context) error {
			return cloudburst.NewWorker(client, cloudburst.Deployed(t.TempDir())).Serve(ctx)
		},
		"Lead": func(ctx context.Context) error {
			return b.Lead(ctx, "lead", func(context.Context) error { return nil })
		},
		"Timers":         func(ctx context.Context) error { return b.NewTimers().Run(ctx) },
		"EnsurePlatform": func(ctx context.Context) error { return b.EnsurePlatform(ctx) },
		"OpenBucket":     func(ctx context.Context) error { _, err := b.OpenBucket(ctx, "state"); return err },
	}
	type answer struct {
		name string
		err  error
		took time.Duration
	}
	answers := make(chan answer)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	for name, ask := range asked {
		go func() {
			began := time.Now()
			err := ask(ctx)
			answers <- answer{name, err, time.Since(began)}
		}()
	}
	limit := time.NewTimer(time.Minute)
	defer limit.Stop()
	waits := maps.Clone(asked)
	for range asked {
		select {
		case a := <-answers:
			delete(waits, a.name)
			if !errors.Is(a.err, broker.ErrClosed) || wire.KindOf(a.err) != wire.KindUnavailable {
				t.Errorf("%s: %v (kind %v), want that the client is closed", a.name, a.err, wire.KindOf(a.err))
			}
			if a.took > 20*time.Second { // as it waits for a server that is away
				t.Errorf("%s took %v", a.name, a.took)
			}
		case <-limit.C:
			stop()
			for name := range waits {
				t.Errorf("%s still waits", name)
				<-answers
			}
			return
		}
	}
}

// A future of a run that doesn't exist is an error, at once and for good, wherever it is
// waited for.
func TestAFutureOfNoRun(t *testing.T) {
	client := platform(t)
	serve(t, client, "default", func(w *cloudburst.Worker) {
		cloudburst.Handle(w, "echo", func(_ context.Context, _ *cloudburst.Session, v int) (int, error) { return v, nil })
		cloudburst.Handle(w, "await", func(ctx context.Context, s *cloudburst.Session, run cloudburst.RunID) (int, error) {
			return cloudburst.Attach[int](s.Client(), run).Wait(ctx)
		})
	})
	never := cloudburst.Attach[int](client, "never-was")
	_, err := never.Wait(t.Context())
	if wire.KindOf(err) != wire.KindUnknown {
		t.Errorf("waiting for it: %v", err)
	}
	began := time.Now()
	if _, err := cloudburst.Call[int](t.Context(), client, "echo", never); wire.KindOf(err) != wire.KindUnknown {
		t.Errorf("as an argument: %v", err)
	}
	if _, err := cloudburst.Call[int](t.Context(), client, "await", "never-was"); wire.KindOf(err) != wire.KindUnknown {
		t.Errorf("within a function: %v", err)
	}
	if took := time.Since(began); took > 45*time.Second { // a function's time-out is a minute, and there are three attempts
		t.Errorf("it took %v to find out", took)
	}
	letters, err := client.Broker().Dead(t.Context(), broker.DeadFilter{})
	if err != nil || len(letters) != 2 || letters[0].Attempts != 1 || letters[1].Attempts != 1 {
		t.Errorf("dead letters %+v, %v, want two of one attempt each", letters, err)
	}
	late, err := cloudburst.Go[int](t.Context(), client.With(cloudburst.After(5*time.Second)), "echo", 7)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := cloudburst.Call[int](t.Context(), client, "echo", late); err != nil || got != 7 {
		t.Errorf("a future of a call that waits for its time: %d, %v", got, err)
	}
}
