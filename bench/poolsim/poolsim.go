// Package poolsim simulates a pool whose calls refer to keys, to measure how often placement
// finds a key in a cache. It needs no server and no clock.
package poolsim

import (
	"cmp"
	"container/heap"
	"container/list"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/cloudburst-nats/cloudburst/workers/placement"
)

// A Simulation is a pool that is called with references by Zipf's law while workers
// come and die. Fields at zero take their defaults.
type Simulation struct {
	Seed    uint64
	Workers int     // default 1000
	Slots   int     // of each; default 16
	Keys    int     // default 100,000
	Zipf    float64 // exponent; default 1.0
	Refs    int     // in each call; default 1
	Cache   int     // how many keys a worker's cache holds; default 500
	Calls   int     // that are counted; default 300,000
	Warm    int     // calls before those; default 1,500,000
	Load    float64 // share of the slots that is busy if every call hits; default 0.3
	Hit     time.Duration
	Miss    time.Duration // how long a call runs that finds its keys, and more for each that it doesn't; defaults 200 ms and 100 ms
	Churn   time.Duration // how often a worker dies, and another comes; default 1 s
	Off     bool          // calls stay where they were pulled
}

// An Outcome is what became of the counted calls of a simulation.
type Outcome struct {
	Hits    float64 `json:"hits"`    // share of references found in the cache
	Spread  float64 `json:"spread"`  // the busiest worker's load to the mean
	Handed  float64 `json:"handed"`  // share of calls that ran on another worker than pulled them
	Refused float64 `json:"refused"` // share of calls that were refused once at least
	Deaths  int     `json:"deaths"`
}

func (s Simulation) withDefaults() Simulation {
	s.Workers, s.Slots, s.Keys = cmp.Or(s.Workers, 1000), cmp.Or(s.Slots, 16), cmp.Or(s.Keys, 100_000)
	s.Zipf, s.Refs, s.Cache = cmp.Or(s.Zipf, 1), cmp.Or(s.Refs, 1), cmp.Or(s.Cache, 500)
	s.Calls, s.Warm, s.Load = cmp.Or(s.Calls, 300_000), cmp.Or(s.Warm, 1_500_000), cmp.Or(s.Load, 0.3)
	s.Hit, s.Miss, s.Churn = cmp.Or(s.Hit, 200*time.Millisecond), cmp.Or(s.Miss, 100*time.Millisecond), cmp.Or(s.Churn, time.Second)
	return s
}

// Run simulates. All workers decide by one view, which is as old as their summaries
// are; unlike a real one, none of them remembers what it handed over or was refused
// since. Whoever hands over is refused by a worker without room, asks another (Tries), and
// then runs the call itself.
func (s Simulation) Run() Outcome {
	s = s.withDefaults()
	sim := &simulation{Simulation: s, rng: rand.New(rand.NewPCG(s.Seed, 1)), view: placement.NewView(simObserver)}
	sim.zipf = NewZipf(s.Keys, s.Zipf)
	for range s.Workers {
		sim.join()
	}
	between := float64(s.Hit) / (s.Load * float64(s.Workers*s.Slots))
	next := sim.now
	churn := s.Churn
	for call := range s.Warm + s.Calls {
		if call == s.Warm {
			sim.start()
		}
		next += time.Duration(sim.rng.ExpFloat64() * between)
		for len(sim.events) > 0 && sim.events[0].at <= next {
			sim.happen(heap.Pop(&sim.events).(event)) //nolint:errcheck,forcetypeassert // it holds nothing else
		}
		sim.now = next
		if sim.now >= churn {
			churn += s.Churn
			sim.die()
			sim.join()
		}
		sim.call()
	}
	return sim.end(s.Calls)
}

// simObserver is whose view the simulated workers share. It takes no calls.
const simObserver = "observer"

type simulation struct {
	Simulation
	rng     *rand.Rand
	zipf    *Zipf
	view    *placement.View
	now     time.Duration
	events  events
	named   int
	workers []*simWorker // alive
	byName  map[string]*simWorker

	began                       time.Duration
	refs, hits, handed, refused int
	deaths                      int
	retired                     []float64 // loads of workers that are dead
}

type simWorker struct {
	name   string
	place  int // in workers
	dead   bool
	busy   int
	load   time.Duration // time in slots
	since  time.Duration // that load is counted from
	teller *placement.Teller
	keys   map[int]*list.Element // of int
	recent list.List
}

// has says whether a key is in the cache, by the name that the teller has of it.
func (w *simWorker) has(_, key string) bool {
	k, err := strconv.Atoi(key)
	return err == nil && w.keys[k] != nil
}

func (s *simulation) join() {
	s.named++
	w := &simWorker{name: "w" + strconv.Itoa(s.named), place: len(s.workers), since: s.now, keys: make(map[int]*list.Element)}
	w.teller = placement.NewTeller(w.name)
	if s.byName == nil {
		s.byName = make(map[string]*simWorker)
	}
	s.workers = append(s.workers, w)
	s.byName[w.name] = w
	if !s.Off {
		s.tell(w)
	}
}

