// Package autoscaler turns measurements of a pool into the number of workers
// it wants. The decision is a pure function; nothing here starts or stops a
// worker, and today its answer is advice: `cloudburst pool ls` shows it.
package autoscaler

import (
	"math"
	"time"
)

// A Policy bounds the decision for one pool. The zero value allows any number
// of workers of DefaultSlots slots, down to none.
type Policy struct {
	// Min and Max bound the answer. Max 0 is no bound.
	Min, Max int
	// Slots is how many calls a worker runs at once. 0 means DefaultSlots.
	Slots int
	// Target is how busy slots should be on average, in (0, 1]. 0 means
	// DefaultTarget. Higher is cheaper and leaves less room for a burst.
	Target float64
}

// Defaults of a Policy. The paper adds machines above 70 % utilisation
// (section 4.4).
const (
	DefaultSlots  = 64
	DefaultTarget = 0.7
)

// A Measurement is how a pool stands.
type Measurement struct {
	Pending  uint64        // calls that wait in the stream
	InHand   int           // calls delivered and not settled
	Arrivals float64       // calls a second
	Service  time.Duration // mean time of a call in its slot
}

// Workers returns how many workers the pool wants: enough to take all that
// waits at once, and enough that what arrives keeps slots no busier than
// Target. With 64 slots, 640 calls waiting want 10 workers; 1,000 arrivals a
// second of 90 ms keep 90 slots busy, which at 70 % are 128.6 slots: three workers.
func Workers(p Policy, m Measurement) int {
	if p.Slots <= 0 {
		p.Slots = DefaultSlots
	}
	if p.Target <= 0 || p.Target > 1 {
		p.Target = DefaultTarget
	}
	slots := float64(p.Slots)
	lag := (float64(m.Pending) + float64(max(m.InHand, 0))) / slots
	load := max(m.Arrivals, 0) * max(m.Service, 0).Seconds() / (slots * p.Target)
	want := math.Ceil(max(lag, load) - 1e-9) // 640/64 is 10, whatever rounding says
	if p.Max > 0 {
		want = min(want, float64(p.Max))
	}
	return max(int(min(want, math.MaxInt32)), p.Min, 0)
}
