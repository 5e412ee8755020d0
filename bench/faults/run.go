package faults

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"slices"
	"time"

	"github.com/cloudburst-nats/cloudburst"
	"github.com/cloudburst-nats/cloudburst/bench/anomalies"
)

// An Event is one fault that was made.
type Event struct {
	Kind   string
	Victim string
	// Mended is after how long all servers had everything again; Longest is the
	// longest that a probe took meanwhile: what the fault cost a caller.
	Mended, Longest time.Duration
}

// Run makes faults under load, and checks what is left. What was lost or done twice
// is the report's; an error is what kept the run from being made.
func Run(ctx context.Context, cfg Config) (r *Report, err error) {
	cfg, err = cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	s := &site{cfg: cfg, fail: fail}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.open(ctx); err != nil {
		return nil, because(err, context.Cause(ctx))
	}
	l := newLoad(s.client, cfg)
	if l.witness, err = anomalies.NewWitness(s.direct); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.witness.Close()) }()
	loaded := make(chan error, 1)
	go func() {
		err := l.run(ctx)
		if err != nil {
			fail(err)
		}
		loaded <- err
	}()
	levels, err := s.levels(ctx)
	if err != nil {
		return nil, because(err, context.Cause(ctx))
	}
	r = &Report{Seed: cfg.Seed}
	began := time.Now()
	r.Events, err = s.breakAll(ctx, l)
	l.stop()
	err = because(err, <-loaded)
	r.Took = time.Since(began)
	if err != nil {
		return nil, because(err, context.Cause(ctx))
	}
	checked := <-levels
	if checked.err != nil {
		return nil, fmt.Errorf("consistency experiment: %w", checked.err)
	}
	r.Levels = checked.report
	r.Calls, r.DAGs, r.Writes = l.calls.Load(), l.dags.Load(), l.writes.Load()
	r.Refused, r.Twice, r.Probes = l.retried.Load(), l.again.Load(), len(l.probes)
	r.Lost = l.audit(ctx, cloudburst.NewClient(s.direct, nil).State().In(namespace))
	return r, nil
}

// because adds to an error what caused it, unless it says so already.
func because(err, cause error) error {
	if cause != nil && errors.Is(err, cause) {
		return err
	}
	return errors.Join(err, cause)
}

type checked struct {
	report *anomalies.Report
	err    error
}

// levels runs the consistency experiment beside the load, if it is to, and returns
// once it makes requests.
func (s *site) levels(ctx context.Context) (<-chan checked, error) {
	done := make(chan checked, 1)
	if s.cfg.Levels <= 0 {
		done <- checked{}
		return done, nil
	}
	started := make(chan struct{})
	go func() {
		report, err := anomalies.Run(ctx, anomalies.Config{
			URL: urls(addrs(s.front)), Topology: topology, Requests: s.cfg.Levels, Seed: s.cfg.Seed,
			Clients: 4, Workers: 3, Keys: 500, DAGs: 50, Rounds: 1, Store: s.cfg.Store, Started: func() { close(started) },
			Worker: func(arg string) *exec.Cmd { return s.cfg.Part(anomalies.Role, arg) },
		})
		done <- checked{report, err}
	}()
	select {
	case <-started:
		return done, nil
	case c := <-done:
		return nil, fmt.Errorf("consistency experiment: %w", c.err)
	}
}

// breakAll makes one fault after the other, and waits after each until all is well.
func (s *site) breakAll(ctx context.Context, l *load) ([]Event, error) {
	random := rand.New(rand.NewPCG(s.cfg.Seed, 1))
	chosen := slices.DeleteFunc(slices.Clone(kinds), func(k kind) bool { return !slices.Contains(s.cfg.Kinds, k.name) })
	var events []Event
	for i := range s.cfg.Faults {
		if i%len(chosen) == 0 {
			random.Shuffle(len(chosen), func(i, j int) { chosen[i], chosen[j] = chosen[j], chosen[i] })
		}
		if err := pause(ctx, time.Second); err != nil {
			return events, err
		}
		k := chosen[i%len(chosen)]
		began := time.Now()
		victim, err := k.do(s, ctx, random)
		if err == nil {
			err = s.settled(ctx)
		}
		if err != nil {
			return events, fmt.Errorf("fault %d, %s of %s: %w", i+1, k.name, victim, err)
		}
		mended := time.Now()
		// What a dead worker had in hand is handed out again by then.
		over := mended.Add(2 * topology.AckWait)
		if err := s.served(ctx, l, over); err != nil {
			return events, fmt.Errorf("after fault %d, %s of %s: %w", i+1, k.name, victim, err)
		}
		e := Event{Kind: k.name, Victim: victim, Mended: mended.Sub(began), Longest: l.longest(began, over)}
		events = append(events, e)
		if s.cfg.Progress != nil {
			fmt.Fprintf(s.cfg.Progress, "%d of %d  %-14s %-22s a call took up to %v; all well after %v (%d calls, %d DAG runs, %d writes so far)\n",
				i+1, s.cfg.Faults, e.Kind, e.Victim, e.Longest.Round(time.Millisecond), e.Mended.Round(10*time.Millisecond),
				l.calls.Load(), l.dags.Load(), l.writes.Load())
		}
	}
	return events, nil
}

// served waits until a probe has ended that began after a moment.
func (s *site) served(ctx context.Context, l *load, after time.Time) error {
	for began := time.Now(); time.Since(began) < hangs; {
		l.mu.Lock()
		served := len(l.probes) > 0 && l.probes[len(l.probes)-1].began.After(after)
		l.mu.Unlock()
		if served {
			return nil
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
	return fmt.Errorf("no call was answered within %v", hangs)
}
