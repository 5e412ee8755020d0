package deployments

import (
	"context"
	"strings"
	"sync"

	"github.com/cloudburst-nats/cloudburst/broker"
	"github.com/cloudburst-nats/cloudburst/dagengine"
	"github.com/cloudburst-nats/cloudburst/wire"
	"github.com/cloudburst-nats/cloudburst/workers"
)

// plans compiles the DAGs of the catalogue, each version once while it is in use.
type plans struct {
	catalogue *broker.Catalogue
	b         *broker.Broker

	mu       sync.Mutex // guards compiled
	compiled recent[*dagengine.Plan]
}

var _ dagengine.Plans = (*plans)(nil)

func (p *plans) Latest(ctx context.Context, dag string) (*dagengine.Plan, error) {
	if entry, ok := p.catalogue.Lookup(dag); ok && entry.DAG != nil {
		return p.compile(*entry.DAG)
	}
	rec, err := p.b.DAG(ctx, dag) // a call may be faster than the news of its DAG
	if wire.KindOf(err) == wire.KindUnknown {
		// A function that only newer workers of the pool have, while they roll out.
		if _, missing := p.b.Function(ctx, dag); missing == nil {
			return nil, workers.NotHosted(dag, nil)
		}
		return nil, &wire.Error{Op: "call", Name: dag, Kind: wire.KindUnknown, Msg: "there is no such function or DAG any more: deploy or apply it again, then replay the call", Err: err}
	}
	if err != nil {
		return nil, err
	}
	return p.compile(rec)
}

func (p *plans) Version(ctx context.Context, id string) (*dagengine.Plan, error) {
	p.mu.Lock()
	plan, ok := p.compiled.get(id)
	p.mu.Unlock()
	if ok {
		return plan, nil
	}
	name, version, _ := strings.Cut(id, "@")
	if rec, ok := p.catalogue.Version(name, version); ok {
		return p.compile(rec)
	}
	rec, err := p.b.DAGVersion(ctx, name, version)
	if err != nil {
		return nil, err
	}
	return p.compile(rec)
}

func (p *plans) compile(rec broker.DAGRecord) (*dagengine.Plan, error) {
	id := rec.Name + "@" + rec.Version
	p.mu.Lock()
	defer p.mu.Unlock()
	if plan, ok := p.compiled.get(id); ok {
		return plan, nil
	}
	graph, err := dagengine.Parse(rec.Spec)
	if err != nil {
		return nil, err
	}
	plan, err := dagengine.Compile(graph)
	if err != nil {
		return nil, err
	}
	p.compiled.put(id, plan)
	return plan, nil
}

// A recent keeps what was used lately: the last recentAtMost keys at least, and twice as
// many at most. The zero value is empty.
type recent[V any] struct {
	now, before map[string]V
}

// recentAtMost is as many versions of DAGs as runs of one worker go by at a time. A plan
// takes some kilobytes, and is compiled again in less than a millisecond.
const recentAtMost = 256

func (r *recent[V]) get(key string) (V, bool) {
	v, ok := r.now[key]
	if ok {
		return v, true
	}
	if v, ok = r.before[key]; ok {
		r.put(key, v)
	}
	return v, ok
}

func (r *recent[V]) put(key string, v V) {
	if r.now == nil || len(r.now) >= recentAtMost {
		r.now, r.before = make(map[string]V), r.now
	}
	r.now[key] = v
}
