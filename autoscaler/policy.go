package autoscaler

import (
	"errors"
	"math"
	"time"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// A Policy bounds the decision for one pool. The zero value allows any number
// of workers of DefaultSlots slots, down to none.
type Policy struct {
	// Min and Max bound the answer, in workers. Max 0 is no bound.
	Min, Max int
	// Slots is how many calls a worker runs at once. 0 means DefaultSlots.
	Slots int
	// Target is how busy slots should be on average, in (0, 1]. 0 means
	// DefaultTarget. Higher is cheaper and leaves less room for a burst.
	Target float64
	// Stable is for how long less must have been wanted before workers go.
	// Default 60 s. Longer costs workers that do nothing after each burst.
	Stable time.Duration
	// Panic is over how long arrivals are averaged to go up. Default 6 s. Shorter
	// is quicker and takes chance for a burst.
	Panic time.Duration
	// Threshold is how many times what there is must be wanted for a panic, in
	// which no worker goes. Default 2.
	Threshold float64
	// Drain is within how long what waits should be taken. Default 1 s. Shorter
	// gets more workers for the same queue; a call that takes longer than Drain
	// wants a slot of its own. It should be no shorter than a worker takes to
	// start, or what piles up meanwhile gets workers too, which come too late.
	Drain time.Duration
	// Cooldown is the least time between two decisions for fewer. Default 5 s.
	Cooldown time.Duration
	// Idle is how long there must have been no call before the last worker goes,
	// if Min is 0. Default 5 min: the next call waits for a worker to start.
	Idle time.Duration
	// UpStep bounds one decision for more to so many workers, and DownStep one for
	// fewer. 0 is no bound.
	UpStep, DownStep int
}

// Defaults of a Policy. The paper adds machines above 70 % utilisation
// (section 4.4); the windows are those that Knative settled on.
const (
	DefaultSlots     = 64
	DefaultTarget    = 0.7
	DefaultStable    = time.Minute
	DefaultPanic     = 6 * time.Second
	DefaultThreshold = 2
	DefaultDrain     = time.Second
	DefaultCooldown  = 5 * time.Second
	DefaultIdle      = 5 * time.Minute
)

// Validate returns every problem of the policy at once.
func (p Policy) Validate() error {
	var errs []error
	check := func(ok bool, name, msg string) {
		if !ok {
			errs = append(errs, &wire.Error{Op: "scale", Kind: wire.KindBadArgument, Name: name, Msg: msg})
		}
	}
	check(p.Min >= 0, "min", "less than 0")
	check(p.Max >= 0, "max", "less than 0; 0 is no bound")
	check(p.Max == 0 || p.Min <= p.Max, "min", "more than max")
	check(p.Slots >= 0, "slots", "less than 0; 0 is the default")
	check(p.Target >= 0 && p.Target <= 1, "target", "must be in (0, 1]; 0 is the default")
	check(p.Threshold == 0 || p.Threshold > 1, "threshold", "must be more than 1; 0 is the default")
	for _, d := range []struct {
		name  string
		value time.Duration
	}{{"stable", p.Stable}, {"panic", p.Panic}, {"drain", p.Drain}, {"cooldown", p.Cooldown}, {"idle", p.Idle}} {
		check(d.value >= 0, d.name, "less than 0; 0 is the default")
	}
	check(p.UpStep >= 0, "up step", "less than 0; 0 is no bound")
	check(p.DownStep >= 0, "down step", "less than 0; 0 is no bound")
	q := p.WithDefaults()
	check(q.Panic <= q.Stable, "panic", "its window is longer than the stable one")
	return errors.Join(errs...)
}

// WithDefaults returns the policy with its defaults filled in. It reads nonsense as unset: a
// policy that is wrong still scales.
func (p Policy) WithDefaults() Policy {
	if p.Slots <= 0 {
		p.Slots = DefaultSlots
	}
	if !(p.Target > 0 && p.Target <= 1) {
		p.Target = DefaultTarget
	}
	if !(p.Threshold > 1) {
		p.Threshold = DefaultThreshold
	}
	for _, d := range []struct {
		value *time.Duration
		def   time.Duration
	}{{&p.Stable, DefaultStable}, {&p.Drain, DefaultDrain}, {&p.Cooldown, DefaultCooldown}, {&p.Idle, DefaultIdle}} {
		if *d.value <= 0 {
			*d.value = d.def
		}
	}
	if p.Panic <= 0 {
		p.Panic = min(DefaultPanic, p.Stable)
	}
	return p
}

// A Measurement is how a pool stands.
type Measurement struct {
	Pending  uint64        // calls that wait in the stream
	InHand   int           // calls delivered and not settled
	Arrivals float64       // calls a second, since the last measurement
	Service  time.Duration // mean time of a call in its slot; 0 is not known yet
	Workers  int           // that there are, or are being started
}

// Workers returns how many workers the pool wants at this moment: enough to take
// all that waits at once, and enough that what arrives keeps slots no busier than
// Target. With 64 slots, 640 calls waiting want 10 workers; 1,000 arrivals a
// second of 90 ms keep 90 slots busy, which at 70 % are 128.6 slots: three workers.
func Workers(p Policy, m Measurement) int {
	p = p.WithDefaults()
	lag := float64(m.Pending) + float64(max(m.InHand, 0))
	return p.Workers(max(lag, m.load()/p.Target))
}

// load is how many slots the arriving calls keep busy.
func (m Measurement) load() float64 { return max(m.Arrivals, 0) * max(m.Service, 0).Seconds() }

// Workers returns how many workers have so many slots, within the bounds.
func (p Policy) Workers(slots float64) int {
	want := math.Ceil(slots/float64(p.Slots) - 1e-9) // 640/64 is 10, whatever rounding says
	if p.Max > 0 {
		want = min(want, float64(p.Max))
	}
	return max(int(min(want, math.MaxInt32)), p.Min, 0)
}
