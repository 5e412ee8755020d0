package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"

	"github.com/cloudburst-nats/cloudburst"
	"github.com/cloudburst-nats/cloudburst/autoscaler"
	"github.com/cloudburst-nats/cloudburst/broker"
	"github.com/cloudburst-nats/cloudburst/deployments"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// What is scaled.
const (
	ScaleSlots     = "slots"     // of one worker
	ScaleProcesses = "processes" // of four slots each
)

// AutoscaleConfig says how a step of load is measured. The zero value takes a minute
// and a half.
type AutoscaleConfig struct {
	// Cases: ScaleSlots and ScaleProcesses. Default: both.
	Cases []string
	// Stable is the policy's stable window: how long the way back takes at least.
	// Default 10 s; a platform's is a minute.
	Stable time.Duration
	// Hold is how long the load stays high. Default 10 s.
	Hold time.Duration
	// JSON has one JSON object written for each row, instead of a table.
	JSON bool
	// Store is as in Config.
	Store string
	// Exe is as in Config: it plays the workers.
	Exe string
}

// An AutoscaleRow is what became of one step.
type AutoscaleRow struct {
	Bench string `json:"bench"` // "autoscale"
	Case  string `json:"case"`
	// Capacity is from the step until the workers had announced 16 slots; Drained
	// until then nothing waited for the first time.
	Capacity float64 `json:"capacity_s"`
	Drained  float64 `json:"drained_s"`
	Most     int     `json:"most_slots"`
	// Back is from the step back until the slots were the minimum again.
	Back  float64 `json:"back_s"`
	Calls int     `json:"calls"`
	Lost  int     `json:"lost"` // that failed, or never ended
	// Slowest is the longest that a call took, of which it ran for scaleTakes.
	Slowest float64 `json:"slowest_s"`
	// Timeline is what was there, about twice a second from a little before the step.
	Timeline []ScaleMoment `json:"timeline"`
}

// A ScaleMoment is what was there at one time of a step.
type ScaleMoment struct {
	At      float64 `json:"s"` // from the first moment
	Slots   int     `json:"slots"`
	Waiting uint64  `json:"waiting"` // calls that nobody had taken yet
}

// scaleEvery is the time between two moments of a timeline.
const scaleEvery = 500 * time.Millisecond

// The load: calls of scaleTakes, of which scaleLow and scaleHigh a second keep one
// slot and sixteen slots busy.
const (
	scalePool     = "scaled"
	scaleFunction = "pause"
	scaleTakes    = 100 * time.Millisecond
	scaleLow      = 10
	scaleHigh     = 160
	scaleSlots    = 16
	scaleWithin   = 2 * time.Minute // until a step is given up
)

// Autoscale measures how a platform follows a step from one busy slot's worth of
// calls to sixteen, and back.
func Autoscale(ctx context.Context, cfg AutoscaleConfig, out io.Writer) error {
	if len(cfg.Cases) == 0 {
		cfg.Cases = []string{ScaleSlots, ScaleProcesses}
	}
	if cfg.Stable <= 0 {
		cfg.Stable = 10 * time.Second
	}
	if cfg.Hold <= 0 {
		cfg.Hold = 10 * time.Second
	}
	if cfg.Exe == "" {
		exe, err := os.Executable()
		if err != nil {
			return fmt.Errorf("find this program: %w", err)
		}
		cfg.Exe = exe
	}
	t := newTable(table.Row{"scaled", "capacity s", "drained s", "most slots", "back s", "calls", "lost", "slowest s"})
	for _, name := range cfg.Cases {
		row, err := autoscaleOne(ctx, cfg, name)
		if err != nil {
			return fmt.Errorf("scale %s: %w", name, err)
		}
		if cfg.JSON {
			if err := json.NewEncoder(out).Encode(row); err != nil {
				return err
			}
		}
		t.AppendRow(table.Row{
			row.Case, number(row.Capacity, 2), number(row.Drained, 2), row.Most, number(row.Back, 2), row.Calls, row.Lost, number(row.Slowest, 2),
		})
	}
	if cfg.JSON {
		return nil
	}
	_, err := fmt.Fprintln(out, t.Render())
	return err
}

