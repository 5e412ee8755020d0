package broker

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// Sizes are read as they are written, by name.
func TestSizesAreReadAsWritten(t *testing.T) {
	t.Parallel()
	odd := Topology{
		Replicas: 3, Results: 90 * time.Second, ResultsBytes: 1_000_001, CallsBytes: 3 << 30, Runs: 36 * time.Hour, Dead: time.Hour + time.Second,
		Blobs: 24 * time.Hour, Messages: time.Minute, MessagesBytes: 64 << 10, Logs: 150 * time.Millisecond, LogsBytes: 5 << 20,
		Duplicates: 10 * time.Minute, AckWait: 1500 * time.Millisecond,
	}
	for _, want := range []Topology{Default(), odd} {
		body, err := encodeSizes(want, map[string]any{"colour": "blue"})
		if err != nil {
			t.Fatal(err)
		}
		got, extra, wrong := decodeSizes(body)
		if got != want || extra["colour"] != "blue" || len(extra) != 1 || wrong != nil {
			t.Errorf("%s is read as %+v, %v, %v; want %+v", body, got, extra, wrong, want)
		}
	}
	// By hand, numbers will do, and what can't be read is named.
	got, _, wrong := decodeSizes([]byte(`{"replicas": 3, "backlog-size": 1048576, "ack-wait": "soon", "dead-ttl": "1h"}`))
	if got != (Topology{Replicas: 3, CallsBytes: 1 << 20, Dead: time.Hour}) || len(wrong) != 1 || !strings.Contains(wrong[0], "ack-wait") {
		t.Errorf("read as %+v, wrong %v", got, wrong)
	}
	if got, _, wrong := decodeSizes([]byte(`{"replicas": 3, "ack-wait": "1000000h"}`)); got != (Topology{Replicas: 3}) || len(wrong) != 1 || !strings.Contains(wrong[0], "at most 1h (1000000h)") {
		t.Errorf("read as %+v, wrong %v", got, wrong)
	}
	if _, _, wrong := decodeSizes([]byte("five")); len(wrong) != 1 {
		t.Errorf("wrong in what isn't JSON: %v", wrong)
	}
	for _, nonsense := range []struct{ name, value string }{
		{"replicas", "0"},
		{"replicas", "7"},
		{"replicas", "-1"},
		{"replicas", "many"},
		{"ack-wait", "0s"},
		{"ack-wait", "5"},
		{"ack-wait", "-5s"},
		{"results-size", "0"},
		{"results-size", "-1"},
		{"backlog-size", "1B"},
		{"backlog-size", "big"},
		{"duplicates", "10s"},
		{"duplicates", "25h"},
		{"ack-wait", "1000000h"},
		{"ack-wait", "61m"},
		{"dead-ttl", "1000000h"},
		{"logs-size", "2000TiB"},
	} {
		i := slices.IndexFunc(Sizes(), func(s Size) bool { return s.Name == nonsense.name })
		err := Sizes()[i].Set(new(Topology), nonsense.value)
		if wire.KindOf(err) != wire.KindBadArgument || !strings.Contains(err.Error(), nonsense.name) || !strings.Contains(err.Error(), nonsense.value) {
			t.Errorf("%s=%s: %v, want a bad argument that names both", nonsense.name, nonsense.value, err)
		}
	}
}

