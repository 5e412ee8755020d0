package broker

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// The platform's sizes are in the platform: one JSON object in the bucket
// cb_platform, under "topology". The first server writes it, from its own flags or
// from the streams that it finds; everybody else reads it. It is republished when it
// changes, so that those who run follow.
const (
	BucketPlatform = "cb_platform"
	keyTopology    = "topology"
)

var (
	subjectTopology = bucketSubject(BucketPlatform, keyTopology)
	heardTopology   = subjectPlatform + keyTopology // the same, republished
)

// sizes is what a process knows of the platform's sizes.
type sizes struct {
	given Topology                // as this process was told; what isn't set is left to the platform
	now   atomic.Pointer[settled] // never nil

	mu       sync.Mutex               // guards what follows
	told     []func(Topology)         // called at every change
	ackWaits map[string]time.Duration // of pools whose consumer somebody gave another
}

// settled are sizes and whether they are the platform's: until the platform has
// answered nobody knows, and what depends on them must be careful.
type settled struct {
	Topology
	known bool
}

// A record is the stored sizes.
type record struct {
	Topology
	extra map[string]any
	rev   uint64 // 0: there is none
	wrong []string
}

// topology returns the platform's sizes, or what is taken for them until it answered.
func (b *Broker) topology() Topology { return b.sizes.now.Load().Topology }

// replicated says whether streams may have several copies: then a read may come
// from one that lags.
func (b *Broker) replicated() bool {
	now := b.sizes.now.Load()
	return !now.known || now.Replicas > 1
}

// AckWait is after how long without a sign of life a call of the pool is handed out
// again.
func (b *Broker) AckWait(pool string) time.Duration {
	b.sizes.mu.Lock()
	defer b.sizes.mu.Unlock()
	if wait, other := b.sizes.ackWaits[pool]; other {
		return wait
	}
	return b.topology().AckWait
}

// OnSizes has fn called when the platform's sizes change, one call at a time. fn must
// not block. The returned func ends that.
func (b *Broker) OnSizes(fn func(Topology)) (cancel func()) {
	b.sizes.mu.Lock()
	defer b.sizes.mu.Unlock()
	b.sizes.told = append(b.sizes.told, fn)
	i := len(b.sizes.told) - 1
	return func() {
		b.sizes.mu.Lock()
		defer b.sizes.mu.Unlock()
		b.sizes.told[i] = nil
	}
}

// learn takes in the platform's sizes.
func (b *Broker) learn(t Topology) {
	b.sizes.mu.Lock()
	defer b.sizes.mu.Unlock()
	t = t.withDefaults()
	was := b.sizes.now.Swap(&settled{t, true})
	if was.Topology == t {
		return
	}
	if was.AckWait != t.AckWait {
		b.sizes.ackWaits = nil // all consumers have it
	}
	for _, fn := range b.sizes.told {
		if fn != nil {
			fn(t)
		}
	}
}

// noteAckWait keeps the acknowledgement wait of a pool whose consumer has another.
func (b *Broker) noteAckWait(pool string, consumer config) {
	ns, err := strconv.ParseInt(string(consumer["ack_wait"]), 10, 64)
	if err != nil || ns <= 0 {
		return
	}
	b.sizes.mu.Lock()
	defer b.sizes.mu.Unlock()
	if wait := time.Duration(ns); wait != b.topology().AckWait {
		if b.sizes.ackWaits == nil {
			b.sizes.ackWaits = make(map[string]time.Duration)
		}
		b.sizes.ackWaits[pool] = wait
	} else {
		delete(b.sizes.ackWaits, pool)
	}
}

// follow hears of changes from here on, and asks again after every reconnect.
func (b *Broker) follow() error {
	take := func(body []byte) {
		if t, _, wrong := decodeSizes(body); len(wrong) == 0 {
			t, _ = b.topology().over(t)
			b.learn(t)
		} else if _, say := b.hush.next(heardTopology, time.Now()); say {
			b.observe.wrongSizes(wrong)
		}
	}
	if _, err := b.nc.Subscribe(subjectPlatform+"*", func(msg *nats.Msg) {
		switch msg.Subject {
		case heardTopology:
			take(msg.Data)
		case subjectFull:
			b.hearFull(msg)
		}
	}); err != nil {
		return err
	}
	b.onReconnect(func() {
		reply, _ := b.mux.open(b.timeout, func(msg *nats.Msg) bool {
			if msg != nil {
				if stored, err := readStored(msg.Data); err == nil && stored != nil {
					take(stored.Data)
				}
			}
			return false
		})
		if err := b.nc.PublishRequest(apiGetMsg+bucketStream(BucketPlatform), reply, askTopology); err != nil {
			b.observe.asyncError(nil, err)
		}
	})
	return nil
}

