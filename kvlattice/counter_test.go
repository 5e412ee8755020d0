package kvlattice_test

import (
	"maps"
	"math"
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/cloudburst-nats/cloudburst/kvlattice"
	"github.com/cloudburst-nats/cloudburst/kvlattice/latticetest"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// A call is one operation of the truth that all states of a counter come from.
type call struct {
	source, node string
	seq          uint64
}

// A truth says for each call what each of its runs brings: deltas[0] is the
// first attempt's. The last attempt is the one that counts.
type truth map[call][]int64

func newTruth(random *rand.Rand) truth {
	world := make(truth)
	for _, source := range []string{"calls@1", "calls@2", "odd|;,%\n"} {
		for seq := range uint64(6) {
			for _, node := range []string{"", "b", "é|"} {
				if random.IntN(3) == 0 {
					continue // this node of this call doesn't count
				}
				deltas := make([]int64, 1+random.IntN(3))
				for i := range deltas {
					deltas[i] = random.Int64N(21) - 10
				}
				world[call{source, node, seq + 1}] = deltas
			}
		}
	}
	return world
}

// A twin is the naive counter: the operations it has heard of, by the last
// attempt heard of, and up to where it knows everything.
type twin struct {
	world   truth
	seen    map[call]int
	settled map[string]uint64
}

func (w twin) merge(o twin) {
	for c, attempt := range o.seen {
		w.seen[c] = max(w.seen[c], attempt)
	}
	for source, watermark := range o.settled {
		w.settled[source] = max(w.settled[source], watermark)
	}
}

func (w twin) total() int64 {
	var sum int64
	for c, deltas := range w.world {
		if c.seq <= w.settled[c.source] {
			sum += deltas[len(deltas)-1]
		} else if attempt := w.seen[c]; attempt > 0 {
			sum += deltas[attempt-1]
		}
	}
	return sum
}

// state returns one of the states that the truth allows: a watermark per
// source with the true total, and any runs, also such as are settled.
func (world truth) state(random *rand.Rand) (*kvlattice.Counter, twin) {
	counter := kvlattice.NewCounter()
	w := twin{world, make(map[call]int), make(map[string]uint64)}
	for _, source := range []string{"calls@1", "calls@2", "odd|;,%\n"} {
		if random.IntN(2) == 0 {
			continue
		}
		var total int64
		watermark := random.Uint64N(7)
		for c, deltas := range world {
			if c.source == source && c.seq <= watermark {
				total += deltas[len(deltas)-1]
			}
		}
		w.settled[source] = watermark
		counter.AddTotal(source, watermark, total)
	}
	for c, deltas := range world {
		if random.IntN(4) == 0 {
			attempt := 1 + random.IntN(len(deltas))
			counter.AddOp(c.source, c.node, c.seq, attempt, deltas[attempt-1])
			w.seen[c] = max(w.seen[c], attempt)
		}
	}
	return counter, w
}

func TestCounterLaws(t *testing.T) {
	t.Parallel()
	world := newTruth(rand.New(rand.NewPCG(7, 8)))
	latticetest.Laws(t, "counter", func(random *rand.Rand) kvlattice.Lattice {
		counter, _ := world.state(random)
		return counter
	})
}

// TestCounterLawsOnAnyState takes states that contradict each other: what they
// count is nobody's truth, but all replicas must still agree on it.
func TestCounterLawsOnAnyState(t *testing.T) {
	t.Parallel()
	latticetest.Laws(t, "counter", func(random *rand.Rand) kvlattice.Lattice {
		counter := kvlattice.NewCounter()
		for range random.IntN(12) {
			source, delta := []string{"a", "b"}[random.IntN(2)], random.Int64N(5)-2
			if seq := random.Uint64N(6); random.IntN(4) == 0 {
				counter.AddTotal(source, seq, delta)
			} else {
				counter.AddOp(source, []string{"", "n"}[random.IntN(2)], seq, random.IntN(3), delta)
			}
		}
		return counter
	})
}

func TestCounterTwin(t *testing.T) {
	t.Parallel()
	for seed := range uint64(500) {
		random := rand.New(rand.NewPCG(seed, 9))
		world := newTruth(random)
		counter, w := world.state(random)
		for range 6 {
			if got, want := counter.Total(), w.total(); got != want {
				t.Fatalf("seed %d: counted %d, want %d\n%+v", seed, got, want, w)
			}
			other, otherTwin := world.state(random)
			merge(t, counter, other)
			w.merge(otherTwin)
		}
	}
}

// A cluster plays calls that are run, crash, are run again and are
// acknowledged, by workers that write slots, with a base that is compacted.
type cluster struct {
	random  *rand.Rand
	base    *kvlattice.Counter
	slots   map[int]*kvlattice.Counter // by worker, as stored
	zombies []func()                   // late writes of runs that were given up
	acked   map[uint64]int64           // what the acknowledged run brought
}

const clusterSource = "calls@1"

// play runs a call to its acknowledgement. A run that crashes has written its
// state, or will have after the call was run again.
func (c *cluster) play(seq uint64) {
	for attempt := 1; ; attempt++ {
		worker, delta := c.random.IntN(4), c.random.Int64N(9)-4
		write := func() {
			slot := c.slots[worker].Clone().(*kvlattice.Counter)
			slot.AddOp(clusterSource, "", seq, attempt, delta)
			c.slots[worker] = slot
		}
		switch {
		case attempt < 4 && c.random.IntN(4) == 0: // crashes after writing
			write()
		case attempt < 4 && c.random.IntN(4) == 0: // stalls, and writes much later
			c.zombies = append(c.zombies, write)
		default:
			write()
			if c.random.IntN(4) == 0 {
				write() // the acknowledgement of the write was lost
			}
			c.acked[seq] = delta
			return
		}
	}
}

func (c *cluster) read(t *testing.T) *kvlattice.Counter {
	t.Helper()
	joined := c.base.Clone().(*kvlattice.Counter)
	for _, slot := range c.slots {
		merge(t, joined, slot)
	}
	return joined
}

// floor is the consumer's ack floor: up to where every call is acknowledged.
func (c *cluster) floor() uint64 {
	var seq uint64
	for {
		if _, ok := c.acked[seq+1]; !ok {
			return seq
		}
		seq++
	}
}

func (c *cluster) compact(t *testing.T) {
	t.Helper()
	settled := c.floor() // before the snapshot
	joined := c.read(t)
	joined.Settle(clusterSource, settled)
	c.base = joined
	for worker := range c.slots {
		if c.random.IntN(2) == 0 { // a compaction may end half-way
			c.slots[worker] = kvlattice.NewCounter()
		}
	}
}

func TestCounterIsExactlyOnce(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		c := &cluster{
			random: rand.New(rand.NewPCG(seed, 10)), base: kvlattice.NewCounter(),
			slots: make(map[int]*kvlattice.Counter), acked: make(map[uint64]int64),
		}
		for worker := range 4 {
			c.slots[worker] = kvlattice.NewCounter()
		}
		const calls = 30
		for _, i := range c.random.Perm(calls) {
			c.play(uint64(i + 1))
			if c.random.IntN(5) == 0 {
				c.compact(t)
			}
		}
		c.compact(t)
		var want int64
		for _, delta := range c.acked {
			want += delta
		}
		if got := c.read(t).Total(); got != want {
			t.Fatalf("seed %d: counted %d, want %d", seed, got, want)
		}
		for _, write := range c.zombies {
			write()
		}
		if got := c.read(t).Total(); got != want {
			t.Fatalf("seed %d: late writes of zombies made %d of %d", seed, got, want)
		}
		if left := c.read(t).Unsettled(); len(left) > 0 {
			t.Fatalf("seed %d: %v is unsettled though every call is", seed, left)
		}
	}
}

