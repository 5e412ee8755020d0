package dagengine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// Host is the worker that runs a call, as the engine sees it.
type Host interface {
	// Hosts says whether the function is of the worker's pool.
	Hosts(function string) bool
	// Invoke runs a node's function in this call's slot, within its time-out.
	Invoke(ctx context.Context, in Invocation) (wire.Value, error)
	// Flush returns once all state that was written so far is stored.
	Flush(ctx context.Context) error
	// Worker names the worker, for timings.
	Worker() string
	// Past returns what the run has seen so far, for the nodes that come next.
	Past() string
	// Restartable says that the run, whose first call this is, may begin again.
	Restartable() error
}

// An Invocation is one execution of a node.
type Invocation struct {
	Node *Node
	// Step names the execution: the node, or which item of it.
	Step  string
	Args  wire.Value
	Level string // of consistency; empty is the default
	// Await, of a node that runs a DAG, is the run whose result is the node's.
	Await wire.RunID
}

// Pasts knows what runs carry along their edges.
type Pasts interface {
	// Join unites what the branches of a run have seen, where they meet. If they
	// can't go on together its error is a restart.
	Join(pasts []string) (string, error)
	// Restarts says whether runs of a consistency level may have to begin again.
	Restarts(level string) bool
	// Token returns what another run may begin with of what this one has seen.
	Token(past string) string
}

// A restart is the error of a run that has to begin again.
type restart interface {
	error
	// RestartWith returns the past that it begins with.
	RestartWith() string
}

// Runs is the state of runs. It lives as long as they do.
type Runs interface {
	// PutInput stores what node from brings to a node, and returns the fence
	// for Inputs. Repeating it overwrites; of an input with Once it is refused.
	PutInput(ctx context.Context, run wire.RunID, node, from string, in wire.Input) (seq uint64, err error)
	// Inputs returns what a node has so far, by the node it is from: a
	// snapshot that includes every PutInput up to the fence.
	Inputs(ctx context.Context, run wire.RunID, node string, fence uint64) (map[string]wire.Input, error)
	// Claim returns whose the node is: the first call that claims it, as often
	// as any asks. Calls are told apart by their sequence. A late one may come when
	// the run has ended and its state is gone: then the owner is 0, and nothing stays.
	Claim(ctx context.Context, run wire.RunID, node string, call uint64, late bool) (owner uint64, err error)
	// Live notes that a run goes on in other calls which may begin again, until its host
	// hears of its end. Its first call is in that stream, and isn't acknowledged yet.
	Live(ctx context.Context, run wire.RunID, stream string) error
	// Done stores when and where a node ran.
	Done(ctx context.Context, run wire.RunID, t wire.NodeTiming) error
	// Timings returns all that Done stored.
	Timings(ctx context.Context, run wire.RunID) ([]wire.NodeTiming, error)
}

// Dispatcher publishes calls.
type Dispatcher interface {
	// Dispatch returns once the call is stored, or the timer of one that has a
	// Wait. Within a window of time, a second call of the same run and step is dropped.
	Dispatch(ctx context.Context, call wire.Call) error
}

// Plans finds plans.
type Plans interface {
	// Latest returns the newest version of a DAG, for a run that begins.
	Latest(ctx context.Context, dag string) (*Plan, error)
	// Version returns a version by its id, <name>@<version>.
	Version(ctx context.Context, id string) (*Plan, error)
}

// An Engine carries runs on. It may be used concurrently and holds nothing
// between calls.
type Engine struct {
	runs     Runs
	dispatch Dispatcher
	plans    Plans
	pasts    Pasts

	fanIn, few int // see meeting
}

// An Outcome is what became of one call of a DAG or node.
type Outcome struct {
	Done  bool // the run has ended; if not, it goes on in other calls
	Value wire.Value
	Nodes []wire.NodeTiming // of the whole run, in order of starts; after an error, of this call
	Past  string            // of the run that has ended: what it has seen
	Again string            // why the run begins again; empty if it doesn't
	Kept  bool              // the run that has ended has state, which goes with its end
}

