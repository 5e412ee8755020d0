package cloudburst_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/cloudburst-nats/cloudburst"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// answerWithin is so long that only a caller who hears nothing takes it.
const answerWithin = 5 * time.Minute

// deserted starts a platform with a function whose worker has gone.
func deserted(t *testing.T) (*cloudburst.Server, func(ctx context.Context) error) {
	t.Helper()
	server, err := cloudburst.Start(t.Context(), cloudburst.ServerConfig{Listen: "127.0.0.1:0", Store: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	work := func(ctx context.Context) error {
		c, err := cloudburst.Connect(ctx, server.URL())
		if err != nil {
			return err
		}
		defer c.Close()
		w := cloudburst.NewWorker(c, cloudburst.Pool("away"))
		cloudburst.Handle(w, "double", func(_ context.Context, _ *cloudburst.Session, n int) (int, error) { return 2 * n, nil })
		return w.Serve(ctx)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- work(ctx) }()
	if n, err := cloudburst.Call[int](t.Context(), server.Client(), "double", 1); err != nil && !errors.Is(err, cloudburst.ErrUnknown) {
		t.Fatalf("with a worker: %d, %v", n, err)
	}
	for n, err := 0, error(nil); n != 4; n, err = cloudburst.Call[int](t.Context(), server.Client(), "double", 2) {
		if err != nil && !errors.Is(err, cloudburst.ErrUnknown) {
			t.Fatal(err)
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	return server, work
}

// A caller hears that no worker serves the pool, and not by its time-out. Its call is
// stored, and runs when a worker comes; so do the calls of who waits for one.
func TestCallersHearThatNoWorkerIsThere(t *testing.T) {
	server, work := deserted(t)
	client := server.Client()
	ctx, cancel := context.WithTimeout(t.Context(), answerWithin)
	defer cancel()
	nc, err := nats.Connect(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	mentions := func(door, told string, run wire.RunID) {
		t.Helper()
		for _, want := range []string{`away`, "cloudburst worker run --pool away", "is stored", string(run)} {
			if !strings.Contains(told, want) {
				t.Errorf("%s: %q doesn't tell %q", door, told, want)
			}
		}
	}

	_, err = cloudburst.Call[int](ctx, client.With(cloudburst.WithRunID("library")), "double", 10)
	if !errors.Is(err, cloudburst.ErrNoWorker) {
		t.Fatalf("a call: %v, want ErrNoWorker", err)
	}
	mentions("library", err.Error(), "library")
	if !strings.Contains(err.Error(), "WaitForWorker") {
		t.Errorf("%v doesn't say how to wait", err)
	}

	request := nats.NewMsg("cb.fn.double")
	request.Data = []byte("20")
	request.Header.Set(wire.HeaderRun, "gateway")
	answer, err := nc.RequestMsgWithContext(ctx, request)
	if err != nil {
		t.Fatal(err)
	}
	mentions("gateway", string(answer.Data), "gateway")
	if code := answer.Header.Get("Nats-Service-Error-Code"); code != "503" || !strings.Contains(string(answer.Data), wire.HeaderPatient) {
		t.Errorf("gateway: %s %s", code, answer.Data)
	}

	// Those who wait anyway.
	type result struct {
		who string
		n   string
		err error
	}
	results := make(chan result, 3)
	future, err := cloudburst.Go[int](ctx, client, "double", 30)
	if err != nil {
		t.Fatalf("Go: %v", err)
	}
	await := func(who string, do func() (int, error)) {
		go func() {
			n, err := do()
			results <- result{who, fmt.Sprint(n), err}
		}()
	}
	await("future", func() (int, error) { return future.Wait(ctx) })
	await("patient", func() (int, error) {
		return cloudburst.Call[int](ctx, client.With(cloudburst.WaitForWorker()), "double", 30)
	})
	go func() {
		request := nats.NewMsg("cb.fn.double")
		request.Data = []byte("30")
		request.Header.Set(wire.HeaderPatient, "1")
		answer, err := nc.RequestMsgWithContext(ctx, request)
		if err != nil {
			results <- result{"patient request", "", err}
			return
		}
		results <- result{"patient request", string(answer.Data), nil}
	}()
	// By the time that another caller has heard, they would have.
	if _, err := cloudburst.Call[int](ctx, client, "double", 0); !errors.Is(err, cloudburst.ErrNoWorker) {
		t.Fatalf("a second call: %v, want ErrNoWorker", err)
	}
	select {
	case r := <-results:
		t.Fatalf("%s didn't wait: %s, %v", r.who, r.n, r.err)
	default:
	}

	serving, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- work(serving) }()
	for range 3 {
		if r := <-results; r.err != nil || r.n != "60" {
			t.Errorf("%s: %s, %v, want 60", r.who, r.n, r.err)
		}
	}
	for run, want := range map[wire.RunID]int{"library": 20, "gateway": 40} {
		if n, err := cloudburst.Attach[int](client, run).Wait(ctx); err != nil || n != want {
			t.Errorf("run %s: %d, %v, want %d", run, n, err, want)
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// A pool whose workers an autoscaler starts is waited for.
func TestCallersWaitForAnAutoscaler(t *testing.T) {
	server, _ := deserted(t)
	b := server.Client().Broker()
	if err := b.NoWorker(t.Context(), "double"); wire.KindOf(err) != wire.KindNoWorker {
		t.Fatalf("without an autoscaler: %v", err)
	}
	if err := b.StartsWorkers(t.Context(), "away"); err != nil {
		t.Fatal(err)
	}
	fresh, err := cloudburst.Connect(t.Context(), server.URL()) // one that hasn't looked yet
	if err != nil {
		t.Fatal(err)
	}
	defer fresh.Close()
	if err := fresh.Broker().NoWorker(t.Context(), "double"); err != nil {
		t.Errorf("with an autoscaler: %v", err)
	}
	if workers, err := b.Workers(t.Context()); err != nil || len(workers) != 0 {
		t.Errorf("an autoscaler passes for a worker: %+v, %v", workers, err)
	}
}

// The caller of a DAG hears so too where a node's pool is served and the next one's isn't,
// and doesn't where its run goes another way.
func TestCallersOfADAGHearThatNoWorkerIsThere(t *testing.T) {
	server, work := deserted(t)
	client := server.Client()
	ctx, cancel := context.WithTimeout(t.Context(), answerWithin)
	defer cancel()
	serve(t, client, "here", func(w *cloudburst.Worker) {
		cloudburst.Handle(w, "same", func(_ context.Context, _ *cloudburst.Session, n int) (int, error) { return n, nil })
		cloudburst.Handle(w, "late", func(ctx context.Context, _ *cloudburst.Session, n int) (int, error) {
			select {
			case <-time.After(4 * time.Second): // longer than anybody takes to look
				return n, nil
			case <-ctx.Done():
				return 0, ctx.Err()
			}
		})
	})
	apply(
		t, client,
		"{name: chain, nodes: [{name: same}, {name: next, function: double}], edges: [{from: same, to: next}]}",
		"{name: fork, nodes: [{name: same}, {name: late}, {name: double}], edges: [{from: same, to: late, when: {is: 1}}, {from: same, to: double, when: {not: 1}}]}",
	)
	tells := func(door, told string) {
		t.Helper()
		for _, want := range []string{`none serves pool "away"`, `function "double" of node "next"`, "worker run --pool away", "is stored"} {
			if !strings.Contains(told, want) {
				t.Errorf("%s: %q doesn't tell %q", door, told, want)
			}
		}
	}
	_, err := cloudburst.Call[int](ctx, client.With(cloudburst.WithRunID("chain-1")), "chain", 3)
	if !errors.Is(err, cloudburst.ErrNoWorker) {
		t.Fatalf("a DAG: %v, want ErrNoWorker", err)
	}
	tells("library", err.Error())
	nc, err := nats.Connect(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	answer, err := nc.RequestWithContext(ctx, "cb.fn.chain", []byte("4"))
	if err != nil {
		t.Fatal(err)
	}
	tells("gateway", strings.ReplaceAll(string(answer.Data), `\"`, `"`))
	if v, err := cloudburst.Call[cloudburst.Value](ctx, client, "fork", 1); err != nil {
		t.Errorf("a run that needs no worker of the other pool: %s, %v", v.Body, err)
	}
	serving, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- work(serving) }()
	if n, err := cloudburst.Attach[int](client, "chain-1").Wait(ctx); n != 6 || err != nil {
		t.Errorf("once a worker is there: %d, %v", n, err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
