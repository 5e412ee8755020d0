package broker

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// Topology is the platform's sizes and times. The platform keeps them itself, in its
// bucket cb_platform: the first server writes them there, and everybody else reads
// them. What a server is given later is a change for all; what isn't set stays.
type Topology struct {
	// Replicas is on how many servers everything is kept, 1 to 5. Default 1. 3
	// survives the loss of a server, and a write then takes a round trip between them.
	Replicas int
	// Results is how long a run's result is kept; that of a run inside of another as long as
	// the other awaits it. Default 1 h.
	Results time.Duration
	// ResultsBytes bounds all results; when it is reached the oldest go first.
	// Default 256 MiB, reserved on the disk.
	ResultsBytes int64
	// CallsBytes bounds the backlog of each pool; when it is reached new calls
	// are refused. Default 1 GiB, reserved on the disk for every pool.
	CallsBytes int64
	// Runs is how old something must be that runs have left behind before the janitor
	// removes it: commit records, and the state of failed runs that can't be replayed any
	// more. What a run needs is kept as long as the run. Default 1 h.
	Runs time.Duration
	// Dead is how long dead letters are kept. Default 7 days.
	Dead time.Duration
	// Blobs is how long large arguments and results are kept, counted from
	// their last writing, and for longer while a run that goes on refers to them.
	// Default 7 days.
	Blobs time.Duration
	// Messages is how long a message waits for the function that it was sent to.
	// Default 1 h.
	Messages time.Duration
	// MessagesBytes bounds all of them; when it is reached no more can be sent.
	// Default 64 MiB.
	MessagesBytes int64
	// Logs is how long what functions print is kept. Default 24 h.
	Logs time.Duration
	// LogsBytes bounds all of it; when it is reached the oldest goes first.
	// Default 64 MiB, reserved on the disk.
	LogsBytes int64
	// Duplicates is for how long a call that is sent again, with the same
	// Nats-Msg-Id, is known to be the same. Default 2 min; the server keeps
	// each id in memory for so long.
	Duplicates time.Duration
	// AckWait is after how long without a sign of life a call is handed to
	// another worker. Default 5 s. Less finds dead workers sooner and makes
	// live ones send more signs.
	AckWait time.Duration
}

func (t Topology) withDefaults() Topology {
	fill := func(d *time.Duration, def time.Duration) {
		if *d <= 0 {
			*d = def
		}
	}
	fill(&t.Results, time.Hour)
	fill(&t.Runs, time.Hour)
	fill(&t.Dead, 7*24*time.Hour)
	fill(&t.Blobs, 7*24*time.Hour)
	fill(&t.Logs, 24*time.Hour)
	fill(&t.Messages, time.Hour)
	fill(&t.Duplicates, 2*time.Minute)
	fill(&t.AckWait, 5*time.Second)
	if t.Replicas <= 0 {
		t.Replicas = 1
	}
	if t.ResultsBytes <= 0 {
		t.ResultsBytes = 256 << 20
	}
	if t.MessagesBytes <= 0 {
		t.MessagesBytes = 64 << 20
	}
	if t.LogsBytes <= 0 {
		t.LogsBytes = 64 << 20
	}
	if t.CallsBytes <= 0 {
		t.CallsBytes = 1 << 30
	}
	return t
}

const (
	// workersKept bounds what is known of a worker that fell silent, and of a
	// lock; both carry shorter times of their own.
	workersKept = time.Minute
	// markerKept is how long a state value that ran out leaves a marker, by
	// which caches that were away learn of it.
	markerKept = time.Minute

	// maxWaiting is how many requests for calls can be open at a pool: four of
	// each of a thousand workers.
	maxWaiting = 4096
	// maxAckPending is how many calls of a pool can be in hand, or wait for
	// their next attempt. What bounds calls in hand is the workers' slots; this
	// bounds the server's memory, at about 100 bytes each.
	maxAckPending = 100_000

	// reservedPrefix begins the names of the platform's own buckets.
	reservedPrefix = "cb_"
)

