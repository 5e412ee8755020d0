package dagengine

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cloudburst-nats/cloudburst/wire"
)

var errFault = errors.New("injected fault")

// world is a storage of runs, the calls that wait, and the workers that take
// them. Its faults are a function of the seed and of what is done for the
// how-manieth time, not of which goroutine comes first.
type world struct {
	seed   uint64
	rarity uint64 // one in so many effects fails; 0: none does
	pools  []string

	mu       sync.Mutex // guards what follows
	changed  *sync.Cond
	rng      *rand.Rand
	times    map[string]uint64 // effects by key, for faults
	plans    map[string]*Plan  // by name, and by id
	seq      uint64
	waiting  map[string][]wire.Call // by pool
	busy     int
	stored   map[string]bool // run/node: the window of duplicates
	inputs   map[string][]input
	claims   map[string]uint64
	timings  map[wire.RunID]map[string]wire.NodeTiming
	results  map[wire.RunID]map[uint64]Outcome  // by the sequence of the call that ended it
	ran      map[string]map[uint64][]wire.Value // run/node → sequence of the call → arguments
	enqueued map[string]int                     // run/node → calls stored
	failed   []error
}

type input struct {
	seq  uint64
	from string
	v    wire.Input
}

// newWorld returns a world of pools; a function is hosted where poolOf says.
func newWorld(seed, rarity uint64, pools ...string) *world {
	w := &world{
		seed: seed, rarity: rarity, pools: pools, rng: rand.New(rand.NewPCG(seed, 1)),
		times: map[string]uint64{}, plans: map[string]*Plan{}, waiting: map[string][]wire.Call{},
		stored: map[string]bool{}, inputs: map[string][]input{}, claims: map[string]uint64{},
		timings: map[wire.RunID]map[string]wire.NodeTiming{}, results: map[wire.RunID]map[uint64]Outcome{},
		ran: map[string]map[uint64][]wire.Value{}, enqueued: map[string]int{},
	}
	w.changed = sync.NewCond(&w.mu)
	return w
}

// poolOf places a function: "f3" is in the third pool, of as many as there are.
func (w *world) poolOf(function string) string {
	return w.pools[int(function[len(function)-1]-'0')%len(w.pools)]
}

