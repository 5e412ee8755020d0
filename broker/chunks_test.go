package broker

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/cloudburst-nats/cloudburst/kvlattice"
	"github.com/cloudburst-nats/cloudburst/wire"
)

func TestBucketLargeValues(t *testing.T) {
	k := openBucket(t)
	k.large.grace = 0
	big, text := string(noisy(t, 3<<20)), strings.Repeat("text ", 1<<20)
	check := func(key, writer, want string) {
		t.Helper()
		snap, got := k.read(t, key), ""
		if writer == "" && snap.Base != nil {
			got = string(snap.Base.Body)
		} else if len(snap.Slots) == 1 {
			got = string(snap.Slots[0].Body)
		}
		if got != want {
			t.Fatalf("%s of %q: %d bytes, want the %d that were written", writer, key, len(got), len(want))
		}
	}
	rev := k.base(t, "a b", big, 0)
	check("a b", "", big)
	k.slot(t, "a b", "w", text)
	check("a b", "w", text)
	if n := chunksOf(t, k, "a=20b"); n != 6 {
		t.Errorf("3 MiB are %d chunks, want 6", n)
	}
	// A stale writer takes its chunks back.
	if _, err := k.PutBase(t.Context(), "a b", kvlattice.Entry{Body: []byte(text)}, 0); !errors.Is(err, kvlattice.ErrStale) {
		t.Errorf("a stale large base: %v", err)
	}
	if n := chunksOf(t, k, "a=20b"); n != 6 {
		t.Errorf("after a stale write: %d chunks, want 6", n)
	}
	rev = k.base(t, "a b", big[1:], rev)
	check("a b", "", big[1:])
	if n := chunksOf(t, k, "a=20b"); n != 6 {
		t.Errorf("after it was replaced: %d chunks, want 6", n)
	}
	// Another process replaces it by a small value, having read it.
	other, err := k.b.OpenBucket(t.Context(), "state")
	if err != nil {
		t.Fatal(err)
	}
	other.large.grace = 0
	other.read(t, "a b")
	other.base(t, "a b", "small", rev)
	check("a b", "", "small")
	if n := chunksOf(t, k, "a=20b"); n != 0 {
		t.Errorf("after a small value took its place: %d chunks", n)
	}
	snap := k.read(t, "a b")
	if err := k.PurgeSlot(t.Context(), "a b", "w", snap.Slots[0].Rev); err != nil {
		t.Fatal(err)
	}
	if n := chunksOf(t, k, ">"); n != 0 {
		t.Errorf("after the slot was purged: %d chunks", n)
	}
	if _, err := k.PutSlot(t.Context(), "a b", kvlattice.Entry{Writer: "w", Body: make([]byte, MaxValue+1)}); wire.KindOf(err) != wire.KindTooLarge {
		t.Errorf("over the limit: %v", err)
	}
}

// chunksOf counts an element's chunks.
func chunksOf(t *testing.T, k *Bucket, stored string) int {
	t.Helper()
	n := 0
	err := k.b.scan(t.Context(), chunksStream(k.ns), subjectChunk+k.ns+"."+stored, 0, func(*nats.Msg) bool {
		n++
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestBucketSweepsOnlyWhatNothingNeeds(t *testing.T) {
	k := openBucket(t)
	k.large.grace = time.Hour
	body := bytes.Repeat([]byte("0123456789"), 60_000)
	if _, err := k.PutSlot(t.Context(), "k", kvlattice.Entry{Writer: "w", Body: body}); err != nil {
		t.Fatal(err)
	}
	// As if a write that overlapped had been acknowledged first and stored last:
	// its chunks are not older than those the books say are superseded.
	k.large.old = []superseded{{stored: "k.=.w", upTo: 1 << 30}}
	k.sweep(t.Context())
	if snap := k.read(t, "k"); len(snap.Slots) != 1 || !bytes.Equal(snap.Slots[0].Body, body) {
		t.Errorf("the sweep purged a live value: %s", showSnapshot(snap))
	}
}
