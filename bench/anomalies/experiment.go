package anomalies

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloudburst-nats/cloudburst"
	"github.com/cloudburst-nats/cloudburst/consistency/history"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// How long a run may take, and workers to say that they keep nothing any more
// for runs that have ended: they say so every three seconds.
const (
	runWithin     = 2 * time.Minute // with some attempts after failures of the storage, which wait up to 4 s each
	hungWithin    = 4 * time.Minute // and one that has none yet, to be told of
	releaseWithin = 10 * time.Second
)

var errHung = errors.New("a run hangs")

// Run carries the experiment out. See the package comment for what is an error.
func Run(ctx context.Context, cfg Config) (r *Report, err error) {
	cfg, err = cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	x := &experiment{cfg: cfg, load: workload{Seed: cfg.Seed, Keys: cfg.Keys, Zipf: cfg.Zipf, Writes: cfg.Writes}}
	defer func() { err = errors.Join(err, x.close()) }()
	if err := x.open(ctx, fail); err != nil {
		return nil, err
	}
	if cfg.Started != nil {
		cfg.Started()
	}
	if err := x.drive(ctx); err != nil {
		return nil, err
	}
	if err := x.release(ctx); err != nil {
		return nil, err
	}
	return x.report(ctx)
}

// experiment is one under way.
type experiment struct {
	cfg     Config
	load    workload
	ends    []func() error // in order of opening
	client  *cloudburst.Client
	fleet   *fleet
	traffic *traffic
	witness *Witness
	dags    []dag
	dir     string // of the histories

	done   atomic.Int64
	took   map[string]time.Duration // of a level's rounds
	kills  int
	pinned int64

	mu   sync.Mutex        // guards runs
	runs map[string][]made // by level
}

// made is a run that has ended.
type made struct {
	outcome  history.Outcome
	perNode  float64 // µs, by the nodes of the longest path
	restarts int
	failed   bool // then there is no outcome and no time
}

// open brings everything up: last opened, first closed.
func (x *experiment) open(ctx context.Context, fail context.CancelCauseFunc) error {
	x.took, x.runs = make(map[string]time.Duration), make(map[string][]made)
	tmp, err := os.MkdirTemp(x.cfg.Store, "cloudburst-bench-")
	if err != nil {
		return fmt.Errorf("make store: %w", err)
	}
	x.ends = append(x.ends, func() error { return os.RemoveAll(tmp) })
	if x.dir = x.cfg.History; x.dir == "" {
		x.dir = tmp
	}
	url, err := x.connect(ctx, filepath.Join(tmp, "store"))
	if err != nil {
		return err
	}
	for _, level := range x.cfg.Levels {
		if err := x.client.Broker().EnsureNamespace(ctx, namespaceOf(level)); err != nil {
			return err
		}
	}
	if x.cfg.Lag > 0 {
		l, err := newLag(strings.TrimPrefix(url, "nats://"), x.cfg.Lag)
		if err != nil {
			return err
		}
		x.ends = append(x.ends, l.close)
		url = l.url()
	}
	x.fleet = &fleet{worker: x.cfg.Worker, url: url, dir: x.dir, load: x.load, fail: fail}
	x.ends = append(x.ends, x.fleet.close)
	for i := range x.cfg.Workers {
		if _, err := os.Stat(x.fleet.file(i)); err == nil {
			return &wire.Error{Op: "bench consistency", Kind: wire.KindBadArgument, Name: x.fleet.file(i), Msg: "is of another run: give an empty directory"}
		}
		if err := x.fleet.start(ctx, i); err != nil {
			return err
		}
	}
	x.dags = x.load.dags(x.cfg.DAGs, x.cfg.Workers)
	for _, d := range x.dags {
		if err := x.client.ApplyDAG(ctx, d.graph); err != nil {
			return err
		}
	}
	if x.witness, err = NewWitness(x.client.Broker()); err != nil {
		return err
	}
	x.ends = append(x.ends, x.witness.Close)
	x.traffic, err = listen(x.client.Broker().Conn())
	return err
}

// connect opens the platform, its own or the one that is given, and returns where
// workers reach it.
func (x *experiment) connect(ctx context.Context, store string) (url string, err error) {
	if x.cfg.URL != "" {
		x.client, err = cloudburst.Connect(ctx, x.cfg.URL, cloudburst.WithName("bench consistency"))
		if err != nil {
			return "", err
		}
		x.ends = append(x.ends, func() error { x.client.Close(); return nil })
		return x.cfg.URL, nil
	}
	server, err := cloudburst.Start(ctx, cloudburst.ServerConfig{Listen: "127.0.0.1:0", Store: store, Topology: x.cfg.Topology})
	if err != nil {
		return "", err
	}
	x.ends = append(x.ends, server.Close)
	x.client = server.Client()
	return server.URL(), nil
}

