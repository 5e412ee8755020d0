package dagengine

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// Limits of a graph. They bound what one run can ask of the storage, and keep
// the whole of a plan a matter of milliseconds.
const (
	MaxNodes  = 1000
	MaxEdges  = 10000
	MaxInputs = 256 // of one node: edges and constants
	// MaxAttempts of one node: a worker buries a call that is handed out much
	// more often, since it may be bringing workers down.
	MaxAttempts = 30
)

// Validate reports everything that is wrong with the graph at once, joined and
// in a fixed order, each problem a *wire.Error of KindInvalid that names the
// node, edge or cycle. Nil means that it compiles.
func (g *Graph) Validate() error {
	var p problems
	p.name("DAG", g.Name)
	if !slices.Contains(levels(), g.Level) {
		p.add(g.Level, "unknown consistency level, there are %s", strings.Join(levels()[1:], ", "))
	}
	switch {
	case len(g.Nodes) == 0:
		p.add(g.Name, "it has no nodes")
	case len(g.Nodes) > MaxNodes:
		p.add(g.Name, "it has %d nodes, %d at most", len(g.Nodes), MaxNodes)
	}
	if len(g.Edges) > MaxEdges {
		p.add(g.Name, "it has %d edges, %d at most", len(g.Edges), MaxEdges)
	}
	if len(g.Nodes) > MaxNodes || len(g.Edges) > MaxEdges {
		return p.join() // a closer look could cost any amount
	}
	p.nodes(g)
	edges := p.edges(g)
	p.arguments(g, edges)
	for _, path := range cycles(g.Nodes, edges) {
		p.add(strings.Join(path, " -> "), "the edges form a cycle")
	}
	return p.join()
}

// CheckFunctions reports every function that the graph names and that is not
// among the known ones, with a near name where there is one. Each is a
// *wire.Error of KindInvalid.
func (g *Graph) CheckFunctions(known []string) error {
	var p problems
	for i := range g.Nodes {
		n := &g.Nodes[i]
		if n.DAG != "" {
			continue
		}
		if function, _, _ := wire.SplitID(n.FunctionName()); !slices.Contains(known, function) {
			p.add(n.Name, "there is no function %q%s", function, p.didYouMean(function, known))
		}
	}
	return p.join()
}

// levels are the names that a graph may give as its level, the default first.
// Which of them are served is not for a graph to know.
func levels() []string {
	return []string{"", "lww", "repeatable", "causal-key", "causal", "session-causal"}
}

// problems collects what is wrong.
type problems []error

func (p *problems) add(name, format string, args ...any) {
	*p = append(*p, &wire.Error{Kind: wire.KindInvalid, Name: name, Msg: fmt.Sprintf(format, args...)})
}

// name checks a name by the rule of all names.
func (p *problems) name(what, name string) {
	var bad *wire.Error
	switch {
	case strings.HasPrefix(name, "$"):
		p.add(name, "names that begin with $ are reserved")
	case errors.As(wire.CheckName(what, name), &bad):
		p.add(bad.Name, "%s", bad.Msg)
	}
}

