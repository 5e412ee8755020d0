package broker

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/cloudburst-nats/cloudburst/wire"
)

const callsPrefix = "CB_CALLS_"

// JanitorConfig says when a Janitor sweeps. The zero value works.
type JanitorConfig struct {
	// Every is the time between two rounds. Default 5 s. A round costs two
	// requests a pool.
	Every time.Duration
	// MinBytes and MinCalls are what there must be to gain, one or the other,
	// before a stream is purged. Default 4 MiB and 10,000 calls.
	MinBytes uint64
	MinCalls uint64
}

// A Janitor purges settled calls from the calls streams: those up to the ack
// floor of the pool's consumer, never anything above it. It keeps the newest
// call of each stream, so that a file store doesn't give up and recreate its
// block each time it drains. Once an hour it removes the images of functions that
// no version names any more, and the state of failed runs whose dead letters are gone.
// Every quarter of an hour it tends to runs: see tendRuns.
// Several janitors at once do no harm.
type Janitor struct {
	b   *Broker
	cfg JanitorConfig
}

// NewJanitor returns a janitor for every pool there is.
func (b *Broker) NewJanitor(cfg JanitorConfig) *Janitor {
	if cfg.Every <= 0 {
		cfg.Every = 5 * time.Second
	}
	if cfg.MinBytes == 0 {
		cfg.MinBytes = 4 << 20
	}
	if cfg.MinCalls == 0 {
		cfg.MinCalls = 10_000
	}
	return &Janitor{b: b, cfg: cfg}
}

// Run sweeps until ctx ends.
func (j *Janitor) Run(ctx context.Context) error {
	tick := time.NewTicker(j.cfg.Every)
	defer tick.Stop()
	images := time.NewTicker(imageUnusedFor)
	defer images.Stop()
	tend := time.NewTimer(j.b.topology().tendAfter())
	defer tend.Stop()
	var last *census
	for {
		if err := j.sweep(ctx); err != nil && ctx.Err() == nil {
			j.b.observe.catchUpFailed("settled calls", err) // the next round tries again
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-images.C:
			if _, err := j.b.DropImages(ctx, imageUnusedFor); err != nil && ctx.Err() == nil {
				j.b.observe.catchUpFailed("unused images", err)
			}
			if err := j.b.sweepRuns(ctx, j.b.topology().Runs); err != nil && ctx.Err() == nil {
				j.b.observe.catchUpFailed("state of failed runs", err)
			}
		case <-tend.C:
			now, err := j.b.tendRuns(ctx, last)
			if err != nil && ctx.Err() == nil {
				j.b.observe.catchUpFailed("what runs refer to", err)
			}
			last = now
			tend.Reset(j.b.topology().tendAfter())
		}
	}
}