func (s *simulation) die() {
	w := s.workers[s.rng.IntN(len(s.workers))]
	w.dead = true
	s.deaths++
	s.retire(w)
	last := s.workers[len(s.workers)-1]
	s.workers[w.place], last.place = last, w.place
	s.workers = s.workers[:len(s.workers)-1]
	delete(s.byName, w.name)
	// Who hands it a call finds nobody there; a worker that is handed none is missed
	// later. The view is everybody's, so the first one tells all.
}

func (s *simulation) retire(w *simWorker) {
	if lived := s.now - w.since; lived > time.Second {
		s.retired = append(s.retired, float64(w.load)/float64(lived))
	}
}

// tell has a worker tell of itself, and again when it is time.
func (s *simulation) tell(w *simWorker) {
	epoch := time.Unix(0, 0)
	if sum, ok := w.teller.Tell(epoch.Add(s.now+time.Hour), s.Slots, w.busy, placement.Wants{Peers: s.Workers}, w.has); ok {
		s.view.Hear(epoch.Add(s.now), sum)
	}
	wait := placement.Every(s.Workers)
	heap.Push(&s.events, event{at: s.now + wait + time.Duration(s.rng.Int64N(int64(wait)/10)), w: w, tells: true})
}

func (s *simulation) happen(e event) {
	s.now = e.at
	switch {
	case e.w.dead:
	case e.tells:
		s.tell(e.w)
	default:
		e.w.busy--
	}
}

// call has a random worker with a free slot pull a call.
func (s *simulation) call() {
	at := s.workers[s.rng.IntN(len(s.workers))]
	for tries := 0; at.busy >= s.Slots && tries < 1000; tries++ {
		at = s.workers[s.rng.IntN(len(s.workers))]
	}
	keys := make([]int, s.Refs)
	refs := make([]placement.Key, s.Refs)
	for i := range keys {
		keys[i] = s.zipf.Draw(s.rng)
		refs[i] = placement.KeyOf("sim", strconv.Itoa(keys[i]))
	}
	s.run(s.place(at, refs), keys, refs)
}

func (s *simulation) place(at *simWorker, refs []placement.Key) *simWorker {
	if s.Off {
		return at
	}
	for try := range placement.Tries {
		name := s.view.Decide(at.name, refs)
		if name == at.name {
			return at
		}
		to := s.byName[name]
		switch {
		case to == nil:
			s.view.Gone(name)
			continue
		case to.busy < placement.Room(s.Slots):
			s.handed++
			return to
		}
		if try == 0 {
			s.refused++
		}
		s.view.Refused(name)
		defer s.view.Pardon(name) // others haven't heard it
	}
	return at
}

func (s *simulation) run(w *simWorker, keys []int, refs []placement.Key) {
	takes := s.Hit
	for i, k := range keys {
		s.refs++
		if e := w.keys[k]; e != nil {
			s.hits++
			w.recent.MoveToFront(e)
		} else {
			takes += s.Miss
			w.keys[k] = w.recent.PushFront(k)
			if w.recent.Len() > s.Cache {
				delete(w.keys, w.recent.Remove(w.recent.Back()).(int)) //nolint:errcheck,forcetypeassert // it holds nothing else
			}
		}
		if !s.Off {
			w.teller.Used(refs[i], "sim", strconv.Itoa(k), 1)
		}
	}
	w.busy++
	w.load += takes
	heap.Push(&s.events, event{at: s.now + takes, w: w})
}

// start counts from now on.
func (s *simulation) start() {
	s.began, s.refs, s.hits, s.handed, s.refused, s.deaths = s.now, 0, 0, 0, 0, 0
	s.retired = nil
	for _, w := range s.workers {
		w.load, w.since = 0, s.now
	}
}

func (s *simulation) end(calls int) Outcome {
	for _, w := range s.workers {
		s.retire(w)
	}
	sum := 0.0
	for _, l := range s.retired {
		sum += l
	}
	out := Outcome{
		Hits: float64(s.hits) / float64(s.refs), Deaths: s.deaths,
		Handed: float64(s.handed) / float64(calls), Refused: float64(s.refused) / float64(calls),
	}
	if sum > 0 {
		out.Spread = slices.Max(s.retired) * float64(len(s.retired)) / sum
	}
	return out
}

// An event is a call that ends, or a summary that is due.
type event struct {
	at    time.Duration
	w     *simWorker
	tells bool
}

type events []event

func (e events) Len() int           { return len(e) }
func (e events) Less(i, j int) bool { return e[i].at < e[j].at }
func (e events) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)        { *e = append(*e, x.(event)) } //nolint:errcheck,forcetypeassert // container/heap's shape
func (e *events) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

// Zipf draws numbers from 0 to n-1, the k-th with a probability in proportion to
// 1/(k+1)^s. Unlike the standard library's it takes the paper's exponent 1.0.
type Zipf struct{ upTo []float64 }

// NewZipf returns the distribution of n numbers.
func NewZipf(n int, s float64) *Zipf {
	z := &Zipf{upTo: make([]float64, n)}
	sum := 0.0
	for k := range z.upTo {
		sum += math.Pow(float64(k+1), -s)
		z.upTo[k] = sum
	}
	return z
}

// Draw returns the next number.
func (z *Zipf) Draw(rng *rand.Rand) int {
	k, _ := slices.BinarySearch(z.upTo, rng.Float64()*z.upTo[len(z.upTo)-1])
	return min(k, len(z.upTo)-1)
}
