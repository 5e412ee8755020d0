package faults

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloudburst-nats/cloudburst"
	"github.com/cloudburst-nats/cloudburst/bench/anomalies"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// hangs is how long one operation of the load may take: longer than any fault.
const hangs = 2 * time.Minute

var errHangs = errors.New("it hangs")

// A load uses the platform and keeps account of it. Its callers run until enough
// was done and stop was called.
type load struct {
	client  *cloudburst.Client
	cfg     Config
	witness *anomalies.Witness // tells of runs that hang; nil: nobody does

	stopping atomic.Bool
	calls    atomic.Int64
	dags     atomic.Int64
	writes   atomic.Int64
	retried  atomic.Int64 // what was refused, and done again
	again    atomic.Int64 // calls that were made twice, under one id

	mu     sync.Mutex       // guards what follows
	acked  map[string]int64 // the newest write of each key
	tried  map[string]int64 // that was tried, and may have been stored
	probes []probe
}

// A probe is one call of a function that does nothing.
type probe struct{ began, ended time.Time }

func newLoad(client *cloudburst.Client, cfg Config) *load {
	return &load{client: client, cfg: cfg, acked: make(map[string]int64), tried: make(map[string]int64)}
}

// run makes the load until stop. The first operation that fails, which none may,
// ends it.
func (l *load) run(ctx context.Context) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	var all sync.WaitGroup
	each := func(callers int, done *atomic.Int64, least int, do func(ctx context.Context, caller int, n int64) error) {
		var next atomic.Int64
		for caller := range callers {
			all.Go(func() {
				for ctx.Err() == nil && (!l.stopping.Load() || done.Load() < int64(least)) {
					n := next.Add(1)
					one, cancel := context.WithTimeoutCause(ctx, hangs, errHangs)
					err := do(one, caller, n)
					cause := context.Cause(one)
					cancel()
					if err != nil {
						fail(errors.Join(err, cause))
						return
					}
					done.Add(1)
				}
			})
		}
	}
	each(l.cfg.Callers, &l.calls, l.cfg.Calls, l.call)
	each(max(l.cfg.Callers/4, 1), &l.dags, l.cfg.DAGs, l.dag)
	each(max(l.cfg.Callers/4, 1), &l.writes, l.cfg.Writes, l.write)
	var probes atomic.Int64
	each(1, &probes, 0, l.probe)
	all.Wait()
	return context.Cause(ctx)
}

// stop has the callers end once enough was done.
func (l *load) stop() { l.stopping.Store(true) }

// insist does something again for as long as it is refused because the platform is
// away or full, and never for longer than ctx.
func (l *load) insist(ctx context.Context, do func() error) error {
	for {
		err := do()
		if kind := wire.KindOf(err); kind != wire.KindBusy && kind != wire.KindUnavailable {
			return err
		}
		l.retried.Add(1)
		if late := pause(ctx, 50*time.Millisecond); late != nil {
			return errors.Join(err, late)
		}
	}
}

// call calls a function that counts its calls; every tenth call is made twice
// under one id, as a caller does that has lost the answer.
func (l *load) call(ctx context.Context, _ int, n int64) error {
	id := cloudburst.RunID(fmt.Sprint("order-", n))
	named := l.client.With(cloudburst.WithRunID(id))
	if n%10 == 0 {
		l.again.Add(1)
		err := l.insist(ctx, func() error {
			f, err := cloudburst.Go[int](ctx, named, tally, n)
			if err == nil {
				defer f.Close()
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("call %d: %w", n, l.told(ctx, id, err))
		}
	}
	var got int64
	err := l.insist(ctx, func() (err error) {
		got, err = cloudburst.Call[int64](ctx, named, tally, n)
		return err
	})
	if err == nil && got != n {
		err = fmt.Errorf("it was answered by that of call %d", got)
	}
	if err != nil {
		return fmt.Errorf("call %d: %w", n, l.told(ctx, id, err))
	}
	return nil
}

// told is the error of a run that failed; of one that hangs it tells how that stands.
func (l *load) told(ctx context.Context, id cloudburst.RunID, err error) error {
	if l.witness == nil || !errors.Is(context.Cause(ctx), errHangs) {
		return err
	}
	return errors.Join(err, l.witness.Hung(context.WithoutCancel(ctx), id, hangs, hangs))
}

func (l *load) dag(ctx context.Context, _ int, n int64) error {
	var got int
	id := cloudburst.RunID(fmt.Sprint("diamond-", n))
	err := l.insist(ctx, func() (err error) {
		got, err = cloudburst.Call[int](ctx, l.client.With(cloudburst.WithRunID(id)), diamond().Name, n)
		return err
	})
	if want := diamondOf(int(n)); err == nil && got != want {
		err = fmt.Errorf("it returned %d, want %d", got, want)
	}
	if err != nil {
		return fmt.Errorf("DAG run %d: %w", n, l.told(ctx, id, err))
	}
	return nil
}

// write writes one of the caller's keys, until that is acknowledged.
func (l *load) write(ctx context.Context, caller int, n int64) error {
	key := fmt.Sprintf("write:%d:%d", caller, n%50)
	l.mu.Lock()
	l.tried[key] = n
	l.mu.Unlock()
	err := l.insist(ctx, func() error { return l.client.State().In(namespace).Put(ctx, key, n) })
	if err != nil {
		return fmt.Errorf("write %s: %w", key, err)
	}
	l.mu.Lock()
	l.acked[key] = n
	l.mu.Unlock()
	return nil
}

func (l *load) probe(ctx context.Context, _ int, n int64) error {
	began := time.Now()
	err := l.insist(ctx, func() error {
		_, err := cloudburst.Call[int64](ctx, l.client, echo, n)
		return err
	})
	if err != nil {
		return fmt.Errorf("probe %d: %w", n, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.probes = append(l.probes, probe{began, time.Now()})
	return nil
}

// longest returns the longest that a probe took of those that were under way
// between two moments.
func (l *load) longest(from, to time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	var longest time.Duration
	for _, p := range slices.Backward(l.probes) {
		if p.ended.Before(from) {
			break
		}
		if p.began.Before(to) {
			longest = max(longest, p.ended.Sub(p.began))
		}
	}
	return longest
}

// audit compares what is stored with what was acknowledged, and returns all that
// isn't as it should be.
func (l *load) audit(ctx context.Context, state *cloudburst.State) error {
	var wrong []error
	counter := func(name string, want int64) {
		got, err := state.Counter(name).Value(ctx)
		if err != nil || got != want {
			wrong = append(wrong, fmt.Errorf("counter %s is %d, want %d (%v)", name, got, want, err)) //nolint:errorlint // nil is welcome
		}
	}
	counter("calls", l.calls.Load())
	counter("nodes", 4*l.dags.Load())
	check := func(key string, least, most int64) {
		got, err := cloudburst.Get[int64](ctx, state, key)
		if err != nil || got < least || got > most {
			wrong = append(wrong, fmt.Errorf("key %s holds %d, want %d (%v)", key, got, least, err)) //nolint:errorlint // nil is welcome
		}
	}
	for n := int64(1); n <= l.calls.Load(); n++ {
		check(orderKey(int(n)), n, n)
	}
	for key, n := range l.acked {
		check(key, n, max(n, l.tried[key]))
	}
	if len(wrong) > 20 {
		wrong = append(wrong[:20], fmt.Errorf("and %d more", len(wrong)-20))
	}
	return errors.Join(wrong...)
}
