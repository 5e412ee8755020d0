package broker

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// everything ensures the platform, a namespace with its chunks, and a pool.
func everything(ctx context.Context, b *Broker) error {
	if err := b.EnsurePlatform(ctx); err != nil {
		return err
	}
	if err := b.EnsureNamespace(ctx, "state"); err != nil {
		return err
	}
	if err := b.ensureStream(ctx, b.topology().chunks("state")); err != nil {
		return err
	}
	return b.EnsurePool(ctx, "default", []string{CallSubject("f"), NodeSubject("d", "n")})
}

func TestEnsureTwiceChangesNothing(t *testing.T) {
	s := startServer(t, ServerConfig{Listen: "none"})
	b := connect(t, s, Topology{})
	if err := everything(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	before := configs(t, b)
	if len(before) != 15 {
		t.Errorf("%d streams, want 15: %v", len(before), before)
	}
	if err := everything(t.Context(), b); err != nil {
		t.Errorf("again: %v", err)
	}
	if err := everything(t.Context(), connect(t, s, Topology{AckWait: 5 * time.Second})); err != nil {
		t.Errorf("from another process: %v", err)
	}
	if after := configs(t, b); !slices.Equal(before, after) {
		t.Errorf("streams were changed:\n%v\n%v", before, after)
	}
}

func configs(t *testing.T, b *Broker) []string {
	t.Helper()
	var all []string
	lister := b.js.StreamNames(t.Context())
	for name := range lister.Name() {
		all = append(all, configText(t, b, name))
	}
	if err := lister.Err(); err != nil {
		t.Fatal(err)
	}
	slices.Sort(all)
	return all
}

func configText(t *testing.T, b *Broker, stream string) string {
	t.Helper()
	cfg, err := b.streamConfig(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// editStream changes a stream by hand.
func editStream(t *testing.T, b *Broker, stream string, edit func(*jetstream.StreamConfig)) {
	t.Helper()
	s, err := b.js.Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	cfg := s.CachedInfo().Config
	edit(&cfg)
	if _, err = b.js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
}

func TestOperatorsMayDescribe(t *testing.T) {
	b := connect(t, startServer(t, ServerConfig{Listen: "none"}), Topology{})
	if err := everything(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	for _, stream := range []string{CallsStream("default"), "KV_state"} {
		editStream(t, b, stream, func(c *jetstream.StreamConfig) {
			c.Description, c.Metadata = "ours", map[string]string{"team": "blue"}
		})
	}
	if err := everything(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	if err := b.EnsurePool(t.Context(), "default", []string{CallSubject("g")}); err != nil {
		t.Fatal(err)
	}
	s, err := b.js.Stream(t.Context(), CallsStream("default"))
	if err != nil {
		t.Fatal(err)
	}
	if cfg := s.CachedInfo().Config; cfg.Description != "ours" || cfg.Metadata["team"] != "blue" || len(cfg.Subjects) != 3 {
		t.Errorf("after a subject was added: %+v", cfg)
	}
}

func TestReservedNamespaces(t *testing.T) {
	b := connect(t, startServer(t, ServerConfig{Listen: "none"}), Topology{})
	for _, ns := range []string{"", "a.b", "cb_results", "cb_mine", "-", strings.Repeat("x", 65)} {
		if err := b.EnsureNamespace(t.Context(), ns); wire.KindOf(err) != wire.KindBadName {
			t.Errorf("EnsureNamespace(%q) = %v, want a bad name", ns, err)
		}
	}
}

func TestProcessesAddSubjectsAtOnce(t *testing.T) {
	s := startServer(t, ServerConfig{Listen: "none"})
	first := connect(t, s, Topology{})
	if err := first.EnsurePlatform(t.Context()); err != nil {
		t.Fatal(err)
	}
	const processes, each = 4, 5
	var want []string
	var all sync.WaitGroup
	for i := range processes {
		b := connect(t, s, Topology{})
		var mine []string
		for j := range each {
			mine = append(mine, CallSubject(fmt.Sprintf("f%d-%d", i, j)))
		}
		want = append(want, mine...)
		all.Go(func() {
			for _, subject := range mine {
				if err := b.EnsurePool(t.Context(), "p", []string{subject}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if got := listens(t, first, "p"); !slices.Equal(got, slices.Sorted(slices.Values(want))) {
		t.Errorf("the stream listens to %v, want %v", got, want)
	}
}

func listens(t *testing.T, b *Broker, pool string) []string {
	t.Helper()
	_, subjects, err := b.callsConfig(t.Context(), pool)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(subjects)
	return subjects
}

func TestPoolSubjectsComeAndGo(t *testing.T) {
	b := connect(t, startServer(t, ServerConfig{Listen: "none"}), Topology{})
	if err := everything(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	f, n, g := CallSubject("f"), NodeSubject("d", "n"), CallSubject("g")
	if !b.knows(f) || b.knows(g) {
		t.Errorf("knows f: %v, g: %v", b.knows(f), b.knows(g))
	}
	if err := b.RemoveSubjects(t.Context(), "default", []string{f, g}); err != nil {
		t.Fatal(err)
	}
	if got := listens(t, b, "default"); !slices.Equal(got, []string{n}) || b.knows(f) {
		t.Errorf("without f: listens to %v, knows f: %v", got, b.knows(f))
	}
	if err := b.Dispatch(t.Context(), wire.Call{Run: "r", Name: "f"}); wire.KindOf(err) == 0 {
		t.Error("a call of a removed function was stored")
	}
	if err := b.RemoveSubjects(t.Context(), "default", []string{n}); err != nil {
		t.Fatal(err)
	}
	if got := listens(t, b, "default"); !slices.Equal(got, []string{CallsStream("default")}) {
		t.Errorf("without any: listens to %v", got)
	}
	if err := b.EnsurePool(t.Context(), "default", []string{g, g}); err != nil {
		t.Fatal(err)
	}
	if got := listens(t, b, "default"); !slices.Equal(got, []string{g}) {
		t.Errorf("with g: listens to %v", got)
	}
	if err := b.RemoveSubjects(t.Context(), "nowhere", []string{g}); err != nil {
		t.Errorf("remove from a pool that isn't there: %v", err)
	}
	if err := b.EnsurePool(t.Context(), "empty", nil); err != nil {
		t.Errorf("a pool without functions: %v", err)
	}
}

func TestOverlapNamesBoth(t *testing.T) {
	b := connect(t, startServer(t, ServerConfig{Listen: "none"}), Topology{})
	if err := everything(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	if err := b.EnsurePool(t.Context(), "other", []string{CallSubject("g")}); err != nil {
		t.Fatal(err)
	}
	for pool, subjects := range map[string][]string{
		"new":   {CallSubject("h"), CallSubject("f")},
		"other": {CallSubject("h"), CallSubject("f")},
	} {
		err := b.EnsurePool(t.Context(), pool, subjects)
		if wire.KindOf(err) != wire.KindConflict || !strings.Contains(err.Error(), `"f"`) || !strings.Contains(err.Error(), "pool default has it") {
			t.Errorf("EnsurePool(%s) = %v, want a conflict that names f and default", pool, err)
		}
	}
	if got := listens(t, b, "other"); !slices.Equal(got, []string{CallSubject("g")}) {
		t.Errorf("a refused change was half made: %v", got)
	}
}

func TestFullBacklogRefusesCalls(t *testing.T) {
	b := connect(t, startServer(t, ServerConfig{Listen: "none"}), Topology{CallsBytes: 64 << 10})
	if err := everything(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	stored := 0
	var err error
	for ; err == nil && stored < 100; stored++ {
		err = b.Dispatch(t.Context(), wire.Call{Run: wire.NewRunID(), Name: "f", Args: wire.Value{Body: make([]byte, 8<<10)}})
	}
	if wire.KindOf(err) != wire.KindBusy || stored < 5 {
		t.Errorf("after %d calls: %v, want busy", stored, err)
	}
}

func TestStorageLimits(t *testing.T) {
	topology := Topology{ResultsBytes: 1 << 20, CallsBytes: 1 << 20, LogsBytes: 1 << 20, MessagesBytes: 1 << 20}
	b := connect(t, startServer(t, ServerConfig{Listen: "none", MaxStore: 5 << 20}), topology)
	if err := everything(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	if err := b.EnsurePool(t.Context(), "second", []string{CallSubject("g")}); wire.KindOf(err) != 0 {
		t.Errorf("a pool that fits: %v", err)
	}
	err := b.EnsurePool(t.Context(), "third", []string{CallSubject("h")})
	if wire.KindOf(err) != wire.KindBusy || !strings.Contains(err.Error(), "less storage left than the stream reserves") {
		t.Errorf("a pool that doesn't fit: %v", err)
	}
	for i := range 1000 {
		if _, err = b.put(t.Context(), &nats.Msg{Subject: bucketSubject("state", fmt.Sprint("k", i)), Data: make([]byte, 64<<10)}); err != nil {
			break
		}
	}
	if err = apiError("write", "k", err); wire.KindOf(err) == 0 || !wire.KindOf(err).Retry() {
		t.Errorf("a full disk: %v, want an error that says to retry", err)
	}
	if _, err := b.last(t.Context(), "KV_state", bucketSubject("state", "k0")); err != nil {
		t.Errorf("read with a full disk: %v", err)
	}
}

func TestResultsAreABucket(t *testing.T) {
	b := connect(t, startServer(t, ServerConfig{Listen: "none"}), Topology{ResultsBytes: 256 << 10})
	if err := b.EnsurePlatform(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, bucket := range []string{BucketResults, BucketFunctions, BucketDAGs, BucketWorkers} {
		kv, err := b.js.KeyValue(t.Context(), bucket)
		if err != nil {
			t.Fatalf("open %s: %v", bucket, err)
		}
		if _, err := kv.PutString(t.Context(), "k", "v"); err != nil {
			t.Errorf("put into %s: %v", bucket, err)
		}
		if e, err := kv.Get(t.Context(), "k"); err != nil || string(e.Value()) != "v" {
			t.Errorf("get from %s: %v, %v", bucket, e, err)
		}
		if err := kv.Purge(t.Context(), "k"); err != nil {
			t.Errorf("purge from %s: %v", bucket, err)
		}
	}
	for i := range 20 { // the oldest make room
		if _, err := b.put(t.Context(), &nats.Msg{Subject: bucketSubject(BucketResults, fmt.Sprint("r", i)), Data: make([]byte, 32<<10)}); err != nil {
			t.Fatalf("result %d: %v", i, err)
		}
	}
	if msg, err := b.last(t.Context(), "KV_cb_results", bucketSubject(BucketResults, "r0")); msg != nil || err != nil {
		t.Errorf("the oldest result is still there: %v, %v", msg, err)
	}
}

// One more function in a pool that has a thousand.
func BenchmarkEnsurePool(b *testing.B) {
	s, err := StartServer(b.Context(), ServerConfig{Listen: "none", Store: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(s.Shutdown)
	br := connect(b, s, Topology{})
	if err := br.EnsurePlatform(b.Context()); err != nil {
		b.Fatal(err)
	}
	subjects := make([]string, 1000)
	for i := range subjects {
		subjects[i] = CallSubject(fmt.Sprint("function-", i))
	}
	if err := br.EnsurePool(b.Context(), "p", subjects); err != nil {
		b.Fatal(err)
	}
	for i := 0; b.Loop(); i++ {
		if err := br.EnsurePool(b.Context(), "p", []string{CallSubject(fmt.Sprint("more-", i))}); err != nil {
			b.Fatal(err)
		}
	}
}