const apiGetMsg = "$JS.API.STREAM.MSG.GET."

var askTopology = []byte(`{"last_by_subj":"` + subjectTopology + `"}`)

// A storedMsg is a message as the API of a stream's leader shows it.
type storedMsg struct {
	Seq  uint64 `json:"seq"`
	Data []byte `json:"data"`
}

// readStored reads such an answer; nil if there is no such message.
func readStored(answer []byte) (*storedMsg, error) {
	var a struct {
		Message *storedMsg          `json:"message"`
		Error   *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(answer, &a); err != nil {
		return nil, err
	}
	switch {
	case a.Error == nil:
		return a.Message, nil
	case a.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound, a.Error.ErrorCode == jetstream.JSErrCodeStreamNotFound:
		return nil, nil
	}
	return nil, a.Error
}

// readRecord asks for the stored sizes.
func (b *Broker) readRecord(ctx context.Context, within time.Duration) (record, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	msg, err := b.nc.RequestWithContext(ctx, apiGetMsg+bucketStream(BucketPlatform), askTopology)
	if err != nil {
		return record{}, err
	}
	stored, err := readStored(msg.Data)
	if err != nil || stored == nil {
		return record{}, err
	}
	r := record{rev: stored.Seq}
	r.Topology, r.extra, r.wrong = decodeSizes(stored.Data)
	return r, nil
}

// learnStored learns the platform's sizes from its record; from its streams where it
// has none, or one that can't be read, as somebody may have written it by hand. A
// platform that isn't there has the sizes that this process was given.
func (b *Broker) learnStored(ctx context.Context, within time.Duration) (record, error) {
	r, err := b.readRecord(ctx, within)
	if err != nil {
		return record{}, err
	}
	if len(r.wrong) > 0 {
		b.observe.wrongSizes(r.wrong)
	}
	if r.rev == 0 || len(r.wrong) > 0 || r.Replicas == 0 {
		there, err := b.adopted(ctx)
		if err != nil {
			return record{}, err
		}
		if r.rev == 0 {
			there, _ = b.sizes.given.over(there)
		}
		r.Topology, _ = there.over(r.Topology)
	}
	r.Topology = r.withDefaults()
	b.learn(r.Topology)
	return r, nil
}

// settledSizes returns the platform's sizes, and asks for them unless they are known.
func (b *Broker) settledSizes(ctx context.Context) (Topology, error) {
	if now := b.sizes.now.Load(); now.known {
		return now.Topology, nil
	}
	r, err := b.learnStored(ctx, b.timeout)
	return r.Topology, apiError("read the sizes of the platform", "", err)
}

// adopted returns the sizes that the streams of a platform show; what none shows is
// unset.
func (b *Broker) adopted(ctx context.Context) (Topology, error) {
	var t Topology
	err := b.eachStream(ctx, func(name string, have config) error {
		switch {
		case name == StreamRuns:
			t.Replicas = int(have.number("num_replicas"))
		case name == StreamDead:
			t.Dead = have.time("max_age")
		case name == StreamBlobs:
			t.Blobs = have.time("max_age")
		case name == StreamMessages:
			t.Messages, t.MessagesBytes = have.time("max_age"), have.number("max_bytes")
		case name == StreamLogs:
			t.Logs, t.LogsBytes = have.time("max_age"), have.number("max_bytes")
		case name == bucketStream(BucketResults):
			t.Results, t.ResultsBytes = have.time("max_age"), have.number("max_bytes")
		case strings.HasPrefix(name, CallsStream("")) && t.CallsBytes == 0: // the first pool speaks for all
			t.CallsBytes, t.Duplicates = have.number("max_bytes"), have.time("duplicate_window")
			consumer, err := b.consumerConfig(ctx, name[len(CallsStream("")):])
			if err != nil {
				return err
			}
			t.AckWait = consumer.time("ack_wait")
		}
		return nil
	})
	return t, err
}

// settle agrees with the platform on its sizes: the first one writes them down.
func (b *Broker) settle(ctx context.Context) error {
	const op = "set up the platform"
	if err := b.sizes.given.Check(); err != nil {
		return err
	}
	r, err := b.learnStored(ctx, b.timeout)
	if err != nil {
		return apiError(op, "", err)
	}
	if err := b.ensureStream(ctx, r.record()); err != nil {
		return err
	}
	if r.rev == 0 {
		if _, err = b.writeRecord(ctx, r, r.Topology); err != nil && !isStale(err) {
			return apiError(op, "", err)
		}
		if _, err = b.learnStored(ctx, b.timeout); err != nil { // another server may have been faster
			return apiError(op, "", err)
		}
	}
	return nil
}

// Resize changes the platform's sizes to those that are set in given, in its record,
// its streams and its consumers, and returns what they are now. Who runs follows. On
// an error nothing has changed, as far as the storage could be told.
func (b *Broker) Resize(ctx context.Context, given Topology) (Topology, error) {
	if err := given.Check(); err != nil {
		return b.topology(), err
	}
	err := b.platformLock().hold(ctx, "platform", func(ctx context.Context) error { return b.resize(ctx, given) })
	return b.topology(), err
}

// platformLock keeps two from changing the platform's streams at once.
func (b *Broker) platformLock() *lock {
	return &lock{b: b, bucket: BucketPlatform, key: "lock", patience: lockWait}
}

// resize is Resize for the one who holds the lock.
func (b *Broker) resize(ctx context.Context, given Topology) error {
	const op = "change the platform"
	r, err := b.learnStored(ctx, b.timeout)
	if err != nil {
		return apiError(op, "", err)
	}
	from := r.Topology
	to, changed := from.over(given)
	if len(changed) == 0 && len(r.wrong) == 0 {
		return nil
	}
	// Until all is done those who run go by what is safe before and after.
	careful := to
	careful.Replicas, careful.AckWait = max(from.Replicas, to.Replicas), min(from.AckWait, to.AckWait)
	write := func(t Topology) error {
		if r.rev, err = b.writeRecord(ctx, r, t); err == nil {
			b.learn(t)
		}
		return apiError(op, "", err)
	}
	if err := write(careful); err != nil {
		return err
	}
	if err := b.fit(ctx, from, to); err != nil {
		return errors.Join(err, b.fit(ctx, to, from), write(from))
	}
	b.observe.resized(from, to, changed)
	if to == careful {
		return nil
	}
	return write(to)
}

// writeRecord stores sizes in place of a record that was read, and returns the
// sequence of the new one.
func (b *Broker) writeRecord(ctx context.Context, r record, t Topology) (uint64, error) {
	body, err := encodeSizes(t, r.extra)
	if err != nil {
		return 0, err
	}
	h := nats.Header{jetstream.ExpectedLastSubjSeqHeader: {strconv.FormatUint(r.rev, 10)}}
	return b.put(ctx, &nats.Msg{Subject: subjectTopology, Header: h, Data: body})
}

// fit changes every stream and consumer in which two topologies differ, and there
// only the fields in which they do.
func (b *Broker) fit(ctx context.Context, from, to Topology) error {
	var errs []error
	var alone bool
	err := b.eachStream(ctx, func(name string, have config) error {
		old, ours := from.wanted(name, have)
		if !ours {
			return nil
		}
		wanted, _ := to.wanted(name, have)
		next, err := have.change(old, wanted)
		if err == nil && next != nil {
			_, err = b.configOf(ctx, "STREAM.UPDATE."+name, next, b.timeout)
			if isNoReplicas(err) && alone {
				return nil // as was said of another stream
			}
			alone = alone || isNoReplicas(err)
			err = resizeError(name, err)
		}
		if pool, calls := strings.CutPrefix(name, CallsStream("")); err == nil && calls && from.AckWait != to.AckWait {
			err = b.fitConsumer(ctx, pool, from, to)
		}
		errs = append(errs, err)
		return nil
	})
	return errors.Join(append(errs, apiError("list streams", "", err))...)
}

func (b *Broker) fitConsumer(ctx context.Context, pool string, from, to Topology) error {
	have, err := b.consumerConfig(ctx, pool)
	if err != nil || have == nil {
		return err
	}
	next, err := have.change(from.workers(), to.workers())
	if err == nil && next != nil {
		err = b.updateConsumer(ctx, pool, next)
	}
	return err
}

// resizeError says what to do where a stream can't have another size.
func resizeError(stream string, err error) error {
	if isNoReplicas(err) {
		return noReplicas("change stream", stream, err)
	}
	return createError(stream, err)
}
