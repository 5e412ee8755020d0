package kvlattice_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudburst-nats/cloudburst/kvlattice"
	"github.com/cloudburst-nats/cloudburst/kvlattice/latticetest"
)

func TestLostUpdatesAreReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := latticetest.NewMemory()
		a, feed, _ := start(t, kvlattice.Config{Writer: "a"}, mem)
		b, _, _ := start(t, kvlattice.Config{Writer: "b"}, mem)
		must(t, b.Put(t.Context(), "k", val("1")))
		wantValue(t, a, "k", "1")
		feed.Hold()
		must(t, b.Put(t.Context(), "k", val("2")))
		synctest.Wait()
		wantValue(t, a, "k", "1")
		feed.Drop()
		feed.Release()
		synctest.Wait()
		wantValue(t, a, "k", "2")
		if st := a.Stats(); st.Lost != 1 || st.Misses != 2 {
			t.Errorf("stats: %+v", st)
		}
	})
}

func TestCacheKeepsWithinItsBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := latticetest.NewMemory()
		const limit = 100 << 10
		s, feed, _ := start(t, kvlattice.Config{Writer: "w", CacheBytes: limit}, mem)
		body := make([]byte, 1000)
		for i := range 500 {
			mem.Put(fmt.Sprint("k", i), kvlattice.Entry{Body: body})
		}
		for i := range 500 {
			for _, key := range []string{fmt.Sprint("k", i), "k0"} {
				if _, found, err := s.Get(t.Context(), key); !found || err != nil {
					t.Fatal(key, found, err)
				}
			}
			if st := s.Stats(); st.Bytes > limit {
				t.Fatalf("%d bytes cached, %d allowed", st.Bytes, limit)
			}
		}
		st := s.Stats()
		if st.Entries < 50 || st.Evictions != st.Misses-uint64(st.Entries) || feed.Following() != int(st.Entries) {
			t.Errorf("stats: %+v, following %d", st, feed.Following())
		}
		if st.Misses > 505 { // the hand may find a full round of keys just used
			t.Errorf("%d misses of 500 keys: the one in use was evicted", st.Misses)
		}
	})
}

func TestEvictionLeavesUnfoldedWritesUntilTheyAreFolded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := latticetest.NewMemory()
		s, _, _ := start(t, kvlattice.Config{Writer: "w", CacheBytes: 1, SmallBase: 1}, mem)
		for i := range 100 {
			key := fmt.Sprint("k", i)
			mergeInto(t, s, key, set("1", "2", "3", "4", "5"))
			mergeInto(t, s, key, set("6")) // a slot: it is much less than the base
			wantValue(t, s, key, "[1,2,3,4,5,6]")
		}
		if st := s.Stats(); st.Unfolded == 0 {
			t.Errorf("stats: %+v; want slots", st)
		}
		rest()
		if st := s.Stats(); st.Unfolded != 0 || st.Bytes > 1 {
			t.Errorf("at rest: %+v", st)
		}
		for i := range 100 {
			if snap := stored(t, mem, fmt.Sprint("k", i)); len(snap.Slots) > 0 || string(snap.Base.Body) != "[1,2,3,4,5,6]" {
				t.Errorf("at rest: %+v", snap)
			}
		}
	})
}

// slowFeed holds every Unfollow until pass allows it.
type slowFeed struct {
	*latticetest.Feed
	pass chan struct{}
}

func (f slowFeed) Unfollow(key string) error {
	<-f.pass
	return f.Feed.Unfollow(key)
}

// A key that is wanted again while it is being evicted is followed again.
func TestReadDuringEvictionKeepsFollowing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := latticetest.NewMemory()
		feed := slowFeed{mem.Feed(), make(chan struct{})}
		gate := &gated{Memory: mem, pass: make(chan struct{}, 2)}
		gate.pass <- struct{}{}
		gate.pass <- struct{}{}
		s := kvlattice.New(kvlattice.Config{Writer: "w", CacheBytes: 800}, gate, feed) // one key fits, not two
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx) }()
		synctest.Wait()
		mem.Put("a", kvlattice.Entry{Body: []byte("1")})
		mem.Put("b", kvlattice.Entry{Body: []byte("2")})
		wantValue(t, s, "a", "1")
		read := make(chan struct{}, 2)
		for _, key := range []string{"b", "a"} {
			go func() {
				_, _, _ = s.Get(ctx, key)
				read <- struct{}{}
			}()
			synctest.Wait() // b evicts a; then a is wanted again
		}
		close(feed.pass)
		synctest.Wait()
		close(gate.pass)
		<-read
		<-read
		mem.Put("a", kvlattice.Entry{Body: []byte("3")})
		synctest.Wait()
		wantValue(t, s, "a", "3")
		cancel()
		must(t, <-ended)
	})
}

func TestNothingIsCachedAfterRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := latticetest.NewMemory()
		s, _, stop := start(t, kvlattice.Config{Writer: "w"}, mem)
		must(t, s.Put(t.Context(), "k", val("1")))
		wantValue(t, s, "k", "1")
		must(t, stop())
		for _, v := range []string{"2", "3"} {
			must(t, kvlattice.New(kvlattice.Config{Writer: "o"}, mem, nil).Put(t.Context(), "k", val(v)))
			wantValue(t, s, "k", v)
		}
	})
}

// A write that was stored although its acknowledgement got lost shows here too.
func TestUnacknowledgedWriteIsReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := latticetest.NewMemory()
		s := kvlattice.New(kvlattice.Config{Writer: "w"}, slowAck{mem}, mem.Feed())
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx) }()
		synctest.Wait()
		must(t, s.Put(t.Context(), "k", val("1")))
		wantValue(t, s, "k", "1")
		mem.Fault(func(latticetest.Op) latticetest.Outcome { return latticetest.Stores })
		if err := s.Put(t.Context(), "k", val("2")); err == nil {
			t.Fatal("the injected fault is missing")
		}
		mem.Fault(nil)
		wantValue(t, s, "k", "2")
		cancel()
		must(t, <-ended)
	})
}

// slowAck acknowledges bases long after the feed told of them.
type slowAck struct{ *latticetest.Memory }

func (b slowAck) PutBase(ctx context.Context, key string, e kvlattice.Entry, rev uint64) (uint64, error) {
	rev, err := b.Memory.PutBase(ctx, key, e, rev)
	<-time.After(time.Second)
	return rev, err
}
