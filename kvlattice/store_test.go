package kvlattice_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudburst-nats/cloudburst/kvlattice"
	"github.com/cloudburst-nats/cloudburst/kvlattice/latticetest"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// start runs a store on the bucket until the test ends, or stop is called:
// that returns what Run returned. It is used inside a synctest bubble.
func start(t *testing.T, cfg kvlattice.Config, mem *latticetest.Memory) (s *kvlattice.Store, feed *latticetest.Feed, stop func() error) {
	t.Helper()
	feed = mem.Feed()
	s = kvlattice.New(cfg, mem, feed)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	synctest.Wait()
	stopped := false
	stop = func() error {
		cancel()
		if stopped {
			return nil
		}
		stopped = true
		return <-ended
	}
	t.Cleanup(func() { cancel() })
	return s, feed, stop
}

// rest lets every store of the bubble do what it does when nobody writes.
func rest() {
	<-time.After(5 * time.Minute)
	synctest.Wait()
}

func val(s string) wire.Value { return wire.Value{Body: []byte(s)} }

func wantValue(t *testing.T, s *kvlattice.Store, key, want string) {
	t.Helper()
	v, found, err := s.Get(t.Context(), key)
	if err != nil || !found || string(v.Body) != want {
		t.Errorf("Get(%q) = %q, %v, %v; want %q", key, v.Body, found, err, want)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func stored(t *testing.T, mem *latticetest.Memory, key string) kvlattice.Snapshot {
	t.Helper()
	snap, err := mem.Read(context.Background(), key, 0)
	must(t, err)
	return snap
}

func op(source string, seq uint64, attempt int, delta int64) kvlattice.Lattice {
	c := kvlattice.NewCounter()
	c.AddOp(source, "", seq, attempt, delta)
	return c
}

func set(elements ...string) kvlattice.Lattice {
	s := kvlattice.NewSet()
	for _, e := range elements {
		if _, err := s.Add(json.RawMessage(e)); err != nil {
			panic(err)
		}
	}
	return s
}

func TestQuietKeyIsOneWriteToTheBase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := latticetest.NewMemory()
		s, _, stop := start(t, kvlattice.Config{Writer: "w1"}, mem)
		must(t, s.Put(t.Context(), "k", val("1")))
		must(t, s.Put(t.Context(), "k", val("2")))
		if n := mem.Ops(); n != 2 {
			t.Errorf("two writes took %d operations", n)
		}
		snap := stored(t, mem, "k")
		if snap.Base == nil || string(snap.Base.Body) != "2" || len(snap.Slots) != 0 {
			t.Errorf("stored: %+v; want 2 in the base and no slot", snap)
		}
		wantValue(t, s, "k", "2")
		must(t, stop())
	})
}

func TestWriteOfKeyThatExistsReadsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := latticetest.NewMemory()
		a, _, _ := start(t, kvlattice.Config{Writer: "a"}, mem)
		b, _, _ := start(t, kvlattice.Config{Writer: "b"}, mem)
		mergeInto(t, a, "k", set("1"))
		mergeInto(t, b, "k", set("2")) // stale, read, put
		mergeInto(t, b, "k", set("3")) // put
		if n := mem.Ops(); n != 5 {
			t.Errorf("took %d operations, want 5", n)
		}
		if snap := stored(t, mem, "k"); string(snap.Base.Body) != "[1,2,3]" || len(snap.Slots) != 0 {
			t.Errorf("stored: %+v", snap)
		}
		if _, err := b.Merge(t.Context(), "k", set("1")); err != nil || mem.Ops() != 6 { // the test's own read
			t.Errorf("writing what is there: %v, %d operations", err, mem.Ops())
		}
	})
}

func TestReadsAreServedFromMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := latticetest.NewMemory()
		mem.Put("hand", kvlattice.Entry{Body: []byte("5")})
		s, _, _ := start(t, kvlattice.Config{Writer: "w"}, mem)
		for range 3 {
			wantValue(t, s, "hand", "5")
			if _, found, err := s.Get(t.Context(), "none"); found || err != nil {
				t.Errorf("absent key: %v, %v", found, err)
			}
		}
		if n := mem.Ops(); n != 2 {
			t.Errorf("six reads of two keys took %d operations, want 2", n)
		}
		// Another's write arrives, also where there was nothing.
		other := kvlattice.New(kvlattice.Config{Writer: "o"}, mem, nil)
		must(t, other.Put(t.Context(), "none", val("6")))
		synctest.Wait()
		before := mem.Ops()
		wantValue(t, s, "none", "6")
		must(t, other.Delete(t.Context(), "none"))
		synctest.Wait()
		if _, found, _ := s.Get(t.Context(), "none"); found {
			t.Error("a deleted key is found")
		}
		if n := mem.Ops() - before; n != 3 { // Delete's own two reads and its put
			t.Errorf("reads of a cached key took %d operations", n-3)
		}
		if st := s.Stats(); st.Misses != 2 || st.Hits != 6 || st.Entries != 2 {
			t.Errorf("stats: %+v", st)
		}
	})
}

func TestConcurrentMissesReadOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := latticetest.NewMemory()
		mem.Put("k", kvlattice.Entry{Body: []byte("5")})
		gate := &gated{Memory: mem, pass: make(chan struct{})}
		s := kvlattice.New(kvlattice.Config{Writer: "w"}, gate, mem.Feed())
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx) }()
		synctest.Wait()
		got := make(chan string, 10)
		for range cap(got) {
			go func() {
				v, _, _ := s.Get(ctx, "k")
				got <- string(v.Body)
			}()
		}
		synctest.Wait()
		close(gate.pass)
		for range cap(got) {
			if v := <-got; v != "5" {
				t.Errorf("got %q", v)
			}
		}
		if n := mem.Ops(); n != 1 {
			t.Errorf("%d reads, want 1", n)
		}
		cancel()
		must(t, <-ended)
	})
}

// gated holds every read and slot write until pass allows it.
type gated struct {
	*latticetest.Memory
	pass chan struct{}
}

func (g *gated) Read(ctx context.Context, key string, after uint64) (kvlattice.Snapshot, error) {
	<-g.pass
	return g.Memory.Read(ctx, key, after)
}

func (g *gated) PutBase(ctx context.Context, key string, e kvlattice.Entry, rev uint64) (uint64, error) {
	select {
	case <-g.pass:
		return g.Memory.PutBase(ctx, key, e, rev)
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

func TestWritersOfOneKeyShareAPublish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := latticetest.NewMemory()
		gate := &gated{Memory: mem, pass: make(chan struct{}, 2)}
		s := kvlattice.New(kvlattice.Config{Writer: "w"}, gate, mem.Feed())
		errs := make(chan error, 101)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx) }()
		synctest.Wait()
		for i := range cap(errs) {
			go func() { errs <- merged(s.Merge(t.Context(), "n", op("s", uint64(i+1), 1, 1))) }()
			if i == 0 {
				synctest.Wait() // the first is under way, the others wait together
			}
		}
		synctest.Wait()
		gate.pass <- struct{}{}
		gate.pass <- struct{}{}
		for range cap(errs) {
			must(t, <-errs)
		}
		if st := s.Stats(); st.BaseWrites != 2 || st.SharedWrites != 99 {
			t.Errorf("101 writers: %+v; want 2 publishes", st)
		}
		if snap := stored(t, mem, "n"); string(snap.Base.Body) != "101" {
			t.Errorf("counted %s", snap.Base.Body)
		}
		cancel()
		must(t, <-ended)
	})
}

func TestWriterThatGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := latticetest.NewMemory()
		gate := &gated{Memory: mem, pass: make(chan struct{})}
		s := kvlattice.New(kvlattice.Config{Writer: "w"}, gate, mem.Feed())
		run, end := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(run) }()
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		first := make(chan error, 1)
		go func() { first <- s.Put(ctx, "k", val("1")) }()
		synctest.Wait()
		second := make(chan error, 1)
		go func() { second <- s.Put(t.Context(), "k", val("2")) }()
		synctest.Wait()
		cancel() // nobody else waits for the first write: it ends
		if err := <-first; !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled write: %v", err)
		}
		gate.pass <- struct{}{}
		must(t, <-second)
		if snap := stored(t, mem, "k"); string(snap.Base.Body) != "2" {
			t.Errorf("stored %s", snap.Base.Body)
		}
		end()
		must(t, <-ended)
	})
}

func TestKeyReplacedByHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := latticetest.NewMemory()
		s, feed, _ := start(t, kvlattice.Config{Writer: "w"}, mem)
		mergeInto(t, s, "n", op("s", 1, 1, 7))
		wantValue(t, s, "n", "7")
		mem.Put("n", kvlattice.Entry{Body: []byte("hello")})
		synctest.Wait()
		wantValue(t, s, "n", "hello")
		if _, err := s.Merge(t.Context(), "n", op("s", 2, 1, 1)); wire.KindOf(err) != wire.KindLattice {
			t.Errorf("counting in a text: %v", err)
		}
		// Also where the update got lost.
		mergeInto(t, s, "o", set("1"))
		wantValue(t, s, "o", "[1]")
		feed.Hold()
		mem.Put("o", kvlattice.Entry{Body: []byte("hello")})
		feed.Drop()
		feed.Release()
		synctest.Wait()
		wantValue(t, s, "o", "hello")
		// Where slots hold the counter still, it is an error until that is resolved.
		mergeInto(t, s, "m", op("s", 1, 1, 7))
		_, err := mem.PutSlot(t.Context(), "m", kvlattice.Entry{Writer: "x", Header: stored(t, mem, "m").Base.Header, Body: []byte("7")})
		must(t, err)
		mem.Put("m", kvlattice.Entry{Body: []byte("hello")})
		synctest.Wait()
		for range 2 {
			if _, _, err := s.Get(t.Context(), "m"); wire.KindOf(err) != wire.KindLattice {
				t.Errorf("a text and a counter: %v", err)
			}
		}
		mem.Put("m", kvlattice.Entry{Header: wire.Header{kvlattice.HeaderOperation: {"DEL"}}})
		synctest.Wait()
		wantValue(t, s, "m", "7")
		mergeInto(t, s, "m", op("s", 2, 1, 1))
		wantValue(t, s, "m", "8")
	})
}

func TestStoreWithoutFeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := latticetest.NewMemory()
		a := kvlattice.New(kvlattice.Config{Writer: "a"}, mem, nil)
		b := kvlattice.New(kvlattice.Config{Writer: "b"}, mem, nil)
		mergeInto(t, a, "s", set("1"))
		mergeInto(t, b, "s", set("2"))
		wantValue(t, a, "s", "[1,2]")
		must(t, b.Put(t.Context(), "k", val("x")))
		wantValue(t, a, "k", "x")
		must(t, a.Fold(t.Context()))
		if st := a.Stats(); st.Entries != 0 || st.Bytes != 0 {
			t.Errorf("a store without a feed remembers: %+v", st)
		}
		readOnly := kvlattice.New(kvlattice.Config{}, mem, nil)
		wantValue(t, readOnly, "k", "x")
		if err := readOnly.Put(t.Context(), "k", val("y")); wire.KindOf(err) != wire.KindBadArgument {
			t.Errorf("write without a name: %v", err)
		}
	})
}

func TestStampIsAfterWhatAClockAheadWrote(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := latticetest.NewMemory()
		ahead := kvlattice.NewClock(func() time.Time { return time.Now().Add(time.Hour) })
		a := kvlattice.New(kvlattice.Config{Writer: "a", Clock: ahead}, mem, nil)
		must(t, a.Put(t.Context(), "k", val("1")))
		b, _, _ := start(t, kvlattice.Config{Writer: "b"}, mem)
		wantValue(t, b, "k", "1")
		must(t, b.Put(t.Context(), "k", val("2")))
		wantValue(t, b, "k", "2")
		wantValue(t, a, "k", "2")
	})
}

// merged drops a revision.
func merged(_ uint64, err error) error { return err }

func mergeInto(t *testing.T, s *kvlattice.Store, key string, delta kvlattice.Lattice) {
	t.Helper()
	must(t, merged(s.Merge(t.Context(), key, delta)))
}
