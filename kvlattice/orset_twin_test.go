package kvlattice_test

import (
	"encoding/json"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cloudburst-nats/cloudburst/kvlattice"
)

// A naiveSet remembers every tag that was ever added or removed.
type naiveSet struct{ added, removed map[adding]bool }

type adding struct {
	tag     kvlattice.Tag
	element string
}

func newNaive() naiveSet { return naiveSet{make(map[adding]bool), make(map[adding]bool)} }

func (n naiveSet) merge(o naiveSet) {
	maps.Copy(n.added, o.added)
	maps.Copy(n.removed, o.removed)
}

func (n naiveSet) clone() naiveSet { return naiveSet{maps.Clone(n.added), maps.Clone(n.removed)} }

func (n naiveSet) present(element string) []adding {
	var present []adding
	for a := range n.added {
		if a.element == element && !n.removed[a] {
			present = append(present, a)
		}
	}
	return present
}

func (n naiveSet) String() string {
	in := make(map[string]bool)
	for a := range n.added {
		if !n.removed[a] {
			in[a.element] = true
		}
	}
	return "[" + strings.Join(slices.Sorted(maps.Keys(in)), ",") + "]"
}

// An orCluster plays calls that add and remove, crash, are run again and end, by
// workers that read the base and some slots, and write slots. Each state has its
// naive twin.
type orCluster struct {
	random  *rand.Rand
	slots   [4]*kvlattice.ORSet // the first is the base
	twins   [4]naiveSet
	cached  *kvlattice.ORSet // an old base
	past    naiveSet
	late    []func() // writes that arrive after their call was run again, or ended
	running []uint64
	last    uint64
}

func newORCluster(seed uint64) *orCluster {
	c := &orCluster{random: rand.New(rand.NewPCG(seed, 1))}
	for i := range c.slots {
		c.slots[i], c.twins[i] = kvlattice.NewORSet(), newNaive()
	}
	c.cached, c.past = kvlattice.NewORSet(), newNaive()
	return c
}

// view returns what a worker sees: an old base that it has cached, which the
// base is merged into, its own slot and maybe others.
func (c *orCluster) view(t *testing.T, worker int) (*kvlattice.ORSet, naiveSet) {
	t.Helper()
	s, twin := c.cached.Clone().(*kvlattice.ORSet), c.past.clone()
	for i := range c.slots {
		if i == 0 || i == worker || c.random.IntN(2) == 0 {
			merge(t, s, c.slots[i])
			twin.merge(c.twins[i])
		}
	}
	return s, twin
}

// run runs a call once and returns what stores its effect.
func (c *orCluster) run(t *testing.T, seq uint64, again bool) (write func()) {
	t.Helper()
	worker := 1 + c.random.IntN(len(c.slots)-1)
	seen, twin := c.view(t, worker)
	delta, naive := kvlattice.NewORSet(), newNaive()
	of := rand.New(rand.NewPCG(seq, 2)) // a call does the same each time it runs
	for n := range uint32(1 + of.IntN(2)) {
		element := []string{"1", "2", `"x"`}[of.IntN(3)]
		tag := kvlattice.Tag{Source: "calls@1", Seq: seq, N: n}
		switch of.IntN(5) {
		case 0, 1:
			removal, has := seen.Removal(json.RawMessage(element))
			if has != (len(twin.present(element)) > 0) {
				t.Fatalf("removing %s from %s says it was there: %t", element, twin, has)
			}
			merge(t, delta, removal)
			for _, a := range twin.present(element) {
				naive.removed[a] = true
			}
		case 2:
			if !again {
				renewal, err := seen.Renewal(tag, json.RawMessage(element))
				if err != nil {
					t.Fatal(err)
				}
				merge(t, delta, renewal)
				for _, a := range twin.present(element) {
					naive.removed[a] = true
				}
				naive.added[adding{tag, element}] = true
				break
			}
			fallthrough
		default:
			addTo(delta, tag, element)
			naive.added[adding{tag, element}] = true
		}
	}
	return func() {
		merge(t, c.slots[worker], delta)
		c.twins[worker].merge(naive)
	}
}

func (c *orCluster) step(t *testing.T) {
	t.Helper()
	switch c.random.IntN(6) {
	case 0, 1: // a call begins
		c.last++
		c.running = append(c.running, c.last)
		if write := c.run(t, c.last, false); c.random.IntN(2) == 0 {
			write() // and crashes before it ends
		} else {
			c.late = append(c.late, write)
		}
	case 2, 3: // one runs again, and ends once all is stored
		if len(c.running) > 0 {
			i := c.random.IntN(len(c.running))
			c.run(t, c.running[i], true)()
			c.running = slices.Delete(c.running, i, i+1)
		}
	case 4:
		if len(c.late) > 0 {
			i := c.random.IntN(len(c.late))
			c.late[i]()
			c.late = slices.Delete(c.late, i, i+1)
		}
	default:
		c.fold(t)
	}
}

// fold joins all slots into the base, and settles what has ended.
func (c *orCluster) fold(t *testing.T) {
	t.Helper()
	if c.random.IntN(3) == 0 {
		c.cached, c.past = c.slots[0].Clone().(*kvlattice.ORSet), c.twins[0].clone()
	}
	floor := c.last
	for _, seq := range c.running {
		floor = min(floor, seq-1)
	}
	for i := range c.slots {
		merge(t, c.slots[0], c.slots[i])
		c.twins[0].merge(c.twins[i])
		if i > 0 && c.random.IntN(2) == 0 {
			c.slots[i], c.twins[i] = kvlattice.NewORSet(), newNaive()
		}
	}
	for source := range c.slots[0].Unsettled() {
		c.slots[0].Settle(source, floor)
	}
}

// TestORSetTwin checks the set against one that forgets nothing.
func TestORSetTwin(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		c := newORCluster(seed)
		for step := range 150 {
			c.step(t)
			s, twin := c.view(t, 0)
			got := make([]string, 0, s.Len())
			for element := range s.All() {
				got = append(got, string(element))
				if !s.Has(element) {
					t.Fatalf("seed %d, step %d: %s is in %s, but Has says it isn't", seed, step, element, members(s))
				}
			}
			if want := twin.String(); members(s) != want || len(got) != s.Len() || "["+strings.Join(got, ",")+"]" != want {
				t.Fatalf("seed %d, step %d: got %s, All %v, Len %d, want %s", seed, step, members(s), got, s.Len(), want)
			}
		}
		c.running = nil
		c.fold(t)
		c.fold(t)
		if n := c.slots[0].Unsettled(); len(n) > 0 {
			t.Fatalf("seed %d: %v removed tags are left once all calls have ended", seed, n)
		}
	}
}
