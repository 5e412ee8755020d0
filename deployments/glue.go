package deployments

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/cloudburst-nats/cloudburst/autoscaler"
	"github.com/cloudburst-nats/cloudburst/broker"
	"github.com/cloudburst-nats/cloudburst/consistency"
	"github.com/cloudburst-nats/cloudburst/dagengine"
	"github.com/cloudburst-nats/cloudburst/internal/backoff"
	"github.com/cloudburst-nats/cloudburst/kvlattice"
	"github.com/cloudburst-nats/cloudburst/wire"
	"github.com/cloudburst-nats/cloudburst/workers"
)

// graphs shows the DAG engine to a worker, and the worker to the engine:
// neither package knows the other.
type graphs struct {
	engine    *dagengine.Engine
	catalogue *broker.Catalogue
	pool      string
}

var _ workers.Graphs = graphs{}

func (g graphs) Run(ctx context.Context, call wire.Call, host workers.Host) (workers.Outcome, error) {
	out, err := g.engine.Run(ctx, call, hostOf{host, g})
	return workers.Outcome(out), err
}

type hostOf struct {
	workers.Host
	graphs graphs
}

// Hosts says whether the function belongs to the worker's pool, and not what
// this very worker has: where a chain is cut must be the same at every attempt,
// or what a node counted under the chain's call would be counted again under
// its own. A worker that lacks the function leaves the call to another.
func (h hostOf) Hosts(function string) bool {
	return h.graphs.catalogue.PoolOf(function) == h.graphs.pool
}

func (h hostOf) Invoke(ctx context.Context, in dagengine.Invocation) (wire.Value, error) {
	n := in.Node
	return h.Host.Invoke(ctx, workers.Step{
		Node: in.Step, Await: in.Await, Function: n.FunctionName(), Level: in.Level,
		Limits: wire.Limits{Timeout: n.Timeout, Attempts: n.Attempts, Backoff: n.Backoff},
	}, in.Args)
}

// pasts shows the DAG engine what runs carry along.
type pasts struct{}

func (pasts) Join(all []string) (string, error) { return consistency.Join(all) }

func (pasts) Restarts(level string) bool { return consistency.Level(level).Restarts() }

// Token lets a run see what the one that contains it has seen and written, and has
// it tell what it sees itself.
func (pasts) Token(past string) string { return consistency.Contained(past) }

// Signal brings a value from outside a run to the node that awaits it. A run that
// hasn't begun yet is waited for, until ctx ends.
func Signal(ctx context.Context, b *broker.Broker, run wire.RunID, name string, value wire.Value) error {
	engine := dagengine.NewEngine(b, b, &plans{catalogue: b.NewCatalogue(), b: b}, pasts{})
	for range backoff.Tries(ctx, 5*time.Millisecond, time.Second) {
		info, err := b.RunState(ctx, run)
		if err != nil {
			return err
		}
		if info.Status != wire.StatusPending && info.Status != wire.StatusRunning {
			return &wire.Error{Op: "signal", Name: string(run), Kind: wire.KindConflict, Msg: "the run has ended already: " + string(info.Status)}
		}
		if err = engine.Signal(ctx, run, name, value); !errors.Is(err, dagengine.ErrNotBegun) {
			return err
		}
		if info.Name != "" { // empty: the run is about to end, and its state is being removed
			if err := awaits(ctx, b, info.Name, name); err != nil {
				return err
			}
		}
	}
	return &wire.Error{Op: "signal", Name: string(run), Kind: wire.KindTimeout, Msg: "the run hasn't begun yet", Err: context.Cause(ctx)}
}

// awaits says whether the newest version of a DAG awaits a signal.
func awaits(ctx context.Context, b *broker.Broker, dag, signal string) error {
	rec, err := b.DAG(ctx, dag)
	if wire.KindOf(err) == wire.KindUnknown {
		return &wire.Error{Op: "signal", Name: signal, Kind: wire.KindUnknown, Msg: dag + " is no DAG: it awaits no signals"}
	}
	if err != nil {
		return err
	}
	graph, err := dagengine.Parse(rec.Spec)
	if err != nil {
		return err
	}
	plan, err := dagengine.Compile(graph)
	if err != nil {
		return err
	}
	return plan.Awaits(signal)
}

// events publishes what happens to calls.
type events struct{ b *broker.Broker }

func (e events) Retried(call *wire.Call, wait time.Duration, why error) {
	e.b.EventRetried(call, wait, why)
}

func (e events) Restarted(call *wire.Call, why string) { e.b.EventRestarted(call, why) }

func (e events) Scaled(pool string, from int, to autoscaler.Decision) {
	e.b.EventScaled(pool, from, to.Workers, to.Panic, to.Why)
}

// stores opens the lattice store of each namespace once, and runs them all.
type stores struct {
	b          *broker.Broker
	marks      *broker.Watermarks
	writer     string
	cacheBytes int64
	clock      *kvlattice.Clock
	added      chan *kvlattice.Store

	opening sync.Mutex // held while a bucket is opened, which takes a while

	mu   sync.RWMutex // guards open
	open map[string]*kvlattice.Store
}

func newStores(b *broker.Broker, marks *broker.Watermarks, writer string, cfg WorkerConfig) *stores {
	return &stores{
		b: b, marks: marks, writer: writer, cacheBytes: cfg.CacheBytes,
		clock: kvlattice.NewClock(b.Now), added: make(chan *kvlattice.Store, 1024),
		open: make(map[string]*kvlattice.Store),
	}
}

// Store returns the store of a namespace, whose bucket is made if need be.
func (s *stores) Store(ctx context.Context, ns string) (consistency.State, error) {
	if st := s.opened(ns); st != nil {
		return st, nil
	}
	s.opening.Lock()
	defer s.opening.Unlock()
	if st := s.opened(ns); st != nil {
		return st, nil
	}
	bucket, err := s.b.OpenBucket(ctx, ns)
	if err != nil {
		return nil, err
	}
	st := kvlattice.New(kvlattice.Config{
		Writer: s.writer, CacheBytes: s.cacheBytes, Clock: s.clock, Settled: s.marks.Settled,
	}, bucket, bucket)
	select {
	case s.added <- st:
	default:
		return nil, &wire.Error{Op: "open namespace", Name: ns, Kind: wire.KindTooLarge, Msg: "over 1024 namespaces in one worker"}
	}
	s.mu.Lock()
	s.open[ns] = st
	s.mu.Unlock()
	return st, nil
}

// has says whether there is a namespace, and makes none.
func (s *stores) has(ctx context.Context, ns string) (bool, error) {
	if s.opened(ns) != nil {
		return true, nil
	}
	return s.b.HasNamespace(ctx, ns)
}

func (s *stores) opened(ns string) *kvlattice.Store {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.open[ns]
}

// cached returns how much the stores hold in memory.
func (s *stores) cached() (bytes int64, keys int) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, st := range s.open {
		stats := st.Stats()
		bytes += stats.Bytes
		keys += int(stats.Entries)
	}
	return bytes, keys
}

// Run runs every store that is opened, until ctx ends and each has folded what
// it wrote.
func (s *stores) Run(ctx context.Context) error {
	var running sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	for {
		select {
		case st := <-s.added:
			running.Go(func() {
				if err := st.Run(ctx); err != nil && !errors.Is(err, context.Canceled) {
					mu.Lock()
					defer mu.Unlock()
					errs = append(errs, err)
				}
			})
		case <-ctx.Done():
			running.Wait()
			return errors.Join(errs...)
		}
	}
}
