package autoscaler

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// A Scaler decides for one pool. It belongs to one goroutine at a time.
type Scaler struct {
	policy   Policy
	arrivals *window // calls a second
	service  *window // seconds
	inHand   *window // calls
	wants    *window // workers

	panicUntil time.Time
	called     time.Time // when there was last anything to do
	shrunk     time.Time // when it last decided for fewer
	measured   time.Time // the last measurement
	workers    int       // of it
	cost       float64
}

// NewScaler returns a scaler that has seen nothing yet.
func NewScaler(p Policy) *Scaler {
	p = p.WithDefaults()
	// Six steps a short window are those of a second by default.
	step := p.Panic / 6
	of := func() *window { return newWindow(p.Stable, step) }
	return &Scaler{policy: p, arrivals: of(), service: of(), inHand: of(), wants: of()}
}

// A Decision is how many workers a pool should have.
type Decision struct {
	Workers int
	Why     string // a sentence for people
	Panic   bool
}

// Decide takes one measurement and says how many workers there should be. now must
// not go back.
func (s *Scaler) Decide(now time.Time, m Measurement) Decision {
	p := s.policy
	s.count(now, m)
	if m.Pending > 0 || m.InHand > 0 || m.Arrivals > 0 || s.called.IsZero() {
		s.called = now
	}
	slots, why := s.slots(now, m)
	want := p.Workers(slots)
	if float64(want) >= p.Threshold*float64(max(m.Workers, 1)) {
		s.panicUntil = now.Add(p.Stable)
	}
	s.wants.add(now, float64(want))
	d := Decision{Workers: want, Why: why, Panic: now.Before(s.panicUntil)}
	switch {
	case want > m.Workers:
		if p.UpStep > 0 && want > m.Workers+p.UpStep && m.Workers >= p.Min {
			d.Workers = m.Workers + p.UpStep
			d.Why += fmt.Sprintf(", %d more at a time", p.UpStep)
		}
	case want < m.Workers:
		s.shrink(now, m, &d)
	}
	return d
}

// WorkerSeconds returns what the pool has cost since the first measurement.
func (s *Scaler) WorkerSeconds() float64 { return s.cost }

// count adds what the workers of the last measurement cost since.
func (s *Scaler) count(now time.Time, m Measurement) {
	if !s.measured.IsZero() && now.After(s.measured) {
		s.cost += float64(s.workers) * now.Sub(s.measured).Seconds()
	}
	s.measured, s.workers = now, max(m.Workers, 0)
}

// rate returns how many calls a second arrive, and over how long that was averaged:
// the panic window, or as much longer, up to the stable window, as it takes for
// enoughCalls to have come, and to have ended, since what few do is chance. What is
// no chance in a shorter time bounds it: of n calls, give or take 2·√n. So a burst of
// many shows within a second, and its end within the panic window.
func (s *Scaler) rate(now time.Time, takes time.Duration) (rate float64, over time.Duration) {
	p := s.policy
	over = min(max(p.Panic, 2*takes), p.Stable)
	for over < p.Stable && s.arrivals.average(now, over)*over.Seconds() < enoughCalls {
		over = min(2*over, p.Stable)
	}
	rate = s.arrivals.average(now, over)
	// The shortest comes last: it is the news.
	for span := over / 2; span >= p.Panic/6; span /= 2 {
		n := s.arrivals.average(now, span) * span.Seconds()
		chance := 2 * math.Sqrt(n)
		if span >= p.Panic && span >= takes {
			rate = min(rate, (n+chance+2)/span.Seconds())
		}
		rate = max(rate, (n-chance)/span.Seconds())
	}
	return rate, over
}

// enoughCalls have a standard deviation of 6 %.
const enoughCalls = 300

// serviceOver is how many times as long as arrivals their durations are averaged.
const serviceOver = 5

// slots returns how many slots are wanted now, and why.
func (s *Scaler) slots(now time.Time, m Measurement) (float64, string) {
	p := s.policy
	s.arrivals.add(now, max(m.Arrivals, 0))
	if m.Service > 0 {
		s.service.add(now, m.Service.Seconds())
	}
	s.inHand.add(now, float64(max(m.InHand, 0)))
	rate, over := s.rate(now, m.Service)
	// How long calls take changes less than how many there are: the mean of more of
	// them is less a matter of chance.
	service := s.service.average(now, min(serviceOver*over, p.Stable))
	load := rate * service
	// A call waits for a slot of its own if it takes longer than Drain, or nobody
	// knows how long it takes; the others take turns.
	each := 1.0
	if service > 0 {
		each = min(1, service/p.Drain.Seconds())
	}
	backlog := float64(m.Pending) * each
	busy := max(load, min(float64(m.InHand), s.inHand.average(now, over)))
	steady, catchUp := load/p.Target, busy+backlog
	arriving := fmt.Sprintf("calls that arrive keep %s", count(load, "slot"))
	switch {
	case m.Pending == 0 && catchUp > steady:
		return catchUp, fmt.Sprintf("calls in hand keep %s", count(busy, "slot"))
	case catchUp > steady:
		return catchUp, fmt.Sprintf("%s and %d waiting want %s for %v", strings.Replace(arriving, "keep", "want", 1), m.Pending, count(backlog, "more slot"), p.Drain)
	case load == 0:
		return steady, "nothing arrives"
	}
	return steady, fmt.Sprintf("%s busy, at %.0f %%", arriving, 100*p.Target)
}

// shrink bounds a decision for fewer workers than there are.
func (s *Scaler) shrink(now time.Time, m Measurement, d *Decision) {
	p := s.policy
	held := max(int(s.wants.most(now, p.Stable)), d.Workers)
	idle := p.Min == 0 && d.Workers == 0 && held == 0
	switch {
	case d.Panic:
		d.Workers, d.Why = m.Workers, fmt.Sprintf("%s, but it panics for another %v", d.Why, round(s.panicUntil.Sub(now)))
		return
	case now.Sub(s.shrunk) < p.Cooldown:
		d.Workers, d.Why = m.Workers, fmt.Sprintf("%s, but others went less than %v ago", d.Why, p.Cooldown)
		return
	case idle && now.Sub(s.called) < p.Idle:
		held = 1
		d.Why += fmt.Sprintf(", but the last call was less than %v ago", p.Idle)
	case held > d.Workers:
		d.Why += fmt.Sprintf(", but %s were wanted in the last %v", count(float64(held), "worker"), p.Stable)
	}
	d.Workers = min(held, m.Workers)
	if p.DownStep > 0 {
		d.Workers = max(d.Workers, m.Workers-p.DownStep)
	}
	if p.Max > 0 {
		d.Workers = min(d.Workers, p.Max)
	}
	if d.Workers < m.Workers {
		s.shrunk = now
	}
}

// count says how many there are of something, to a tenth.
func count(n float64, what string) string {
	text := fmt.Sprintf("%.1f %ss", n, what)
	if n == math.Trunc(n) {
		text = fmt.Sprintf("%.0f %ss", n, what)
	}
	if n == 1 {
		return text[:len(text)-1]
	}
	return text
}

func round(d time.Duration) time.Duration { return d.Round(time.Second) }
