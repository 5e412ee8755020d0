package deployments

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/cloudburst-nats/cloudburst/autoscaler"
	"github.com/cloudburst-nats/cloudburst/broker"
)

// ScaleConfig says which pools are scaled, and how.
type ScaleConfig struct {
	// Pools are the pools with their policies.
	Pools map[string]autoscaler.Policy
	// Actuator changes how many workers there are. Nil changes the slots within the
	// workers that there are: a policy's worker is one slot then.
	Actuator autoscaler.Actuator
	// Log is told of what was decided. Nil is silent.
	Log *logrus.Entry
}

// lead is the name that autoscalers contend under.
const leadScale = "autoscaler"

// RunAutoscaler scales pools until ctx ends, while no other process of the platform
// does.
func RunAutoscaler(ctx context.Context, b *broker.Broker, cfg ScaleConfig) error {
	var errs []error
	for name, p := range cfg.Pools {
		if err := p.Validate(); err != nil {
			errs = append(errs, err)
		}
		if cfg.Actuator == nil && p.Slots != 1 {
			p.Slots = 1
			cfg.Pools[name] = p
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	starts := cfg.Actuator != nil
	if !starts {
		cfg.Actuator = slots{b}
	}
	return b.Lead(ctx, leadScale, func(ctx context.Context) error {
		ctx, stop := context.WithCancel(ctx)
		defer stop()
		meter := b.NewMeter()
		heard := make(chan error, 1)
		go func() { heard <- meter.Run(ctx) }()
		var telling sync.WaitGroup
		if starts {
			telling.Go(func() { tellStarts(ctx, b, cfg) })
		}
		loop := autoscaler.NewLoop(autoscaler.LoopConfig{Pools: cfg.Pools, Events: events{b}, Log: cfg.Log}, pools{b, meter}, cfg.Actuator)
		err := loop.Run(ctx)
		stop()
		telling.Wait()
		return errors.Join(err, <-heard)
	})
}

// tellStarts tells callers, until ctx ends, that workers of these pools are started when
// there are calls of them.
func tellStarts(ctx context.Context, b *broker.Broker, cfg ScaleConfig) {
	tick := time.NewTicker(broker.MemberTTL / 3)
	defer tick.Stop()
	for {
		for pool := range cfg.Pools {
			if err := b.StartsWorkers(ctx, pool); err != nil && ctx.Err() == nil && cfg.Log != nil {
				cfg.Log.WithField("pool", pool).WithError(err).Warn("callers may hear that the pool has no worker")
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// pools measures for the autoscaler.
type pools struct {
	b     *broker.Broker
	meter *broker.Meter
}

func (p pools) Measure(ctx context.Context, pool string) (autoscaler.Measurement, error) {
	workers, err := p.b.Workers(ctx)
	if err != nil {
		return autoscaler.Measurement{}, err
	}
	load, err := p.meter.Measure(ctx, pool, workers)
	if err != nil {
		return autoscaler.Measurement{}, err
	}
	return autoscaler.Measurement{Pending: load.Pending, InHand: load.AckPending, Arrivals: load.Arrivals, Service: load.Service}, nil
}

// slots is an actuator that changes how many calls the workers of a pool run at
// once. It starts none: a pool without workers has no slots, whatever it wants.
type slots struct{ b *broker.Broker }

func (s slots) Current(ctx context.Context, pool string) (int, error) {
	workers, err := s.workers(ctx, pool)
	n := 0
	for _, w := range workers {
		n += w.Slots
	}
	return n, err
}

func (s slots) Scale(ctx context.Context, pool string, n int) error {
	workers, err := s.workers(ctx, pool)
	if err != nil {
		return err
	}
	var errs []error
	for i, share := range shares(workers, n) {
		if w := workers[i]; w.Slots != share && w.MaxSlots > 0 {
			_, err := s.b.SetSlots(ctx, w.ID, share)
			errs = append(errs, err) // the others are told nevertheless
		}
	}
	return errors.Join(errs...)
}

func (s slots) workers(ctx context.Context, pool string) ([]broker.WorkerInfo, error) {
	all, err := s.b.Workers(ctx)
	mine := all[:0]
	for _, w := range all {
		if w.Pool == pool {
			mine = append(mine, w)
		}
	}
	return mine, err
}

// shares divides slots over workers: as evenly as their bounds allow, each at
// least its minimum.
func shares(workers []broker.WorkerInfo, n int) []int {
	list := make([]int, len(workers))
	most := make([]int, len(workers))
	for i, w := range workers {
		list[i], most[i] = w.MinSlots, w.MaxSlots
		if w.MaxSlots == 0 {
			list[i], most[i] = w.Slots, w.Slots
		}
		n -= list[i]
	}
	for ; n > 0; n-- {
		least := -1
		for i := range list {
			if list[i] < most[i] && (least < 0 || list[i] < list[least]) {
				least = i
			}
		}
		if least < 0 {
			break // all have what they can
		}
		list[least]++
	}
	return list
}
