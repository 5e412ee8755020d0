package dagengine

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// CheckDAGs reports every DAG that the graph's nodes name and that is not among the
// known ones, with a near name where there is one, and every way by which the graph
// would come to contain itself. Each is a *wire.Error of KindInvalid.
func (g *Graph) CheckDAGs(known map[string]*Graph) error {
	var p problems
	var names []string
	for name := range known {
		names = append(names, name)
	}
	slices.Sort(names)
	contains := make(map[string][]string, len(known)+1)
	for name, other := range known {
		contains[name] = other.contained()
	}
	contains[g.Name] = g.contained()
	for i := range g.Nodes {
		n := &g.Nodes[i]
		if n.DAG != "" && n.DAG != g.Name && known[n.DAG] == nil {
			p.add(n.Name, "there is no DAG %q%s", n.DAG, p.didYouMean(n.DAG, names))
		}
	}
	if path := pathBack(g.Name, contains); path != nil {
		p.add(strings.Join(path, " -> "), "the DAG would contain itself")
	}
	return p.join()
}

// contained returns the names of the DAGs that the graph's nodes run, each once.
func (g *Graph) contained() []string {
	var list []string
	for i := range g.Nodes {
		if dag := g.Nodes[i].DAG; dag != "" {
			list = append(list, dag)
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// begins starts the run of a DAG that a node contains. A node that is run again
// starts it again, to no effect.
func (r *run) begins(ctx context.Context, dag string, id wire.RunID, args wire.Value) error {
	if r.call.Depth+1 >= wire.MaxDepth {
		return &wire.Error{
			Op: "run", Name: dag, Kind: wire.KindPermanent,
			Msg: fmt.Sprintf("it would be the %dth run inside of each other, and %d is the most: does a DAG contain itself?", r.call.Depth+2, wire.MaxDepth),
		}
	}
	return r.dispatch.Dispatch(ctx, wire.Call{Run: id, Name: dag, Args: args, Level: r.call.Level, Past: r.pasts.Token(r.host.Past()), Depth: r.call.Depth + 1})
}