// A NodeError is the failure of a node's function. The other errors of
// Engine.Run are of the call's arguments or of the storage.
type NodeError struct {
	Node *Node
	Err  error
}

// Error names the node and says what its function returned.
func (e *NodeError) Error() string { return fmt.Sprintf("node %s: %v", e.Node.Name, e.Err) }

// Unwrap returns the function's own error.
func (e *NodeError) Unwrap() error { return e.Err }

// NewEngine returns an engine on the storage of runs.
func NewEngine(runs Runs, dispatch Dispatcher, plans Plans, pasts Pasts) *Engine {
	return &Engine{runs: runs, dispatch: dispatch, plans: plans, pasts: pasts, fanIn: fanIn, few: fewInputs}
}

// Run carries a run on, from a call of a DAG or of one of its nodes, as far as
// this call goes: see the package comment for what is done and in which order.
// When it returns without error all effects are stored, but for the result, which
// is the caller's to store before it acknowledges the call. After an error the
// call may be handed to Run again, here or elsewhere. Nothing runs on afterwards.
func (e *Engine) Run(ctx context.Context, call wire.Call, host Host) (Outcome, error) {
	plan, err := e.plan(ctx, &call)
	if err != nil {
		return Outcome{}, err
	}
	if call.Level == "" {
		call.Level = plan.graph.Level
	}
	if call.Node == "" {
		call.Began = call.Stored
	}
	r := &run{Engine: e, plan: plan, call: &call, host: host, id: call.RunState(), taken: time.Now()}
	out, err := r.carryOn(ctx)
	if again, ok := errors.AsType[restart](err); ok {
		return r.again(ctx, again)
	}
	return out, err
}

// carryOn does what the call is there for.
func (r *run) carryOn(ctx context.Context) (Outcome, error) {
	if err := r.keepAtOnce(ctx); err != nil {
		return Outcome{}, err
	}
	todo, err := r.begin(ctx)
	if err == nil {
		todo, err = r.fused(ctx, todo)
	}
	if err != nil || len(todo) == 0 {
		return Outcome{Nodes: r.timings}, err
	}
	if todo[0].do == finish {
		return r.finish(ctx, todo[0].value)
	}
	if err := r.settle(ctx); err != nil {
		return Outcome{}, err
	}
	if r.call.Node == "" && !wire.IsContained(r.call.Run) && r.late() {
		owner, err := r.runs.Claim(ctx, r.id, startNode, r.call.Seq, true)
		if err != nil || owner != r.call.Seq {
			return Outcome{}, err
		}
	}
	return r.handOn(ctx, todo, r.host.Past())
}

// lateAfter is well within the window of time in which a call that is dispatched twice
// is stored once.
const lateAfter = time.Minute

// late says whether the run may have ended while this call waited or was worked on: the
// call was handed out before, or may be the second one of its kind.
func (r *run) late() bool {
	if r.call.Attempt > 1 || r.call.Node != "" && r.call.Began.IsZero() {
		return true
	}
	return r.call.Stored.Sub(r.call.Began)+time.Since(r.taken) > lateAfter
}

// run is one call's part of a run. It lives as long as Engine.Run.
type run struct {
	*Engine
	plan    *Plan
	call    *wire.Call
	host    Host
	id      wire.RunID        // of the run's state
	taken   time.Time         // when this worker took the call
	timings []wire.NodeTiming // of the nodes that this call ran
}

// The inputs of $start: what a run began with.
const (
	pinned    = "version"   // of the DAG
	argsOf    = "args"      // the argument, and the caller's past: for a run that may begin again
	callerOf  = "caller"    // whom and what its calls are for: for a run that awaits signals
	epochOf   = "epoch"     // how often it has begun again, likewise
	signalled = "signalled" // nothing: it is stored to be read after
)

