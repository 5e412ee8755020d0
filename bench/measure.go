package bench

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A contender is one way to do something, measured beside the others.
type contender struct {
	name    string
	against string // the contender its ratios are to; empty: none
	// op does it once, and checks the outcome. slot tells operations apart that
	// are under way at once; n was never given before.
	op func(ctx context.Context, slot int, n uint64) error
	// uses is how often one op does what is measured; 0 is once. inside, if set,
	// takes the serial samples where the work happens, instead of timing op.
	uses   int
	inside func(ctx context.Context, count int) (samples, error)

	next atomic.Uint64
	samples
	rates []float64 // per second, one a round
}

// samples are of operations one after the other.
type samples struct {
	Micros []float64 `json:"micros"` // of each, in µs
	Ops    int       `json:"ops"`    // how many operations allocated
	Allocs uint64    `json:"allocs"` // this many objects, in the process that measures
}

func (s *samples) add(more samples) {
	s.Micros = append(s.Micros, more.Micros...)
	s.Ops += more.Ops
	s.Allocs += more.Allocs
}

// race has the contenders take turns, the first turn going round too, and
// leaves what was measured in them. What runs first only warms up.
func race(ctx context.Context, cfg Config, contenders []*contender) error {
	for _, c := range contenders {
		if _, err := c.serial(ctx, cfg.Serial/4+1); err != nil {
			return err
		}
		if _, err := c.rate(ctx, cfg.Count/4+1, cfg.InFlight); err != nil {
			return err
		}
	}
	for round := range cfg.Rounds {
		for i := range contenders {
			c := contenders[(i+round)%len(contenders)]
			took, err := c.serial(ctx, cfg.Serial)
			if err != nil {
				return err
			}
			c.add(took)
		}
		for i := range contenders {
			c := contenders[(i+round)%len(contenders)]
			rate, err := c.rate(ctx, cfg.Count, cfg.InFlight)
			if err != nil {
				return err
			}
			c.rates = append(c.rates, rate)
		}
	}
	return nil
}

// errHung is the cause when an operation doesn't end: a lost reply is an error,
// not a benchmark that never ends.
var errHung = errors.New("an operation hangs")

// patience is how long count operations may take in all.
func patience(count int) time.Duration {
	return 30*time.Second + time.Duration(count)*5*time.Millisecond
}

// serial does the operation count times, one after the other.
func (c *contender) serial(ctx context.Context, count int) (samples, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience(count), errHung)
	defer cancel()
	if c.inside != nil {
		s, err := c.inside(ctx, count)
		if err != nil {
			return s, fmt.Errorf("%s: %w", c.name, err)
		}
		return s, nil
	}
	return timed(count, 1, func() error { return c.do(ctx, 0) })
}

// timed takes count samples of op, each of batch operations.
func timed(count, batch int, op func() error) (samples, error) {
	s := samples{Micros: make([]float64, 0, count), Ops: count * batch}
	var before, after runtime.MemStats
	runtime.GC() // what others left behind is not for this one to clear
	runtime.ReadMemStats(&before)
	for range count {
		began := time.Now()
		for range batch {
			if err := op(); err != nil {
				return s, err
			}
		}
		s.Micros = append(s.Micros, float64(time.Since(began))/float64(time.Microsecond)/float64(batch))
	}
	runtime.ReadMemStats(&after)
	s.Allocs = after.Mallocs - before.Mallocs
	return s, nil
}

// rate does the operation count times, inFlight at once, and returns how many
// that is in a second.
func (c *contender) rate(ctx context.Context, count, inFlight int) (float64, error) {
	uses := 1
	if c.uses > 0 {
		uses, count = c.uses, max(count/c.uses, 4*inFlight)
	}
	runtime.GC()
	ctx, late := context.WithTimeoutCause(ctx, patience(count), errHung)
	defer late()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var started atomic.Int64
	var callers sync.WaitGroup
	began := time.Now()
	for slot := range inFlight {
		callers.Go(func() {
			for started.Add(1) <= int64(count) {
				if err := c.do(ctx, slot); err != nil {
					cancel(err) // the first one is the cause
					return
				}
			}
		})
	}
	callers.Wait()
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	return float64(count*uses) / time.Since(began).Seconds(), nil
}

func (c *contender) do(ctx context.Context, slot int) error {
	n := c.next.Add(1)
	if err := c.op(ctx, slot, n); err != nil {
		return fmt.Errorf("%s, operation %d: %w", c.name, n, err)
	}
	return nil
}

// quantile returns the q-quantile of sorted values; 0 if there are none.
func quantile(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

func median(values []float64) float64 { return quantile(slices.Sorted(slices.Values(values)), 0.5) }
