package dagengine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// recorder is Runs, Dispatcher, Plans and Host at once: it notes what it is
// asked, fails where it is told to, and has nothing stored but what it is given.
type recorder struct {
	plan   *Plan
	hosts  string // functions, with a space between
	fail   string // a note that fails
	inputs map[string]wire.Input
	taken  bool // claims are another's

	mu    sync.Mutex // guards what follows
	notes []string
	calls []wire.Call
}

func (r *recorder) note(format string, args ...any) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	text := fmt.Sprintf(format, args...)
	r.notes = append(r.notes, text)
	if text == r.fail {
		return errFault
	}
	return nil
}

func (r *recorder) PutInput(_ context.Context, _ wire.RunID, node, from string, in wire.Input) (uint64, error) {
	return 9, r.note("put %s %s=%s", node, from, in.Body)
}

func (r *recorder) Inputs(_ context.Context, _ wire.RunID, node string, fence uint64) (map[string]wire.Input, error) {
	return r.inputs, r.note("inputs %s fence %d", node, fence)
}

func (r *recorder) Claim(_ context.Context, _ wire.RunID, node string, call uint64, _ bool) (uint64, error) {
	if r.taken {
		return call + 1, r.note("claim %s by %d", node, call)
	}
	return call, r.note("claim %s by %d", node, call)
}

func (r *recorder) Live(_ context.Context, run wire.RunID, stream string) error {
	return r.note("live %s of %s", run, stream)
}

func (r *recorder) Done(_ context.Context, _ wire.RunID, t wire.NodeTiming) error {
	return r.note("done %s at %s", t.Node, t.Worker)
}

func (r *recorder) Timings(context.Context, wire.RunID) ([]wire.NodeTiming, error) {
	return []wire.NodeTiming{{Node: "elsewhere"}}, r.note("timings")
}

func (r *recorder) Dispatch(_ context.Context, call wire.Call) error {
	err := r.note("dispatch %s", call.Node)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, call)
	return err
}

func (r *recorder) Latest(_ context.Context, dag string) (*Plan, error) {
	return r.plan, r.note("latest %s", dag)
}

func (r *recorder) Version(context.Context, string) (*Plan, error) {
	return r.plan, r.note("version")
}

func (r *recorder) Hosts(function string) bool {
	return slices.Contains(strings.Fields(r.hosts), function)
}
func (r *recorder) Worker() string { return "w" }

func (r *recorder) Invoke(_ context.Context, in Invocation) (wire.Value, error) {
	return wire.Value{Body: []byte(`"` + in.Node.Name + `"`)}, r.note("invoke %s %s", in.Node.Name, in.Args.Body)
}
func (r *recorder) Flush(context.Context) error { return r.note("flush") }
func (r *recorder) Past() string                { return "" }
func (r *recorder) Restartable() error          { return r.note("restartable") }

func (r *recorder) Join([]string) (string, error) { return "", nil }
func (r *recorder) Restarts(string) bool          { return false }
func (r *recorder) Token(past string) string      { return past }

// wantStory compares what was done with steps joined by "; ", whose effects,
// joined by ", ", happen in any order.
func wantStory(t *testing.T, r *recorder, want string) {
	t.Helper()
	rest := slices.Clone(r.notes)
	for step := range strings.SplitSeq(want, "; ") {
		want := strings.Split(step, ", ")
		got := slices.Sorted(slices.Values(rest[:min(len(want), len(rest))]))
		if rest = rest[min(len(want), len(rest)):]; !slices.Equal(got, want) {
			t.Errorf("effects %q, want %q, in %q", got, want, r.notes)
		}
	}
	if len(rest) > 0 {
		t.Errorf("also did %q", rest)
	}
}

