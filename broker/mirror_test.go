package broker

import (
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// An operator may give a bucket a mirror that answers its reads. A read that must
// have seen a write has seen it, whoever answered: a mirror keeps the sequences of
// what it mirrors, so the fence holds for it as for a replica that lags.
func TestFencedReadsHoldWithMirrors(t *testing.T) {
	k := openBucket(t)
	const mirror = "KV_state_m1"
	_, err := k.b.js.CreateStream(t.Context(), jetstream.StreamConfig{
		Name: mirror, Storage: jetstream.MemoryStorage, MaxMsgsPerSubject: 1, AllowDirect: true, MirrorDirect: true,
		Mirror: &jetstream.StreamSource{Name: k.stream},
	})
	if err != nil {
		t.Fatal(err)
	}
	subject := bucketSubject(k.ns, "key")
	var rev uint64
	late, answered := 0, 0 // how often the mirror lagged, and answered a fenced read
	for i := 0; i < 300 || late == 0 || answered == 0; i++ {
		if i == 10_000 {
			t.Fatalf("the mirror lagged %d times and answered %d times, want both", late, answered)
		}
		want := strconv.Itoa(i)
		rev = k.base(t, "key", want, rev)
		if _, upTo, err := k.b.lastAsOf(t.Context(), k.stream, []string{subject}, 0); err != nil {
			t.Fatal(err)
		} else if upTo < rev {
			late++
		}
		for range 4 {
			snap, err := k.Read(t.Context(), "key", rev)
			if err != nil || string(snap.Base.Body) != want || snap.AsOf < rev {
				t.Fatalf("Read after %d = %q as of %d, %v, want %q", rev, snap.Base.Body, snap.AsOf, err, want)
			}
			msgs, upTo, err := k.b.lastAsOf(t.Context(), k.stream, []string{subject}, rev)
			if err != nil || len(msgs) != 1 || upTo < rev {
				t.Fatalf("read %d: %d messages up to %d, %v, want those up to %d", i, len(msgs), upTo, err, rev)
			}
			if msgs[0].Header.Get(jetstream.StreamHeader) == mirror {
				answered++
			}
		}
	}
	t.Logf("the mirror lagged %d times, and answered %d times", late, answered)
}

// Why buckets aren't mirrored by the platform: a mirror doesn't hear of purges. It
// keeps a slot that was folded and removed, which would bring a value back once the
// key was deleted and its tombstone had run out. Should this fail, look at
// docs/decisions.md again.
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
