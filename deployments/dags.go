package deployments

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/cloudburst-nats/cloudburst/broker"
	"github.com/cloudburst-nats/cloudburst/consistency"
	"github.com/cloudburst-nats/cloudburst/dagengine"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// RecordOf makes the registry's record of a DAG's graph. The error lists all that is
// wrong with the graph, functions and DAGs that aren't there included.
func RecordOf(g *dagengine.Graph, have broker.Survey) (broker.DAGRecord, error) {
	return recordOf(g, callablesOf(have))
}

// callables is what graphs can name.
type callables struct {
	names  []string                    // of functions
	graphs map[string]*dagengine.Graph // by name
	pools  map[string]string           // of both, by name
}

func callablesOf(have broker.Survey) callables {
	c := callables{
		names: make([]string, len(have.Functions)), graphs: make(map[string]*dagengine.Graph, len(have.DAGs)),
		pools: make(map[string]string, len(have.Functions)+len(have.DAGs)),
	}
	for i, f := range have.Functions {
		c.pools[f.Name], c.names[i] = f.Pool, f.Name
	}
	for _, rec := range have.DAGs {
		// One that can't be read isn't there, for other graphs: see Broken.
		if g, err := dagengine.Parse(rec.Spec); err == nil {
			c.pools[rec.Name], c.graphs[rec.Name] = rec.Pool, g
		}
	}
	return c
}

func recordOf(g *dagengine.Graph, known callables) (broker.DAGRecord, error) {
	plan, err := dagengine.Compile(g)
	if err != nil {
		return broker.DAGRecord{}, err
	}
	if err := consistency.Check(g.Level); err != nil {
		return broker.DAGRecord{}, err
	}
	if err := errors.Join(g.CheckFunctions(known.names), g.CheckDAGs(known.graphs)); err != nil {
		return broker.DAGRecord{}, err
	}
	spec, err := json.Marshal(g)
	if err != nil {
		return broker.DAGRecord{}, &wire.Error{Op: "apply dag", Name: g.Name, Kind: wire.KindInvalid, Msg: err.Error(), Err: err}
	}
	rec := broker.DAGRecord{Name: g.Name, Version: plan.Version(), Spec: spec, Subjects: make(map[string][]string)}
	for _, n := range plan.Order() {
		runs := n.DAG
		if runs == "" {
			rec.Functions = append(rec.Functions, n.FunctionName())
			runs, _, _ = wire.SplitID(n.FunctionName())
		}
		pool := known.pools[runs]
		if rec.Pool == "" {
			rec.Pool = pool // the first source's: it can start the run
		}
		rec.Subjects[pool] = append(rec.Subjects[pool], n.Name)
	}
	return rec, nil
}

// recordByHand makes a record of the graph that somebody wrote under a DAG's name.
func recordByHand(by broker.ByHand, known callables) (broker.DAGRecord, error) {
	bad := func(kind wire.Kind, format string, args ...any) (broker.DAGRecord, error) {
		return broker.DAGRecord{}, &wire.Error{Op: "read dag", Name: by.Name, Kind: kind, Msg: fmt.Sprintf(format, args...)}
	}
	g, err := dagengine.Parse(by.Graph)
	if err != nil {
		return broker.DAGRecord{}, err
	}
	if g.Name == "" {
		g.Name = by.Name
	}
	if g.Name != by.Name {
		return bad(wire.KindInvalid, "the graph bears another name than its key: %q", g.Name)
	}
	if slices.Contains(known.names, g.Name) {
		return bad(wire.KindConflict, "a function has that name: give the DAG another")
	}
	return recordOf(g, known)
}

// Broken lists the entries of the registries that can't be used, and why.
func Broken(ctx context.Context, b *broker.Broker) ([]broker.BrokenEntry, error) {
	have, err := b.Survey(ctx)
	if err != nil {
		return nil, err
	}
	list := broken(have)
	for _, by := range have.ByHand {
		if by.Bucket == broker.BucketDAGs && !listed(list, by.Bucket, by.Name) {
			list = append(list, broker.BrokenEntry{Bucket: by.Bucket, Key: by.Name, Reason: "it was written by hand, and no server has taken it up yet"})
		}
	}
	for _, f := range have.Functions {
		if !f.Deployed() {
			continue
		}
		there, err := b.HasImage(ctx, f.Image)
		if err != nil {
			return nil, err
		}
		if !there {
			list = append(list, broker.BrokenEntry{
				Bucket: broker.BucketFunctions, Key: f.Name,
				Reason: fmt.Sprintf("its image %q isn't in the object store %s: deploy it again", f.Image, broker.BucketImages),
			})
		}
	}
	return list, nil
}

func broken(have broker.Survey) []broker.BrokenEntry {
	list, known := have.Broken, callablesOf(have)
	for _, by := range have.ByHand {
		if by.Bucket != broker.BucketDAGs {
			continue // its version is missing, and it can be called all the same
		}
		if _, err := recordByHand(by, known); err != nil {
			list = append(list, broker.BrokenEntry{Bucket: by.Bucket, Key: by.Name, Reason: err.Error()})
		}
	}
	for _, rec := range have.DAGs {
		g, err := dagengine.Parse(rec.Spec)
		if err == nil {
			_, err = recordOf(g, known)
		}
		if err != nil && !listed(list, broker.BucketDAGs, rec.Name) {
			list = append(list, broker.BrokenEntry{Bucket: broker.BucketDAGs, Key: rec.Name, Reason: err.Error()})
		}
	}
	return list
}

func listed(list []broker.BrokenEntry, bucket, key string) bool {
	for _, e := range list {
		if e.Bucket == bucket && e.Key == key {
			return true
		}
	}
	return false
}
