package kvlattice_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/cloudburst-nats/cloudburst/kvlattice"
	"github.com/cloudburst-nats/cloudburst/kvlattice/latticetest"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// both is what a commit writes in these tests.
func both() map[string]kvlattice.Lattice {
	return map[string]kvlattice.Lattice{"a": set("1"), "b": set("2")}
}

func commit(t *testing.T, s *kvlattice.Store, record string) error {
	t.Helper()
	_, err := s.Commit(t.Context(), record, kvlattice.Record{Value: wire.Value{Body: []byte("7")}}, both())
	return err
}

// committing fails all commits with an outcome from now on.
func committing(mem *latticetest.Memory, outcome latticetest.Outcome) {
	mem.Fault(func(op latticetest.Op) latticetest.Outcome {
		if op.Name == "commit" {
			return outcome
		}
		return latticetest.Works
	})
}

func wantNothing(t *testing.T, s *kvlattice.Store, keys ...string) {
	t.Helper()
	for _, key := range keys {
		if v, found, err := s.Get(t.Context(), key); err != nil || found {
			t.Errorf("%s is %s (%v), want nothing", key, v.Body, err)
		}
	}
}

func TestCommitStoresAllOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := latticetest.NewMemory()
		s, _, stop := start(t, kvlattice.Config{Writer: "w"}, mem)
		mergeInto(t, s, "a", set("0"))
		must(t, commit(t, s, "r"))
		wantValue(t, s, "a", "[0,1]")
		wantValue(t, s, "b", "[2]")
		if r, found, err := s.Recorded(t.Context(), "r"); err != nil || !found || string(r.Value.Body) != "7" {
			t.Errorf("the record is %s, %v, %v", r.Value.Body, found, err)
		}
		if err := commit(t, s, "r"); !errors.Is(err, kvlattice.ErrCommitted) {
			t.Errorf("the second commit: %v", err)
		}
		must(t, stop())
		fresh := kvlattice.New(kvlattice.Config{}, mem, nil)
		wantValue(t, fresh, "a", "[0,1]")
		wantValue(t, fresh, "b", "[2]")
	})
}

// What a commit that was refused would have written is never shown nor stored: not by
// a fold, and not with the next write of the key.
func TestRefusedCommitLeavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := latticetest.NewMemory()
		s, _, stop := start(t, kvlattice.Config{Writer: "w"}, mem)
		mergeInto(t, s, "a", set("0"))
		committing(mem, latticetest.Fails)
		if err := commit(t, s, "r"); err == nil {
			t.Fatal("a refused commit succeeded")
		}
		wantValue(t, s, "a", "[0]")
		wantNothing(t, s, "b")
		mergeInto(t, s, "a", set("3"))
		rest()
		must(t, s.Fold(t.Context()))
		must(t, stop())
		fresh := kvlattice.New(kvlattice.Config{}, mem, nil)
		wantValue(t, fresh, "a", "[0,3]")
		wantNothing(t, fresh, "b")
	})
}

// A commit whose acknowledgement was lost, or that is stored later, is not lost: not
// to a fold that hasn't seen it, and not to the next write of the key.
func TestCommitThatMayBeStoredIsKept(t *testing.T) {
	for _, outcome := range []latticetest.Outcome{latticetest.Stores, latticetest.Late} {
		for _, fold := range []bool{false, true} {
			for lag := range 3 {
				synctest.Test(t, func(t *testing.T) {
					mem := latticetest.NewMemory()
					s, _, stop := start(t, kvlattice.Config{Writer: "w"}, mem)
					mergeInto(t, s, "a", set("0"))
					committing(mem, outcome)
					if err := commit(t, s, "r"); err == nil {
						t.Fatal("a commit without an answer succeeded")
					}
					committing(mem, latticetest.Works)
					mem.Lag(lag)
					if fold {
						must(t, s.Fold(t.Context()))
					}
					mergeInto(t, s, "a", set("3"))
					mem.Arrive()
					mem.Lag(0)
					rest()
					must(t, stop())
					fresh := kvlattice.New(kvlattice.Config{}, mem, nil)
					wantValue(t, fresh, "a", "[0,1,3]")
					wantValue(t, fresh, "b", "[2]")
				})
			}
		}
	}
}

// A meddler does something while a commit is on its way, and then refuses it.
type meddler struct {
	*latticetest.Memory
	meddle func()
}

func (m *meddler) Commit(context.Context, string, kvlattice.Record, []kvlattice.KeySlot) (uint64, error) {
	m.meddle()
	return 0, latticetest.ErrInjected
}

func TestCommitOnItsWayIsShownToNobody(t *testing.T) {
	mem := &meddler{Memory: latticetest.NewMemory()}
	s := kvlattice.New(kvlattice.Config{Writer: "w"}, mem, nil)
	meddled := false
	mem.meddle = func() {
		meddled = true
		wantNothing(t, s, "a", "b")
	}
	if err := commit(t, s, "r"); err == nil || !meddled {
		t.Errorf("the commit: %v", err)
	}
	wantNothing(t, s, "a", "b")
}
