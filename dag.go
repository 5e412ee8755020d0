package cloudburst

import (
	"context"

	"github.com/cloudburst-nats/cloudburst/broker"
	"github.com/cloudburst-nats/cloudburst/dagengine"
	"github.com/cloudburst-nats/cloudburst/deployments"
	"github.com/cloudburst-nats/cloudburst/wire"
	"github.com/cloudburst-nats/cloudburst/workers/runtime"
)

// The parts of a DAG's definition.
type (
	// Graph is the definition of a DAG.
	Graph = dagengine.Graph
	// Node runs a function.
	Node = dagengine.Node
	// Edge carries a result into an argument.
	Edge = dagengine.Edge
	// When is an edge's condition.
	When = dagengine.When
)

// ParseGraph reads a DAG from YAML or JSON.
func ParseGraph(data []byte) (*Graph, error) { return dagengine.Parse(data) }

// ApplyDAG defines a DAG, or a new version of it: runs that have begun go on
// with theirs. The error lists everything that is wrong with the graph
// (ErrInvalid), functions and DAGs that don't exist included.
func (c *Client) ApplyDAG(ctx context.Context, g *Graph) error {
	have, err := c.broker.Survey(ctx)
	if err != nil {
		return err
	}
	rec, err := deployments.RecordOf(g, have)
	if err != nil {
		return err
	}
	return c.broker.ApplyDAG(ctx, rec)
}

// DAG returns the newest version of a DAG and that version's name; ErrUnknown
// if there is none.
func (c *Client) DAG(ctx context.Context, name string) (*Graph, string, error) {
	rec, err := c.broker.DAG(ctx, name)
	if err != nil {
		return nil, "", err
	}
	g, err := dagengine.Parse(rec.Spec)
	return g, rec.Version, err
}

// DAGs returns the newest version of every DAG, by name. One whose entry somebody
// has damaged is left out: Broken lists those.
func (c *Client) DAGs(ctx context.Context) ([]*Graph, error) {
	recs, err := c.broker.DAGs(ctx)
	if err != nil {
		return nil, err
	}
	var graphs []*Graph
	for _, rec := range recs {
		if g, err := dagengine.Parse(rec.Spec); err == nil {
			graphs = append(graphs, g)
		}
	}
	return graphs, nil
}

// A BrokenEntry is an entry of the registries that can't be used, and why: one that
// was written by hand and can't be read, or that names what isn't there.
type BrokenEntry = broker.BrokenEntry

// Broken lists the entries of functions and DAGs that can't be used. They keep
// nothing else from working.
func (c *Client) Broken(ctx context.Context) ([]BrokenEntry, error) {
	return deployments.Broken(ctx, c.broker)
}

// RemoveDAG removes a DAG: new calls of it are refused, runs that have begun go
// on. ErrUnknown if there is none.
func (c *Client) RemoveDAG(ctx context.Context, name string) error {
	return c.broker.RemoveDAG(ctx, name)
}

// Cancel ends a run: what it has in hand is given up and what is queued is not
// run. Writes of functions that had returned before stay.
func (c *Client) Cancel(ctx context.Context, run RunID) error { return c.broker.Cancel(ctx, run) }

// Signal brings a value to the node of a run that awaits it by this name, before or
// after the node's other inputs are there: anything that Call takes as an argument,
// nil for none. A run that hasn't begun yet is waited for, until ctx ends. It fails
// with ErrUnknown if there is no such run, or it awaits no such signal, and with
// ErrConflict if it was given it already, or has ended. One that failed otherwise may
// be sent again.
func (c *Client) Signal(ctx context.Context, run RunID, name string, value any) error {
	v, err := wire.Args(value)
	if err != nil {
		return err
	}
	return runtime.Block(ctx, func() error { return deployments.Signal(ctx, c.broker, run, name, v) })
}

// Result returns a run's stored result; ErrUnknown if there is none (yet).
func (c *Client) Result(ctx context.Context, run RunID) (Result, error) {
	return c.broker.Result(ctx, run)
}