func TestCounterOperations(t *testing.T) {
	t.Parallel()
	c := kvlattice.NewCounter()
	step := func(what string, want int64, do func()) {
		t.Helper()
		do()
		if got := c.Total(); got != want {
			t.Errorf("%s: total %d, want %d", what, got, want)
		}
	}
	step("first run", 5, func() { c.AddOp("s", "n", 3, 1, 5) })
	step("the same run again", 5, func() { c.AddOp("s", "n", 3, 1, 5) })
	step("the same run sums up", 2, func() { c.AddOp("s", "n", 3, 1, 2) })
	step("a second run of the call", 0, func() { c.AddOp("s", "n", 3, 2, 0) })
	step("the first run, late", 0, func() { c.AddOp("s", "n", 3, 1, 5) })
	step("another node", 7, func() { c.AddOp("s", "m", 3, 1, 7) })
	step("another source", 17, func() { c.AddOp("r", "n", 3, 1, 10) })
	step("number 0", 17, func() { c.AddOp("s", "n", 0, 1, 100); c.AddTotal("u", 0, 100) })
	step("a client's total", 18, func() { c.AddTotal("client", 1, 1) })
	step("its next", 21, func() { c.AddTotal("client", 2, 4) })
	step("an older one", 21, func() { c.AddTotal("client", 1, 1) })
	if got, want := c.Unsettled(), (map[string]int{"s": 2, "r": 1}); !maps.Equal(got, want) {
		t.Errorf("unsettled: got %v, want %v", got, want)
	}
	step("settled", 21, func() { c.Settle("s", 3) })
	step("an operation that is settled", 21, func() { c.AddOp("s", "n", 2, 9, 100) })
	step("settled less far", 21, func() { c.Settle("s", 1) })
	step("settled of an unknown source", 21, func() { c.Settle("unknown", 1) })
	if got, want := c.Unsettled(), (map[string]int{"r": 1}); !maps.Equal(got, want) {
		t.Errorf("unsettled: got %v, want %v", got, want)
	}
	if h, body := c.Encode(); wire.First(h, "Cb-Counter") != "client|2|4;r|0|0|n|3+10;s|3|7" || string(body) != "21" {
		t.Errorf("encoded as %v %s", h, body)
	}
}