// sweep makes one round; a pool that fails doesn't keep the others from it.
func (j *Janitor) sweep(ctx context.Context) error {
	pools, err := j.b.Pools(ctx)
	if err != nil {
		return err
	}
	var failed []error
	for _, pool := range pools {
		if err := j.sweepPool(ctx, pool); err != nil && wire.KindOf(err) != wire.KindUnknown {
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}

func (j *Janitor) sweepPool(ctx context.Context, pool string) error {
	// The order matters: the floor only rises, so one that was read before the
	// stream's state is never beyond it.
	consumer, err := j.b.consumerInfo(ctx, pool)
	if err != nil {
		return err
	}
	stream, err := j.b.js.Stream(ctx, CallsStream(pool))
	if err != nil {
		return apiError("purge settled calls", pool, err)
	}
	if consumer.Created.Before(stream.CachedInfo().Created) {
		return nil // of another stream, that was deleted just now: its floor means nothing here
	}
	state := stream.CachedInfo().State
	through := purgeable(consumer.AckFloor.Stream, state)
	if calls, bytes := gain(through, state); calls < j.cfg.MinCalls && bytes < j.cfg.MinBytes {
		return nil
	}
	return apiError("purge settled calls", pool, j.b.purgeThrough(ctx, CallsStream(pool), "", through))
}

// purgeable returns up to which sequence a stream may be purged.
func purgeable(floor uint64, state jetstream.StreamState) uint64 {
	if state.LastSeq == 0 {
		return 0
	}
	return min(floor, state.LastSeq-1)
}

// gain estimates what a purge through a sequence frees.
func gain(through uint64, state jetstream.StreamState) (calls, bytes uint64) {
	if state.Msgs == 0 || through < state.FirstSeq {
		return 0, 0
	}
	calls = min(through-state.FirstSeq+1, state.Msgs)
	return calls, uint64(float64(state.Bytes) * float64(calls) / float64(state.Msgs))
}

// Pools lists the pools that have a calls stream, by name.
func (b *Broker) Pools(ctx context.Context) ([]string, error) {
	names, err := b.listStreams(ctx)
	var pools []string
	for _, name := range names {
		if pool, ok := strings.CutPrefix(name, callsPrefix); ok {
			pools = append(pools, pool)
		}
	}
	slices.Sort(pools)
	return pools, apiError("list pools", "", err)
}

// PoolLag is what waits in a pool, which is what it scales by.
type PoolLag struct {
	Pending     uint64 `json:"pending"`     // calls that no worker has taken yet
	AckPending  int    `json:"ack_pending"` // calls in hand
	Redelivered int    `json:"redelivered"` // of those in hand: handed out before
	Waiting     int    `json:"waiting"`     // workers' open requests for calls
}

// Lag returns what waits in a pool. It asks the server each time: once a second
// is often enough.
func (b *Broker) Lag(ctx context.Context, pool string) (PoolLag, error) {
	info, err := b.consumerInfo(ctx, pool)
	if err != nil {
		return PoolLag{}, err
	}
	return PoolLag{Pending: info.NumPending, AckPending: info.NumAckPending, Redelivered: info.NumRedelivered, Waiting: info.NumWaiting}, nil
}

// consumerInfo asks for the state of a pool's consumer; KindUnknown if the pool
// has none.
func (b *Broker) consumerInfo(ctx context.Context, pool string) (*jetstream.ConsumerInfo, error) {
	consumer, err := b.js.Consumer(ctx, CallsStream(pool), CallsConsumer)
	if err != nil {
		return nil, apiError("read pool", pool, err)
	}
	info := consumer.CachedInfo()
	b.floors.note(pool, floor{info.AckFloor.Stream, info.Created})
	b.clock.tell(info.TimeStamp)
	return info, nil
}

// Watermarks tell up to where the calls of a pool are settled: acknowledged
// for good, never to be handed out again. Answers may be up to 50 ms old, which
// is on the safe side since the mark only rises. Safe for concurrent use.
type Watermarks struct {
	b *Broker

	mu    sync.Mutex           // guards what follows
	pools map[string]watermark // of pools that there are, or were: a pool has an asker, so its name was registered
}

type watermark struct {
	floor   uint64
	source  string
	created time.Time // of the consumer: a new one may belong to a new stream
	asked   time.Time
}

const watermarkAge = 50 * time.Millisecond

// NewWatermarks returns marks that know nothing yet.
func (b *Broker) NewWatermarks() *Watermarks {
	return &Watermarks{b: b, pools: make(map[string]watermark)}
}

// Pool returns up to which sequence a pool's calls are settled, and the name of
// the stream's incarnation that the sequence belongs to: "<stream>@<created>".
func (w *Watermarks) Pool(ctx context.Context, pool string) (floor uint64, source string, err error) {
	w.mu.Lock()
	known := w.pools[pool]
	w.mu.Unlock()
	if time.Since(known.asked) < watermarkAge {
		return known.floor, known.source, nil
	}
	return w.ask(ctx, pool, known)
}

// Ask is Pool, but for the server's answer of now.
func (w *Watermarks) Ask(ctx context.Context, pool string) (floor uint64, source string, err error) {
	return w.ask(ctx, pool, watermark{})
}

func (w *Watermarks) ask(ctx context.Context, pool string, known watermark) (floor uint64, source string, err error) {
	now := watermark{asked: time.Now(), source: known.source}
	info, err := w.b.consumerInfo(ctx, pool)
	if err != nil {
		return 0, "", err
	}
	now.floor, now.created = info.AckFloor.Stream, info.Created
	if !now.created.Equal(known.created) {
		stream, err := w.b.js.Stream(ctx, CallsStream(pool))
		if err != nil {
			return 0, "", apiError("read pool", pool, err)
		}
		if now.created.Before(stream.CachedInfo().Created) {
			return 0, "", &wire.Error{Op: "read pool", Name: pool, Kind: wire.KindUnavailable, Msg: "its stream of calls was made anew just now"}
		}
		now.source = CallsStream(pool) + "@" + strconv.FormatInt(stream.CachedInfo().Created.UnixNano(), 36)
	}
	w.mu.Lock()
	w.pools[pool] = now
	w.mu.Unlock()
	return now.floor, now.source, nil
}

// Settled returns up to which sequence the calls of a source, as named by Pool,
// are settled: 0 if that incarnation of the stream is gone. If the name ends in
// wire.SourceAgain, the runs that these calls began have ended as well.
func (w *Watermarks) Settled(ctx context.Context, source string) (uint64, error) {
	stream, _, _ := strings.Cut(source, "@")
	pool, ok := strings.CutPrefix(stream, callsPrefix)
	if !ok {
		return 0, nil
	}
	source, again := strings.CutSuffix(source, wire.SourceAgain)
	floor, current, err := w.Pool(ctx, pool)
	if err == nil && again {
		var held uint64
		held, err = w.b.oldestLive(ctx, pool) // in this order: see Live
		floor = min(floor, held)
	}
	if wire.KindOf(err) == wire.KindUnknown || err == nil && current != source {
		return 0, nil
	}
	return floor, err
}
