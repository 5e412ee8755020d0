package broker

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/cloudburst-nats/cloudburst/wire"
)

func TestWorkersAnnounceAndRetire(t *testing.T) {
	p := newPlatform(t)
	ctx := t.Context()
	for _, w := range []WorkerInfo{
		{ID: "w2", Pool: "default", Slots: 4, Busy: 1, Started: time.Now().UTC()},
		{ID: "w1", Pool: "default"},
		{ID: "w3", Pool: "a"},
		{ID: "w2", Pool: "default", Slots: 4, Busy: 2, Functions: []string{"f"}, CacheBytes: 7},
	} {
		if err := p.Announce(ctx, w); err != nil {
			t.Fatal(err)
		}
	}
	// A lock is kept in the same bucket, and is no worker.
	err := p.withLock(ctx, "x", func(ctx context.Context) error {
		list, err := p.Workers(ctx)
		if err != nil || len(list) != 3 || list[0].ID != "w3" || list[1].ID != "w1" || list[2].ID != "w2" {
			t.Errorf("got %+v, %v", list, err)
		}
		if len(list) == 3 && (list[2].Busy != 2 || list[2].CacheBytes != 7) {
			t.Errorf("got %+v", list[2])
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Retire(ctx, "w2"); err != nil {
		t.Fatal(err)
	}
	if list, err := p.Workers(ctx); err != nil || len(list) != 2 {
		t.Errorf("after w2 retired: got %+v, %v", list, err)
	}
	wantKind(t, p.Announce(ctx, WorkerInfo{ID: "a.b"}), wire.KindBadName)
}

// An entry by hand, where workers announce themselves, is no worker.
func TestWhatIsNoAnnouncementIsPassedOver(t *testing.T) {
	p := newPlatform(t)
	ctx := t.Context()
	if err := p.Announce(ctx, WorkerInfo{ID: "w", Pool: "default"}); err != nil {
		t.Fatal(err)
	}
	for key, body := range map[string]string{
		"text": "hello", "nothing": "", "null": "null", "list": "[]", "nameless": "{}",
		"other": `{"id":"w","pool":"default","deploys":true}`, "spoiled": `{"id":5}`,
	} {
		if _, err := p.put(ctx, &nats.Msg{Subject: bucketSubject(BucketWorkers, key), Data: []byte(body)}); err != nil {
			t.Fatal(err)
		}
	}
	if list, err := p.Workers(ctx); err != nil || len(list) != 1 || list[0].ID != "w" {
		t.Errorf("got %+v, %v, want w alone", list, err)
	}
}

// An announcement doesn't grow with the functions of a pool, and still tells which
// a worker serves.
func TestAnnouncementsOfManyFunctions(t *testing.T) {
	p := newPlatform(t)
	names := make([]string, 5000)
	for i := range names {
		names[i] = "f" + strconv.Itoa(i)
	}
	size := func(names []string) int {
		if err := p.Announce(t.Context(), WorkerInfo{ID: "w", Pool: "a", Functions: names}); err != nil {
			t.Fatal(err)
		}
		msg, err := p.last(t.Context(), bucketStream(BucketWorkers), bucketSubject(BucketWorkers, "w"))
		if err != nil {
			t.Fatal(err)
		}
		return len(msg.Data)
	}
	if few, all := size(names[:namesAnnounced]), size(names); all > few+10 {
		t.Errorf("an announcement of %d functions takes %d bytes, of %d functions %d", namesAnnounced, few, len(names), all)
	}
	list, err := p.Workers(t.Context())
	if err != nil || len(list) != 1 {
		t.Fatalf("got %+v, %v", list, err)
	}
	w := list[0]
	if w.FunctionCount != len(names) || !w.Serves("a", names[4999]) || w.Serves("b", names[4999]) {
		t.Errorf("it serves %d functions: f4999 of its pool: %v, of another: %v", w.FunctionCount, w.Serves("a", names[4999]), w.Serves("b", names[4999]))
	}
	if few := (&WorkerInfo{Pool: "a", Functions: []string{"f"}, FunctionCount: 1}); !few.Serves("a", "f") || few.Serves("a", "g") {
		t.Error("a worker of one function serves another, or not that one")
	}
}

func TestAnnouncementsLapse(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	if err := p.Announce(t.Context(), WorkerInfo{ID: "w"}); err != nil {
		t.Fatal(err)
	}
	msg, err := p.last(t.Context(), bucketStream(BucketWorkers), bucketSubject(BucketWorkers, "w"))
	if err != nil || msg.Header.Get("Nats-TTL") != MemberTTL.String() {
		t.Errorf("the announcement is kept for %q, %v, want %v", msg.Header.Get("Nats-TTL"), err, MemberTTL)
	}
	// The same as the server has it from a worker that died, only sooner.
	if _, err := p.put(t.Context(), &nats.Msg{Subject: bucketSubject(BucketWorkers, "w"), Header: nats.Header{"Nats-TTL": {"1s"}}, Data: msg.Data}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the worker is gone", func() bool {
		list, err := p.Workers(t.Context())
		return err == nil && len(list) == 0
	})
}

func TestStatsTravelInParts(t *testing.T) {
	p := newPlatform(t)
	sub, err := p.nc.SubscribeSync(subjectStats + "w1")
	if err != nil {
		t.Fatal(err)
	}
	stats := map[string]FunctionStats{"unused": {}}
	for i := range 2*statsPart + 1 {
		stats[fmt.Sprintf("f%d", i)] = FunctionStats{Calls: 1, Took: time.Second}
	}
	if err := p.PublishStats("w1", stats); err != nil {
		t.Fatal(err)
	}
	if err := p.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	d := newDiscovery(p.Broker, p.NewCatalogue(), time.Now())
	for range 3 {
		msg, err := sub.NextMsg(time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		d.receive(msg)
	}
	if _, err := sub.NextMsg(time.Millisecond); !errors.Is(err, nats.ErrTimeout) {
		t.Errorf("more than 3 messages: %v", err)
	}
	if got := len(d.workers["w1"].stats); got != 2*statsPart+1 {
		t.Errorf("%d functions arrived, want %d", got, 2*statsPart+1)
	}
}

func TestStatsOfWorkersThatAreGoneStillCount(t *testing.T) {
	d := newDiscovery(nil, nil, time.Now())
	now := time.Now()
	d.add("w1", map[string]FunctionStats{"f": {Calls: 10, Errors: 1, Took: 10 * time.Second, LastError: "old"}}, now)
	d.add("w1", map[string]FunctionStats{"f": {Calls: 12, Errors: 1, Took: 12 * time.Second, LastError: "old"}}, now)
	d.add("w2", map[string]FunctionStats{"f": {Calls: 3, Took: 3 * time.Second}, "g": {Calls: 1}}, now)
	want := FunctionStats{Calls: 15, Errors: 1, Took: 15 * time.Second, LastError: "old"}
	if got := d.of("f"); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	d.add("w3", map[string]FunctionStats{"f": {Calls: 1}}, now.Add(2*workerSilence))
	want.Calls++
	if got := d.of("f"); got != want || len(d.workers) != 1 {
		t.Errorf("after two workers went: got %+v of %d workers, want %+v of 1", got, len(d.workers), want)
	}
}