// diamond has a chain at its beginning, a fan, a join, and a chain at its end.
func diamond(t *testing.T) *Plan {
	t.Helper()
	p, err := Parse([]byte(`{name: d, level: causal, nodes: [{name: a}, {name: b}, {name: l}, {name: r}, {name: j}, {name: z}], edges: [
		{from: a, to: b}, {from: b, to: l}, {from: b, to: r}, {from: l, to: j, arg: 0}, {from: r, to: j, arg: 1}, {from: j, to: z}]}`))
	if err != nil {
		t.Fatal(err)
	}
	plan, err := Compile(p)
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

// TestOrderOfEffects looks at what one call does. Effects of one line happen in
// any order, lines one after another.
func TestOrderOfEffects(t *testing.T) {
	plan := diamond(t)
	both := map[string]wire.Input{"l": {Value: wire.Value{Body: []byte("1")}}, "r": {Value: wire.Value{Body: []byte("2")}}}
	for _, tt := range []struct {
		name   string
		call   wire.Call
		given  *recorder
		want   string
		result string // empty: the run goes on
		err    error
	}{
		{
			name:  "a start runs its chain, then hands on",
			call:  wire.Call{Args: wire.Value{Body: []byte("5")}},
			given: &recorder{hosts: "a b l r"},
			want:  "latest d; invoke a 5; invoke b \"a\"; done a at w, done b at w, flush, put $start version=\"" + plan.ID() + "\"; dispatch l, dispatch r",
		},
		{
			name: "a start of a function of another pool",
			want: "latest d; flush, put $start version=\"" + plan.ID() + "\"; dispatch a",
		},
		{
			name:  "an input of a join, the others are not there",
			call:  wire.Call{Node: "l", DAG: plan.ID(), Seq: 7},
			given: &recorder{hosts: "l j"},
			want:  "version; claim l by 7; invoke l ; done l at w, flush; put j l=\"l\"; inputs j fence 9",
		},
		{
			name:  "the last input of a join",
			call:  wire.Call{Node: "l", DAG: plan.ID(), Seq: 7},
			given: &recorder{hosts: "l j", inputs: both},
			want:  "version; claim l by 7; invoke l ; done l at w, flush; put j l=\"l\"; inputs j fence 9; dispatch j",
		},
		{
			name:   "the end of the run",
			call:   wire.Call{Node: "j", DAG: plan.ID(), Seq: 7, Args: wire.Value{Body: []byte("[1,2]")}},
			given:  &recorder{hosts: "j z"},
			want:   "version; claim j by 7; invoke j [1,2]; invoke z \"j\"; flush; timings",
			result: `"z"`,
		},
		{
			name:  "a duplicate",
			call:  wire.Call{Node: "j", DAG: plan.ID(), Seq: 7},
			given: &recorder{hosts: "j z", taken: true},
			want:  "version; claim j by 7",
		},
		{
			name:  "nothing leaves if the flush fails",
			given: &recorder{hosts: "a b", fail: "flush"},
			want:  "latest d; invoke a ; invoke b \"a\"; done a at w, done b at w, flush, put $start version=\"" + plan.ID() + "\"",
			err:   errFault,
		},
		{
			name:  "nothing is stored if a function fails",
			given: &recorder{hosts: "a b", fail: `invoke b "a"`},
			want:  "latest d; invoke a ; invoke b \"a\"",
			err:   errFault,
		},
		{
			name:  "a start that is handed out again has no version pinned",
			call:  wire.Call{Attempt: 2},
			given: &recorder{fail: "latest d"},
			want:  "inputs $start fence 0; latest d",
			err:   errFault,
		},
		{
			name:  "a start that may have been handed out before goes on with its version",
			call:  wire.Call{Attempt: 1, Doubtful: true},
			given: &recorder{fail: "version", inputs: map[string]wire.Input{pinned: {Value: wire.Value{Body: []byte(`"d@old"`)}}}},
			want:  "inputs $start fence 0; version",
			err:   errFault,
		},
		{
			name:  "a start that is handed out again goes on with its version",
			call:  wire.Call{Attempt: 2},
			given: &recorder{fail: "version", inputs: map[string]wire.Input{pinned: {Value: wire.Value{Body: []byte(`"d@old"`)}}}},
			want:  "inputs $start fence 0; version",
			err:   errFault,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := cmp.Or(tt.given, &recorder{})
			r.plan, tt.call.Name = plan, "d"
			out, err := NewEngine(r, r, r, r).Run(t.Context(), tt.call, r)
			if !errors.Is(err, tt.err) || (tt.result != "") != out.Done || string(out.Value.Body) != tt.result {
				t.Errorf("Run = %+v, %v, want %q, %v", out, err, tt.result, tt.err)
			}
			wantStory(t, r, tt.want)
		})
	}
}

