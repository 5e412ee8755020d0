package broker

import (
	"testing"
	"time"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// TestRunsThatWait lists runs that have no call anywhere: one that waits for a signal, one
// for an input, one for a timer, and a call that is for later.
func TestRunsThatWait(t *testing.T) {
	p := newPlatform(t)
	p.register("f")
	spec := `{"name":"d","nodes":[{"name":"a"},{"name":"b"},{"name":"j"},{"name":"s","signal":"approve"}],
		"edges":[{"from":"a","to":"j","arg":"0"},{"from":"b","to":"j","arg":"1"},{"from":"a","to":"s","arg":"x"}]}`
	rec := DAGRecord{Name: "d", Version: "1", Spec: []byte(spec), Subjects: map[string][]string{DefaultPool: {"a", "b", "j", "s"}}}
	if err := p.ApplyDAG(t.Context(), rec); err != nil {
		t.Fatal(err)
	}
	input := func(run wire.RunID, node, from string) {
		t.Helper()
		if _, err := p.PutInput(t.Context(), run, node, from, wire.Input{Value: wire.Value{Body: []byte(`"d@1"`)}}); err != nil {
			t.Fatal(err)
		}
	}
	for _, run := range []wire.RunID{"signal.1", "input", "timer", "ended", "failed"} {
		input(run, "$start", "version")
	}
	input("signal.1", "s", "a")
	input("input", "j", "a")
	input("input", "s", "a")
	input("input", "s", "$signal")
	p.finish("ended", "d", wire.StatusOK)
	if _, err := p.Claim(t.Context(), "input", "s", 3, false); err != nil {
		t.Fatal(err)
	}
	if err := p.Dispatch(t.Context(), wire.Call{Run: "timer", Name: "d", DAG: "d@1", Node: "b", Wait: time.Hour}); err != nil {
		t.Fatal(err)
	}
	if err := p.Dispatch(t.Context(), wire.Call{Run: "later", Name: "f", Wait: time.Hour}); err != nil {
		t.Fatal(err)
	}
	if err := p.forgetButFailed("failed"); err != nil {
		t.Fatal(err)
	}
	list, err := p.Runs(t.Context(), RunFilter{})
	if err != nil {
		t.Fatal(err)
	}
	want := map[wire.RunID]Wait{
		"signal.1": {For: "signal", Node: "s", Name: "approve"},
		"input":    {For: "input", Node: "j", Name: "b"},
		"timer":    {For: "timer", Node: "b"},
		"later":    {For: "timer"},
	}
	for _, r := range list {
		w, waits := want[r.Run]
		switch {
		case r.Run == "ended":
			continue
		case !waits || len(r.Waits) != 1:
			t.Errorf("run %s waits for %+v, want %+v", r.Run, r.Waits, w)
			continue
		}
		delete(want, r.Run)
		got := r.Waits[0]
		if got.For != w.For || got.Node != w.Node || got.Name != w.Name || got.Since.IsZero() || (got.For == "timer") != (time.Until(got.Until) > 50*time.Minute) {
			t.Errorf("run %s waits for %+v, want %+v", r.Run, got, w)
		}
		alone, err := p.RunState(t.Context(), r.Run)
		if err != nil || len(alone.Waits) != 1 || alone.Waits[0].For != w.For {
			t.Errorf("run %s by itself: %+v, %v", r.Run, alone, err)
		}
	}
	if len(want) > 0 {
		t.Errorf("not listed: %+v", want)
	}
	if list, err := p.Runs(t.Context(), RunFilter{Name: "f"}); err != nil || len(list) != 1 || list[0].Run != "later" || list[0].Status != wire.StatusPending {
		t.Errorf("of f: %+v, %v", list, err)
	}
}

// forgetButFailed leaves of a run that it failed, and no result.
func (p *platform) forgetButFailed(run wire.RunID) error {
	done := make(chan error, 1)
	p.leave(&wire.Result{Run: run, Status: wire.StatusFailed, Node: "n"}, func(err error) { done <- err })
	return <-done
}

// TestTimesAreTheWholeRuns ends a run in another call than it began in, and fails one.
func TestTimesAreTheWholeRuns(t *testing.T) {
	began := time.Now().Add(-time.Minute).UTC()
	nodes := []wire.NodeTiming{
		{Node: "a", Started: began, Took: time.Second},
		{Node: "b", Started: began.Add(50 * time.Second), Took: 2 * time.Second},
	}
	info := infoOf(&wire.Result{Status: wire.StatusOK, Started: began.Add(50 * time.Second), Took: time.Millisecond, Nodes: nodes})
	if !info.Started.Equal(began) || info.Took != 52*time.Second {
		t.Errorf("it began %v and took %v, want %v and 52s", info.Started, info.Took, began)
	}
	p := newPlatform(t)
	for _, n := range nodes[:1] {
		if err := p.Done(t.Context(), "r", n); err != nil {
			t.Fatal(err)
		}
	}
	d := p.graph("r")
	p.endNode(d, &wire.Result{Status: wire.StatusFailed, Nodes: nodes[1:]})
	got, err := p.RunState(t.Context(), "r")
	if err != nil || len(got.Nodes) != 2 || got.Nodes[0].Node != "a" || got.Took != 52*time.Second || got.Status != wire.StatusFailed {
		t.Errorf("the run that failed: %+v, %v, want it to tell of a and b", got, err)
	}
}
