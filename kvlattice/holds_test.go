package kvlattice_test

import (
	"strings"
	"testing"
	"testing/synctest"

	"github.com/cloudburst-nats/cloudburst/kvlattice"
	"github.com/cloudburst-nats/cloudburst/kvlattice/latticetest"
)

// Holds is asked about many keys at a time: it reads nothing and keeps nothing.
func TestHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := latticetest.NewMemory()
		s, _, stop := start(t, kvlattice.Config{Writer: "w", CacheBytes: 10_000}, mem)
		writer, _, stopWriter := start(t, kvlattice.Config{Writer: "x"}, mem)
		must(t, writer.Put(t.Context(), "k", val("1")))
		rest()
		if s.Holds("k") {
			t.Error("holds a key that was never read")
		}
		wantValue(t, s, "k", "1")
		if !s.Holds("k") {
			t.Error("doesn't hold a key that was read")
		}
		must(t, writer.Put(t.Context(), "k", val("2")))
		synctest.Wait()
		if !s.Holds("k") {
			t.Error("doesn't hold a key that it follows, since it was written")
		}
		for _, key := range []string{"a", "b", "c", "d"} { // more than there is room for
			must(t, writer.Put(t.Context(), key, val(strings.Repeat("x", 5000))))
			rest()
			_, _, err := s.Get(t.Context(), key)
			must(t, err)
		}
		if s.Holds("k") {
			t.Error("holds a key that was evicted")
		}
		must(t, stop())
		must(t, stopWriter())
	})
}