func (w *world) apply(t *testing.T, g *Graph) *Plan {
	t.Helper()
	p, err := Compile(g)
	if err != nil {
		t.Fatalf("seed %d: %v", w.seed, err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.plans[p.Name()], w.plans[p.ID()] = p, p
	return p
}

// happensLocked says whether a fault of this kind strikes now; more makes it
// rarer than others.
func (w *world) happensLocked(what, key string, more uint64) bool {
	if w.rarity == 0 {
		return false
	}
	what += " " + key
	w.times[what]++
	n := w.times[what]
	h := fnv.New64a()
	fmt.Fprint(h, w.seed, what, n)
	return n <= 3 && h.Sum64()%(w.rarity*more) == 0 // not for ever: every run must end
}

// effect does something to the world, unless it fails before or seems to, after.
func (w *world) effect(key string, do func()) error {
	runtime.Gosched()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.happensLocked("lost", key, 1) {
		return errFault
	}
	do()
	if w.happensLocked("unacknowledged", key, 1) {
		return errFault
	}
	return nil
}

func (w *world) PutInput(_ context.Context, run wire.RunID, node, from string, v wire.Input) (seq uint64, err error) {
	key := string(run) + "/" + node
	conflict := false
	err = w.effect("put "+key+" "+from, func() {
		of := func(in input) bool { return in.from == from }
		if conflict = v.Once && slices.ContainsFunc(w.inputs[key], of); conflict {
			return
		}
		w.seq++
		seq = w.seq
		w.inputs[key] = append(w.inputs[key], input{seq, from, v})
	})
	if conflict && err == nil {
		err = &wire.Error{Kind: wire.KindConflict}
	}
	return seq, err
}

// Inputs answers from some replica: as of the fence, or later.
func (w *world) Inputs(_ context.Context, run wire.RunID, node string, fence uint64) (map[string]wire.Input, error) {
	key := string(run) + "/" + node
	seen := map[string]wire.Input{}
	err := w.effect("inputs "+key, func() {
		upTo := fence + w.rng.Uint64N(w.seq-fence+1)
		for _, in := range w.inputs[key] {
			if in.seq <= upTo {
				seen[in.from] = in.v
			}
		}
	})
	return seen, err
}

func (w *world) Claim(_ context.Context, run wire.RunID, node string, call uint64, late bool) (owner uint64, err error) {
	key := string(run) + "/" + node
	err = w.effect("claim "+key, func() {
		if _, taken := w.claims[key]; !taken {
			w.claims[key] = call
		}
		owner = w.claims[key]
		if late && owner == call && w.overLocked(run, node) {
			w.forgetLocked(run)
			owner = 0
		}
	})
	return owner, err
}

func (w *world) Live(context.Context, wire.RunID, string) error { return nil }

// overLocked says whether a run has ended: by its result, and by what it began with,
// which goes with its end.
func (w *world) overLocked(run wire.RunID, node string) bool {
	if len(w.results[run]) > 0 || node == startNode {
		return len(w.results[run]) > 0
	}
	of := func(in input) bool { return in.from == pinned }
	return !slices.ContainsFunc(w.inputs[string(run)+"/"+startNode], of)
}

// forgetLocked removes the state of a run.
func (w *world) forgetLocked(run wire.RunID) {
	of := string(run) + "/"
	mine := func(key string) bool {
		node, is := strings.CutPrefix(key, of)
		return is && !strings.Contains(node, "=dag") // of a run inside of it
	}
	maps.DeleteFunc(w.inputs, func(key string, _ []input) bool { return mine(key) })
	maps.DeleteFunc(w.claims, func(key string, _ uint64) bool { return mine(key) })
	delete(w.timings, run)
}

func (w *world) Done(_ context.Context, run wire.RunID, t wire.NodeTiming) error {
	return w.effect("done "+string(run)+"/"+t.Node, func() {
		if w.timings[run] == nil {
			w.timings[run] = map[string]wire.NodeTiming{}
		}
		w.timings[run][t.Node] = t
	})
}

func (w *world) Timings(_ context.Context, run wire.RunID) (list []wire.NodeTiming, err error) {
	err = w.effect("timings "+string(run), func() {
		for _, t := range w.timings[run] {
			list = append(list, t)
		}
	})
	return list, err
}

func (w *world) Dispatch(_ context.Context, call wire.Call) error {
	key := string(call.Run) + "/" + call.Step()
	return w.effect("dispatch "+key, func() {
		if w.stored[key] && !w.happensLocked("window lapsed", key, 1) {
			return
		}
		w.stored[key] = true
		w.enqueued[key]++
		w.seq++
		call.Seq, call.Attempt = w.seq, 1
		w.enqueueLocked(call)
	})
}

func (w *world) enqueueLocked(call wire.Call) {
	plan := w.plans[call.Name]
	node := call.Node
	if node == "" {
		node = plan.Order()[0].Name
	} else if call.DAG != "" {
		plan = w.plans[call.DAG]
	}
	pool := w.poolOfNode(plan.vertices[node].node)
	w.waiting[pool] = append(w.waiting[pool], call)
	w.changed.Broadcast()
}

// poolOfNode is that of its function, or of the first of its DAG.
func (w *world) poolOfNode(n *Node) string {
	for n.DAG != "" {
		n = w.plans[n.DAG].Order()[0]
	}
	return w.poolOf(n.FunctionName())
}

func (w *world) Latest(_ context.Context, dag string) (*Plan, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.plans[dag], nil
}

func (w *world) Version(ctx context.Context, id string) (*Plan, error) { return w.Latest(ctx, id) }

// start begins a run.
func (w *world) start(run wire.RunID, dag string, args wire.Value) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seq++
	w.enqueueLocked(wire.Call{Run: run, Name: dag, Args: args, Seq: w.seq, Attempt: 1, Reply: "inbox", Level: "lww"})
}

// sending is the name of what is no call, but somebody who sends a signal.
const sending = "$sending"

// signal has somebody send a signal until it is there.
func (w *world) signal(run wire.RunID, name string) {
	call := wire.Call{Run: run, Name: sending, Node: name, Args: wire.Value{Body: signal(run, name)}}
	w.waiting[w.pools[0]] = append(w.waiting[w.pools[0]], call)
}

// work runs so many workers for each pool until no call is left.
func (w *world) work(t *testing.T, each int) {
	t.Helper()
	engine := NewEngine(w, w, w, w)
	engine.fanIn, engine.few = 2+int(w.seed%3), int(w.seed%3) // as if three were many
	var group sync.WaitGroup
	for _, pool := range w.pools {
		for i := range each {
			group.Go(func() {
				for w.takeOne(t.Context(), engine, pool, fmt.Sprint(pool, "-", i)) {
				}
			})
		}
	}
	group.Wait()
	for _, err := range w.failed {
		t.Errorf("seed %d: %v", w.seed, err)
	}
}

// takeOne runs one call of the pool, any that waits. It returns false once
// there is none and none can come.
func (w *world) takeOne(ctx context.Context, engine *Engine, pool, name string) bool {
	w.mu.Lock()
	for len(w.waiting[pool]) == 0 && (w.busy > 0 || w.anyLocked()) {
		w.changed.Wait()
	}
	list := w.waiting[pool]
	if len(list) == 0 {
		w.mu.Unlock()
		return false
	}
	i := w.rng.IntN(len(list))
	call := list[i]
	w.waiting[pool] = slices.Delete(list, i, i+1)
	w.busy++
	if call.Name == sending {
		w.mu.Unlock()
		err := engine.Signal(ctx, call.Run, call.Node, call.Args)
		w.mu.Lock()
		defer w.mu.Unlock()
		defer w.changed.Broadcast()
		w.busy--
		switch {
		case len(w.results[call.Run]) > 0: // it has ended: the node was skipped, or this was the last of several tries
		case errors.Is(err, errFault), errors.Is(err, ErrNotBegun), wire.KindOf(err) == wire.KindUnavailable:
			w.waiting[pool] = append(w.waiting[pool], call)
		case err != nil && wire.KindOf(err) != wire.KindConflict:
			w.failed = append(w.failed, err)
		}
		return true
	}
	if w.happensLocked("handed out twice", fmt.Sprint(call.Run, call.Node, call.Seq), 2) {
		again := call
		again.Attempt++
		w.enqueueLocked(again)
	}
	w.mu.Unlock()

	out, err := engine.Run(ctx, call, &simHost{world: w, pool: pool, name: name, call: call})

	w.mu.Lock()
	defer w.mu.Unlock()
	defer w.changed.Broadcast()
	w.busy--
	key := fmt.Sprint("end ", call.Run, call.Node, call.Seq)
	switch {
	case err != nil && !errors.Is(err, errFault) && wire.KindOf(err) != wire.KindUnavailable:
		w.failed = append(w.failed, fmt.Errorf("run %s node %q: %w", call.Run, call.Node, err))
		return true
	case err != nil || w.happensLocked("crashed before storing", key, 1):
		call.Attempt++
		w.enqueueLocked(call)
		return true
	case out.Done:
		if w.results[call.Run] == nil {
			w.results[call.Run] = map[uint64]Outcome{}
		}
		if first, ended := w.results[call.Run][call.Seq]; ended {
			out.Nodes = first.Nodes // the state with the others' timings may be gone by now
		}
		w.results[call.Run][call.Seq] = out
		if out.Kept && !w.happensLocked("crashed before forgetting", key, 1) {
			w.forgetLocked(call.Run)
		} else if out.Kept {
			call.Attempt++
			w.enqueueLocked(call)
			return true
		}
	}
	if w.happensLocked("crashed before acknowledging", key, 1) {
		call.Attempt++
		w.enqueueLocked(call)
	}
	return true
}

func (w *world) anyLocked() bool {
	for _, list := range w.waiting {
		if len(list) > 0 {
			return true
		}
	}
	return false
}

// simHost is a worker of the world, at one call.
type simHost struct {
	*world
	pool, name string
	call       wire.Call
}

func (h *simHost) Hosts(function string) bool { return h.poolOf(function) == h.pool }
func (h *simHost) Worker() string             { return h.name }
func (h *simHost) Past() string               { return "" }
func (h *simHost) Restartable() error         { return nil }

func (w *world) Join([]string) (string, error) { return "", nil }
func (w *world) Restarts(string) bool          { return false }
func (w *world) Token(past string) string      { return past }

func (h *simHost) Invoke(_ context.Context, in Invocation) (wire.Value, error) {
	n, args := in.Node, in.Args
	if h.poolOfNode(n) != h.pool {
		return wire.Value{}, fmt.Errorf("%s was asked to run %s", h.name, n.FunctionName())
	}
	key := string(h.call.Run) + "/" + in.Step
	if in.Await != "" {
		return h.await(in, key)
	}
	err := h.effect("invoke "+key, func() {
		if h.ran[key] == nil {
			h.ran[key] = map[uint64][]wire.Value{}
		}
		h.ran[key][h.call.Seq] = append(h.ran[key][h.call.Seq], args)
	})
	return wire.Value{Body: evaluate(n.FunctionName(), args.Body)}, err
}

// await hands the call back until the run is there: a worker that waits keeps none
// from running.
func (h *simHost) await(in Invocation, key string) (value wire.Value, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, out := range h.results[in.Await] {
		h.ran[key] = map[uint64][]wire.Value{h.call.Seq: {in.Args}}
		return out.Value, nil
	}
	return value, errFault
}

func (h *simHost) Flush(context.Context) error {
	return h.effect(fmt.Sprint("flush ", h.call.Run, h.call.Node), func() {})
}
