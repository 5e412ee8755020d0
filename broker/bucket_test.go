package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/cloudburst-nats/cloudburst/kvlattice"
	"github.com/cloudburst-nats/cloudburst/wire"
)

func openBucket(t testing.TB) *Bucket {
	t.Helper()
	s, err := StartServer(t.Context(), ServerConfig{Listen: "none", Store: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Shutdown)
	k, err := connect(t, s, Topology{}).OpenBucket(t.Context(), "state")
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func (k *Bucket) read(t *testing.T, key string) kvlattice.Snapshot {
	t.Helper()
	snap, err := k.Read(t.Context(), key, 0)
	if err != nil {
		t.Fatalf("Read(%q): %v", key, err)
	}
	slices.SortFunc(snap.Slots, func(a, b kvlattice.Entry) int { return strings.Compare(a.Writer, b.Writer) })
	return snap
}

func (k *Bucket) base(t *testing.T, key, body string, rev uint64) uint64 {
	t.Helper()
	rev, err := k.PutBase(t.Context(), key, kvlattice.Entry{Body: []byte(body)}, rev)
	if err != nil {
		t.Fatalf("PutBase(%q): %v", key, err)
	}
	return rev
}

func (k *Bucket) slot(t *testing.T, key, writer, body string) uint64 {
	t.Helper()
	rev, err := k.PutSlot(t.Context(), key, kvlattice.Entry{Writer: writer, Body: []byte(body), Header: wire.Header{"Cb-Kind": {"set"}}})
	if err != nil {
		t.Fatalf("PutSlot(%q): %v", key, err)
	}
	return rev
}

// show prints a snapshot: "base w1=a w2=b".
func showSnapshot(s kvlattice.Snapshot) string {
	text := "-"
	if s.Base != nil {
		text = string(s.Base.Body)
	}
	for _, e := range s.Slots {
		text += fmt.Sprintf(" %s=%s", e.Writer, e.Body)
	}
	return text
}

func TestBucketKeepsBaseAndSlots(t *testing.T) {
	k := openBucket(t)
	for _, key := range []string{
		"k", "cart.42", "cart.42.items", "a b", "", ".", "a.", "..", "=", "k.=.w", "*", ">", "a.>", "ключ/☃",
		"x\x00\r\n", "$KV.state.k", strings.Repeat("z", kvlattice.MaxKey),
	} {
		if key == "" {
			if _, err := k.Read(t.Context(), key, 0); wire.KindOf(err) != wire.KindBadName {
				t.Errorf("Read of an empty key: %v", err)
			}
			continue
		}
		if got := showSnapshot(k.read(t, key)); got != "-" {
			t.Fatalf("%q before it was written: %s", key, got)
		}
		s1 := k.slot(t, key, "w1", "1")
		if got := showSnapshot(k.read(t, key)); got != "- w1=1" {
			t.Errorf("%q with a slot: %s", key, got)
		}
		rev := k.base(t, key, "b", 0)
		k.slot(t, key, "w2", "2")
		s1b := k.slot(t, key, "w1", "1b")
		snap := k.read(t, key)
		if got := showSnapshot(snap); got != "b w1=1b w2=2" || snap.Base.Rev != rev || snap.Slots[0].Rev != s1b {
			t.Errorf("%q with all: %s, base %d, want %d", key, got, snap.Base.Rev, rev)
		}
		if kind := wire.First(snap.Slots[0].Header, "Cb-Kind"); kind != "set" {
			t.Errorf("%q: a slot's header came back as %q", key, kind)
		}
		if age := time.Since(snap.Base.At); age < 0 || age > time.Minute {
			t.Errorf("%q: stored at %v", key, snap.Base.At)
		}
		if err := k.PurgeSlot(t.Context(), key, "w1", s1); err != nil { // an older one than is there
			t.Error(err)
		}
		if got := showSnapshot(k.read(t, key)); got != "b w1=1b w2=2" {
			t.Errorf("%q after a purge of what was overwritten: %s", key, got)
		}
		if err := k.PurgeSlot(t.Context(), key, "w1", s1b); err != nil {
			t.Error(err)
		}
		if got := showSnapshot(k.read(t, key)); got != "b w2=2" {
			t.Errorf("%q after a purge: %s", key, got)
		}
	}
}

func TestBucketRefusesStaleBases(t *testing.T) {
	k := openBucket(t)
	rev := k.base(t, "k", "1", 0)
	for _, wrong := range []uint64{0, rev + 1, rev + 100} {
		if _, err := k.PutBase(t.Context(), "k", kvlattice.Entry{Body: []byte("x")}, wrong); !errors.Is(err, kvlattice.ErrStale) {
			t.Errorf("PutBase at %d, is %d: %v, want ErrStale", wrong, rev, err)
		}
	}
	if got := showSnapshot(k.read(t, "k")); got != "1" {
		t.Errorf("after stale writes: %s", got)
	}
	// Of many at once, one succeeds.
	won := make(chan uint64, 16)
	var all sync.WaitGroup
	for i := range cap(won) {
		all.Go(func() {
			next, err := k.PutBase(t.Context(), "k", kvlattice.Entry{Body: fmt.Append(nil, i)}, rev)
			if err == nil {
				won <- next
			} else if !errors.Is(err, kvlattice.ErrStale) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if len(won) != 1 {
		t.Errorf("%d of %d writers replaced the same base", len(won), cap(won))
	}
	for _, writer := range []string{"", "a.b", "*", ">", "a b"} {
		if _, err := k.PutSlot(t.Context(), "k", kvlattice.Entry{Writer: writer}); wire.KindOf(err) != wire.KindBadName {
			t.Errorf("PutSlot by %q: %v", writer, err)
		}
	}
}

func TestBucketReadsManySlots(t *testing.T) {
	k := openBucket(t)
	const slots = 1300 // over what one multi-get reads
	k.base(t, "k", "base", 0)
	var all sync.WaitGroup
	for part := range 4 {
		all.Go(func() {
			for i := part; i < slots; i += 4 {
				k.slot(t, "k", fmt.Sprint("w", i), fmt.Sprint(i))
			}
		})
	}
	all.Wait()
	snap := k.read(t, "k")
	if len(snap.Slots) != slots || snap.Base == nil {
		t.Fatalf("read %d slots and base %v, want %d", len(snap.Slots), snap.Base, slots)
	}
	// While slots are folded into new bases, no read may miss any of them.
	var folder sync.WaitGroup
	folder.Go(func() {
		rev := snap.Base.Rev
		for i := range 100 {
			slot := snap.Slots[i]
			rev = k.base(t, "k", fmt.Sprint("base", i+1), rev)
			if err := k.PurgeSlot(t.Context(), "k", slot.Writer, slot.Rev); err != nil {
				t.Error(err)
			}
		}
	})
	for range 10 {
		s, err := k.Read(t.Context(), "k", 0)
		if wire.KindOf(err) == wire.KindBusy {
			continue // no snapshot is better than one with holes
		}
		if err != nil {
			t.Fatal(err)
		}
		folded := 0
		if _, err := fmt.Sscanf(string(s.Base.Body), "base%d", &folded); err != nil {
			folded = 0 // "base"
		}
		if len(s.Slots)+folded < slots {
			t.Errorf("a snapshot has %d slots and %d in the base, %d in all", len(s.Slots), folded, slots)
		}
	}
	folder.Wait()
}

func TestBucketMeetsTheKeyValueStore(t *testing.T) {
	k := openBucket(t)
	kv, err := k.b.js.KeyValue(t.Context(), "state")
	if err != nil {
		t.Fatal(err)
	}
	rev, err := kv.PutString(t.Context(), "hand.made", "5")
	if err != nil {
		t.Fatal(err)
	}
	snap := k.read(t, "hand.made")
	if got := showSnapshot(snap); got != "5" || snap.Base.Rev != rev || time.Since(snap.Base.At) > time.Minute {
		t.Errorf("put by hand: %s at %d, %v, want revision %d", got, snap.Base.Rev, snap.Base.At, rev)
	}
	k.base(t, "hand.made", "6", rev)
	if e, err := kv.Get(t.Context(), "hand.made"); err != nil || string(e.Value()) != "6" {
		t.Errorf("read by hand: %v, %v", e, err)
	}
	if err := kv.Delete(t.Context(), "hand.made"); err != nil {
		t.Fatal(err)
	}
	snap = k.read(t, "hand.made")
	if snap.Base == nil || wire.First(snap.Base.Header, "KV-Operation") != "DEL" {
		t.Errorf("deleted by hand: %+v, want a base that says so", snap.Base)
	}
	k.base(t, "hand.made", "7", snap.Base.Rev)
	if _, err := kv.Create(t.Context(), "short", []byte("x"), jetstream.KeyTTL(time.Second)); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(time.Minute)
	for snap = k.read(t, "short"); wire.First(snap.Base.Header, "Nats-Marker-Reason") == ""; snap = k.read(t, "short") {
		if time.Now().After(deadline) {
			t.Fatalf("a value whose time is up is still %+v", snap.Base)
		}
	}
}

func TestBucketServesAStore(t *testing.T) {
	k := openBucket(t)
	const stores, adds = 4, 50
	var all sync.WaitGroup
	for i := range stores {
		own, err := k.b.OpenBucket(t.Context(), "state")
		if err != nil {
			t.Fatal(err)
		}
		writer := fmt.Sprint("w", i)
		st := kvlattice.New(kvlattice.Config{Writer: writer, Clock: kvlattice.NewClock(time.Now)}, own, own)
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() {
			if err := st.Run(ctx); err != nil && !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
		all.Go(func() {
			for n := range adds {
				sum := kvlattice.NewCounter()
				sum.AddTotal(writer, uint64(n+1), int64(n+1))
				if _, err := st.Merge(t.Context(), "hits", sum); err != nil {
					t.Error(err)
				}
			}
			stop()
			running.Wait() // it has folded what it wrote
		})
	}
	all.Wait()
	joined, err := k.read(t, "hits").Join()
	if err != nil {
		t.Fatal(err)
	}
	if c, ok := joined.(*kvlattice.Counter); !ok || c.Total() != stores*adds {
		t.Errorf("the counter is %v, want %d", joined, stores*adds)
	}
}

// The client's own get of one key, to compare with.
func BenchmarkKeyValueGet(b *testing.B) {
	k := openBucket(b)
	kv, err := k.b.js.KeyValue(b.Context(), "state")
	if err != nil {
		b.Fatal(err)
	}
	if _, err := kv.PutString(b.Context(), "k", "12345"); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := kv.Get(b.Context(), "k"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRead(b *testing.B) {
	for _, slots := range []int{0, 3} {
		b.Run(fmt.Sprint("elements=", slots+1), func(b *testing.B) {
			k := openBucket(b)
			if _, err := k.PutBase(b.Context(), "k", kvlattice.Entry{Body: []byte("12345")}, 0); err != nil {
				b.Fatal(err)
			}
			for i := range slots {
				if _, err := k.PutSlot(b.Context(), "k", kvlattice.Entry{Writer: fmt.Sprint("w", i), Body: []byte("12345")}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := k.Read(b.Context(), "k", 0); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkPutSlot(b *testing.B) {
	k := openBucket(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := k.PutSlot(b.Context(), "k", kvlattice.Entry{Writer: "w", Body: []byte("12345")}); err != nil {
			b.Fatal(err)
		}
	}
}
