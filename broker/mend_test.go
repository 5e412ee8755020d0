package broker

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/sirupsen/logrus"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// A logText is written and read at once.
type logText struct {
	mu   sync.Mutex // guards text
	text strings.Builder
}

func (l *logText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// started returns what a server that starts would have, and what it logs.
func started(t *testing.T, s *Server, topology Topology) (*Broker, *logText) {
	t.Helper()
	out := new(logText)
	log := logrus.New()
	log.SetOutput(out)
	log.SetFormatter(&logrus.TextFormatter{DisableColors: true})
	b, err := Connect(t.Context(), Config{Server: s, Topology: topology, Log: logrus.NewEntry(log)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b, out
}

// What an operator may want otherwise stays as it is, when servers start and workers
// join.
func TestWhatOperatorsSetStays(t *testing.T) {
	s := startServer(t, ServerConfig{Listen: "none"})
	b := connect(t, s, Topology{})
	if err := everything(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	calls := CallsStream("default")
	for field, tt := range map[string]struct {
		stream string
		edit   func(*jetstream.StreamConfig)
	}{
		"description":      {"KV_state", func(c *jetstream.StreamConfig) { c.Description = "ours" }},
		"metadata":         {calls, func(c *jetstream.StreamConfig) { c.Metadata = map[string]string{"team": "blue"} }},
		"max_age":          {StreamDead, func(c *jetstream.StreamConfig) { c.MaxAge = 2 * time.Hour }},
		"max_bytes":        {calls, func(c *jetstream.StreamConfig) { c.MaxBytes = 1 << 20 }},
		"max_msgs":         {calls, func(c *jetstream.StreamConfig) { c.MaxMsgs = 10_000 }},
		"max_msg_size":     {calls, func(c *jetstream.StreamConfig) { c.MaxMsgSize = 100_000 }},
		"max_consumers":    {StreamLogs, func(c *jetstream.StreamConfig) { c.MaxConsumers = 50 }},
		"compression":      {StreamLogs, func(c *jetstream.StreamConfig) { c.Compression = jetstream.S2Compression }},
		"placement":        {StreamMessages, func(c *jetstream.StreamConfig) { c.Placement = &jetstream.Placement{Tags: []string{}} }},
		"a longer window":  {calls, func(c *jetstream.StreamConfig) { c.Duplicates = 5 * time.Minute }},
		"a bucket's bytes": {bucketStream(BucketResults), func(c *jetstream.StreamConfig) { c.MaxBytes = 1 << 20 }},
	} {
		t.Run(field, func(t *testing.T) {
			editStream(t, b, tt.stream, tt.edit)
			edited := configText(t, b, tt.stream)
			other, log := started(t, s, Topology{})
			if err := other.SetUpPlatform(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := everything(t.Context(), other); err != nil {
				t.Fatal(err)
			}
			if got := configText(t, b, tt.stream); got != edited {
				t.Errorf("the stream was changed from\n%s to\n%s", edited, got)
			}
			if log.String() != "" {
				t.Errorf("logged %s", log)
			}
		})
	}
	_, byHand, err := b.PlatformSizes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := toJSON(t, byHand); !strings.Contains(got, `{"Stream":"CB_DEAD","Field":"max_age","Found":"2h0m0s","Would":"168h0m0s"}`) ||
		!strings.Contains(got, `"CB_CALLS_default","Field":"max_bytes","Found":"1048576"`) || strings.Contains(got, "KV_state") {
		t.Errorf("by hand: %s", got)
	}
}

// What a promise rests on is put right when a server starts, and that is logged.
func TestWhatPromisesRestOnIsPutRight(t *testing.T) {
	s := startServer(t, ServerConfig{Listen: "none"})
	b := connect(t, s, Topology{})
	if err := everything(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	calls := CallsStream("default")
	for field, tt := range map[string]struct {
		stream string
		edit   func(*jetstream.StreamConfig)
		logged string
	}{
		"allow_atomic":              {"KV_state", func(c *jetstream.StreamConfig) { c.AllowAtomicPublish = false }, "field=allow_atomic found=unset"},
		"republish":                 {"KV_state", func(c *jetstream.StreamConfig) { c.RePublish = nil }, "field=republish found=unset"},
		"republish of messages":     {StreamMessages, func(c *jetstream.StreamConfig) { c.RePublish = nil }, "field=republish found=unset"},
		"republish of sizes":        {bucketStream(BucketPlatform), func(c *jetstream.StreamConfig) { c.RePublish = nil }, "field=republish"},
		"allow_direct":              {"KV_state", func(c *jetstream.StreamConfig) { c.AllowDirect = false }, "field=allow_direct found=unset"},
		"max_age of runs":           {StreamRuns, func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour }, "field=max_age found=1h0m0s"},
		"allow_rollup_hdrs":         {StreamRuns, func(c *jetstream.StreamConfig) { c.AllowRollup = false }, "field=allow_rollup_hdrs found=unset"},
		"max_msgs_per_subject":      {"KV_state", func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 5 }, "field=max_msgs_per_subject found=5"},
		"of calls":                  {calls, func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 5 }, "field=max_msgs_per_subject found=5"},
		"subject_delete_marker_ttl": {"KV_state", func(c *jetstream.StreamConfig) { c.SubjectDeleteMarkerTTL = time.Hour }, "field=subject_delete_marker_ttl found=1h0m0s"},
		"discard":                   {calls, func(c *jetstream.StreamConfig) { c.Discard = jetstream.DiscardOld }, `field=discard found="\"old\""`},
		"discard of results":        {bucketStream(BucketResults), func(c *jetstream.StreamConfig) { c.Discard = jetstream.DiscardNew }, "field=discard"},
		"duplicate_window":          {calls, func(c *jetstream.StreamConfig) { c.Duplicates = time.Second }, "field=duplicate_window found=1s"},
		"subjects":                  {StreamDead, func(c *jetstream.StreamConfig) { c.Subjects = []string{"cb.dead.x"} }, "field=subjects"},
		"no_ack":                    {calls, func(c *jetstream.StreamConfig) { c.NoAck = true }, "field=no_ack found=true"},
		"retention":                 {calls, func(c *jetstream.StreamConfig) { c.Retention = jetstream.InterestPolicy }, "field=retention"},
		"consumer_limits":           {StreamBlobs, func(c *jetstream.StreamConfig) { c.ConsumerLimits.InactiveThreshold = time.Hour }, "field=consumer_limits"},
		"subject_transform": {StreamDead, func(c *jetstream.StreamConfig) {
			c.SubjectTransform = &jetstream.SubjectTransformConfig{Source: "cb.dead.x", Destination: "cb.dead.y"}
		}, "field=subject_transform"},
		"several": {"KV_state", func(c *jetstream.StreamConfig) { // as nats kv edit does
			c.Description, c.AllowAtomicPublish, c.MaxMsgsPerSubject = "mine", false, 3
		}, "field=allow_atomic"},
	} {
		t.Run(field, func(t *testing.T) {
			before := configText(t, b, tt.stream)
			editStream(t, b, tt.stream, tt.edit)
			if edited := configText(t, b, tt.stream); edited == before {
				t.Fatal("nothing was edited")
			}
			other, log := started(t, s, Topology{})
			if err := other.SetUpPlatform(t.Context()); err != nil {
				t.Fatal(err)
			}
			plain := strings.NewReplacer(`"description":"mine",`, "").Replace
			if got := configText(t, b, tt.stream); plain(got) != plain(before) {
				t.Errorf("the stream is\n%s, was\n%s", got, before)
			}
			for _, want := range []string{tt.logged, "stream=" + tt.stream, "right="} {
				if !strings.Contains(log.String(), want) {
					t.Errorf("logged %q, want %q in it", log, want)
				}
			}
		})
	}
}

// A pool's consumer is put right too, as is a namespace, by who needs it next.
func TestConsumersArePutRight(t *testing.T) {
	s := startServer(t, ServerConfig{Listen: "none"})
	b := connect(t, s, Topology{})
	if err := everything(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	consumer := func() config {
		t.Helper()
		have, err := b.consumerConfig(t.Context(), "default")
		if err != nil || have == nil {
			t.Fatal(have, err)
		}
		return have
	}
	right := toJSON(t, consumer())
	for field, edit := range map[string]func(*jetstream.ConsumerConfig){
		"max_deliver":        func(c *jetstream.ConsumerConfig) { c.MaxDeliver = 3 },
		"filter_subject":     func(c *jetstream.ConsumerConfig) { c.FilterSubject = CallSubject("f") },
		"headers_only":       func(c *jetstream.ConsumerConfig) { c.HeadersOnly = true },
		"max_batch":          func(c *jetstream.ConsumerConfig) { c.MaxRequestBatch = 1 },
		"max_expires":        func(c *jetstream.ConsumerConfig) { c.MaxRequestExpires = time.Second },
		"inactive_threshold": func(c *jetstream.ConsumerConfig) { c.InactiveThreshold = time.Hour },
		"backoff":            func(c *jetstream.ConsumerConfig) { c.BackOff = []time.Duration{time.Minute} },
	} {
		cfg := b.topology().workers()
		edit(&cfg)
		if _, err := b.js.UpdateConsumer(t.Context(), CallsStream("default"), cfg); err != nil {
			t.Fatal(field, err)
		}
		other, log := started(t, s, Topology{})
		if err := other.SetUpPlatform(t.Context()); err != nil {
			t.Fatal(field, err)
		}
		if got := toJSON(t, consumer()); got != right || !strings.Contains(log.String(), "consumer=default field="+field) {
			t.Errorf("%s: the consumer is %s, want %s; logged %s", field, got, right, log)
		}
	}

	// One that the server can't change is made anew.
	if err := b.js.DeleteConsumer(t.Context(), CallsStream("default"), CallsConsumer); err != nil {
		t.Fatal(err)
	}
	cfg := b.topology().workers()
	cfg.AckPolicy = jetstream.AckNonePolicy
	cfg.MaxAckPending, cfg.AckWait, cfg.MaxDeliver = 0, 0, 0
	if _, err := b.js.CreateConsumer(t.Context(), CallsStream("default"), cfg); err != nil {
		t.Fatal(err)
	}
	if err := b.EnsurePool(t.Context(), "default", []string{CallSubject("f")}); err != nil { // as a worker does
		t.Fatal(err)
	}
	if got := toJSON(t, consumer()); got != right {
		t.Errorf("the consumer is %s, want %s", got, right)
	}

	// What may be set otherwise stays, and workers go by it.
	cfg = b.topology().workers()
	cfg.AckWait, cfg.MaxAckPending = time.Minute, 10
	if _, err := b.js.UpdateConsumer(t.Context(), CallsStream("default"), cfg); err != nil {
		t.Fatal(err)
	}
	other, log := started(t, s, Topology{})
	if err := other.EnsurePool(t.Context(), "default", []string{CallSubject("f")}); err != nil || log.String() != "" {
		t.Fatal(err, log)
	}
	if have := consumer(); have.time("ack_wait") != time.Minute || have.number("max_ack_pending") != 10 {
		t.Errorf("the consumer is %v", have)
	}
	if got := other.AckWait("default"); got != time.Minute {
		t.Errorf("workers take the acknowledgement wait to be %v, want a minute", got)
	}
	if got := other.AckWait("elsewhere"); got != 5*time.Second {
		t.Errorf("of another pool: %v, want 5 s", got)
	}
}

// What the server can't change back is refused with a way out, and the way is one.
func TestContradictionsAreRefusedWithAWayOut(t *testing.T) {
	for name, tt := range map[string]struct {
		make func(*Broker) error
		want []string
		out  func(*Broker) error
	}{
		"sealed": {
			func(b *Broker) error {
				if err := everything(t.Context(), b); err != nil {
					return err
				}
				editStream(t, b, StreamDead, func(c *jetstream.StreamConfig) {
					c.Sealed, c.DenyDelete, c.DenyPurge, c.Discard, c.MaxAge, c.AllowRollup = true, true, true, jetstream.DiscardNew, 0, false
				})
				return nil
			},
			[]string{`"CB_DEAD"`, "sealed is true, not unset", "nats stream rm CB_DEAD"},
			func(b *Broker) error { return b.js.DeleteStream(t.Context(), StreamDead) },
		},
		"in memory": {
			func(b *Broker) error {
				cfg := Default().latest(StreamRuns, time.Hour, subjectRun+">")
				cfg.Storage = jetstream.MemoryStorage
				_, err := b.js.CreateStream(t.Context(), cfg)
				return err
			},
			[]string{`"CB_RUNS"`, `storage is "memory", not "file"`, "nats stream rm CB_RUNS"},
			func(b *Broker) error { return b.js.DeleteStream(t.Context(), StreamRuns) },
		},
		"a work queue": {
			func(b *Broker) error {
				cfg := Default().calls("default", []string{CallSubject("f")})
				cfg.Retention = jetstream.WorkQueuePolicy
				_, err := b.js.CreateStream(t.Context(), cfg)
				return err
			},
			[]string{`"CB_CALLS_default"`, `retention is "workqueue", not "limits"`, "nats stream rm CB_CALLS_default"},
			func(b *Broker) error { return b.js.DeleteStream(t.Context(), CallsStream("default")) },
		},
		"a bucket of somebody else's": {
			func(b *Broker) error {
				_, err := b.js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "state", History: 10})
				return err
			},
			[]string{`"KV_state"`, "nats kv edit state --history 1"},
			func(b *Broker) error {
				_, err := b.js.UpdateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "state", History: 1})
				return err
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := startServer(t, ServerConfig{Listen: "none"})
			b := connect(t, s, Topology{})
			if err := tt.make(b); err != nil {
				t.Fatal(err)
			}
			start := func() error {
				other, _ := started(t, s, Topology{})
				if err := other.SetUpPlatform(t.Context()); err != nil {
					return err
				}
				return everything(t.Context(), other)
			}
			err := start()
			for _, want := range tt.want {
				if wire.KindOf(err) != wire.KindConflict || !strings.Contains(err.Error(), want) {
					t.Errorf("start = %v\nwant a conflict with %s", err, want)
				}
			}
			if err := tt.out(b); err != nil {
				t.Fatal(err)
			}
			if err := start(); err != nil {
				t.Errorf("after the way out: %v", err)
			}
		})
	}
}

