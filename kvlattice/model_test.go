package kvlattice_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudburst-nats/cloudburst/kvlattice"
	"github.com/cloudburst-nats/cloudburst/kvlattice/latticetest"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// A model is what the keys must hold in the end: the join of all that was
// written, which each client repeats until it is acknowledged.
type model struct {
	mu      sync.Mutex
	sums    map[string]int64 // counters
	sets    map[string]kvlattice.Lattice
	lww     map[string]kvlattice.Lattice
	next    uint64          // number of the last call
	ended   map[uint64]bool // calls that are acknowledged
	settled uint64
	late    bool // writes that failed may arrive at any time
}

func (m *model) call() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.next++
	return m.next
}

func (m *model) end(call uint64, key string, delta int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sums[key] += delta
	m.ended[call] = true
	for m.ended[m.settled+1] {
		m.settled++
	}
}

func (m *model) floor(context.Context, string) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.settled, nil
}

func (m *model) join(to map[string]kvlattice.Lattice, key string, l kvlattice.Lattice) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if to[key] == nil {
		to[key] = l.Clone()
	} else if _, err := to[key].Merge(l); err != nil {
		panic(err)
	}
}

func (m *model) want(key string) string {
	switch key[0] {
	case 'n':
		return strconv.FormatInt(m.sums[key], 10)
	case 's':
		return string(m.sets[key].Value().Body)
	default:
		return string(m.lww[key].Value().Body)
	}
}

// A client writes and reads random keys through its store.
type client struct {
	*model
	t      *testing.T
	name   string
	random *rand.Rand
	store  *kvlattice.Store
	peer   *kvlattice.Store // where calls are run again
	seen   map[string]kvlattice.Lattice
	keys   int
}

func (c *client) step(ctx context.Context, i int) {
	n := c.random.IntN(c.keys)
	switch c.random.IntN(10) {
	case 0, 1:
		c.count(ctx, fmt.Sprint("n", n))
	case 2, 3:
		key, add := fmt.Sprint("s", n), set(fmt.Sprint(c.random.IntN(60)), fmt.Sprintf("%q", c.name+strconv.Itoa(i/4)))
		c.join(c.sets, key, add)
		c.insist(ctx, c.store, key, add)
	case 4, 5:
		key := fmt.Sprint("r", n)
		size := 1 + c.random.IntN(20)*c.random.IntN(20)
		put := kvlattice.NewLWW(wire.Value{Body: []byte(fmt.Sprintf(`"%s %d%s"`, c.name, i, strings.Repeat(".", size)))}, c.store.Stamp(key), c.name)
		c.join(c.lww, key, put)
		c.insist(ctx, c.store, key, put)
	default:
		c.read(ctx, string("nsr"[c.random.IntN(3)])+strconv.Itoa(n))
	}
	if c.random.IntN(20) == 0 {
		<-time.After(time.Duration(c.random.IntN(int(time.Second))))
	}
}

// count makes a call that increments; some are run twice, by two workers, and
// the first of them may come to life again at any time.
func (c *client) count(ctx context.Context, key string) {
	call, delta := c.call(), int64(c.random.IntN(9)-3)
	if c.random.IntN(4) > 0 {
		c.insist(ctx, c.store, key, op("calls", call, 1, delta))
		c.end(call, key, delta)
		return
	}
	first := op("calls", call, 1, delta)
	_, _ = c.store.Merge(ctx, key, first) // the worker dies, or seems to
	delta++
	c.insist(ctx, c.peer, key, op("calls", call, 2, delta))
	c.end(call, key, delta)
	if c.random.IntN(2) == 0 {
		<-time.After(time.Duration(c.random.IntN(int(time.Second))))
		_, _ = c.store.Merge(ctx, key, first)
	}
}

func (c *client) insist(ctx context.Context, s *kvlattice.Store, key string, l kvlattice.Lattice) {
	for range 1000 {
		if _, err := s.Merge(ctx, key, l); err == nil {
			return
		}
	}
	c.t.Errorf("writing %s failed a thousand times", key)
}

// read checks that a store never goes back, and shows its own writes.
func (c *client) read(ctx context.Context, key string) {
	now, _, err := c.store.Read(ctx, key, 0)
	if err != nil {
		return
	}
	if before := c.seen[key]; before != nil {
		if now == nil {
			c.t.Errorf("%s: %s is gone", c.name, key)
			return
		}
		joined := now.Clone()
		if back, err := joined.Merge(before); err != nil || back {
			c.t.Errorf("%s: a read of %s went back from %s to %s (%v)", c.name, key, before.Value().Body, now.Value().Body, err)
		}
	}
	c.seen[key] = now
}

func faults(random *rand.Rand, rate float64, late bool) func(latticetest.Op) latticetest.Outcome {
	return func(latticetest.Op) latticetest.Outcome {
		if random.Float64() > rate {
			return latticetest.Works
		}
		outcomes := []latticetest.Outcome{latticetest.Fails, latticetest.Stores, latticetest.Late}
		if !late {
			outcomes = outcomes[:2]
		}
		return outcomes[random.IntN(len(outcomes))]
	}
}

