package dagengine

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// evaluate is every function of the simulation: a digest of its name and of
// what its argument means, and a coin for the conditions.
func evaluate(function string, args []byte) []byte {
	sum := sha256.Sum256([]byte(function + meaning(args)))
	return fmt.Appendf(nil, `{"%s":"%x","coin":%d}`, function, sum[:6], sum[6]%2)
}

// meaning returns JSON in its one form.
func meaning(text []byte) string {
	var v any
	if len(text) == 0 {
		return "null"
	}
	if err := json.Unmarshal(text, &v); err != nil {
		return "not JSON: " + string(text)
	}
	one, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(one)
}

// direct evaluates a graph by recursion, straight from its definition. It
// shares no code with the engine.
type direct struct {
	g     *Graph
	run   wire.RunID
	args  json.RawMessage
	known map[string]*Graph // for the DAGs that it contains
	memo  map[string]json.RawMessage
}

func newDirect(g *Graph, run wire.RunID, args json.RawMessage, known map[string]*Graph) *direct {
	return &direct{g: g, run: run, args: args, known: known, memo: map[string]json.RawMessage{}}
}

// signal is what everybody sends.
func signal(run wire.RunID, name string) json.RawMessage {
	return fmt.Appendf(nil, `"%s of %s"`, name, run)
}

// carries says whether an edge carries anything of a result; nil is one that was skipped.
func carries(e Edge, result json.RawMessage) bool {
	if result == nil || e.When == nil {
		return result != nil
	}
	var fields map[string]json.RawMessage
	at := "null"
	if json.Unmarshal(result, &fields) == nil && fields[e.When.Field] != nil {
		at = meaning(fields[e.When.Field])
	}
	if e.When.Is != nil {
		return at == meaning(e.When.Is)
	}
	return at != meaning(e.When.Not)
}

// argument returns what a node is given; nil if it is skipped.
func (d *direct) argument(n *Node) json.RawMessage {
	places, lacks := map[string]json.RawMessage{}, map[string]bool{}
	maps.Copy(places, n.With)
	source, skipped := true, true
	for _, e := range d.g.Edges {
		if e.To != n.Name {
			continue
		}
		source = false
		if v := d.node(e.From); carries(e, v) {
			places[e.Arg], skipped = v, false
		} else {
			places[e.Arg], lacks[e.Arg] = json.RawMessage("null"), true
		}
	}
	if skipped && !source {
		return nil
	}
	if source {
		in := d.args
		if n.Input != "" {
			var fields map[string]json.RawMessage
			if json.Unmarshal(d.args, &fields) == nil {
				in = fields[n.Input]
			}
		}
		places[n.As] = in
	}
	if n.Signal != "" {
		places[n.SignalAs] = signal(d.run, n.Signal)
	}
	if all, ok := places[""]; ok {
		return all
	}
	var out []byte
	if _, indexed := places["0"]; indexed {
		list := make([]json.RawMessage, len(places))
		for place, v := range places {
			i, _ := strconv.Atoi(place)
			list[i] = v
		}
		out, _ = json.Marshal(list)
	} else {
		maps.DeleteFunc(places, func(place string, _ json.RawMessage) bool { return lacks[place] })
		out, _ = json.Marshal(places)
	}
	return out
}

// steps returns the arguments of a node's executions by their names; none if it is skipped.
func (d *direct) steps(n *Node) map[string]json.RawMessage {
	args := d.argument(n)
	if args == nil || !n.Each {
		return map[string]json.RawMessage{n.Name: args}
	}
	var items []json.RawMessage
	_ = json.Unmarshal(args, &items)
	steps := map[string]json.RawMessage{}
	for i, item := range items {
		steps[fmt.Sprint(n.Name, ".", i)] = item
	}
	return steps
}

// inside returns the run of the DAG that a step of a node runs.
func (d *direct) inside(n *Node, step string, args json.RawMessage) *direct {
	return newDirect(d.known[n.DAG], d.run+wire.RunID("/"+step+"=dag"), args, d.known)
}

