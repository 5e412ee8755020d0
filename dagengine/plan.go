package dagengine

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// The nodes that exist in every plan. No other name begins with a $.
const (
	startNode  = "$start"  // its result is the run's argument
	resultNode = "$result" // its argument is the run's result
	// signalNode stands where an input is from outside the run.
	signalNode = "$signal"
	// gatherNode begins the names under which calls claim to gather many results.
	gatherNode = "$gather."
)

// A Plan is a sound graph made ready to run. It never changes, and may be used
// concurrently.
type Plan struct {
	graph    Graph
	version  string
	order    []*Node
	vertices map[string]*vertex // by node's name
	start    *vertex
	result   *vertex
	signals  []*vertex // the nodes that await one
}

// vertex is a node among its neighbours.
type vertex struct {
	node  *Node
	slots []slot // what its argument is made of, in order
	shape shape
	feeds []string  // the nodes that slots are filled from, each once
	next  []*vertex // the nodes that this one feeds, each once, in order
}

// Compile makes a plan of a graph; the error is Validate's. The plan holds a
// copy: the graph may change afterwards.
func Compile(g *Graph) (*Plan, error) {
	if err := g.Validate(); err != nil {
		return nil, err
	}
	p := &Plan{graph: g.canonical(), vertices: make(map[string]*vertex, len(g.Nodes)+2)}
	content, err := json.Marshal(p.graph)
	if err != nil {
		return nil, fmt.Errorf("compile %s: %w", g.Name, err)
	}
	digest := sha256.Sum256(content)
	p.version = hex.EncodeToString(digest[:])[:12]
	p.connect()
	return p, nil
}

// Name returns the DAG's name.
func (p *Plan) Name() string { return p.graph.Name }

// Version names the plan's content: the same graph has the same version, in
// whatever order its nodes and edges were written. It is 12 hexadecimal digits.
func (p *Plan) Version() string { return p.version }

// ID returns <name>@<version>, as calls of nodes carry it.
func (p *Plan) ID() string { return p.graph.Name + "@" + p.version }

// Order returns the nodes so that every edge leads onwards, sources first. The
// order is the graph's own, however it was written. The caller may not change it.
func (p *Plan) Order() []*Node { return p.order }

// Sources returns the names of the nodes that begin a run, in order.
func (p *Plan) Sources() []string { return names(p.start.next) }

// Sinks returns the names of the nodes whose values make the result, in order.
func (p *Plan) Sinks() []string { return slices.Clone(p.result.feeds) }

// Successors returns the names of the nodes that a node feeds, in order.
func (p *Plan) Successors(node string) []string {
	v := p.vertices[node]
	if v == nil {
		return nil
	}
	next := names(v.next)
	return slices.DeleteFunc(next, func(name string) bool { return name == resultNode })
}

// Signals returns the names of the signals that its runs await, in order.
func (p *Plan) Signals() []string {
	list := make([]string, len(p.signals))
	for i, v := range p.signals {
		list[i] = v.node.Signal
	}
	slices.Sort(list)
	return list
}

func names(list []*vertex) []string {
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = v.node.Name
	}
	return out
}

// canonical returns a copy of the graph that doesn't show in which order it
// was written, nor which defaults were spelt out.
func (g *Graph) canonical() Graph {
	c := *g
	c.Nodes = slices.Clone(g.Nodes)
	for i := range c.Nodes {
		n := &c.Nodes[i]
		n.Function = n.FunctionName()
		n.With = maps.Clone(n.With)
		for place, raw := range n.With {
			n.With[place] = slices.Clone(raw)
		}
	}
	slices.SortFunc(c.Nodes, func(a, b Node) int { return cmp.Compare(a.Name, b.Name) })
	c.Edges = slices.Clone(g.Edges)
	slices.SortFunc(c.Edges, func(a, b Edge) int {
		return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To), cmp.Compare(a.Arg, b.Arg))
	})
	return c
}

// connect makes the vertices, $start and $result among them.
func (p *Plan) connect() {
	order, _ := sorted(p.graph.Nodes, p.graph.Edges)
	next := successors(p.graph.Edges)
	into := edgesInto(p.graph.Edges)
	var sinks []slot
	for i := range p.graph.Nodes {
		n := &p.graph.Nodes[i]
		p.add(n, slotsOf(n, into[n.Name]))
		if len(next[n.Name]) == 0 {
			sinks = append(sinks, slot{place: n.Name, from: n.Name})
		}
	}
	if len(sinks) == 1 {
		sinks[0].place = "" // its value is the result
	}
	p.start = &vertex{node: &Node{Name: startNode}}
	p.vertices[startNode] = p.start
	p.result = p.add(&Node{Name: resultNode}, sinks)
	if len(sinks) > 1 {
		p.result.shape = object // also where sinks have numbers for names
	}
	for _, name := range append(order, resultNode) {
		v := p.vertices[name]
		for _, from := range v.feeds {
			if from == signalNode {
				p.signals = append(p.signals, v)
				continue
			}
			p.vertices[from].next = append(p.vertices[from].next, v)
		}
		if v != p.result {
			p.order = append(p.order, v.node)
		}
	}
}

func (p *Plan) add(n *Node, slots []slot) *vertex {
	v := &vertex{node: n}
	v.slots, v.shape = arranged(slots)
	for _, s := range v.slots {
		if s.from != "" {
			v.feeds = append(v.feeds, s.from)
		}
	}
	slices.Sort(v.feeds)
	v.feeds = slices.Compact(v.feeds)
	p.vertices[n.Name] = v
	return v
}

// vertex returns a node by name, as a call gave it.
func (p *Plan) vertex(node string) (*vertex, error) {
	v := p.vertices[node]
	if v == nil || v == p.start || v == p.result {
		return nil, &wire.Error{Op: "run node", Kind: wire.KindUnknown, Name: node, Msg: "there is no such node in " + p.ID()}
	}
	return v, nil
}
