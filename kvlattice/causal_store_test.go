package kvlattice_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudburst-nats/cloudburst/kvlattice"
	"github.com/cloudburst-nats/cloudburst/kvlattice/latticetest"
)

// A worker that no longer has the key reads it from a replica that lags behind
// the worker's own last write. The next write hasn't seen that one: both stay.
func TestLaggingReplicaLosesNoConcurrentWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, lag := range []int{0, 1} {
			mem := latticetest.NewMemory()
			s, _, stop := start(t, kvlattice.Config{Writer: "w", CacheBytes: 1}, mem) // which keeps nothing
			overwrite := func(key, v string) {
				_, err := s.Merge(t.Context(), key, kvlattice.NewOverwrite(nil, val(v), nil))
				must(t, err)
			}
			overwrite("k", "1")
			overwrite("other", "0")
			mem.Lag(lag)
			overwrite("k", "2")
			mem.Lag(0)
			l, err := stored(t, mem, "k").Join()
			must(t, err)
			if got := shown(l.(*kvlattice.Causal)); !slices.Equal(got, []string{"2", "1"}) {
				t.Errorf("a lag of %d: stored %v, want both writes", lag, got)
			}
			must(t, stop())
		}
	})
}

// Workers that write a key one after another never need a slot. Their clock must
// not grow with every worker that there ever was.
func TestQuietKeyForgetsWritersThatAreGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := latticetest.NewMemory()
		for i := range 100 {
			s, _, stop := start(t, kvlattice.Config{Writer: fmt.Sprint("w", i)}, mem)
			for n := range 3 {
				v, err := s.View(t.Context(), "k", 0)
				must(t, err)
				_, err = s.Merge(t.Context(), "k", kvlattice.NewOverwrite(v.Seen, val(fmt.Sprint(n)), nil))
				must(t, err)
				wait(t.Context(), 3*time.Minute)
			}
			must(t, stop())
		}
		l, err := stored(t, mem, "k").Join()
		must(t, err)
		if clock := l.(*kvlattice.Causal).Clock(); clock.Len() > 20 {
			t.Errorf("the clock remembers %d writers, each of which wrote alone for nine minutes", clock.Len())
		}
	})
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
