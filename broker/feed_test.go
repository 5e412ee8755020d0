package broker

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/cloudburst-nats/cloudburst/kvlattice"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// listen returns the updates that a bucket's listener is told of.
func (k *Bucket) listen(t *testing.T) <-chan kvlattice.Update {
	t.Helper()
	updates := make(chan kvlattice.Update, 10_000)
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := k.Listen(ctx, func(u kvlattice.Update) { updates <- u }); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		stop()
		running.Wait()
	})
	return updates
}

func next(t *testing.T, updates <-chan kvlattice.Update) kvlattice.Update {
	t.Helper()
	select {
	case u := <-updates:
		return u
	case <-time.After(time.Minute):
		t.Fatal("no update came")
		return kvlattice.Update{}
	}
}

func TestFeedTellsOfFollowedKeys(t *testing.T) {
	k := openBucket(t)
	other, err := k.b.OpenBucket(t.Context(), "state")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time changes nothing
		for _, key := range []string{"a b", "k"} {
			if err := k.Follow(key); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := k.Follow(""); wire.KindOf(err) != wire.KindBadName {
		t.Errorf("Follow of an empty key: %v", err)
	}
	rev := other.base(t, "k", "early", 0) // kept for the listener
	updates := k.listen(t)
	if u := next(t, updates); u.Lost || u.Key != "k" || string(u.Entry.Body) != "early" || u.Entry.Rev != rev || u.Entry.Writer != "" {
		t.Errorf("a base: %+v", u)
	}
	other.base(t, "k.below", "x", 0) // not followed
	slot := other.slot(t, "a b", "w1", "v")
	u := next(t, updates)
	if u.Key != "a b" || u.Entry.Writer != "w1" || string(u.Entry.Body) != "v" || u.Entry.Rev != slot || wire.First(u.Entry.Header, "Cb-Kind") != "set" {
		t.Errorf("a slot: %+v", u)
	}
	if age := time.Since(u.Entry.At); age < 0 || age > time.Minute {
		t.Errorf("a slot stored at %v", u.Entry.At)
	}
	large := strings.Repeat("0123456789", 100_000)
	rev = other.base(t, "k", large, rev)
	if u := next(t, updates); u.Key != "k" || string(u.Entry.Body) != large || u.Entry.Rev != rev {
		t.Errorf("a large value: %d bytes at %d, lost: %v", len(u.Entry.Body), u.Entry.Rev, u.Lost)
	}
	kv, err := k.b.js.KeyValue(t.Context(), "state")
	if err != nil {
		t.Fatal(err)
	}
	if err := kv.Delete(t.Context(), "k"); err != nil {
		t.Fatal(err)
	}
	if u := next(t, updates); u.Key != "k" || wire.First(u.Entry.Header, "KV-Operation") != "DEL" {
		t.Errorf("a deletion by hand: %+v", u)
	}
	for range 2 {
		if err := k.Unfollow("a b"); err != nil {
			t.Error(err)
		}
	}
	other.slot(t, "a b", "w1", "unheard")
	other.slot(t, "k", "w2", "heard")
	if u := next(t, updates); u.Key != "k" || string(u.Entry.Body) != "heard" {
		t.Errorf("after Unfollow: %+v", u)
	}
}

// What is written after Follow returned is read, or told.
func TestFeedMissesNothing(t *testing.T) {
	k := openBucket(t)
	updates := k.listen(t)
	const keys = 200
	written := make(map[string]uint64, keys)
	var mu sync.Mutex
	var writer sync.WaitGroup
	writer.Go(func() {
		for i := range keys {
			key := fmt.Sprint("k", i)
			rev := k.base(t, key, "v", 0)
			mu.Lock()
			written[key] = rev
			mu.Unlock()
		}
	})
	seen := make(map[string]uint64, keys)
	for i := range keys {
		key := fmt.Sprint("k", i)
		if err := k.Follow(key); err != nil {
			t.Fatal(err)
		}
		if snap := k.read(t, key); snap.Base != nil {
			seen[key] = snap.Base.Rev
		}
	}
	writer.Wait()
	for len(seen) < keys {
		u := next(t, updates)
		seen[u.Key] = u.Entry.Rev
	}
	for key, rev := range written {
		if seen[key] != rev {
			t.Errorf("%s: saw revision %d, want %d", key, seen[key], rev)
		}
	}
}

func TestFeedSaysWhatItMayHaveLost(t *testing.T) {
	s := startServer(t, ServerConfig{Listen: "none"})
	k, err := connect(t, s, Topology{}).OpenBucket(t.Context(), "state")
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Follow("k"); err != nil {
		t.Fatal(err)
	}
	updates := k.listen(t)
	s.Shutdown()
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if u := next(t, updates); !u.Lost {
		t.Errorf("after a reconnect: %+v, want Lost", u)
	}
	k.base(t, "k", "after", 0) // the subscriptions are back
	if u := next(t, updates); u.Lost || string(u.Entry.Body) != "after" {
		t.Errorf("a write after that: %+v", u)
	}
}

func TestFeedSaysWhenItOverflows(t *testing.T) {
	k := openBucket(t)
	k.updates = make(chan *nats.Msg, 8)
	if err := k.Follow("k"); err != nil {
		t.Fatal(err)
	}
	other := connectTo(t, k)
	for i := range 50 {
		other.slot(t, "k", "w", fmt.Sprint(i))
	}
	if err := k.b.nc.Flush(); err != nil { // all that came is in the queue, or dropped
		t.Fatal(err)
	}
	updates := k.listen(t)
	if u := next(t, updates); !u.Lost {
		t.Errorf("after 50 updates in a queue of 8: %+v, want Lost", u)
	}
	other.slot(t, "k", "w", "later")
	if u := next(t, updates); u.Lost || string(u.Entry.Body) != "later" {
		t.Errorf("a write after that: %+v", u)
	}
}

// connectTo opens the bucket again.
func connectTo(t *testing.T, k *Bucket) *Bucket {
	t.Helper()
	other, err := k.b.OpenBucket(t.Context(), k.ns)
	if err != nil {
		t.Fatal(err)
	}
	return other
}
