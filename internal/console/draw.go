package console

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/cloudburst-nats/cloudburst/dagengine"
)

// drawTree draws a DAG from its sources down:
//
//	split
//	├─ left
//	│  └─ join (a)
//	│     └─ store
//	└─ right
//	   └─ join (b) …
//
// In parentheses is the argument that the edge fills, and its condition. What hangs below a node
// that was drawn before is not drawn again: "…" stands for it.
func drawTree(plan *dagengine.Plan, edges []dagengine.Edge) string {
	var b strings.Builder
	drawn := make(map[string]bool)
	var below func(node, indent string)
	below = func(node, indent string) {
		next := plan.Successors(node)
		if drawn[node] {
			if len(next) > 0 {
				b.WriteString(" …")
			}
			b.WriteByte('\n')
			return
		}
		drawn[node] = true
		b.WriteByte('\n')
		for i, to := range next {
			branch, trunk := "├─ ", "│  "
			if i == len(next)-1 {
				branch, trunk = "└─ ", "   "
			}
			b.WriteString(indent + branch + to + places(edges, node, to))
			below(to, indent+trunk)
		}
	}
	for _, source := range plan.Sources() {
		b.WriteString(source)
		below(source, "")
	}
	return b.String()
}

// places returns the arguments that edges between two nodes fill.
func places(edges []dagengine.Edge, from, to string) string {
	var args []string
	for _, e := range edges {
		if e.From == from && e.To == to && (e.Arg != "" || e.When != nil) {
			args = append(args, place(e))
		}
	}
	if len(args) == 0 {
		return ""
	}
	slices.Sort(args)
	return " (" + strings.Join(args, ", ") + ")"
}

// place says which argument an edge fills, and when it does.
func place(e dagengine.Edge) string {
	switch {
	case e.When == nil:
		return e.Arg
	case e.Arg == "":
		return "if " + e.When.String()
	default:
		return e.Arg + " if " + e.When.String()
	}
}

// arguments says where a node's arguments come from.
func arguments(n *dagengine.Node, edges []dagengine.Edge) string {
	var parts []string
	at := func(place, what string) {
		if place != "" {
			what = place + " = " + what
		}
		parts = append(parts, what)
	}
	for _, e := range edges {
		if e.To == n.Name {
			what := e.From
			if e.When != nil {
				what += " if " + e.When.String()
			}
			at(e.Arg, what)
		}
	}
	if len(parts) == 0 { // a source
		what := "the run's argument"
		if n.Input != "" {
			what = "field " + n.Input + " of the run's argument"
		}
		at(n.As, what)
	}
	if n.Signal != "" {
		at(cmp.Or(n.SignalAs, "signal"), "signal "+n.Signal)
	}
	for _, place := range slices.Sorted(maps.Keys(n.With)) {
		at(place, string(n.With[place]))
	}
	return strings.Join(parts, ", ")
}
