package broker

import (
	"strconv"
	"testing"

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
