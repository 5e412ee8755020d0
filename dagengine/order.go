package dagengine

import (
	"cmp"
	"slices"
)

// edgesInto returns the edges by the node they lead to, in a fixed order.
func edgesInto(edges []Edge) map[string][]Edge {
	in := make(map[string][]Edge)
	for _, e := range edges {
		in[e.To] = append(in[e.To], e)
	}
	for _, list := range in {
		slices.SortFunc(list, func(a, b Edge) int { return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.Arg, b.Arg)) })
	}
	return in
}

// successors returns, for each node, the nodes that its edges lead to: each
// once, by name.
func successors(edges []Edge) map[string][]string {
	next := make(map[string][]string)
	for _, e := range edges {
		next[e.From] = append(next[e.From], e.To)
	}
	for from, list := range next {
		slices.Sort(list)
		next[from] = slices.Compact(list)
	}
	return next
}

// sorted returns the nodes' names so that every edge leads onwards, layer by
// layer and by name within a layer, whatever order they were written in. Nodes
// on a cycle, or behind one, are the rest.
func sorted(nodes []Node, edges []Edge) (order, rest []string) {
	next := successors(edges)
	waiting := make(map[string]int, len(nodes))
	for _, n := range nodes {
		waiting[n.Name] = 0
	}
	for _, list := range next {
		for _, to := range list {
			waiting[to]++
		}
	}
	var layer []string
	for name, n := range waiting {
		if n == 0 {
			layer = append(layer, name)
		}
	}
	for len(layer) > 0 {
		slices.Sort(layer)
		order = append(order, layer...)
		var below []string
		for _, name := range layer {
			delete(waiting, name)
			for _, to := range next[name] {
				if waiting[to]--; waiting[to] == 0 {
					below = append(below, to)
				}
			}
		}
		layer = below
	}
	for name := range waiting {
		rest = append(rest, name)
	}
	slices.Sort(rest)
	return order, rest
}

// cycles returns one cycle of each knot (nodes that all reach each other): the
// shortest through the knot's first node by name, which is at both its ends.
func cycles(nodes []Node, edges []Edge) [][]string {
	_, rest := sorted(nodes, edges)
	next, previous := successors(edges), successors(reversed(edges))
	knotted := make(map[string]bool)
	var found [][]string
	for _, start := range rest {
		if knotted[start] {
			continue
		}
		path := pathBack(start, next)
		if path == nil {
			continue // behind a cycle, on none
		}
		found = append(found, path)
		leading := reached(start, previous)
		for node := range reached(start, next) {
			if _, back := leading[node]; back {
				knotted[node] = true
			}
		}
	}
	return found
}

func reversed(edges []Edge) []Edge {
	back := make([]Edge, len(edges))
	for i, e := range edges {
		back[i] = Edge{From: e.To, To: e.From}
	}
	return back
}

// pathBack returns the shortest path from start to itself, nil if there is none.
func pathBack(start string, next map[string][]string) []string {
	before := reached(start, next)
	if _, ok := before[start]; !ok {
		return nil
	}
	path := []string{start}
	for at := before[start]; at != start; at = before[at] {
		path = append(path, at)
	}
	path = append(path, start)
	slices.Reverse(path)
	return path
}

// reached returns every node that a path of at least one edge leads to from
// start, with the node before it on the shortest.
func reached(start string, next map[string][]string) map[string]string {
	before := make(map[string]string)
	queue := []string{start}
	for len(queue) > 0 {
		at := queue[0]
		queue = queue[1:]
		for _, to := range next[at] {
			if _, ok := before[to]; !ok {
				before[to] = at
				queue = append(queue, to)
			}
		}
	}
	return before
}
