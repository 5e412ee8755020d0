package fleetsim

import (
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/cloudburst-nats/cloudburst/autoscaler"
)

// A day is what arrives, tick by tick.
type day struct {
	seed     uint64
	arrivals []int
	ideal    []int // workers of the oracle
	bursts   []burst
}

// A burst is at ticks from begin until end.
type burst struct{ begin, end int }

func (s Simulation) day() day {
	rng := rand.New(rand.NewPCG(s.Seed, 0)) //nolint:gosec // the same day again is the point
	n := max(int(s.Length/tick), 1)
	d := day{seed: s.Seed, arrivals: make([]int, n), ideal: make([]int, n)}
	pause := func() int { return 1 + int(rng.ExpFloat64()*float64(s.BurstEvery/tick)) }
	now, factor := burst{begin: pause(), end: -1}, 1.0
	for i := range n {
		switch i {
		case now.end:
			now.begin, factor = i+pause(), 1
		case now.begin:
			now.end = min(i+int(time.Minute/tick)+rng.IntN(int(9*time.Minute/tick)), n)
			factor = 2 + 3*rng.Float64()
			d.bursts = append(d.bursts, now)
		}
		// Least at midnight, most at noon.
		rate := factor * s.Base * (1 - 0.6*math.Cos(2*math.Pi*float64(i)*tick.Hours()/24))
		d.arrivals[i] = poisson(rng, rate*tick.Seconds())
		d.ideal[i] = s.Policy.Workers(rate * s.Service.Seconds() / s.Policy.Target)
	}
	return d
}

// replay runs one fleet through the day.
func (s Simulation) replay(name string, d day, begin int, decide func(time.Time, autoscaler.Measurement) autoscaler.Decision) Outcome {
	f := newFleet(s, begin, d.seed)
	o := Outcome{Fleet: name, Peak: begin, Bursts: len(d.bursts)}
	measure := max(int(s.Measure/tick), 1)
	reached := make([]int, 0, len(d.bursts)) // ticks after the beginning
	pending := d.bursts                      // bursts that it has not the workers for yet
	for i, arrived := range d.arrivals {
		o.Calls += arrived
		o.Ideal += float64(d.ideal[i]) * tick.Seconds()
		f.step(i, arrived)
		workers := f.workers()
		o.WorkerSeconds += float64(workers) * tick.Seconds()
		if (i+1)%measure == 0 {
			m := f.measure()
			if want := decide(time.Unix(0, 0).Add(time.Duration(i+1)*tick), m).Workers; want != workers {
				o.Changes++
				o.Peak = max(o.Peak, want)
				o.WorkerSeconds += s.Stop.Seconds() * float64(f.scale(want, i+int(s.Start/tick)))
			}
		}
		if len(pending) > 0 && pending[0].begin <= i {
			switch b := pending[0]; {
			case f.ready >= d.ideal[b.begin]:
				reached = append(reached, i-b.begin)
				pending = pending[1:]
			case i+1 >= b.end:
				o.Missed++
				pending = pending[1:]
			}
		}
	}
	slices.Sort(reached)
	if n := len(reached); n > 0 {
		o.CapacityP50, o.CapacityMax = time.Duration(reached[n/2])*tick, time.Duration(reached[n-1])*tick
	}
	o.Waste = o.WorkerSeconds/max(o.Ideal, 1) - 1
	o.Left = f.waits
	o.AgeP50, o.AgeP99, o.AgeMax = f.age(0.5), f.age(0.99), f.age(1)
	return o
}

// A fleet is the state of a replay.
type fleet struct {
	s        Simulation
	rng      *rand.Rand // of service times
	ready    int
	starting []int // ticks at which workers become ready, the soonest first
	busy     int
	ends     []int     // how many calls end, by tick: a ring
	queue    []waiting // the oldest first
	waits    int       // calls in queue
	ages     []int     // how many calls waited for so many ticks

	// Since the last measurement.
	arrived  int
	ticks    int
	ended    int
	took     time.Duration // of those that have ended
	lastTook time.Duration // mean, while none has ended
}

