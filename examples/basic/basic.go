// Package basic holds the functions that `cloudburst server --examples` serves:
// echo, increment, square and sum, and the DAG compose = square(increment(x)),
// which is the paper's own first program (section 3).
package basic

import (
	"context"
	"encoding/json"

	"github.com/cloudburst-nats/cloudburst"
)

// Pool is the pool that the examples are served in.
const Pool = "examples"

// Register adds the example functions to a worker.
func Register(w *cloudburst.Worker) {
	cloudburst.Handle(w, "echo", echo, cloudburst.About("returns its argument"))
	cloudburst.Handle(w, "increment", increment, cloudburst.About("adds one to a number"))
	cloudburst.Handle(w, "square", square, cloudburst.About("multiplies a number by itself"))
	cloudburst.Handle(w, "sum", sum, cloudburst.About("adds up numbers and arrays of numbers, by value or by reference"))
}

// Compose is the DAG square(increment(x)).
func Compose() *cloudburst.Graph {
	return &cloudburst.Graph{
		Name:  "compose",
		About: "square(increment(x))",
		Nodes: []cloudburst.Node{{Name: "increment"}, {Name: "square"}},
		Edges: []cloudburst.Edge{{From: "increment", To: "square"}},
	}
}

func echo(_ context.Context, _ *cloudburst.Session, v cloudburst.Value) (cloudburst.Value, error) {
	return v, nil
}

func increment(_ context.Context, _ *cloudburst.Session, x float64) (float64, error) {
	return x + 1, nil
}

func square(_ context.Context, _ *cloudburst.Session, x float64) (float64, error) { return x * x, nil }

func sum(_ context.Context, _ *cloudburst.Session, v numbers) (float64, error) { return v.sum, nil }

// numbers is a number or an array of them, of any depth, as their sum.
type numbers struct{ sum float64 }

// UnmarshalJSON adds up what it reads.
func (n *numbers) UnmarshalJSON(data []byte) error {
	if len(data) == 0 || data[0] != '[' {
		return json.Unmarshal(data, &n.sum)
	}
	var plain []float64 // the common case, and many times faster
	if json.Unmarshal(data, &plain) == nil {
		for _, x := range plain {
			n.sum += x
		}
		return nil
	}
	var list []numbers
	if err := json.Unmarshal(data, &list); err != nil {
		return err
	}
	for _, part := range list {
		n.sum += part.sum
	}
	return nil
}
