package broker

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// finish stores a result as a worker would.
func (p *platform) finish(run wire.RunID, name string, status wire.Status) {
	p.t.Helper()
	r := &wire.Result{Run: run, Name: name, Status: status, Worker: "w1", Started: time.Now(), Took: time.Second, Attempts: 2, Value: wire.Value{Body: []byte("1")}}
	if status != wire.StatusOK {
		r.Err = &wire.Error{Op: "run", Name: name, Kind: wire.KindFunction, Msg: "boom"}
	}
	h, body := r.Encode()
	if _, err := p.put(p.t.Context(), &nats.Msg{Subject: bucketSubject(BucketResults, string(run)), Header: nats.Header(h), Data: body}); err != nil {
		p.t.Fatal(err)
	}
}

func TestRunsNewestFirst(t *testing.T) {
	p := newPlatform(t)
	for i := range 300 {
		name, status := "f", wire.StatusOK
		if i%100 == 0 {
			name, status = "g", wire.StatusFailed
		}
		p.finish(wire.RunID(fmt.Sprintf("run%03d", i)), name, status)
	}
	list, err := p.Runs(t.Context(), RunFilter{})
	if err != nil || len(list) != 50 || list[0].Run != "run299" || list[49].Run != "run250" {
		t.Fatalf("got %d runs, %v, the first %+v", len(list), err, list[:min(1, len(list))])
	}
	if r := list[0]; r.Name != "f" || r.Status != wire.StatusOK || r.Took != time.Second || r.Worker != "w1" || r.Attempts != 2 {
		t.Errorf("got %+v", r)
	}
	list, err = p.Runs(t.Context(), RunFilter{Name: "g", Limit: 2})
	if err != nil || len(list) != 2 || list[0].Run != "run200" || list[1].Run != "run100" || list[0].Error == "" {
		t.Errorf("of g: got %+v, %v", list, err)
	}
	list, err = p.Runs(t.Context(), RunFilter{Status: wire.StatusFailed})
	if err != nil || len(list) != 3 {
		t.Errorf("failed: got %+v, %v", list, err)
	}
	list, err = p.Runs(t.Context(), RunFilter{Status: wire.StatusPending})
	if err != nil || len(list) != 0 {
		t.Errorf("pending: got %+v, %v", list, err)
	}
}