// stream returns what all streams have in common.
func (t Topology) stream(name string, maxAge time.Duration, subjects ...string) jetstream.StreamConfig {
	duplicates := t.Duplicates
	if maxAge > 0 {
		duplicates = min(duplicates, maxAge)
	}
	return jetstream.StreamConfig{
		Name: name, Subjects: subjects, Storage: jetstream.FileStorage, Replicas: t.Replicas,
		Retention: jetstream.LimitsPolicy, MaxAge: maxAge, Duplicates: duplicates, AllowDirect: true,
		MaxMsgs: -1, MaxBytes: -1, MaxMsgsPerSubject: -1, MaxMsgSize: -1, MaxConsumers: -1,
	}
}

// latest returns a stream that keeps one message a subject.
func (t Topology) latest(name string, maxAge time.Duration, subjects ...string) jetstream.StreamConfig {
	cfg := t.stream(name, maxAge, subjects...)
	cfg.MaxMsgsPerSubject = 1
	cfg.AllowRollup, cfg.AllowMsgTTL = true, true
	return cfg
}

// bucket returns the stream of a bucket as the client's key-value store, and so
// the nats CLI, makes it.
func (t Topology) bucket(name string, maxAge time.Duration) jetstream.StreamConfig {
	cfg := t.latest(bucketStream(name), maxAge, bucketSubject(name, ">"))
	cfg.DenyDelete, cfg.Discard = true, jetstream.DiscardNew
	return cfg
}

func (t Topology) platform() []jetstream.StreamConfig {
	results := t.bucket(BucketResults, t.Results)
	results.MaxBytes, results.Discard = t.ResultsBytes, jetstream.DiscardOld
	logs := t.stream(StreamLogs, t.Logs, subjectLog+"*")
	logs.MaxBytes, logs.Discard = t.LogsBytes, jetstream.DiscardOld
	messages := t.stream(StreamMessages, t.Messages, subjectMsg+"*.*")
	messages.MaxBytes, messages.Discard = t.MessagesBytes, jetstream.DiscardNew
	messages.RePublish = &jetstream.RePublish{Source: subjectMsg + ">", Destination: subjectInbox + ">"}
	return []jetstream.StreamConfig{
		logs,
		messages,
		t.images(),
		t.latest(StreamRuns, 0, subjectRun+">"),
		t.timers(),
		t.stream(StreamDead, t.Dead, subjectDead+">"),
		t.latest(StreamBlobs, t.Blobs, subjectBlob+"*"),
		results,
		t.bucket(BucketFunctions, 0),
		t.bucket(BucketDAGs, 0),
		t.bucket(BucketWorkers, workersKept),
		t.record(),
	}
}

// record returns the bucket of the platform's sizes. Who runs hears of a change.
func (t Topology) record() jetstream.StreamConfig {
	cfg := t.bucket(BucketPlatform, 0)
	cfg.RePublish = &jetstream.RePublish{Source: bucketSubject(BucketPlatform, ">"), Destination: subjectPlatform + ">"}
	return cfg
}

// timers returns the stream of calls that are handed out later: the server's
// schedules, which stay until their time comes, and those whose time has come,
// which stay until a Timers has handed them out.
func (t Topology) timers() jetstream.StreamConfig {
	cfg := t.latest(StreamTimers, 0, subjectTimer+">", subjectFire+">")
	cfg.Retention, cfg.AllowMsgSchedules = jetstream.WorkQueuePolicy, true
	return cfg
}

// images returns the stream of an object store as the client makes it.
func (t Topology) images() jetstream.StreamConfig {
	cfg := t.stream("OBJ_"+BucketImages, 0, "$O."+BucketImages+".C.>", "$O."+BucketImages+".M.>")
	cfg.AllowRollup, cfg.Discard = true, jetstream.DiscardNew
	return cfg
}

func (t Topology) namespace(ns string) jetstream.StreamConfig {
	cfg := t.bucket(ns, 0)
	cfg.AllowAtomicPublish = true
	cfg.SubjectDeleteMarkerTTL = markerKept
	cfg.RePublish = &jetstream.RePublish{Source: bucketSubject(ns, ">"), Destination: subjectUpdate + ns + ".>"}
	return cfg
}

func (t Topology) chunks(ns string) jetstream.StreamConfig {
	return t.stream(chunksStream(ns), 0, subjectChunk+ns+".>")
}