func (x *experiment) close() error {
	var errs []error
	for _, end := range slices.Backward(x.ends) {
		errs = append(errs, end())
	}
	return errors.Join(errs...)
}

// drive makes all requests, while workers are killed if they are to be.
func (x *experiment) drive(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	driving, stop := context.WithCancel(ctx)
	defer stop()
	var beside sync.WaitGroup
	beside.Go(func() { x.tell(driving) })
	if x.cfg.KillEvery > 0 {
		beside.Go(func() {
			var err error
			if x.kills, err = x.fleet.harass(driving, x.cfg.KillEvery, x.load.random(streamKills)); err != nil {
				cancel(err)
			}
		})
	}
	for round := range x.cfg.Rounds {
		for i := range x.cfg.Levels {
			level := x.cfg.Levels[(i+round)%len(x.cfg.Levels)]
			began := time.Now()
			x.round(ctx, cancel, level, round)
			x.took[level] += time.Since(began)
		}
	}
	stop()
	beside.Wait()
	return context.Cause(ctx)
}

// round makes one round's requests at a level. The first that fails cancels.
func (x *experiment) round(ctx context.Context, cancel context.CancelCauseFunc, level string, round int) {
	from, to := x.cfg.Requests*round/x.cfg.Rounds, x.cfg.Requests*(round+1)/x.cfg.Rounds
	var clients sync.WaitGroup
	for client := range x.cfg.Clients {
		clients.Go(func() {
			for n := client*x.cfg.Requests + from; n < client*x.cfg.Requests+to && ctx.Err() == nil; n++ {
				run, err := x.call(ctx, level, n)
				if err != nil {
					cancel(fmt.Errorf("request %s: %w", runID(level, n), err))
					return
				}
				x.done.Add(1)
				x.mu.Lock()
				x.runs[level] = append(x.runs[level], run)
				x.mu.Unlock()
			}
		})
	}
	clients.Wait()
}

// call makes one request.
func (x *experiment) call(whole context.Context, level string, n int) (made, error) {
	ctx, cancel := context.WithTimeoutCause(whole, runWithin, errHung)
	defer cancel()
	args, err := wire.Args(request{Number: n, Level: level})
	if err != nil {
		return made{}, err
	}
	d := x.dags[x.load.random(streamOf(n, maxNodes)).IntN(len(x.dags))]
	began := time.Now()
	var r wire.Result
	err = patiently(ctx, func() (err error) {
		r, err = x.client.Broker().Call(ctx, wire.Call{Run: runID(level, n), Name: d.graph.Name, Level: level, Args: args})
		return err
	})
	ended := time.Now()
	if err != nil && whole.Err() == nil && errors.Is(context.Cause(ctx), errHung) {
		err = x.witness.Hung(whole, runID(level, n), runWithin, hungWithin)
	}
	if err != nil {
		return made{}, errors.Join(err, context.Cause(whole))
	}
	if r.Status != wire.StatusOK && r.Err.Kind == wire.KindConflict {
		return made{failed: true, restarts: r.Restarts}, nil // it began again as often as it may
	}
	if r.Status != wire.StatusOK {
		return made{}, fmt.Errorf("ended %s: %w", r.Status, r.Err)
	}
	var out output
	if err := r.Value.Decode(&out); err != nil {
		return made{}, err
	}
	return made{
		outcome:  history.Outcome{Run: string(runID(level, n)), Start: began.UnixNano(), End: ended.UnixNano(), Final: out.Made},
		perNode:  float64(ended.Sub(began)) / float64(time.Microsecond) / float64(d.longest),
		restarts: r.Restarts,
	}, nil
}

// release waits until the workers say that they keep nothing for runs any more,
// but not for ever: what is left is in the report.
func (x *experiment) release(ctx context.Context) error {
	if !slices.Contains(x.cfg.Levels, cloudburst.Repeatable) {
		return nil // no other level has workers keep versions
	}
	late := time.NewTimer(releaseWithin)
	defer late.Stop()
	pids := x.fleet.pids()
	news := x.traffic.forget()
	for heard := false; ; {
		select {
		case <-news:
		case <-late.C:
			if !heard {
				return fmt.Errorf("not all workers say what they keep within %s", releaseWithin)
			}
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		x.pinned, heard, news = x.traffic.pinned(pids)
		if heard && x.pinned == 0 {
			return nil
		}
	}
}

// tell shows how far the requests are, every two seconds.
func (x *experiment) tell(ctx context.Context) {
	if x.cfg.Progress == nil {
		return
	}
	total := len(x.cfg.Levels) * x.cfg.Clients * x.cfg.Requests
	tick := time.NewTicker(2 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			fmt.Fprintf(x.cfg.Progress, "%d of %d requests\n", x.done.Load(), total)
		}
	}
}