// TestModel has many clients, on stores with faulty storage and feeds, do
// random things to few keys, and compares what all see in the end.
// LATTICE_SEED in the environment repeats a run that failed, LATTICE_ROUNDS
// says how many runs there are.
func TestModel(t *testing.T) {
	seed, rounds := rand.Uint64(), uint64(40)
	if n, err := strconv.ParseUint(os.Getenv("LATTICE_ROUNDS"), 10, 64); err == nil {
		rounds = n
	}
	if again, err := strconv.ParseUint(os.Getenv("LATTICE_SEED"), 10, 64); err == nil {
		seed, rounds = again, 1
	}
	for round := range rounds {
		synctest.Test(t, func(t *testing.T) {
			runModel(t, seed+round)
			if t.Failed() {
				t.Logf("LATTICE_SEED=%d", seed+round)
			}
		})
		if t.Failed() {
			return
		}
	}
}

func runModel(t *testing.T, seed uint64) {
	t.Helper()
	random := rand.New(rand.NewPCG(seed, 0))
	mem := latticetest.NewMemory()
	m := &model{
		sums: map[string]int64{}, sets: map[string]kvlattice.Lattice{},
		lww: map[string]kvlattice.Lattice{}, ended: map[uint64]bool{},
	}
	m.late = random.IntN(3) == 0
	mem.Lag(random.IntN(4) * random.IntN(2))
	mem.Fault(faults(rand.New(rand.NewPCG(seed, 1)), 0.1*random.Float64(), m.late))
	clients := make([]*client, 2+random.IntN(3))
	feeds, stops := make([]*latticetest.Feed, len(clients)), make([]func() error, len(clients))
	for i := range clients {
		c := &client{
			model: m, t: t, name: fmt.Sprint("w", i), keys: 1 + random.IntN(4),
			random: rand.New(rand.NewPCG(seed, uint64(i+2))), seen: map[string]kvlattice.Lattice{},
		}
		cfg := kvlattice.Config{
			Writer: c.name, CompactSlots: 1 + random.IntN(4), Settled: m.floor,
			SmallBase: 100 << random.IntN(5), CacheBytes: 1 << (10 + random.IntN(10)),
		}
		c.store, feeds[i], stops[i] = start(t, cfg, mem)
		c.peer = c.store
		if i > 0 {
			c.peer = clients[i-1].store
		}
		clients[i] = c
	}
	var working sync.WaitGroup
	for _, c := range clients {
		for part := range 2 { // two at a time share a store
			own := *c
			own.seen = map[string]kvlattice.Lattice{}
			own.random = rand.New(rand.NewPCG(seed, uint64(c.random.Uint32())))
			working.Go(func() {
				for i := range 150 {
					own.step(t.Context(), i*2+part)
				}
			})
		}
	}
	working.Go(func() { disturb(random, feeds, mem) })
	working.Wait()
	settle(t, m, mem, clients, feeds, stops)
}

// disturb holds, drops and releases updates, and lets late writes arrive.
func disturb(random *rand.Rand, feeds []*latticetest.Feed, mem *latticetest.Memory) {
	for range 60 {
		<-time.After(time.Duration(random.IntN(int(300 * time.Millisecond))))
		switch f := feeds[random.IntN(len(feeds))]; random.IntN(4) {
		case 0:
			f.Hold()
		case 1:
			f.Drop()
		case 2:
			f.Release()
		default:
			mem.Arrive()
		}
	}
}

// settle ends the disturbance and compares.
func settle(t *testing.T, m *model, mem *latticetest.Memory, clients []*client, feeds []*latticetest.Feed, stops []func() error) {
	t.Helper()
	mem.Fault(nil)
	mem.Lag(0)
	mem.Arrive()
	for _, f := range feeds {
		f.Release()
	}
	rest()
	fresh := kvlattice.New(kvlattice.Config{}, mem, nil)
	for _, key := range mem.Keys() {
		want := m.want(key)
		for _, c := range clients {
			if v, _, err := c.store.Get(t.Context(), key); err != nil || string(v.Body) != want {
				t.Errorf("%s sees %s = %s (%v), want %s", c.name, key, v.Body, err, want)
			}
		}
		if v, _, err := fresh.Get(t.Context(), key); err != nil || string(v.Body) != want {
			t.Errorf("stored is %s = %s (%v), want %s", key, v.Body, err, want)
		}
	}
	for _, stop := range stops {
		must(t, stop())
	}
	for _, key := range mem.Keys() {
		snap := stored(t, mem, key)
		base, err := kvlattice.Snapshot{Base: snap.Base}.Join()
		must(t, err)
		if base == nil || string(base.Value().Body) != m.want(key) {
			t.Errorf("the base of %s isn't %s: %+v", key, m.want(key), snap)
		}
		if len(snap.Slots) > 0 && !m.late { // what arrived after its fold stays, and says nothing new
			t.Errorf("slots are left at %s: %+v", key, snap.Slots)
		}
	}
}
