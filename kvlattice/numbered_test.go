package kvlattice_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloudburst-nats/cloudburst/kvlattice"
	"github.com/cloudburst-nats/cloudburst/kvlattice/latticetest"
)

// program returns the store of a program that starts, does something, and ends.
func program(bucket kvlattice.Bucket, name string) *kvlattice.Store {
	return kvlattice.New(kvlattice.Config{Writer: name, FoldAtOnce: true, Timeout: time.Hour}, bucket, nil)
}

var operations atomic.Uint64

func count(delta int64) kvlattice.Lattice {
	c := kvlattice.NewCounter()
	c.AddOp(kvlattice.Unnumbered, "", operations.Add(1), 1, delta)
	return c
}

func grow(t *testing.T, delta int64) kvlattice.Lattice {
	t.Helper()
	g := kvlattice.NewGrow()
	must(t, g.AddOp(kvlattice.Unnumbered, "", operations.Add(1), 1, delta))
	return g
}

// include returns what adds an element, as a program that has read the set does.
func include(t *testing.T, s *kvlattice.Store, key, element string) kvlattice.Lattice {
	t.Helper()
	l, _, err := s.Read(t.Context(), key, 0)
	must(t, err)
	set, err := kvlattice.As(l, key, kvlattice.NewORSet())
	must(t, err)
	delta, err := set.Addition([]json.RawMessage{json.RawMessage(element)}, func() (kvlattice.Tag, bool) {
		return kvlattice.Tag{Source: kvlattice.Unnumbered, Seq: operations.Add(1)}, true
	})
	must(t, err)
	return delta
}

func exclude(t *testing.T, s *kvlattice.Store, key, element string) kvlattice.Lattice {
	t.Helper()
	l, _, err := s.Read(t.Context(), key, 0)
	must(t, err)
	set, err := kvlattice.As(l, key, kvlattice.NewORSet())
	must(t, err)
	delta, _, err := set.Removals([]json.RawMessage{json.RawMessage(element)})
	must(t, err)
	return delta
}

func inField(t *testing.T, field string, l kvlattice.Lattice) kvlattice.Lattice {
	t.Helper()
	m := kvlattice.NewMap()
	_, err := m.MergeField(field, l)
	must(t, err)
	return m
}

func valueOf(t *testing.T, mem *latticetest.Memory, key string) string {
	t.Helper()
	l, err := stored(t, mem, key).Join()
	must(t, err)
	if l == nil {
		return "nothing"
	}
	return string(l.Value().Body)
}

// A value is as large after hundreds of programs as after some dozens, whatever its kind.
func TestProgramsLeaveNothingInValues(t *testing.T) {
	mem := latticetest.NewMemory()
	size := func(key string) int {
		h, body := stored(t, mem, key).Base.Header, stored(t, mem, key).Base.Body
		n := len(body)
		for name, values := range h {
			n += len(name) + len(values[0])
		}
		return n
	}
	sizes := make(map[string]int)
	keys := []string{"counter", "gcounter", "orset", "map"}
	const few, many = 40, 120
	for i := 1; i <= many; i++ {
		s := program(mem, fmt.Sprint("c", i))
		mergeInto(t, s, "counter", count(2))
		mergeInto(t, s, "gcounter", grow(t, 2))
		mergeInto(t, s, "orset", include(t, s, "orset", `"x"`))
		mergeInto(t, s, "orset", exclude(t, s, "orset", `"x"`))
		mergeInto(t, s, "map", inField(t, "n", count(2)))
		if i == few || i == many {
			for _, key := range keys {
				if before := sizes[key]; before > 0 && size(key) > before+100 {
					t.Errorf("%s: %d B after %d programs, %d B after %d", key, before, few, size(key), many)
				}
				sizes[key] = size(key)
			}
		}
	}
	for key, want := range map[string]string{"counter": "240", "gcounter": "240", "orset": "[]", "map": `{"n":240}`} {
		if got := valueOf(t, mem, key); got != want {
			t.Errorf("%s is %s, want %s", key, got, want)
		}
		if n := len(stored(t, mem, key).Slots); n > 0 {
			t.Errorf("%s has %d slots", key, n)
		}
	}
}

// A write whose acknowledgement is lost, or that is stored late, has effect once.
func TestProgramsCountOnce(t *testing.T) {
	for _, outcome := range []latticetest.Outcome{latticetest.Fails, latticetest.Stores, latticetest.Late} {
		mem := latticetest.NewMemory()
		mergeInto(t, program(mem, "before"), "k", count(1))
		faults := 3
		mem.Fault(func(op latticetest.Op) latticetest.Outcome {
			if op.Name == "put base" && faults > 0 {
				faults--
				return outcome
			}
			return latticetest.Works
		})
		for i := range 4 {
			mergeInto(t, program(mem, fmt.Sprint("c", i)), "k", count(10))
			if i%2 == 0 {
				mem.Arrive()
			}
		}
		mem.Arrive()
		if got := valueOf(t, mem, "k"); got != "41" {
			t.Errorf("outcome %d: the counter is %s, want 41", outcome, got)
		}
	}
}