// Buckets of others are left alone, and a plain one that keeps one revision can become
// a namespace without losing anything.
func TestBucketsOfOthers(t *testing.T) {
	s := startServer(t, ServerConfig{Listen: "none"})
	b := connect(t, s, Topology{})
	for name, history := range map[string]uint8{"theirs": 10, "plain": 1} {
		kv, err := b.js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: name, History: history})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := kv.PutString(t.Context(), "k", "1"); err != nil {
			t.Fatal(err)
		}
	}
	before := configText(t, b, "KV_theirs") + configText(t, b, "KV_plain")
	if err := b.SetUpPlatform(t.Context()); err != nil {
		t.Fatal(err)
	}
	if after := configText(t, b, "KV_theirs") + configText(t, b, "KV_plain"); after != before {
		t.Errorf("changed from\n%s to\n%s", before, after)
	}
	k, err := b.OpenBucket(t.Context(), "plain")
	if err != nil {
		t.Fatal(err)
	}
	if snap, err := k.Read(t.Context(), "k", 0); err != nil || snap.Base == nil || string(snap.Base.Body) != "1" {
		t.Errorf("what it held: %+v, %v", snap, err)
	}
}

// What is changed under a running platform is put right too.
func TestPlatformIsKeptRight(t *testing.T) {
	s := startServer(t, ServerConfig{Listen: "none"})
	b := connect(t, s, Topology{})
	if err := everything(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	before := configText(t, b, "KV_state")
	editStream(t, b, "KV_state", func(c *jetstream.StreamConfig) { c.AllowAtomicPublish = false })
	if err := b.purgeThrough(t.Context(), bucketStream(BucketPlatform), subjectTopology, 1<<62); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- connect(t, s, Topology{}).KeepRight(ctx, 10*time.Millisecond) }()
	eventually(t, "it is put right", func() bool { return configText(t, b, "KV_state") == before })
	eventually(t, "the record is written again", func() bool {
		r, err := b.readRecord(t.Context(), b.timeout)
		return err == nil && r.Topology == Default()
	})
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