func TestRunsInPages(t *testing.T) {
	p := newPlatform(t)
	p.register("f")
	p.publish(wire.Call{Run: "waits", Name: "f"})
	want := []wire.RunID{"waits"}
	for i := range 150 {
		run := wire.RunID(fmt.Sprintf("run%03d", i))
		p.finish(run, "f", wire.StatusOK)
		want = slices.Insert(want, 1, run)
	}
	for _, limit := range []int{1, 50, 151, 500} {
		var got []wire.RunID
		for before, pages := uint64(0), 0; ; pages++ {
			list, next, err := p.RunsPage(t.Context(), RunFilter{Limit: limit, Before: before})
			if err != nil || len(list) > limit || pages > 151 {
				t.Fatalf("page %d of %d runs: %d runs, %v", pages, limit, len(list), err)
			}
			for _, r := range list {
				got = append(got, r.Run)
			}
			if before = next; next == 0 {
				break
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("in pages of %d: %d runs %v, want %d", limit, len(got), got[:min(3, len(got))], len(want))
		}
	}
	list, next, err := p.RunsPage(t.Context(), RunFilter{Status: wire.StatusOK, Limit: 100, Before: 52})
	if err != nil || len(list) != 51 || list[0].Run != "run050" || next != 0 {
		t.Errorf("from the middle: %d runs, next %d, %v", len(list), next, err)
	}
}

func TestRunsInEveryState(t *testing.T) {
	p := newPlatform(t)
	p.register("f")
	ended := p.publish(wire.Call{Run: "ended", Name: "f"})
	running := p.publish(wire.Call{Run: "running", Name: "f"})
	d := p.take()
	p.succeed(d, "1")
	if _, err := p.Await(t.Context(), ended); err != nil {
		t.Fatal(err)
	}
	p.take()
	pending := p.publish(wire.Call{Run: "pending", Name: "f"})
	want := map[wire.RunID]wire.Status{ended: wire.StatusOK, running: wire.StatusRunning, pending: wire.StatusPending}

	list, err := p.Runs(t.Context(), RunFilter{})
	if err != nil || len(list) != 3 || list[0].Run != running || list[1].Run != pending || list[2].Run != ended {
		t.Errorf("got %+v, %v, want running, pending, ended", list, err)
	}
	for run, status := range want {
		info, err := p.RunState(t.Context(), run)
		if err != nil || info.Status != status || info.Name != "f" || info.Run != run || info.Started.IsZero() {
			t.Errorf("%s: got %+v, %v, want %s", run, info, err, status)
		}
	}
	_, err = p.RunState(t.Context(), "nobody")
	wantKind(t, err, wire.KindUnknown)
}

func TestRunStateByStreamAndSequence(t *testing.T) {
	p := newPlatform(t)
	p.register("f")
	ack, err := p.js.Publish(t.Context(), CallSubject("f"), []byte("1"))
	if err != nil {
		t.Fatal(err)
	}
	run := wire.RunID(fmt.Sprintf("%s-%d", ack.Stream, ack.Sequence))
	info, err := p.RunState(t.Context(), run)
	if err != nil || info.Run != run || info.Status != wire.StatusPending {
		t.Errorf("got %+v, %v", info, err)
	}
	_, err = p.RunState(t.Context(), run+"9")
	wantKind(t, err, wire.KindUnknown)
}

func TestRunStateDeepInTheBacklog(t *testing.T) {
	p := newPlatform(t)
	p.register("f")
	for i := range 2*callsScanned + 100 {
		if _, err := p.js.PublishAsync(CallSubject("f"), []byte(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	<-p.js.PublishAsyncComplete()
	last := p.publish(wire.Call{Name: "f"})
	info, err := p.RunState(t.Context(), last)
	if err != nil || info.Status != wire.StatusPending {
		t.Errorf("the newest call: got %+v, %v", info, err)
	}
}

func TestRunStateOfADAG(t *testing.T) {
	p := newPlatform(t)
	p.register("f")
	rec := DAGRecord{Name: "d", Version: "1", Spec: []byte("{}"), Subjects: map[string][]string{DefaultPool: {"a", "b"}}}
	if err := p.ApplyDAG(t.Context(), rec); err != nil {
		t.Fatal(err)
	}
	// The start is settled, a is done, b was claimed and runs.
	ctx := t.Context()
	started := time.Now().Add(-time.Second).UTC()
	if err := p.Done(ctx, "r", wire.NodeTiming{Node: "a", Worker: "w1", Started: started, Took: time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	for _, node := range []string{"a", "b"} {
		if _, err := p.Claim(ctx, "r", node, 1, false); err != nil {
			t.Fatal(err)
		}
	}
	p.publish(wire.Call{Run: "r", Name: "d", DAG: "d@1", Node: "b"})
	info, err := p.RunState(ctx, "r")
	if err != nil || info.Name != "d" || info.Status != wire.StatusRunning || len(info.Nodes) != 2 {
		t.Fatalf("got %+v, %v", info, err)
	}
	if a, b := info.Nodes[0], info.Nodes[1]; a.Node != "a" || a.Took != time.Millisecond || b.Node != "b" || b.Took != 0 {
		t.Errorf("got nodes %+v", info.Nodes)
	}
	list, err := p.Runs(ctx, RunFilter{Name: "d"})
	if err != nil || len(list) != 1 || list[0].Run != "r" {
		t.Errorf("got %+v, %v", list, err)
	}
}
