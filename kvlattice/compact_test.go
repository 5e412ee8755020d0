package kvlattice_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudburst-nats/cloudburst/kvlattice"
	"github.com/cloudburst-nats/cloudburst/kvlattice/latticetest"
)

// crowd makes a key of which nobody's writes go to the base: another has a slot.
func crowd(t *testing.T, mem *latticetest.Memory, key string, l kvlattice.Lattice) {
	t.Helper()
	e := kvlattice.Entry{Writer: "other"}
	e.Header, e.Body = l.Encode()
	_, err := mem.PutSlot(t.Context(), key, e)
	must(t, err)
}

func TestRestingSlotIsFolded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := latticetest.NewMemory()
		s, _, stop := start(t, kvlattice.Config{Writer: "w"}, mem)
		crowd(t, mem, "k", set("0"))
		wantValue(t, s, "k", "[0]")
		mergeInto(t, s, "k", set("1"))
		if snap := stored(t, mem, "k"); snap.Base != nil || len(snap.Slots) != 2 {
			t.Fatalf("stored %+v; want two slots", snap)
		}
		rest()
		if snap := stored(t, mem, "k"); string(snap.Base.Body) != "[0,1]" || len(snap.Slots) != 0 {
			t.Errorf("stored %+v; want all in the base", snap)
		}
		must(t, stop())
	})
}

func TestReaderFoldsManySlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := latticetest.NewMemory()
		for i := range 9 {
			e := kvlattice.Entry{Writer: fmt.Sprint("gone", i)}
			e.Header, e.Body = set(fmt.Sprint(i)).Encode()
			_, err := mem.PutSlot(t.Context(), "k", e)
			must(t, err)
		}
		s, _, _ := start(t, kvlattice.Config{Writer: "w", CompactSlots: 8}, mem)
		wantValue(t, s, "k", "[0,1,2,3,4,5,6,7,8]")
		rest()
		if snap := stored(t, mem, "k"); snap.Base == nil || len(snap.Slots) != 0 {
			t.Errorf("stored %+v; want all in the base", snap)
		}
	})
}

func TestLargeSlotIsFoldedByItsWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := latticetest.NewMemory()
		s, _, _ := start(t, kvlattice.Config{Writer: "w", Idle: time.Hour}, mem)
		crowd(t, mem, "k", set("0"))
		wantValue(t, s, "k", "[0]")
		long := make([]byte, 1000)
		for i := range 100 {
			for j := range long {
				long[j] = 'a' + byte(rand.IntN(26))
			}
			mergeInto(t, s, "k", set(fmt.Sprintf(`"%s"`, long)))
			for _, slot := range stored(t, mem, "k").Slots {
				if len(slot.Body) > 20<<10 {
					t.Fatalf("write %d: a slot of %d bytes", i, len(slot.Body))
				}
			}
		}
		if l, _, err := s.Read(t.Context(), "k", 0); err != nil || l.(*kvlattice.Set).Len() != 101 {
			t.Errorf("read: %v", err)
		}
	})
}

// A write that timed out may arrive after later ones: it must not take the
// place of what they were acknowledged.
func TestLateSlotWriteOverwritesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := latticetest.NewMemory()
		s, _, stop := start(t, kvlattice.Config{Writer: "w"}, mem)
		crowd(t, mem, "k", set("0"))
		wantValue(t, s, "k", "[0]")
		mergeInto(t, s, "k", set("1"))
		mem.Fault(func(latticetest.Op) latticetest.Outcome { return latticetest.Late })
		if _, err := s.Merge(t.Context(), "k", set("2")); err == nil {
			t.Fatal("a lost write was acknowledged")
		}
		mem.Fault(nil)
		mergeInto(t, s, "k", set("3"))
		mem.Arrive()
		fresh := kvlattice.New(kvlattice.Config{}, mem, nil)
		wantValue(t, fresh, "k", "[0,1,2,3]")
		must(t, stop())
		if snap := stored(t, mem, "k"); string(snap.Base.Body) != "[0,1,2,3]" || len(snap.Slots) != 0 {
			t.Errorf("stored %+v; want all in the base", snap)
		}
	})
}

// Writes go on while another store folds: what it saw is purged, what is newer stays.
func TestWriteDuringAnothersFoldIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := latticetest.NewMemory()
		a, _, _ := start(t, kvlattice.Config{Writer: "a", Idle: time.Hour}, mem)
		crowd(t, mem, "k", set("0"))
		wantValue(t, a, "k", "[0]")
		mergeInto(t, a, "k", set("1"))
		b := kvlattice.New(kvlattice.Config{Writer: "b", Idle: time.Hour}, mem, nil)
		mergeInto(t, b, "k", set("2"))
		writing := false
		mem.Fault(func(o latticetest.Op) latticetest.Outcome {
			if o.Name == "put base" && !writing { // between b's read and its base
				writing = true
				go func() { must(t, merged(a.Merge(context.Background(), "k", set("3")))) }()
				return latticetest.Fails
			}
			return latticetest.Works
		})
		if err := b.Fold(t.Context()); err == nil {
			t.Fatal("the injected fault is missing")
		}
		synctest.Wait()
		must(t, b.Fold(t.Context()))
		mergeInto(t, a, "k", set("4")) // a's slot was purged meanwhile
		fresh := kvlattice.New(kvlattice.Config{}, mem, nil)
		wantValue(t, fresh, "k", "[0,1,2,3,4]")
		wantValue(t, a, "k", "[0,1,2,3,4]")
		must(t, a.Fold(t.Context()))
		if snap := stored(t, mem, "k"); len(snap.Slots) != 0 {
			t.Errorf("slots left: %+v", snap.Slots)
		}
	})
}

