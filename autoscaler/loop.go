package autoscaler

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/sirupsen/logrus"
)

// A Meter measures pools. It leaves Measurement.Workers to the Actuator.
type Meter interface {
	Measure(ctx context.Context, pool string) (Measurement, error)
}

// An Actuator starts and stops the workers of pools, whatever a worker is to it: a
// process, a slot, a machine. Scale may return before the workers are there, but
// must not wait for those that go to finish what they have. To scale to what there
// is changes nothing.
type Actuator interface {
	Scale(ctx context.Context, pool string, workers int) error
	// Current returns how many workers there are or are being started.
	Current(ctx context.Context, pool string) (int, error)
}

// Events tells the outside of decisions; it must not block.
type Events interface {
	Scaled(pool string, from int, to Decision)
}

// LoopConfig describes a Loop.
type LoopConfig struct {
	// Pools are the pools that it scales, with their policies.
	Pools map[string]Policy
	// Every is the time between two measurements. Default 500 ms: a burst is
	// seen a quarter of a second after it began, on average, at three requests
	// to the server for each pool.
	Every time.Duration
	// Events is told of decisions that change something. Nil tells nobody.
	Events Events
	// Log is told likewise, and of what fails. Nil is silent.
	Log *logrus.Entry
}

// A Loop measures pools, decides, and acts. Run one at a time of them: two would
// undo what the other did.
type Loop struct {
	cfg      LoopConfig
	meter    Meter
	actuator Actuator
	observe  observer
	pools    []pool
}

type pool struct {
	name   string
	scaler *Scaler
	last   Decision
	failed bool // the last round did
}

// NewLoop returns a loop that has measured nothing yet.
func NewLoop(cfg LoopConfig, meter Meter, actuator Actuator) *Loop {
	if cfg.Every <= 0 {
		cfg.Every = 500 * time.Millisecond
	}
	l := &Loop{cfg: cfg, meter: meter, actuator: actuator, observe: observer{cfg.Log, cfg.Events}}
	for _, name := range slices.Sorted(maps.Keys(cfg.Pools)) {
		l.pools = append(l.pools, pool{name: name, scaler: NewScaler(cfg.Pools[name])})
	}
	return l
}

// Run scales until ctx ends. A pool that can't be measured or scaled keeps what it
// has until the next round.
func (l *Loop) Run(ctx context.Context) error {
	for _, p := range l.cfg.Pools {
		if err := p.Validate(); err != nil {
			return err
		}
	}
	tick := time.NewTicker(l.cfg.Every)
	defer tick.Stop()
	for {
		for i := range l.pools {
			p := &l.pools[i]
			err := l.round(ctx, p)
			if err != nil && ctx.Err() == nil && !p.failed {
				l.observe.failed(p.name, err) // once, not twice a second
			}
			p.failed = err != nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// round measures one pool and acts on it. Time is taken after the measurement,
// which is when it is true.
func (l *Loop) round(ctx context.Context, p *pool) error {
	ctx, cancel := context.WithTimeout(ctx, max(4*l.cfg.Every, time.Second))
	defer cancel()
	m, err := l.meter.Measure(ctx, p.name)
	if err != nil {
		return err
	}
	if m.Workers, err = l.actuator.Current(ctx, p.name); err != nil {
		return err
	}
	d := p.scaler.Decide(time.Now(), m)
	if d.Workers != m.Workers {
		if err := l.actuator.Scale(ctx, p.name, d.Workers); err != nil {
			return err
		}
	}
	if d.Workers != m.Workers && d.Workers != p.last.Workers {
		l.observe.scaled(p.name, m.Workers, d, p.scaler.WorkerSeconds())
	}
	p.last = d
	return nil
}