func autoscaleOne(ctx context.Context, cfg AutoscaleConfig, name string) (row AutoscaleRow, err error) {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	s := &site{fail: fail}
	defer func() { err = errors.Join(err, s.close()) }()
	dir, err := os.MkdirTemp(cfg.Store, "cloudburst-bench-")
	if err != nil {
		return row, fmt.Errorf("make store: %w", err)
	}
	s.ends = append(s.ends, func() error { return os.RemoveAll(dir) })
	p, err := startPlatform(ctx, filepath.Join(dir, "store"), "127.0.0.1:0")
	if err != nil {
		return row, err
	}
	s.ends = append(s.ends, p.close)
	s.url = p.server.URL()
	least, err := s.scaled(ctx, cfg, name)
	if err != nil {
		return row, err
	}
	b, err := s.connect(ctx, "bench caller")
	if err != nil {
		return row, err
	}
	row, err = follow(ctx, cfg, b, least)
	row.Bench, row.Case = "autoscale", name
	return row, err
}

// scaled starts what is measured, and returns how many slots it has at least.
func (s *site) scaled(ctx context.Context, cfg AutoscaleConfig, name string) (least int, err error) {
	policy := autoscaler.Policy{Min: 2, Max: 32, Slots: 1, Stable: cfg.Stable}
	var actuator autoscaler.Actuator
	switch name {
	case ScaleSlots:
		least = policy.Min
		b, err := s.connect(ctx, "bench worker")
		if err != nil {
			return 0, err
		}
		if err := s.start(ctx, func(ctx context.Context, ready func()) error {
			return serveScaled(ctx, b, ready, cloudburst.Slots(least), cloudburst.SlotsBetween(1, policy.Max))
		}); err != nil {
			return 0, err
		}
	case ScaleProcesses:
		policy.Min, policy.Max, policy.Slots = 1, 8, scaleProcessSlots
		least = policy.Slots
		fleet := deployments.NewFleet(deployments.FleetConfig{
			Command: func(string) []string { return []string{cfg.Exe, "role", roleScaled, s.url} },
			Pools:   map[string]int{scalePool: policy.Min},
		})
		if err := s.start(ctx, func(ctx context.Context, ready func()) error { ready(); return fleet.Run(ctx) }); err != nil {
			return 0, err
		}
		actuator = fleet
	default:
		return 0, &wire.Error{Op: "bench", Kind: wire.KindBadArgument, Name: name, Msg: "no such case; there are slots and processes"}
	}
	b, err := s.connect(ctx, "bench autoscaler")
	if err != nil {
		return 0, err
	}
	return least, s.start(ctx, func(ctx context.Context, ready func()) error {
		ready()
		return deployments.RunAutoscaler(ctx, b, deployments.ScaleConfig{Pools: map[string]autoscaler.Policy{scalePool: policy}, Actuator: actuator})
	})
}

const scaleProcessSlots = 4

// serveScaled is a worker of the function that takes scaleTakes.
func serveScaled(ctx context.Context, b *broker.Broker, ready func(), opts ...cloudburst.WorkerOption) error {
	w := cloudburst.NewWorker(cloudburst.NewClient(b, nil), append(opts, cloudburst.Pool(scalePool))...)
	cloudburst.Handle(w, scaleFunction, func(ctx context.Context, _ *cloudburst.Session, _ struct{}) (int, error) {
		select {
		case <-time.After(scaleTakes):
			return 1, nil
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	})
	ended := make(chan error, 1)
	go func() { ended <- w.Serve(ctx) }()
	select {
	case <-w.Ready():
		ready()
		return <-ended
	case err := <-ended:
		return err
	}
}

// A stepLoad is calls at a steady rate, which may change.
type stepLoad struct {
	rate                 atomic.Int64 // a second
	calls, lost, slowest atomic.Int64
	all                  sync.WaitGroup
}

// run starts calls until ctx ends, and returns when all have.
func (l *stepLoad) run(ctx context.Context, b *broker.Broker) {
	defer l.all.Wait()
	for next := time.Now(); ; {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Until(next)):
		}
		next = next.Add(time.Second / time.Duration(l.rate.Load()))
		l.calls.Add(1)
		l.all.Go(func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
			defer cancel()
			began := time.Now()
			if err := callOnce(ctx, b); err != nil {
				l.lost.Add(1)
			}
			for took := int64(time.Since(began)); ; {
				old := l.slowest.Load()
				if took <= old || l.slowest.CompareAndSwap(old, took) {
					return
				}
			}
		})
	}
}

