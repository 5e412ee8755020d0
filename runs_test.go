package cloudburst_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/cloudburst-nats/cloudburst"
	"github.com/cloudburst-nats/cloudburst/broker"
)

// apply defines DAGs that are written as YAML.
func apply(t *testing.T, client *cloudburst.Client, dags ...string) {
	t.Helper()
	for _, text := range dags {
		g, err := cloudburst.ParseGraph([]byte(text))
		if err == nil {
			err = client.ApplyDAG(t.Context(), g)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// stateLeft returns how many messages there are in the state of runs.
func stateLeft(t *testing.T, client *cloudburst.Client) uint64 {
	t.Helper()
	s, err := client.Broker().JetStream().Stream(t.Context(), broker.StreamRuns)
	if err != nil {
		t.Fatal(err)
	}
	return s.CachedInfo().State.Msgs
}

// TestStateLivesAsLongAsTheRun has runs of every shape wait, for timers, for a signal and
// for each other, longer than anything is kept that belongs to no run. All must end, and
// leave no state behind.
func TestStateLivesAsLongAsTheRun(t *testing.T) {
	server, err := cloudburst.Start(t.Context(), cloudburst.ServerConfig{
		Listen: "none", Store: t.TempDir(), Topology: broker.Topology{Runs: time.Second},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	client := server.Client()
	serve(t, client, "default", func(w *cloudburst.Worker) {
		for _, name := range []string{"a", "b", "c", "d"} {
			cloudburst.Handle(w, name, func(_ context.Context, _ *cloudburst.Session, v any) (any, error) { return v, nil })
		}
		cloudburst.Handle(w, "approve", func(ctx context.Context, s *cloudburst.Session, run string) (bool, error) {
			return true, s.Client().Signal(ctx, cloudburst.RunID(run), "approve", "yes")
		})
	})
	apply(
		t, client,
		"{name: chain, nodes: [{name: a}, {name: b, wait: 3s}, {name: c}], edges: [{from: a, to: b}, {from: b, to: c}]}",
		"{name: join, nodes: [{name: a}, {name: b}, {name: c, wait: 3s}, {name: d}], edges: [{from: a, to: b}, {from: a, to: c}, {from: b, to: d, arg: 0}, {from: c, to: d, arg: 1}]}",
		"{name: sinks, nodes: [{name: a}, {name: b}, {name: c, wait: 3s}], edges: [{from: a, to: b}, {from: a, to: c}]}",
		"{name: inside, nodes: [{name: a}, {name: b, dag: chain}, {name: c}], edges: [{from: a, to: b}, {from: b, to: c}]}",
		"{name: map, nodes: [{name: a}, {name: b, each: true, wait: 3s}, {name: c}], edges: [{from: a, to: b}, {from: b, to: c}]}",
		"{name: signal, nodes: [{name: a}, {name: b, signal: approve}], edges: [{from: a, to: b, arg: x}]}",
	)
	want := map[string]string{
		"chain": "[1,2]", "join": "[[1,2],[1,2]]", "sinks": `{"b":[1,2],"c":[1,2]}`, "inside": "[1,2]", "map": "[1,2]", "signal": `{"signal":"yes","x":[1,2]}`,
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := cloudburst.Go[bool](ctx, client.With(cloudburst.After(3*time.Second)), "approve", "run-of-signal"); err != nil {
		t.Fatal(err)
	}
	type end struct {
		dag   string
		value cloudburst.Value
		err   error
	}
	ends := make(chan end, len(want))
	for dag := range want {
		go func() {
			v, err := cloudburst.Call[cloudburst.Value](ctx, client.With(cloudburst.WithRunID(cloudburst.RunID("run-of-"+dag))), dag, []int{1, 2})
			ends <- end{dag, v, err}
		}()
	}
	for range want {
		if e := <-ends; e.err != nil || string(e.value.Body) != want[e.dag] {
			t.Errorf("%s = %s, %v, want %s", e.dag, e.value.Body, e.err, want[e.dag])
		}
	}
	for stateLeft(t, client) > 0 { // the state goes right after the results have come
		if ctx.Err() != nil {
			t.Fatalf("%d messages of ended runs are left", stateLeft(t, client))
		}
	}
}

// TestManyItems runs maps of many items, and of large ones. What comes of one of them is
// read once: the bytes that the worker is sent grow as the items do.
func TestManyItems(t *testing.T) {
	client := platform(t)
	serve(t, client, "default", func(w *cloudburst.Worker) {
		cloudburst.Handle(w, "list", func(_ context.Context, _ *cloudburst.Session, in [2]int) ([]int, error) {
			list := make([]int, in[0])
			for i := range list {
				list[i] = in[1]
			}
			return list, nil
		})
		cloudburst.Handle(w, "item", func(_ context.Context, _ *cloudburst.Session, size int) (string, error) {
			return strings.Repeat("x", size), nil
		})
		cloudburst.Handle(w, "count", func(_ context.Context, _ *cloudburst.Session, list []json.RawMessage) (int, error) {
			return len(list), nil
		}, cloudburst.Timeout(time.Minute))
	})
	apply(t, client, "{name: many, nodes: [{name: list}, {name: item, each: true}, {name: count}], edges: [{from: list, to: item}, {from: item, to: count}]}")
	received := func(items, size int) (bytes uint64, err error) {
		before := client.Broker().Conn().Stats().InBytes
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
		defer cancel()
		n, err := cloudburst.Call[int](ctx, client, "many", [2]int{items, size})
		if err == nil && n != items {
			t.Errorf("%d items of %d bytes are counted as %d", items, size, n)
		}
		return client.Broker().Conn().Stats().InBytes - before, err
	}
	for _, size := range []int{1, 20_000} {
		few, err := received(50, size)
		if err != nil {
			t.Fatal(err)
		}
		many, err := received(500, size)
		if err != nil {
			t.Fatal(err)
		}
		if many > 30*few { // ten times the items; what is quadratic would be a hundred
			t.Errorf("500 items of %d bytes cost %d bytes, 50 cost %d", size, many, few)
		}
	}
	// 70 results of a million bytes are too large a list. Others are served meanwhile.
	_, err := received(70, 1_000_000)
	if !errors.Is(err, cloudburst.ErrTooLarge) {
		t.Errorf("a list of 70 MB: %v, want it too large", err)
	}
	if _, err := received(5, 1); err != nil {
		t.Errorf("the next run: %v", err)
	}
}