// plan returns the plan that the call's run began with.
func (e *Engine) plan(ctx context.Context, call *wire.Call) (*Plan, error) {
	if call.DAG != "" {
		return e.plans.Version(ctx, call.DAG)
	}
	// A start that is handed out again may have left calls of an older version.
	if call.Node == "" && call.Again() {
		pins, err := e.runs.Inputs(ctx, call.RunState(), startNode, 0)
		if err != nil {
			return nil, err
		}
		if pin, ok := pins[pinned]; ok {
			var id string
			if err := pin.Decode(&id); err != nil {
				return nil, fmt.Errorf("read the version that run %s began with: %w", call.Run, err)
			}
			return e.plans.Version(ctx, id)
		}
	}
	return e.plans.Latest(ctx, call.Name)
}

// begin says what the call is there for. It is nothing if another call has the node.
func (r *run) begin(ctx context.Context) ([]command, error) {
	if r.call.Node == "" {
		if wire.IsContained(r.call.Run) { // one that is started again, long afterwards, has been
			owner, err := r.runs.Claim(ctx, r.id, startNode, r.call.Seq, true)
			if err != nil || owner != r.call.Seq {
				return nil, err
			}
		}
		if r.pasts.Restarts(r.call.Level) {
			if err := r.host.Restartable(); err != nil {
				return nil, err
			}
		}
		return r.plan.finished(r.plan.start, r.call.Args, r.host.Hosts)
	}
	v, err := r.plan.vertex(r.call.Node)
	if err != nil {
		return nil, err
	}
	owner, err := r.runs.Claim(ctx, r.id, r.call.Step(), r.call.Seq, r.late())
	if err != nil || owner != r.call.Seq {
		return nil, err
	}
	return []command{{do: invoke, to: v, value: r.call.Args, item: r.call.Item, items: r.call.Items}}, nil
}

// fused invokes node after node, until something else is to be done.
func (r *run) fused(ctx context.Context, todo []command) ([]command, error) {
	for len(todo) == 1 && todo[0].do == invoke {
		c, began := todo[0], time.Now()
		value, err := r.invoke(ctx, c)
		if err != nil {
			r.timings = append(r.timings, wire.NodeTiming{Node: c.to.node.Name, Worker: r.host.Worker(), Started: began, Took: time.Since(began)})
			return nil, &NodeError{Node: c.to.node, Err: err}
		}
		if c.items > 0 {
			if !r.call.Stored.IsZero() {
				began = r.call.Stored // the last of all items tells of the node
			}
			todo, err = r.plan.finishedItem(c.to, c.item, c.items, value)
		} else {
			todo, err = r.plan.finished(c.to, value, r.host.Hosts)
		}
		r.timings = append(r.timings, wire.NodeTiming{Node: c.to.node.Name, Worker: r.host.Worker(), Started: began, Took: time.Since(began)})
		if err != nil {
			return nil, err
		}
	}
	return todo, nil
}

// invoke runs a node here and now.
func (r *run) invoke(ctx context.Context, c command) (wire.Value, error) {
	in := Invocation{Node: c.to.node, Step: c.step(), Args: c.value, Level: r.call.Level}
	if in.Node.DAG != "" {
		in.Await = wire.Contained(r.call.Run, r.call.Epoch, in.Step)
		if err := r.begins(ctx, in.Node.DAG, in.Await, c.value); err != nil {
			return wire.Value{}, err
		}
	}
	return r.host.Invoke(ctx, in)
}

// finish ends the run with the value of its only sink, which this call ran. If
// the call began the run, it ran all of it, and nobody else knows of the run.
func (r *run) finish(ctx context.Context, value wire.Value) (Outcome, error) {
	if err := r.host.Flush(ctx); err != nil {
		return Outcome{}, err
	}
	if r.call.Node == "" {
		return Outcome{Done: true, Value: value, Nodes: r.timings, Past: r.host.Past(), Kept: r.keepsAtOnce() || r.call.Epoch > 0}, nil
	}
	return r.outcome(ctx, value, r.host.Past())
}