// The first server writes its sizes down. Who comes later without any has the same,
// and streams are made by them.
func TestOthersReadTheSizes(t *testing.T) {
	s := startServer(t, ServerConfig{Listen: "none"})
	first := Topology{CallsBytes: 100 << 20, AckWait: time.Second, Dead: 48 * time.Hour}
	server := connect(t, s, first)
	if err := server.SetUpPlatform(t.Context()); err != nil {
		t.Fatal(err)
	}
	kv, err := server.js.KeyValue(t.Context(), BucketPlatform)
	if err != nil {
		t.Fatal(err)
	}
	e, err := kv.Get(t.Context(), "topology") // as nats kv get shows it
	if err != nil || !strings.Contains(string(e.Value()), `"backlog-size": "100MiB"`) {
		t.Errorf("the record is %s (%v)", e.Value(), err)
	}
	for name, told := range map[string]Topology{
		"without": {}, "the same": first, "another": {CallsBytes: 1 << 20, AckWait: 9 * time.Second, Replicas: 3},
	} {
		b := connect(t, s, told) // a worker, or a command: it changes nothing
		if err := b.EnsurePlatform(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := b.EnsurePool(t.Context(), "p", []string{CallSubject("f")}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := b.topology(); got != first.withDefaults() || b.AckWait("p") != time.Second {
			t.Errorf("%s: the sizes are %+v", name, got)
		}
	}
	have, err := server.streamConfig(t.Context(), CallsStream("p"))
	if err != nil || have.number("max_bytes") != 100<<20 {
		t.Errorf("the pool has %v, %v", have, err)
	}
}

// A change reaches the record, the streams and consumers that there are, and everybody
// who runs.
func TestResize(t *testing.T) {
	s := startServer(t, ServerConfig{Listen: "none"})
	b := connect(t, s, Topology{})
	if err := everything(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	worker := connect(t, s, Topology{})
	heard := make(chan Topology, 10)
	worker.OnSizes(func(t Topology) { heard <- t })
	editStream(t, b, StreamLogs, func(c *jetstream.StreamConfig) { c.MaxAge = 3 * time.Hour }) // by hand: stays
	change := Topology{
		CallsBytes: 2 << 20, AckWait: 2 * time.Second, Results: 2 * time.Hour, ResultsBytes: 1 << 20, Dead: time.Hour, Blobs: 100 * time.Second,
		Messages: time.Hour + time.Second, MessagesBytes: 1 << 20, Duplicates: 3 * time.Minute,
	}
	got, err := b.Resize(t.Context(), change)
	want, _ := Default().over(change)
	if err != nil || got != want {
		t.Fatalf("Resize = %+v, %v, want %+v", got, err, want)
	}
	for {
		select {
		case got := <-heard:
			if got == want {
				break
			}
			continue
		case <-time.After(30 * time.Second):
			t.Fatal("the worker didn't hear of it")
		}
		break
	}
	if worker.AckWait("default") != 2*time.Second {
		t.Errorf("the worker's acknowledgement wait is %v", worker.AckWait("default"))
	}
	for stream, fields := range map[string]map[string]int64{
		CallsStream("default"):      {"max_bytes": 2 << 20, "duplicate_window": int64(3 * time.Minute)},
		bucketStream(BucketResults): {"max_bytes": 1 << 20, "max_age": int64(2 * time.Hour)},
		StreamDead:                  {"max_age": int64(time.Hour)},
		StreamBlobs:                 {"max_age": int64(100 * time.Second), "duplicate_window": int64(100 * time.Second)},
		StreamMessages:              {"max_bytes": 1 << 20, "max_age": int64(time.Hour + time.Second)},
		StreamLogs:                  {"max_age": int64(3 * time.Hour)},
		"KV_state":                  {"duplicate_window": int64(3 * time.Minute)},
	} {
		have, err := b.streamConfig(t.Context(), stream)
		if err != nil {
			t.Fatal(err)
		}
		for field, n := range fields {
			if have.number(field) != n {
				t.Errorf("%s: %s is %s, want %d", stream, field, have[field], n)
			}
		}
	}
	if consumer, err := b.consumerConfig(t.Context(), "default"); err != nil || consumer.time("ack_wait") != 2*time.Second {
		t.Errorf("the consumer is %v, %v", consumer, err)
	}

	// What can't be is refused, and leaves all as it was.
	before := configs(t, b)
	for _, bad := range []Topology{{Replicas: 3}, {Replicas: 7}, {AckWait: time.Nanosecond}, {CallsBytes: 1 << 60}, {CallsBytes: 3 << 20, ResultsBytes: 1 << 60}} {
		if got, err := b.Resize(t.Context(), bad); wire.KindOf(err) != wire.KindBadArgument && wire.KindOf(err) != wire.KindBusy || got.AckWait != want.AckWait {
			t.Errorf("Resize(%+v) = %+v, %v; want a bad argument or busy", bad, got, err)
		}
	}
	if after := configs(t, b); !slices.Equal(before, after) {
		t.Errorf("a refused change was half made:\n%v\n%v", before, after)
	}
	if r, err := b.readRecord(t.Context(), b.timeout); err != nil || r.Topology != want {
		t.Errorf("the record is %+v, %v; want %+v", r, err, want)
	}
}

// A server that is given another size changes it for all; one that can't start with
// what was written down can start with less.
func TestFlagsOfLaterServers(t *testing.T) {
	s := startServer(t, ServerConfig{Listen: "none", MaxStore: 300 << 20})
	full, _ := started(t, s, Topology{})
	if err := full.SetUpPlatform(t.Context()); wire.KindOf(err) != wire.KindBusy { // 256 MiB of results don't fit
		t.Fatalf("set up = %v, want busy", err)
	}
	b, _ := started(t, s, Topology{ResultsBytes: 10 << 20, CallsBytes: 10 << 20})
	if err := b.SetUpPlatform(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := everything(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	other, log := started(t, s, Topology{CallsBytes: 20 << 20})
	if err := other.SetUpPlatform(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), "from=10MiB size=backlog-size to=20MiB") {
		t.Errorf("logged %s", log)
	}
	if have, err := b.streamConfig(t.Context(), CallsStream("default")); err != nil || have.number("max_bytes") != 20<<20 {
		t.Errorf("the pool is %v, %v", have, err)
	}
	if got := other.topology(); got.ResultsBytes != 10<<20 {
		t.Errorf("what wasn't given changed: %+v", got)
	}
}

// A platform of a version that wrote no sizes down is taken as it is.
func TestAPlatformWithoutARecordIsAdopted(t *testing.T) {
	s := startServer(t, ServerConfig{Listen: "none"})
	was := Topology{
		CallsBytes: 100 << 20, AckWait: 3 * time.Second, Results: 2 * time.Hour, ResultsBytes: 50 << 20, Dead: 24 * time.Hour, Blobs: 48 * time.Hour,
		Messages: 2 * time.Hour, MessagesBytes: 1 << 20, Logs: time.Hour, LogsBytes: 1 << 20, Duplicates: 3 * time.Minute, Runs: time.Hour, // which no stream shows
	}
	old := connect(t, s, was)
	if err := everything(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	if err := old.js.DeleteStream(t.Context(), bucketStream(BucketPlatform)); err != nil {
		t.Fatal(err)
	}
	before := configs(t, old)
	if b := connect(t, s, Topology{}); b.topology() != was.withDefaults() {
		t.Errorf("a client takes the sizes to be %+v", b.topology())
	}
	if after := configs(t, old); !slices.Equal(before, after) {
		t.Errorf("a client that connects changed streams")
	}
	b, log := started(t, s, Topology{})
	if err := b.SetUpPlatform(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r, err := b.readRecord(t.Context(), b.timeout); err != nil || r.Topology != was.withDefaults() || log.String() != "" {
		t.Errorf("the record is %+v, %v; want %+v; logged %s", r, err, was, log)
	}

	// A record that somebody spoiled is as good as none, and is mended by a change.
	if _, err := b.put(t.Context(), &nats.Msg{Subject: subjectTopology, Data: []byte(`{"ack-wait": "soon", "colour": "blue"}`)}); err != nil {
		t.Fatal(err)
	}
	b, log = started(t, s, Topology{})
	if err := b.SetUpPlatform(t.Context()); err != nil || b.topology() != was.withDefaults() || !strings.Contains(log.String(), "platform set") {
		t.Errorf("with a spoiled record: %v, %+v, logged %s", err, b.topology(), log)
	}
	if _, err := b.Resize(t.Context(), Topology{AckWait: 4 * time.Second}); err != nil {
		t.Fatal(err)
	}
	r, err := b.readRecord(t.Context(), b.timeout)
	want, _ := was.withDefaults().over(Topology{AckWait: 4 * time.Second})
	if err != nil || r.Topology != want || r.extra["colour"] != "blue" {
		t.Errorf("the mended record is %+v, %v", r, err)
	}
}

// Changes that were made while a process was away are learned when it is back.
func TestSizesAreReadAgainAfterAReconnect(t *testing.T) {
	s := startServer(t, ServerConfig{Listen: "none"})
	b := connect(t, s, Topology{})
	if err := everything(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	heard := make(chan Topology, 10)
	b.OnSizes(func(t Topology) { heard <- t })
	s.Shutdown()
	// Nobody republishes what is written while the process is away: here, before the
	// stream is told to republish.
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	other := connect(t, s, Topology{})
	editStream(t, other, bucketStream(BucketPlatform), func(c *jetstream.StreamConfig) { c.RePublish = nil })
	if _, err := other.Resize(t.Context(), Topology{AckWait: 7 * time.Second}); err != nil {
		t.Fatal(err)
	}
	s.Shutdown()
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for b.AckWait("default") != 7*time.Second {
		select {
		case <-heard:
		case <-time.After(30 * time.Second):
			t.Fatalf("the acknowledgement wait is %v", b.AckWait("default"))
		}
	}
}

// Several servers that start at once agree.
func TestServersThatStartAtOnceAgree(t *testing.T) {
	s := startServer(t, ServerConfig{Listen: "none"})
	var all sync.WaitGroup
	brokers := make([]*Broker, 4)
	for i := range brokers {
		brokers[i] = connect(t, s, Topology{AckWait: time.Duration(i+1) * time.Second})
		all.Go(func() {
			until(t, brokers[i].SetUpPlatform)
		})
	}
	all.Wait()
	r, err := brokers[0].readRecord(t.Context(), 5*time.Second)
	if err != nil || r.AckWait < time.Second || r.AckWait > 4*time.Second {
		t.Fatal(r, err)
	}
	for _, b := range brokers {
		eventually(t, "they agree", func() bool { return b.topology() == r.Topology })
	}
}

// On three servers, each restarted in turn with other flags than the rest: nobody is
// refused, copies come and go, and what runs follows.
func TestRollingChangeOfThreeServers(t *testing.T) {
	t.Parallel()
	servers := startCluster(t)
	sizes := Topology{CallsBytes: 1 << 20, ResultsBytes: 1 << 20, MessagesBytes: 1 << 20, LogsBytes: 1 << 20}
	b := connectAll(t, sizes, servers...)
	until(t, func(ctx context.Context) error { return everything(ctx, b) })
	client := connectAll(t, Topology{}, servers...)
	if client.replicated() {
		t.Error("one copy is taken for several")
	}
	three := sizes
	three.Replicas = 3
	for i, s := range servers {
		s.Shutdown()
		if err := s.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		server := connect(t, s, three)
		until(t, func(ctx context.Context) error {
			if err := server.SetUpPlatform(ctx); err != nil {
				return err
			}
			return everything(ctx, server)
		})
		if got := server.topology().Replicas; got != 3 {
			t.Errorf("server %d: %d replicas", i, got)
		}
	}
	until(t, func(ctx context.Context) error {
		return b.eachStream(ctx, func(name string, have config) error {
			if n := have.number("num_replicas"); n != 3 {
				t.Errorf("%s has %d copies, want 3", name, n)
			}
			return nil
		})
	})
	eventually(t, "a client that ran all along knows of the copies", func() bool { return client.topology().Replicas == 3 })
	last := connectAll(t, Topology{}, servers...) // an old worker, or one without flags
	until(t, func(ctx context.Context) error { return everything(ctx, last) })
	until(t, func(ctx context.Context) error {
		_, err := last.Resize(ctx, Topology{Replicas: 1})
		return err
	})
	until(t, func(ctx context.Context) error { return everything(ctx, connectAll(t, Topology{}, servers...)) })
}
