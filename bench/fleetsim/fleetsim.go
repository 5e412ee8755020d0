// Package fleetsim simulates a day of bursty arrivals against the autoscaler, and against
// fleets of a fixed size. It needs no server and no clock.
package fleetsim

import (
	"errors"
	"math"
	"slices"
	"time"

	"github.com/cloudburst-nats/cloudburst/autoscaler"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// A Simulation replays the arrivals of a day against a policy. The zero value is
// a bursty day of some four million calls.
//
// The day: arrivals are a Poisson process whose rate follows a sine through the
// day, from PeakTime's Base·1.6 down to Base·0.4, times that of a burst. Bursts
// begin as steps, on average BurstEvery after the last one ended, last between one
// and ten minutes, and are two to five times the rate. Service times are
// exponential.
type Simulation struct {
	Seed   uint64
	Policy autoscaler.Policy
	// Length of the replayed time. Default 24 h.
	Length time.Duration
	// Base is the mean rate without bursts, in calls a second. Default 40.
	Base float64
	// Service is the mean time of a call. Default 250 ms.
	Service time.Duration
	// BurstEvery is the mean time between bursts. Default 30 min.
	BurstEvery time.Duration
	// Start is how long a new worker takes until it takes calls, and is paid for.
	// Default 1 s.
	Start time.Duration
	// Stop is for how long a worker that goes is paid for while it finishes what
	// it has. Default 1 s.
	Stop time.Duration
	// Measure is the time between two decisions. Default 1 s.
	Measure time.Duration
}

// An Outcome is what a fleet made of a day.
type Outcome struct {
	Fleet         string  `json:"fleet"`
	Peak          int     `json:"peak_workers"`
	WorkerSeconds float64 `json:"worker_seconds"`
	// Ideal is what an oracle pays: at each moment the workers that the true rate
	// of arrivals wants at Target, started in good time and stopped at once.
	Ideal float64 `json:"ideal_worker_seconds"`
	Waste float64 `json:"waste"` // WorkerSeconds over Ideal, less 1
	Calls int     `json:"calls"`
	Left  int     `json:"left"` // calls that still waited in the end
	// Capacity is how long after the beginning of a burst the fleet had what the
	// oracle had.
	Bursts      int           `json:"bursts"`
	Missed      int           `json:"bursts_missed"` // in which it never had
	CapacityP50 time.Duration `json:"capacity_p50_ns"`
	CapacityMax time.Duration `json:"capacity_max_ns"`
	// Age is how long calls waited.
	AgeP50  time.Duration `json:"age_p50_ns"`
	AgeP99  time.Duration `json:"age_p99_ns"`
	AgeMax  time.Duration `json:"age_max_ns"`
	Changes int           `json:"changes"` // decisions for another number of workers
}

// tick is the step of the simulated clock.
const tick = 100 * time.Millisecond

// Validate returns every problem of the simulation at once.
func (s Simulation) Validate() error {
	errs := []error{s.Policy.Validate()}
	bad := func(name, msg string) {
		errs = append(errs, &wire.Error{Op: "simulate", Kind: wire.KindBadArgument, Name: name, Msg: msg})
	}
	for name, d := range map[string]time.Duration{
		"length": s.Length, "service": s.Service, "bursts": s.BurstEvery, "start": s.Start, "stop": s.Stop, "measure": s.Measure,
	} {
		if d < 0 {
			bad(name, "less than 0; 0 is the default")
		}
	}
	if s.Base < 0 || s.Base > 1e5 {
		bad("rate", "must be between 0 and 100,000 a second")
	}
	if s.Length > 31*24*time.Hour {
		bad("length", "more than a month")
	}
	return errors.Join(errs...)
}

func (s Simulation) withDefaults() Simulation {
	for _, d := range []struct {
		value *time.Duration
		def   time.Duration
	}{
		{&s.Length, 24 * time.Hour},
		{&s.Service, 250 * time.Millisecond},
		{&s.BurstEvery, 30 * time.Minute},
		{&s.Start, time.Second},
		{&s.Stop, time.Second},
		{&s.Measure, time.Second},
	} {
		if *d.value <= 0 {
			*d.value = d.def
		}
	}
	if s.Base <= 0 {
		s.Base = 40
	}
	s.Policy = s.Policy.WithDefaults()
	return s
}

// Run replays the day against the policy, and against two fleets of a fixed size:
// what the oracle has at most, and on average. All see the same arrivals.
func (s Simulation) Run() ([]Outcome, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	s = s.withDefaults()
	day := s.day()
	outcomes := make([]Outcome, 0, 3)
	scaler := autoscaler.NewScaler(s.Policy)
	outcomes = append(outcomes, s.replay("autoscaled", day, day.ideal[0], scaler.Decide))
	for _, fixed := range []struct {
		name    string
		workers int
	}{{"fixed at the peak", slices.Max(day.ideal)}, {"fixed at the mean", int(math.Ceil(mean(day.ideal)))}} {
		stay := func(time.Time, autoscaler.Measurement) autoscaler.Decision {
			return autoscaler.Decision{Workers: fixed.workers}
		}
		outcomes = append(outcomes, s.replay(fixed.name, day, fixed.workers, stay))
	}
	return outcomes, nil
}