// A worker stalls after its write and before it acknowledges the call. The call
// runs again elsewhere, is settled and forgotten; then the worker goes on.
func TestZombieCountsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := latticetest.NewMemory()
		var settled atomic.Uint64
		cfg := kvlattice.Config{Writer: "zombie", Settled: func(context.Context, string) (uint64, error) { return settled.Load(), nil }}
		zombie, feed, _ := start(t, cfg, mem)
		crowd(t, mem, "n", op("calls", 100, 1, 1000))
		wantValue(t, zombie, "n", "1000")
		mem.Fault(func(latticetest.Op) latticetest.Outcome { return latticetest.Late })
		if _, err := zombie.Merge(t.Context(), "n", op("calls", 7, 1, 5)); err == nil {
			t.Fatal("the injected fault is missing")
		}
		mem.Fault(nil)
		feed.Hold() // it hears nothing of the others

		cfg.Writer = "healthy"
		healthy, _, _ := start(t, cfg, mem)
		mergeInto(t, healthy, "n", op("calls", 7, 2, 6))
		settled.Store(50)
		rest()
		c, _, err := healthy.Read(t.Context(), "n", 0)
		must(t, err)
		if n := c.(*kvlattice.Counter).Unsettled()["calls"]; n != 1 || c.(*kvlattice.Counter).Total() != 1006 {
			t.Errorf("%d operations unsettled, total %s; want 1 (number 100), 1006", n, c.Value().Body)
		}
		mem.Arrive()
		mergeInto(t, zombie, "n", op("calls", 7, 1, 5))
		feed.Release()
		rest()
		for name, s := range map[string]*kvlattice.Store{
			"zombie": zombie, "healthy": healthy, "fresh": kvlattice.New(kvlattice.Config{}, mem, nil),
		} {
			if v, _, err := s.Get(t.Context(), "n"); err != nil || string(v.Body) != "1006" {
				t.Errorf("%s counts %s, %v; want 1006", name, v.Body, err)
			}
		}
	})
}

// A replica that lags may not show operations of calls that are settled: they
// must not be left out of the total.
func TestLaggingReplicaDoesNotSettle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := latticetest.NewMemory()
		var settled atomic.Uint64
		cfg := kvlattice.Config{Writer: "a", Settled: func(context.Context, string) (uint64, error) { return settled.Load(), nil }}
		a := kvlattice.New(cfg, mem, nil)
		crowd(t, mem, "n", op("calls", 1, 1, 1))
		mergeInto(t, a, "n", op("calls", 2, 1, 10))
		cfg.Writer = "b"
		b := kvlattice.New(cfg, mem, nil)
		mergeInto(t, b, "n", op("calls", 3, 1, 100))
		settled.Store(3)
		mem.Lag(1) // a doesn't see b's slot
		must(t, a.Fold(t.Context()))
		mem.Lag(0)
		wantValue(t, kvlattice.New(kvlattice.Config{}, mem, nil), "n", "111")
	})
}

func TestFailedFoldIsTriedAgain(t *testing.T) {
	for _, name := range []string{"read", "put base", "purge slot"} {
		for _, outcome := range []latticetest.Outcome{latticetest.Fails, latticetest.Stores} {
			synctest.Test(t, func(t *testing.T) {
				mem := latticetest.NewMemory()
				s, _, stop := start(t, kvlattice.Config{Writer: "w"}, mem)
				crowd(t, mem, "k", set("0"))
				wantValue(t, s, "k", "[0]")
				mergeInto(t, s, "k", set("1"))
				failed := 0
				mem.Fault(func(o latticetest.Op) latticetest.Outcome {
					if o.Name == name && failed < 3 {
						failed++
						return outcome
					}
					return latticetest.Works
				})
				rest()
				snap := stored(t, mem, "k")
				if snap.Base == nil || string(snap.Base.Body) != "[0,1]" || len(snap.Slots) != 0 || failed == 0 {
					t.Errorf("%s, outcome %d: stored %+v after %d faults", name, outcome, snap, failed)
				}
				must(t, stop())
			})
		}
	}
}

// A hot counter with a single writer stays small, although nothing rests.
func TestHotCounterStaysSmall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := latticetest.NewMemory()
		var done atomic.Uint64
		cfg := kvlattice.Config{Writer: "w", Settled: func(context.Context, string) (uint64, error) { return done.Load(), nil }}
		s, _, stop := start(t, cfg, mem)
		largest := 0
		for i := range uint64(5000) {
			mergeInto(t, s, "n", op("calls", i+1, 1, 1))
			done.Store(i + 1)
			snap := stored(t, mem, "n")
			for _, e := range append(snap.Slots, *snap.Base) {
				for _, v := range e.Header[kvlattice.HeaderCounter] {
					largest = max(largest, len(v)+len(e.Body))
				}
			}
		}
		if largest > 40<<10 {
			t.Errorf("an element grew to %d bytes", largest)
		}
		wantValue(t, s, "n", "5000")
		must(t, stop())
		wantValue(t, kvlattice.New(kvlattice.Config{}, mem, nil), "n", "5000")
	})
}
