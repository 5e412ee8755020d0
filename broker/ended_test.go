package broker

import (
	"context"
	"slices"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// begun stores what a run's first call leaves for the others, and another epoch's.
func (p *platform) begun(run wire.RunID) {
	p.t.Helper()
	for _, state := range []wire.RunID{run, run + ":1"} {
		_, err := p.PutInput(p.t.Context(), state, "$start", "version", wire.Input{Value: wire.Value{Body: []byte(`"d@1"`)}})
		if err != nil {
			p.t.Fatal(err)
		}
		if _, err := p.Claim(p.t.Context(), state, "n", 7, false); err != nil {
			p.t.Fatal(err)
		}
	}
}

// stateOfRuns lists what is kept of runs.
func (p *platform) stateOfRuns() []string {
	p.t.Helper()
	list, err := p.subjectsOf(p.t.Context(), StreamRuns, subjectRun+">")
	if err != nil {
		p.t.Fatal(err)
	}
	slices.Sort(list)
	return list
}

func (p *platform) wantState(want ...string) {
	p.t.Helper()
	if got := p.stateOfRuns(); !slices.Equal(got, want) {
		p.t.Errorf("kept of runs: %q, want %q", got, want)
	}
}

// endNode finishes a call of a DAG's node, and waits for it.
func (p *platform) endNode(d *Delivery, r *wire.Result) {
	p.t.Helper()
	r.Run, r.Name, r.Kept = d.Call.Run, d.Call.Name, true
	if r.Status != wire.StatusOK {
		r.Err = boom()
	}
	if r.Status == wire.StatusFailed {
		r.Node, r.By = d.Call.Node, string(placeOf(&d.Call))
	}
	ended := make(chan error, 1)
	d.Finish(context.Background(), r, func(err error) { ended <- err })
	if err := <-ended; err != nil {
		p.t.Fatal(err)
	}
}

// graph applies a DAG of one node, whose call take returns.
func (p *platform) graph(run wire.RunID) *Delivery {
	p.t.Helper()
	p.register("f")
	rec := DAGRecord{Name: "d", Version: "1", Spec: []byte("{}"), Subjects: map[string][]string{DefaultPool: {"n"}}}
	if err := p.ApplyDAG(p.t.Context(), rec); err != nil {
		p.t.Fatal(err)
	}
	p.publish(wire.Call{Run: run, Name: "d", DAG: "d@1", Node: "n"})
	return p.take()
}

func TestStateGoesWithTheRun(t *testing.T) {
	other := []string{"cb.run.other.$start.in.version", "cb.run.other.:1.$start.in.version", "cb.run.other.:1.n.claim", "cb.run.other.n.claim"}
	for _, tt := range []struct {
		name   string
		result wire.Result
		left   []string
	}{
		{"ok", wire.Result{Status: wire.StatusOK}, nil},
		{"cancelled", wire.Result{Status: wire.StatusCancelled}, nil},
		{"failed at a node, which may be replayed", wire.Result{Status: wire.StatusFailed}, []string{
			"cb.run.r=2E1.$start.in.version", "cb.run.r=2E1.:1.$start.in.version", "cb.run.r=2E1.:1.n.claim", "cb.run.r=2E1.failed", "cb.run.r=2E1.n.claim",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPlatform(t)
			d := p.graph("r.1")
			p.begun("r.1")
			p.begun("other")
			want := slices.Concat(other, tt.left)
			slices.Sort(want)
			p.endNode(d, &tt.result)
			p.wantState(want...)
		})
	}
}

// TestStateGoesThoughTheWorkerDied leaves a run with its result and its state, as a
// worker does that dies between the two. The call is handed out again, and makes good.
func TestStateGoesThoughTheWorkerDied(t *testing.T) {
	for status, left := range map[wire.Status][]string{
		wire.StatusOK:        nil,
		wire.StatusCancelled: nil,
		wire.StatusFailed:    {"cb.run.r.$start.in.version", "cb.run.r.:1.$start.in.version", "cb.run.r.:1.n.claim", "cb.run.r.failed", "cb.run.r.n.claim"},
	} {
		t.Run(string(status), func(t *testing.T) {
			p := newPlatform(t)
			d := p.graph("r")
			p.begun("r")
			r := &wire.Result{Run: "r", Name: "d", Status: status, By: string(placeOf(&d.Call))}
			if status != wire.StatusOK {
				r.Err = boom()
			}
			h, body := r.Encode()
			if _, err := p.put(t.Context(), &nats.Msg{Subject: bucketSubject(BucketResults, "r"), Header: nats.Header(h), Data: body}); err != nil {
				t.Fatal(err)
			}
			again := d.Call
			again.Attempt = 2
			if verdict, err := p.Admit(t.Context(), &again); err != nil || verdict != wire.Ended {
				t.Fatalf("the call that comes again: %v, %v, want that its run has ended", verdict, err)
			}
			p.wantState(left...)
		})
	}
}

// TestLateClaims claims nodes of runs that have ended, one way or the other, and of one
// that goes on.
func TestLateClaims(t *testing.T) {
	p := newPlatform(t)
	for _, run := range []wire.RunID{"live", "failed", "done"} {
		p.begun(run)
	}
	p.finish("failed", "d", wire.StatusFailed) // it may be replayed
	p.finish("done", "d", wire.StatusOK)
	p.finish("gone", "d", wire.StatusOK)
	before := p.stateOfRuns()
	for _, tt := range []struct {
		run   wire.RunID
		node  string
		owner uint64
	}{
		{"live", "n", 7},
		{"live", "m", 9},
		{"live:1", "m", 9},
		{"failed", "m", 9},
		{"done", "m", 0},
		{"done:1", "m", 0},
		{"done", "$start", 0},
		{"gone", "m", 0},
		{"gone", "$start", 0},
		{"nobody", "m", 0},
		{"nobody", "$start", 9}, // it begins
	} {
		owner, err := p.Claim(t.Context(), tt.run, tt.node, 9, true)
		if err != nil || owner != tt.owner {
			t.Errorf("node %s of run %s is claimed by %d, %v, want %d", tt.node, tt.run, owner, err, tt.owner)
		}
	}
	want := append(before, "cb.run.live.m.claim", "cb.run.live.:1.m.claim", "cb.run.failed.m.claim", "cb.run.nobody.$start.claim")
	slices.Sort(want)
	p.wantState(want...)
}

// TestReplayGoesOnWithTheState fails a run at a node, replays it, and ends it.
func TestReplayGoesOnWithTheState(t *testing.T) {
	p := newPlatform(t)
	d := p.graph("r")
	p.begun("r")
	if err := d.Bury(t.Context(), boom()); err != nil {
		t.Fatal(err)
	}
	p.endNode(d, &wire.Result{Status: wire.StatusFailed})
	if _, err := p.Claim(t.Context(), "r", "$gather.j", d.Call.Seq, false); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Replay(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	p.wantState("cb.run.r.$start.in.version", "cb.run.r.:1.$start.in.version", "cb.run.r.:1.n.claim")
	p.endNode(p.take(), &wire.Result{Status: wire.StatusOK})
	p.wantState()
}

// TestOldCancellation looks for a mark that workers have forgotten.
func TestOldCancellation(t *testing.T) {
	p := newPlatform(t)
	p.register("f")
	run := p.publish(wire.Call{Run: "r.1", Name: "f"})
	if was, err := p.WasCancelled(t.Context(), run); was || err != nil {
		t.Errorf("before: %v, %v", was, err)
	}
	if err := p.Cancel(t.Context(), run); err != nil {
		t.Fatal(err)
	}
	if was, err := p.WasCancelled(t.Context(), run); !was || err != nil {
		t.Errorf("after: %v, %v", was, err)
	}
	mark, err := p.last(t.Context(), StreamRuns, runSubject(run, runCancel))
	if err != nil || mark == nil || mark.Header.Get(headerTTL) != "604800s" {
		t.Errorf("the mark is %+v, %v, want it to last for a week", mark, err)
	}
}