func callOnce(ctx context.Context, b *broker.Broker) error {
	call, err := b.Start(ctx, wire.Call{Name: scaleFunction, Run: wire.NewRunID(), Args: wire.Value{Body: []byte("{}")}})
	if err != nil {
		return err
	}
	defer call.Close()
	r, err := call.Wait(ctx)
	if err == nil && r.Status != wire.StatusOK {
		err = errors.New(string(r.Status))
	}
	return err
}

// follow puts the step on, and watches.
func follow(ctx context.Context, cfg AutoscaleConfig, b *broker.Broker, least int) (row AutoscaleRow, err error) {
	load := new(stepLoad)
	load.rate.Store(scaleLow)
	calling, stop := context.WithCancel(ctx)
	var callers sync.WaitGroup
	defer func() {
		stop()
		callers.Wait()
		row.Calls, row.Lost = int(load.calls.Load()), int(load.lost.Load())
		row.Slowest = time.Duration(load.slowest.Load()).Seconds()
	}()
	watched := time.Now()
	have := func(ok func(slots int, pending uint64) bool) (float64, error) {
		return waitFor(ctx, b, func(slots int, pending uint64) bool {
			row.Most = max(row.Most, slots)
			if now := time.Since(watched); now >= time.Duration(len(row.Timeline))*scaleEvery {
				row.Timeline = append(row.Timeline, ScaleMoment{math.Round(now.Seconds()*10) / 10, slots, pending})
			}
			return ok(slots, pending)
		})
	}
	if _, err := have(func(slots int, _ uint64) bool { return slots == least }); err != nil {
		return row, err
	}
	callers.Go(func() { load.run(calling, b) })
	settled := time.Now().Add(5 * time.Second)
	if _, err := have(func(int, uint64) bool { return time.Now().After(settled) }); err != nil {
		return row, err
	}
	row.Most = 0
	began := time.Now()
	load.rate.Store(scaleHigh)
	if row.Capacity, err = have(func(slots int, _ uint64) bool { return slots >= scaleSlots }); err != nil {
		return row, err
	}
	if row.Drained, err = have(func(_ int, pending uint64) bool { return pending == 0 }); err != nil {
		return row, err
	}
	row.Drained += row.Capacity
	if _, err = have(func(int, uint64) bool { return time.Since(began) >= cfg.Hold }); err != nil {
		return row, err
	}
	load.rate.Store(scaleLow)
	row.Back, err = have(func(slots int, _ uint64) bool { return slots <= least })
	return row, err
}

// waitFor watches the pool until it is as it should be, and returns how many seconds
// that took.
func waitFor(ctx context.Context, b *broker.Broker, ok func(slots int, pending uint64) bool) (float64, error) {
	began := time.Now()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		workers, err := b.Workers(ctx)
		if err != nil {
			return 0, err
		}
		slots := 0
		for _, w := range workers {
			if w.Pool == scalePool {
				slots += w.Slots
			}
		}
		lag, err := b.Lag(ctx, scalePool)
		if err != nil && wire.KindOf(err) != wire.KindUnknown { // it has no worker yet
			return 0, err
		}
		if ok(slots, lag.Pending) {
			return time.Since(began).Seconds(), nil
		}
		if time.Since(began) > scaleWithin {
			return 0, fmt.Errorf("it took longer than %v; there are %d slots, and %d calls wait", scaleWithin, slots, lag.Pending)
		}
		select {
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		case <-tick.C:
		}
	}
}