func TestCounterHeaderIsSmall(t *testing.T) {
	t.Parallel()
	c := kvlattice.NewCounter()
	c.AddTotal("CB_CALLS_default@k3x9", 1_234_567_890, 987_654_321)
	for i := range uint64(64) {
		c.AddOp("CB_CALLS_default@k3x9", []string{"", "resize"}[i%2], 1_234_567_900+i*7, 1, int64(i))
	}
	h, _ := c.Encode()
	if n := len(wire.First(h, "Cb-Counter")); n > 512 {
		t.Errorf("64 operations take %d bytes of a header, want at most 512", n)
	}
}

func TestCounterTooLongForAHeader(t *testing.T) {
	t.Parallel()
	c := kvlattice.NewCounter()
	for i := range uint64(20_000) {
		c.AddOp("calls@1", "", 1+i*3, 1, 1)
	}
	h, body := c.Encode()
	if n := len(wire.First(h, "Cb-Counter")); n > 100 {
		t.Errorf("%d bytes of components in a header", n)
	}
	back, err := kvlattice.Decode(kvlattice.Entry{Header: h, Body: body})
	if err != nil {
		t.Fatal(err)
	}
	if merge(t, back, c) || merge(t, c, back) || string(back.Value().Body) != "20000" {
		t.Errorf("came back as %s, not as an equal counter", back.Value().Body)
	}
}

func TestCounterExtremes(t *testing.T) {
	t.Parallel()
	c := kvlattice.NewCounter()
	c.AddOp("s", "n", math.MaxUint64, math.MaxInt, math.MinInt64)
	c.AddOp("s", "n", 1, -1, math.MaxInt64)
	h, body := c.Encode()
	back, err := kvlattice.Decode(kvlattice.Entry{Header: h, Body: body})
	if err != nil {
		t.Fatalf("%v %s: %v", h, body, err)
	}
	if merge(t, back, c) || back.(*kvlattice.Counter).Total() != -1 {
		t.Errorf("came back as %s, want -1", back.Value().Body)
	}
}

func BenchmarkCounterAddOp(b *testing.B) {
	b.ReportAllocs()
	c := kvlattice.NewCounter()
	var seq uint64
	for b.Loop() {
		seq++
		c.AddOp("calls@1", "", seq, 1, 1)
		if seq%64 == 0 {
			c.Settle("calls@1", seq)
		}
	}
}

func BenchmarkCounterEncode(b *testing.B) {
	for _, n := range []int{1, 64} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			b.ReportAllocs()
			c := kvlattice.NewCounter()
			for i := range n {
				c.AddOp("calls@1", "", uint64(i+1), 1, 1)
			}
			for b.Loop() {
				c.Encode()
			}
		})
	}
}
