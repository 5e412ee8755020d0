package dagengine

import (
	"encoding/json"
	"time"
)

// A Graph is the definition of a DAG as a user writes it: a literal in Go, or
// YAML or JSON for Parse. Sources, the nodes without incoming edges, take the
// argument of the run. The value of a single sink, a node without outgoing
// edges, is the result of the run; several sinks make an object {sink: value}.
type Graph struct {
	Name  string // what is called
	About string // a line of description for people
	Level string // consistency level of its runs; empty means the default
	Nodes []Node
	Edges []Edge
}

// A Node runs a function once in every run, or once for each item of a list, or
// another DAG.
//
// Its arguments come from its edges and its constants. Each names its place:
// a decimal index makes the argument a JSON array, a name makes it an object,
// and the two don't mix. A source takes the run's argument as though an edge
// brought it: Input picks a field of it, As is its place.
type Node struct {
	Name     string
	Function string // empty means the node's name; name@3 pins version 3 of one that was deployed
	Input    string // of a source: the field it takes of the run's argument; empty means all of it
	As       string // of a source: the place of what it takes, as an edge's Arg

	// DAG runs this DAG instead of a function, as a run of its own.
	DAG string
	// Each runs the function, or DAG, once for each item of its argument, a list,
	// all at once; the list of their results is the node's.
	Each bool
	// Wait has the node run no sooner than this long after its arguments are there.
	Wait time.Duration
	// Signal names one more argument, which comes from outside the run: see
	// Engine.Signal. SignalAs is its place; empty means "signal".
	Signal   string
	SignalAs string

	// With are constant arguments by place: a name, or a decimal index.
	With map[string]json.RawMessage

	// Each overrides the function's own limit unless it is 0.
	Timeout  time.Duration // of one execution
	Attempts int           // in all
	Backoff  time.Duration // before the second attempt
}

// FunctionName returns the function that the node runs; none if it runs a DAG.
func (n *Node) FunctionName() string {
	if n.Function != "" || n.DAG != "" {
		return n.Function
	}
	return n.Name
}

// An Edge carries the result of From into an argument of To. Two edges may join
// the same nodes, for different places.
type Edge struct {
	From string
	To   string
	// Arg is the place: empty for the whole argument (then it is the only one),
	// a decimal index counted from 0, or a name.
	Arg string
	// When is the condition under which the edge carries anything; nil means always.
	When *When
}