func (t Topology) calls(pool string, subjects []string) jetstream.StreamConfig {
	cfg := t.stream(CallsStream(pool), 0, subjects...)
	cfg.MaxBytes, cfg.Discard = t.CallsBytes, jetstream.DiscardNew
	return cfg
}

func (t Topology) workers() jetstream.ConsumerConfig {
	return jetstream.ConsumerConfig{
		Name: CallsConsumer, Durable: CallsConsumer,
		DeliverPolicy: jetstream.DeliverAllPolicy, ReplayPolicy: jetstream.ReplayInstantPolicy,
		AckPolicy: jetstream.AckExplicitPolicy, AckWait: t.AckWait, MaxDeliver: -1,
		MaxAckPending: maxAckPending, MaxWaiting: maxWaiting,
	}
}

// SetUpPlatform is EnsurePlatform for who may change the platform: those sizes of the
// Config's Topology that are set, and that the platform has otherwise, are changed for
// all. It also looks at what is there of pools and namespaces, as PutRight does.
func (b *Broker) SetUpPlatform(ctx context.Context) error {
	if err := b.settle(ctx); err != nil {
		return err
	}
	if _, changed := b.topology().over(b.sizes.given); len(changed) > 0 {
		if _, err := b.Resize(ctx, b.sizes.given); err != nil {
			return err
		}
	}
	if err := b.EnsurePlatform(ctx); err != nil {
		return err
	}
	return b.PutRight(ctx)
}

// EnsurePlatform makes the streams and buckets that are not of one pool or
// namespace, where they don't exist yet. The first one to do so writes down the sizes
// of its Config's Topology. What somebody changed by hand stays, but for what a promise
// rests on, which is put right. What can't be put right is an error of KindConflict.
func (b *Broker) EnsurePlatform(ctx context.Context) error {
	if err := b.settle(ctx); err != nil {
		return err
	}
	streams := b.topology().platform()
	errs := make([]error, len(streams))
	var all sync.WaitGroup
	var sized []int
	for i, cfg := range streams {
		if cfg.MaxBytes > 0 {
			sized = append(sized, i)
			continue
		}
		all.Go(func() { errs[i] = b.ensureStream(ctx, cfg) })
	}
	// One at a time: the server checks its storage before it reserves a stream's part of
	// it, so that streams made at once reserve more than there is. Such a server refuses
	// to make any stream smaller.
	for _, i := range sized {
		errs[i] = b.ensureStream(ctx, streams[i])
	}
	all.Wait()
	return errors.Join(errs...)
}

// Namespaces lists the namespaces that there are, by name.
func (b *Broker) Namespaces(ctx context.Context) ([]string, error) {
	var found []string
	streams, err := b.listStreams(ctx)
	for _, stream := range streams {
		if ns, ok := strings.CutPrefix(stream, bucketStream("")); ok && !strings.HasPrefix(ns, reservedPrefix) {
			found = append(found, ns)
		}
	}
	slices.Sort(found)
	return found, apiError("list namespaces", "", err)
}

// HasNamespace says whether there is a bucket of the namespace. It makes none.
func (b *Broker) HasNamespace(ctx context.Context, ns string) (bool, error) {
	if err := wire.CheckName("namespace", ns); err != nil {
		return false, err
	}
	_, err := b.streamConfig(ctx, bucketStream(ns))
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return false, nil
	}
	return err == nil, apiError("look for namespace", ns, err)
}

// EnsureNamespace makes the bucket of a namespace, where it doesn't exist yet.
// Names that begin with "cb_" are the platform's own: KindBadName.
func (b *Broker) EnsureNamespace(ctx context.Context, ns string) error {
	if err := wire.CheckName("namespace", ns); err != nil {
		return err
	}
	if strings.HasPrefix(ns, reservedPrefix) {
		return &wire.Error{Op: "open namespace", Kind: wire.KindBadName, Name: ns, Msg: `names that begin with "` + reservedPrefix + `" are the platform's own`}
	}
	t, err := b.settledSizes(ctx)
	if err != nil {
		return err
	}
	return b.ensureStream(ctx, t.namespace(ns))
}

// chunksStream returns the stream of a namespace's large values.
func chunksStream(ns string) string { return "CB_CHUNKS_" + ns }