// node returns the result of a node; nil if it is skipped.
func (d *direct) node(name string) json.RawMessage {
	if v, ok := d.memo[name]; ok {
		return v
	}
	i := slices.IndexFunc(d.g.Nodes, func(n Node) bool { return n.Name == name })
	n := &d.g.Nodes[i]
	results := map[string]json.RawMessage{}
	for step, args := range d.steps(n) {
		switch {
		case args == nil:
		case n.DAG != "":
			results[step] = d.inside(n, step, args).result()
		default:
			results[step] = evaluate(n.FunctionName(), args)
		}
	}
	v := results[name]
	if n.Each && len(results) > 0 {
		list := make([]json.RawMessage, len(results))
		for i := range list {
			list[i] = results[fmt.Sprint(name, ".", i)]
		}
		v, _ = json.Marshal(list)
	}
	d.memo[name] = v
	return v
}

func (d *direct) result() []byte {
	sinks, all := map[string]json.RawMessage{}, 0
	for _, n := range d.g.Nodes {
		if !slices.ContainsFunc(d.g.Edges, func(e Edge) bool { return e.From == n.Name }) {
			all++
			if v := d.node(n.Name); v != nil {
				sinks[n.Name] = v
			}
		}
	}
	if all == 1 {
		for _, v := range sinks {
			return v
		}
		return []byte("null")
	}
	out, _ := json.Marshal(sinks)
	return out
}

// randomGraph returns a sound graph of up to 30 nodes: chains, fans, joins by
// index and by name, constants, several sources and sinks, conditions, maps, timers,
// and nodes that run one of the DAGs inside. One that isn't inside itself takes
// fields of its argument and awaits signals.
func randomGraph(rng *rand.Rand, name string, inside ...string) *Graph {
	g := &Graph{Name: name}
	outer := name[0] == 'g'
	size := 1 + rng.IntN(30)
	if !outer {
		size = 1 + rng.IntN(4)
	}
	reach := 1 + rng.IntN(6) // short makes chains, long makes fans
	for i := range size {
		n := Node{Name: fmt.Sprint("n", i), Function: fmt.Sprint("f", rng.IntN(6))}
		var from []string
		for range rng.IntN(4) {
			if back := 1 + rng.IntN(reach); back <= i {
				from = append(from, fmt.Sprint("n", i-back))
			}
		}
		constants := max(0, rng.IntN(6)-3)
		slots := max(1, len(from)) + constants
		if outer && rng.IntN(12) == 0 {
			n.Signal = fmt.Sprint("s", i)
			slots++
		}
		places := make([]string, slots)
		switch style := rng.IntN(3); {
		case slots == 1 && style > 0: // the whole argument
		case style == 0:
			for j := range places {
				places[j] = fmt.Sprint("p", j)
			}
		default:
			for j, at := range rng.Perm(slots) {
				places[j] = strconv.Itoa(at)
			}
			n.Each = rng.IntN(3) == 0
		}
		if len(from) == 0 {
			n.As = places[0]
			if outer && rng.IntN(2) == 0 {
				n.Input = []string{"x", "y"}[rng.IntN(2)]
			}
		}
		for j, f := range from {
			e := Edge{From: f, To: n.Name, Arg: places[j]}
			switch rng.IntN(8) {
			case 0:
				e.When = &When{Field: "coin", Is: json.RawMessage("1")}
			case 1:
				e.When = &When{Field: "coin", Not: json.RawMessage("1.0")}
			}
			g.Edges = append(g.Edges, e)
		}
		if n.Signal != "" {
			slots--
			n.SignalAs = places[slots]
		}
		for j := range constants {
			if n.With == nil {
				n.With = map[string]json.RawMessage{}
			}
			n.With[places[slots-1-j]] = json.RawMessage(strconv.Itoa(rng.IntN(100)))
		}
		if rng.IntN(8) == 0 {
			n.Wait = time.Second
		}
		if len(inside) > 0 && rng.IntN(8) == 0 {
			n.Function, n.DAG = "", inside[rng.IntN(len(inside))]
		}
		g.Nodes = append(g.Nodes, n)
	}
	rng.Shuffle(size, func(i, j int) { g.Nodes[i], g.Nodes[j] = g.Nodes[j], g.Nodes[i] })
	return g
}