func TestNodeErrorNamesTheNode(t *testing.T) {
	r := &recorder{plan: diamond(t), hosts: "a b", fail: `invoke b "a"`}
	_, err := NewEngine(r, r, r, r).Run(t.Context(), wire.Call{Name: "d"}, r)
	var node *NodeError
	if !errors.As(err, &node) || node.Node.Name != "b" || !errors.Is(err, errFault) {
		t.Errorf("Run = %v, want the fault at node b", err)
	}
}

func TestUnknownNodeIsSaid(t *testing.T) {
	for _, name := range []string{"nowhere", startNode, resultNode} {
		r := &recorder{plan: diamond(t)}
		_, err := NewEngine(r, r, r, r).Run(t.Context(), wire.Call{Name: "d", DAG: "d@1", Node: name}, r)
		if wire.KindOf(err) != wire.KindUnknown {
			t.Errorf("Run of node %s = %v, want unknown", name, err)
		}
	}
}

func TestWhatTravelsAlong(t *testing.T) {
	plan := diamond(t)
	for level, want := range map[string]string{"": "causal", "lww": "lww"} {
		r := &recorder{plan: plan}
		call := wire.Call{Run: "r1", Name: "d", Args: wire.Value{Body: []byte("5")}, Reply: "inbox", Level: level, Digest: "abc", Stream: "S", Seq: 3, Attempt: 1}
		if _, err := NewEngine(r, r, r, r).Run(t.Context(), call, r); err != nil {
			t.Fatal(err)
		}
		next := wire.Call{Run: "r1", Name: "d", DAG: plan.ID(), Node: "a", Args: call.Args, Reply: "inbox", Level: want, Digest: "abc"}
		if len(r.calls) != 1 || !reflect.DeepEqual(r.calls[0], next) {
			t.Errorf("dispatched %+v, want %+v", r.calls, next)
		}
	}
}

// TestFusedRunNeedsNoStorage runs a DAG of two nodes that the worker hosts: it must ask nothing of
// the storage but the flush.
func TestFusedRunNeedsNoStorage(t *testing.T) {
	plan, err := Compile(compose())
	if err != nil {
		t.Fatal(err)
	}
	r := &recorder{plan: plan, hosts: "increment square"}
	out, err := NewEngine(r, r, r, r).Run(t.Context(), wire.Call{Name: "compose", Args: wire.Value{Body: []byte("5")}, Attempt: 1}, r)
	want := []string{"latest compose", "invoke increment 5", `invoke square "increment"`, "flush"}
	if err != nil || !out.Done || !slices.Equal(r.notes, want) || len(out.Nodes) != 2 || out.Nodes[1].Node != "square" {
		t.Errorf("Run = %+v, %v, doing %q, want %q", out, err, r.notes, want)
	}
}

func compose() *Graph {
	return &Graph{
		Name:  "compose",
		Nodes: []Node{{Name: "increment"}, {Name: "square"}},
		Edges: []Edge{{From: "increment", To: "square"}},
	}
}

// idle is a worker whose functions cost nothing.
type idle struct{ plan *Plan }

func (i idle) Hosts(string) bool { return true }
func (i idle) Worker() string    { return "w" }
func (i idle) Invoke(_ context.Context, in Invocation) (wire.Value, error) {
	return in.Args, nil
}
func (i idle) Past() string                                   { return "" }
func (i idle) Restartable() error                             { return nil }
func (i idle) Join([]string) (string, error)                  { return "", nil }
func (i idle) Restarts(string) bool                           { return false }
func (i idle) Token(past string) string                       { return past }
func (i idle) Flush(context.Context) error                    { return nil }
func (i idle) Latest(context.Context, string) (*Plan, error)  { return i.plan, nil }
func (i idle) Version(context.Context, string) (*Plan, error) { return i.plan, nil }

// BenchmarkFusedRun is what the engine adds to a DAG of two nodes that runs in
// one slot.
func BenchmarkFusedRun(b *testing.B) {
	plan, err := Compile(compose())
	if err != nil {
		b.Fatal(err)
	}
	host := idle{plan}
	engine := NewEngine(nil, nil, host, host) // nil: the fast path uses none of them
	call := wire.Call{Run: "r", Name: "compose", Args: wire.Value{Body: []byte("5")}, Attempt: 1}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := engine.Run(b.Context(), call, host); err != nil {
			b.Fatal(err)
		}
	}
}
