package broker

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// A read that must have seen a write has seen it, whoever answered. A mirror stands
// for a replica that lags: it keeps the sequences of what it mirrors.
func TestFencedReadsHoldWhereReplicasLag(t *testing.T) {
	k := openBucket(t)
	k.b.learn(Topology{Replicas: 3}) // it has company from here on
	const mirror = "KV_state_m1"
	_, err := k.b.js.CreateStream(t.Context(), jetstream.StreamConfig{
		Name: mirror, Storage: jetstream.MemoryStorage, MaxMsgsPerSubject: 1, AllowDirect: true, MirrorDirect: true,
		Mirror: &jetstream.StreamSource{Name: k.stream},
	})
	if err != nil {
		t.Fatal(err)
	}
	late, answered := 0, 0 // how often the mirror lagged, and answered a fenced read
	fenced := func(key, want string, rev uint64) {
		t.Helper()
		subject := []string{bucketSubject(k.ns, key)}
		if _, upTo, err := k.b.lastAsOf(t.Context(), k.stream, subject, 0); err != nil {
			t.Fatal(err)
		} else if upTo < rev {
			late++
		}
		for range 4 {
			snap, err := k.Read(t.Context(), key, rev)
			if err != nil || snap.Base == nil || string(snap.Base.Body) != want || snap.AsOf < rev {
				t.Fatalf("Read(%q) after %d = %+v, %v, want %q", key, rev, snap, err, want)
			}
			all, err := k.ReadAll(t.Context(), []string{key}, rev)
			if err != nil || all[0].Base == nil || string(all[0].Base.Body) != want || all[0].AsOf < rev {
				t.Fatalf("ReadAll(%q) after %d = %+v, %v, want %q", key, rev, all, err, want)
			}
			msgs, upTo, err := k.b.lastAsOf(t.Context(), k.stream, subject, rev)
			if err != nil || len(msgs) != 1 || upTo < rev {
				t.Fatalf("read of %q: %d messages up to %d, %v, want those up to %d", key, len(msgs), upTo, err, rev)
			}
			if msgs[0].Header.Get(jetstream.StreamHeader) == mirror {
				answered++
			}
		}
	}
	for _, keys := range []struct {
		name string
		at   func(i int) string
	}{
		{"one key", func(int) string { return "key" }},
		{"a new key each time", func(i int) string { return fmt.Sprint("key", i) }},
	} {
		late, answered = 0, 0
		revs := make(map[string]uint64)
		for i := 0; i < 300 || late == 0 || answered == 0; i++ {
			if i == 10_000 {
				t.Fatalf("%s: the mirror lagged %d times and answered %d times, want both", keys.name, late, answered)
			}
			key, want := keys.at(i), strconv.Itoa(i)
			revs[key] = k.base(t, key, want, revs[key])
			fenced(key, want, revs[key])
		}
		t.Logf("%s: the mirror lagged %d times, and answered %d times", keys.name, late, answered)
	}
	snap, err := k.Read(t.Context(), "nothing", k.base(t, "other", "", 0))
	if err != nil || snap.Base != nil || snap.Slots != nil {
		t.Errorf("a key that nobody wrote: %+v, %v", snap, err)
	}
}

// Why buckets aren't mirrored by the platform: a mirror doesn't hear of purges. It
// keeps a slot that was folded and removed, which would bring a value back once the
// key was deleted and its tombstone had run out. Should this fail, look at
// docs/adr/0043-buckets-get-no-mirrors.md again.
func TestMirrorsKeepWhatWasPurged(t *testing.T) {
	k := openBucket(t)
	mirror, err := k.b.js.CreateStream(t.Context(), jetstream.StreamConfig{
		Name: "KV_state_m1", Storage: jetstream.MemoryStorage, MaxMsgsPerSubject: 1, AllowDirect: true,
		Mirror: &jetstream.StreamSource{Name: k.stream},
	})
	if err != nil {
		t.Fatal(err)
	}
	// follows returns how many messages the mirror has once it has come to a sequence.
	follows := func(seq uint64) uint64 {
		t.Helper()
		for range 1000 {
			info, err := mirror.Info(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if info.State.LastSeq >= seq {
				return info.State.Msgs
			}
			<-time.After(10 * time.Millisecond)
		}
		t.Fatal("the mirror never caught up")
		return 0
	}
	rev := k.slot(t, "key", "w1", "1")
	follows(rev)
	if err := k.PurgeSlot(t.Context(), "key", "w1", rev); err != nil {
		t.Fatal(err)
	}
	has := follows(k.slot(t, "key", "w2", "2")) // which is after the purge
	if has != 2 {
		t.Errorf("the mirror has %d messages: it follows purges by now", has)
	}
}