// outcome is the end of a run that took several calls.
func (r *run) outcome(ctx context.Context, value wire.Value, past string) (Outcome, error) {
	nodes, err := r.runs.Timings(ctx, r.id)
	if err != nil {
		return Outcome{}, err
	}
	own := func(t wire.NodeTiming) bool {
		return slices.ContainsFunc(r.timings, func(o wire.NodeTiming) bool { return o.Node == t.Node })
	}
	nodes = append(slices.DeleteFunc(nodes, own), r.timings...)
	slices.SortFunc(nodes, func(a, b wire.NodeTiming) int {
		if c := a.Started.Compare(b.Started); c != 0 {
			return c
		}
		return strings.Compare(a.Node, b.Node)
	})
	return Outcome{Done: true, Value: value, Nodes: nodes, Past: past, Kept: true}, nil
}

// maxEffects is how many effects of one call are under way at once: enough to
// keep a server busy, and no flood from one node of a thousand edges.
const maxEffects = 32

// settle stores what must be there before anything leaves for other calls.
func (r *run) settle(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(maxEffects)
	g.Go(func() error { return r.host.Flush(ctx) })
	for _, t := range r.timings {
		g.Go(func() error { return r.runs.Done(ctx, r.id, t) })
	}
	if r.call.Node == "" && !r.keepsAtOnce() {
		g.Go(func() error { return r.keep(ctx, r.id, r.began()) })
	}
	if r.call.Node == "" && r.call.Epoch == 0 && r.pasts.Restarts(r.call.Level) {
		g.Go(func() error { return r.runs.Live(ctx, r.call.Run, r.call.Stream) })
	}
	return g.Wait()
}

// keep stores what a run began with.
func (r *run) keep(ctx context.Context, id wire.RunID, kept map[string]wire.Input) error {
	g, ctx := errgroup.WithContext(ctx)
	for name, in := range kept {
		g.Go(func() error {
			_, err := r.runs.PutInput(ctx, id, startNode, name, in)
			return err
		})
	}
	return g.Wait()
}

// handOn carries out dispatches and deliveries, and the end of the run if that is
// what they come to.
func (r *run) handOn(ctx context.Context, todo []command, past string) (Outcome, error) {
	outcomes := make([]Outcome, len(todo))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(maxEffects)
	for i, c := range todo {
		g.Go(func() (err error) {
			switch c.do {
			case dispatch:
				return r.publish(ctx, c, past)
			case deliver:
				outcomes[i], err = r.deliver(ctx, c, past)
			default:
				outcomes[i], err = r.end(ctx, c, past)
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return Outcome{}, err
	}
	// Several may have come upon the end: it is the same.
	for _, out := range outcomes {
		if out.Done {
			return out, nil
		}
	}
	return Outcome{}, nil
}

// publish dispatches the call of a node.
func (r *run) publish(ctx context.Context, c command, past string) error {
	return r.dispatch.Dispatch(ctx, wire.Call{
		Run: r.call.Run, Name: r.plan.Name(), DAG: r.plan.ID(), Node: c.to.node.Name, Item: c.item, Items: c.items,
		Args: c.value, Reply: r.call.Reply, Level: r.call.Level, Past: past, Epoch: r.call.Epoch, Depth: r.call.Depth,
		Digest: r.call.Digest, Wait: c.to.node.Wait, Began: r.call.Began,
	})
}

// end ends a run at a node where several ways met. Sinks of two pools may have one
// sequence by chance, since each pool counts for itself. Then both end the run,
// with the same value.
func (r *run) end(ctx context.Context, c command, past string) (Outcome, error) {
	owner, err := r.runs.Claim(ctx, r.id, resultNode, r.call.Seq, true) // somebody else may have ended it just now
	if err != nil || owner != r.call.Seq {
		return Outcome{}, err
	}
	return r.outcome(ctx, c.value, past)
}