// TestRunsComeToTheRightEnd has random graphs run by workers that die at any
// effect, storage that forgets duplicates and replicas that lag. Every node must
// see the arguments that a direct evaluation gives it, in one call and no other,
// and every run must end once, with the right value.
func TestRunsComeToTheRightEnd(t *testing.T) {
	for seed := range uint64(150) {
		rng := rand.New(rand.NewPCG(seed, 0))
		pools := []string{"p0", "p1", "p2"}[:1+rng.IntN(3)]
		w := newWorld(seed, []uint64{0, 3, 8, 20}[rng.IntN(4)], pools...)
		known := map[string]*Graph{"inside": randomGraph(rng, "inside")}
		known["between"] = randomGraph(rng, "between", "inside")
		w.apply(t, known["inside"])
		w.apply(t, known["between"])
		want := map[wire.RunID]*direct{}
		for i := range 1 + rng.IntN(4) {
			g := randomGraph(rng, fmt.Sprint("g", i), "inside", "between")
			p := w.apply(t, g)
			run := wire.RunID(fmt.Sprint("r", i))
			args := fmt.Appendf(nil, `{"x":%d,"y":[%d]}`, rng.IntN(100), rng.IntN(100))
			want[run] = newDirect(g, run, args, known)
			for _, name := range p.Signals() {
				w.signal(run, name)
			}
			w.start(run, g.Name, wire.Value{Body: args})
		}
		w.work(t, 2)
		for run, d := range want {
			check(t, w, run, d)
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func check(t *testing.T, w *world, run wire.RunID, d *direct) {
	t.Helper()
	if len(w.results[run]) != 1 {
		t.Errorf("run %s was ended by %d calls, want one", run, len(w.results[run]))
	}
	var nodes []string
	for i := range d.g.Nodes {
		n := &d.g.Nodes[i]
		for step, args := range d.steps(n) {
			calls := w.ran[string(run)+"/"+step]
			if args == nil {
				if len(calls) > 0 {
					t.Errorf("run %s: node %s ran, want it skipped", run, step)
				}
				continue
			}
			if !slices.Contains(nodes, n.Name) {
				nodes = append(nodes, n.Name)
			}
			if len(calls) != 1 {
				t.Errorf("run %s: %d calls ran node %s, want one", run, len(calls), step)
			}
			for _, times := range calls {
				for _, got := range times {
					if got, want := meaning(got.Body), meaning(args); got != want {
						t.Errorf("run %s: node %s was given %s, want %s", run, step, got, want)
					}
				}
			}
			if n.DAG != "" {
				inside := d.inside(n, step, args)
				check(t, w, inside.run, inside)
			}
		}
	}
	slices.Sort(nodes)
	for _, out := range w.results[run] {
		if got, want := meaning(out.Value.Body), meaning(d.result()); got != want {
			t.Errorf("run %s ended with %s, want %s", run, got, want)
		}
		var timed []string
		for _, timing := range out.Nodes {
			timed = append(timed, timing.Node)
		}
		slices.Sort(timed)
		if !slices.Equal(timed, nodes) {
			t.Errorf("run %s: timings of %v, want %v", run, timed, nodes)
		}
	}
}

// TestJoinFiresOnce brings sixteen inputs at once to a join, five hundred times.
func TestJoinFiresOnce(t *testing.T) {
	const runs, width = 500, 16
	g := &Graph{Name: "wide", Nodes: []Node{{Name: "begin", Function: "f0"}, {Name: "join", Function: "f0"}}}
	for i := range width {
		branch := fmt.Sprint("branch", i)
		g.Nodes = append(g.Nodes, Node{Name: branch, Function: "f0"})
		g.Edges = append(g.Edges, Edge{From: "begin", To: branch}, Edge{From: branch, To: "join", Arg: strconv.Itoa(i)})
	}
	w := newWorld(1, 0, "p0")
	w.apply(t, g)
	for i := range runs {
		w.start(wire.RunID(fmt.Sprint("r", i)), "wide", wire.Value{Body: []byte(strconv.Itoa(i))})
	}
	w.work(t, 16)
	joined := 0
	for i := range runs {
		joined += w.enqueued[fmt.Sprint("r", i, "/join")]
		if n := len(w.results[wire.RunID(fmt.Sprint("r", i))]); n != 1 {
			t.Errorf("run %d has %d results, want 1", i, n)
		}
	}
	if joined != runs {
		t.Errorf("%d joined calls, want %d", joined, runs)
	}
}