// join returns the problems in order of their texts, each once.
func (p problems) join() error {
	slices.SortFunc(p, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(slices.CompactFunc(p, func(a, b error) bool { return a.Error() == b.Error() })...)
}

// nodes checks what a node says by itself.
func (p *problems) nodes(g *Graph) {
	seen := make(map[string]bool, len(g.Nodes))
	for i := range g.Nodes {
		n := &g.Nodes[i]
		p.name("node", n.Name)
		if n.Function != "" {
			function, _, ok := wire.SplitID(n.Function)
			p.name("function", function)
			if !ok {
				p.add(n.Name, "%q: a version is a number from 1 on, as in %s@3", n.Function, function)
			}
		}
		if seen[n.Name] {
			p.add(n.Name, "two nodes have this name")
		}
		seen[n.Name] = true
		p.features(g, n)
		if n.Timeout < 0 || n.Backoff < 0 {
			p.add(n.Name, "timeout and backoff can't be negative")
		}
		if n.Attempts < 0 {
			p.add(n.Name, "attempts can't be negative")
		}
		if n.Attempts > MaxAttempts {
			p.add(n.Name, "%d attempts are more than %d", n.Attempts, MaxAttempts)
		}
		for place, c := range n.With {
			if !json.Valid(c) || !utf8.Valid(c) {
				p.add(n.Name, "constant %q is not valid JSON", place)
			}
		}
	}
}

// features checks what else a node may be than a function's.
func (p *problems) features(g *Graph, n *Node) {
	if n.DAG != "" {
		p.name("DAG", n.DAG)
	}
	if n.DAG != "" && n.Function != "" {
		p.add(n.Name, "it runs a function or a DAG, not both")
	}
	if n.DAG != "" && n.DAG == g.Name {
		p.add(n.Name, "the DAG contains itself")
	}
	if n.Wait < 0 {
		p.add(n.Name, "wait can't be negative")
	}
	if n.Signal == "" {
		if n.SignalAs != "" {
			p.add(n.Name, "signal_as is for the value of a signal, and it has none")
		}
		return
	}
	p.name("signal", n.Signal)
	for i := range g.Nodes {
		other := &g.Nodes[i]
		if other == n {
			break // an earlier one has said so
		}
		if other.Signal == n.Signal {
			p.add(n.Name, "node %s awaits signal %q already: give one of them another name", other.Name, n.Signal)
			break
		}
	}
}

// edges checks the edges and returns those that lead from node to node.
func (p *problems) edges(g *Graph) []Edge {
	names := make([]string, len(g.Nodes))
	known := make(map[string]bool, len(g.Nodes))
	for i, n := range g.Nodes {
		names[i], known[n.Name] = n.Name, true
	}
	sound := make([]Edge, 0, len(g.Edges))
	seen := make(map[Edge]bool, len(g.Edges))
	for _, e := range g.Edges {
		if e.When != nil {
			if problem := e.When.problem(); problem != "" {
				p.add(e.From+" -> "+e.To, "%s", problem)
			}
		}
		same := Edge{From: e.From, To: e.To, Arg: e.Arg}
		for _, end := range []string{e.From, e.To} {
			if !known[end] {
				p.add(e.From+" -> "+e.To, "there is no node %q%s", end, p.didYouMean(end, names))
			}
		}
		switch {
		case seen[same]:
			p.add(e.From+" -> "+e.To, "the edge is there twice")
		case known[e.From] && known[e.To]:
			sound = append(sound, e)
		}
		seen[same] = true
	}
	return sound
}

// arguments checks that each node's edges and constants make one argument.
func (p *problems) arguments(g *Graph, edges []Edge) {
	incoming := edgesInto(edges)
	for i := range g.Nodes {
		n := &g.Nodes[i]
		in := incoming[n.Name]
		if len(in) > 0 && (n.Input != "" || n.As != "") {
			p.add(n.Name, "input and as are for sources, and an edge leads to this node")
		}
		slots := slotsOf(n, in)
		if len(slots) > MaxInputs {
			p.add(n.Name, "it has %d inputs, %d at most", len(slots), MaxInputs)
			continue
		}
		p.places(n.Name, slots)
		if _, shape := arranged(slots); n.Each && shape == object {
			p.add(n.Name, "each is for a list, and its argument is an object: have its places be indices, or none")
		}
	}
}

// places checks the places of one node's arguments against each other.
func (p *problems) places(node string, slots []slot) {
	taken := make(map[string]slot, len(slots))
	var indexed, named []slot
	for _, s := range slots {
		if s.place == "" {
			if len(slots) > 1 {
				p.add(node, "%s is the whole argument and not the only input: give it a place (%s)", s.origin(), s.placeField())
			}
			continue
		}
		if other, ok := taken[s.place]; ok {
			p.add(node, "argument %q is given by %s and by %s", s.place, other.origin(), s.origin())
			continue
		}
		taken[s.place] = s
		_, ok := s.index()
		switch {
		case ok && len(s.place) > 1 && s.place[0] == '0':
			p.add(node, "argument index %q has a leading zero", s.place)
		case ok:
			indexed = append(indexed, s)
		default:
			if wire.CheckName("argument", s.place) != nil {
				p.add(node, "argument name %q: letters, digits, '_' and '-', %d at most, and not '-' first", s.place, wire.MaxName)
			}
			named = append(named, s)
		}
	}
	if len(indexed) > 0 && len(named) > 0 {
		p.add(node, "argument %q has an index and %q a name: use one or the other", indexed[0].place, named[0].place)
		return
	}
	var missing []string
	for i := range indexed {
		if _, ok := taken[strconv.Itoa(i)]; !ok {
			missing = append(missing, strconv.Itoa(i))
		}
	}
	if len(missing) > 0 {
		p.add(node, "it has %d arguments by index, and none has index %s", len(indexed), strings.Join(missing, ", "))
	}
}

// didYouMean proposes the nearest name, if one is near enough to be meant. It
// compares with each, so it stops where nobody would read on: a thousand wrong
// names among ten thousand would take seconds.
func (p problems) didYouMean(name string, known []string) string {
	if len(p) >= 20 {
		return ""
	}
	near := wire.Near(name, slices.Values(known))
	if len(near) == 0 {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", near[0])
}