// waiting is calls that came at one tick.
type waiting struct{ tick, calls int }

// Service times are cut at twenty times their mean, which one in 500 million passes.
const longest = 20

func newFleet(s Simulation, begin int, seed uint64) *fleet {
	return &fleet{
		s: s, rng: rand.New(rand.NewPCG(seed, 1)), ready: begin, //nolint:gosec // as above
		ends: make([]int, longest*int(s.Service/tick+1)+2),
	}
}

func (f *fleet) workers() int { return f.ready + len(f.starting) }

// step lets calls end, workers become ready, calls arrive, and calls begin.
func (f *fleet) step(i, arrived int) {
	at := i % len(f.ends)
	f.busy -= f.ends[at]
	f.ends[at] = 0
	for len(f.starting) > 0 && f.starting[0] <= i {
		f.starting = f.starting[1:]
		f.ready++
	}
	f.arrived += arrived
	f.ticks++
	if arrived > 0 {
		f.queue = append(f.queue, waiting{i, arrived})
		f.waits += arrived
	}
	for f.waits > 0 && f.busy < f.ready*f.s.Policy.Slots {
		f.begin(i)
	}
}

// begin takes the oldest call.
func (f *fleet) begin(i int) {
	w := &f.queue[0]
	age := i - w.tick
	for len(f.ages) <= age {
		f.ages = append(f.ages, 0)
	}
	f.ages[age]++
	f.waits--
	if w.calls--; w.calls == 0 {
		f.queue = f.queue[1:]
	}
	took := time.Duration(min(f.rng.ExpFloat64(), longest) * float64(f.s.Service))
	// A call ends within a tick: which one of the two is left to chance, so that
	// the mean stays what it is.
	ticks := int(float64(took)/float64(tick) + f.rng.Float64())
	if ticks > 0 {
		f.busy++
		f.ends[(i+ticks)%len(f.ends)]++
	}
	f.ended++
	f.took += took
}

// measure says what the shell would measure.
func (f *fleet) measure() autoscaler.Measurement {
	m := autoscaler.Measurement{Pending: uint64(f.waits), InHand: f.busy, Workers: f.workers(), Service: f.lastTook}
	m.Arrivals = float64(f.arrived) / (time.Duration(f.ticks) * tick).Seconds()
	if f.ended > 0 {
		m.Service = f.took / time.Duration(f.ended)
		f.lastTook = m.Service
	}
	f.arrived, f.ticks, f.ended, f.took = 0, 0, 0, 0
	return m
}

// scale starts workers, which are ready at a tick, or takes some away: those that
// start first. It returns how many that were ready have gone.
func (f *fleet) scale(want, readyAt int) (gone int) {
	for f.workers() < want {
		f.starting = append(f.starting, readyAt)
	}
	for f.workers() > want && len(f.starting) > 0 {
		f.starting = f.starting[:len(f.starting)-1]
	}
	gone = max(f.ready-want, 0)
	f.ready -= gone
	return gone
}

// age returns for how long a call of the given quantile waited.
func (f *fleet) age(q float64) time.Duration {
	total := 0
	for _, n := range f.ages {
		total += n
	}
	sum := 0
	for age, n := range f.ages {
		if sum += n; float64(sum) >= q*float64(total) {
			return time.Duration(age) * tick
		}
	}
	return 0
}

// poisson draws how many events happen where mean are expected: by Knuth's
// product for few, by the normal approximation for many.
func poisson(rng *rand.Rand, mean float64) int {
	if mean > 50 {
		return max(int(math.Round(mean+math.Sqrt(mean)*rng.NormFloat64())), 0)
	}
	limit, n := math.Exp(-mean), 0
	for p := rng.Float64(); p > limit; p *= rng.Float64() {
		n++
	}
	return n
}

func mean(values []int) float64 {
	sum := 0
	for _, v := range values {
		sum += v
	}
	return float64(sum) / float64(max(len(values), 1))
}