// A delayed bucket holds a write back, and has others come before it.
type delayed struct {
	kvlattice.Bucket
	before func() // nil: no more
	lost   bool   // the acknowledgement, and the delay comes after the write
}

func (d *delayed) PutBase(ctx context.Context, key string, e kvlattice.Entry, rev uint64) (uint64, error) {
	before := d.before
	d.before = nil
	if before == nil {
		return d.Bucket.PutBase(ctx, key, e, rev)
	}
	if !d.lost {
		before()
		return d.Bucket.PutBase(ctx, key, e, rev)
	}
	_, err := d.Bucket.PutBase(ctx, key, e, rev)
	before()
	return 0, errors.Join(errors.New("the acknowledgement is lost"), err)
}

// A program that is paused before its write, while others settle far more than what a value
// tells of one by one, neither loses it nor takes from others what it hadn't seen.
func TestAProgramThatIsPausedLosesNothing(t *testing.T) {
	const others = 100
	mem := latticetest.NewMemory()
	s := program(mem, "first")
	mergeInto(t, s, "set", include(t, s, "set", `"x"`))
	bucket := &delayed{Bucket: mem}
	paused := program(bucket, "paused")

	bucket.before = func() {
		for i := range others {
			mergeInto(t, program(mem, fmt.Sprint("c", i)), "k", count(1))
		}
	}
	mergeInto(t, paused, "k", count(1000))
	if got := valueOf(t, mem, "k"); got != fmt.Sprint(1000+others) {
		t.Errorf("the counter is %s, want %d", got, 1000+others)
	}

	addX := include(t, paused, "set", `"x"`)
	bucket.before = func() {
		for i := range others {
			s := program(mem, fmt.Sprint("c", i))
			mergeInto(t, s, "set", exclude(t, s, "set", `"x"`))
			mergeInto(t, s, "set", include(t, s, "set", fmt.Sprint(i)))
		}
	}
	mergeInto(t, paused, "set", addX)
	l, err := stored(t, mem, "set").Join()
	must(t, err)
	if set, ok := l.(*kvlattice.ORSet); !ok || !set.Has(json.RawMessage(`"x"`)) || set.Len() != others+1 {
		t.Errorf("the set is %s", l.Value().Body)
	}
}

// Where too much came between to tell whether a write was stored, it isn't written again, and
// the program hears of it.
func TestAProgramHearsOfDoubt(t *testing.T) {
	for _, others := range []int{1, 31, 32, 200} {
		mem := latticetest.NewMemory()
		bucket := &delayed{Bucket: mem, lost: true}
		bucket.before = func() {
			for i := range others {
				mergeInto(t, program(mem, fmt.Sprint("c", i)), "k", count(1))
			}
		}
		_, err := program(bucket, "paused").Merge(t.Context(), "k", count(1000))
		if tell := others < 32; (err == nil) != tell {
			t.Errorf("after %d other writes: %v", others, err)
		}
		if got := valueOf(t, mem, "k"); got != fmt.Sprint(1000+others) {
			t.Errorf("after %d other writes the counter is %s, want %d", others, got, 1000+others)
		}
	}
}

// Programs and workers write side by side, while acknowledgements are lost and writes come
// late: what was acknowledged counts once, and what wasn't once at most.
func TestProgramsBesideWorkers(t *testing.T) {
	for seed := range uint64(4) {
		mem := latticetest.NewMemory()
		random := rand.New(rand.NewPCG(seed, 1)) // guarded by the bucket
		mem.Fault(func(op latticetest.Op) latticetest.Outcome {
			if op.Name == "read" || random.IntN(8) > 0 {
				return latticetest.Works
			}
			return latticetest.Outcome(1 + random.IntN(3))
		})
		var surely, perhaps atomic.Int64
		var all sync.WaitGroup
		for i := range 4 {
			all.Go(func() {
				worker := kvlattice.New(kvlattice.Config{Writer: fmt.Sprint("w", i), Timeout: time.Hour}, mem, nil)
				for n := range 20 {
					c := kvlattice.NewCounter()
					c.AddOp("calls", fmt.Sprint("w", i), uint64(n+1), 1, 1)
					for try := 0; ; try++ { // as a call that is handed out again
						if _, err := worker.Merge(t.Context(), "k", c); err == nil || try > 1000 {
							break
						}
					}
					surely.Add(1)
					_ = worker.Fold(t.Context()) // what fails is folded later
				}
			})
			all.Go(func() {
				for n := range 20 {
					s := program(mem, fmt.Sprint("p", i, ".", n))
					if _, err := s.Merge(t.Context(), "k", count(1_000)); err != nil {
						perhaps.Add(1_000)
					} else {
						surely.Add(1_000)
					}
					mem.Arrive()
				}
			})
		}
		all.Wait()
		mem.Fault(nil)
		mem.Arrive()
		var got int64
		must(t, json.Unmarshal([]byte(valueOf(t, mem, "k")), &got))
		if least, most := surely.Load(), surely.Load()+perhaps.Load(); got < least || got > most {
			t.Errorf("seed %d: the counter is %d, want %d to %d", seed, got, least, most)
		}
		if perhaps.Load() > 20_000 {
			t.Errorf("seed %d: of %d nobody knows", seed, perhaps.Load())
		}
	}
}
