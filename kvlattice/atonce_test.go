package kvlattice_test

import (
	"encoding/json"
	"fmt"
	"sync"
	"testing"

	"github.com/cloudburst-nats/cloudburst/kvlattice"
	"github.com/cloudburst-nats/cloudburst/kvlattice/latticetest"
)

// Programs that write once and end leave no slots: not their own, nor those of programs
// that were killed.
func TestStoresThatNobodyRunsLeaveNoSlots(t *testing.T) {
	mem := latticetest.NewMemory()
	for i := range 20 { // killed before they folded
		e := kvlattice.Entry{Writer: fmt.Sprint("killed", i)}
		e.Header, e.Body = set(fmt.Sprint(i)).Encode()
		_, err := mem.PutSlot(t.Context(), "k", e)
		must(t, err)
	}
	for i := 20; i < 60; i++ {
		s := kvlattice.New(kvlattice.Config{Writer: fmt.Sprint("c", i), FoldAtOnce: true}, mem, nil)
		_, _, err := s.Read(t.Context(), "k", 0)
		must(t, err)
		mergeInto(t, s, "k", set(fmt.Sprint(i)))
		if n := len(stored(t, mem, "k").Slots); n > 0 {
			t.Fatalf("after program %d there are %d slots", i, n)
		}
	}
	l, err := stored(t, mem, "k").Join()
	must(t, err)
	if n := len(membersOf(t, l)); n != 60 {
		t.Errorf("%d elements are there, of 60", n)
	}
}

// Those that write at the same time lose nothing, and what they leave is folded by the next.
func TestStoresThatNobodyRunsFoldBesideEachOther(t *testing.T) {
	mem := latticetest.NewMemory()
	var all sync.WaitGroup
	for i := range 40 {
		all.Go(func() {
			s := kvlattice.New(kvlattice.Config{Writer: fmt.Sprint("c", i), FoldAtOnce: true}, mem, nil)
			for j := range 5 {
				if _, err := s.Merge(t.Context(), "k", set(fmt.Sprint(100*i+j))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	s := kvlattice.New(kvlattice.Config{Writer: "last", FoldAtOnce: true}, mem, nil)
	l, _, err := s.Read(t.Context(), "k", 0)
	must(t, err)
	if n := len(membersOf(t, l)); n != 200 {
		t.Errorf("%d elements are there, of 200", n)
	}
	if n := len(stored(t, mem, "k").Slots); n > 8 {
		t.Errorf("%d slots are left", n)
	}
}

func membersOf(t *testing.T, l kvlattice.Lattice) (list []json.RawMessage) {
	t.Helper()
	must(t, json.Unmarshal(l.Value().Body, &list))
	return list
}
