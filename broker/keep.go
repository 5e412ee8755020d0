package broker

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// What an operator deletes is made anew by whoever misses it first: a worker its own
// pool's stream and consumer, a server everything. Each time there is a log line and
// an event, cb.event.restored.<name>. What a deleted stream held is gone with it.

// Restore makes the platform's streams and buckets that aren't there, and has the
// pools of the registry listen to what it gives them. One that can't be made doesn't
// keep the others from it: the error tells of all.
func (b *Broker) Restore(ctx context.Context) error {
	return errors.Join(b.restorePlatform(ctx), b.restoreLayout(ctx))
}

func (b *Broker) restorePlatform(ctx context.Context) error {
	names, err := b.streamNames(ctx)
	if err != nil {
		return err
	}
	var failed []error
	for _, cfg := range append(b.topology().platform(), b.topology().namespace(DefaultNamespace)) {
		if names[cfg.Name] {
			b.absent.there(cfg.Name)
			continue
		}
		if !b.absent.mayMake(cfg.Name, time.Now()) {
			failed = append(failed, leftAlone(cfg.Name))
			continue
		}
		cfg.FirstSeq = beyond()
		if err := b.ensureStream(ctx, cfg); err != nil {
			failed = append(failed, err)
			continue
		}
		b.restored(cfg.Name, "it was deleted, with all that it held")
		if cfg.Name == bucketStream(BucketPlatform) {
			failed = append(failed, b.settle(ctx)) // the sizes are written again
		}
	}
	return errors.Join(failed...)
}

func (b *Broker) streamNames(ctx context.Context) (map[string]bool, error) {
	names := make(map[string]bool)
	list, err := b.listStreams(ctx)
	for _, name := range list {
		names[name] = true
	}
	return names, apiError("list streams", "", err)
}

func (b *Broker) restoreLayout(ctx context.Context) error {
	r := newRegistry()
	if err := r.read(ctx, b); err != nil {
		return err
	}
	layout := r.layout()
	subjects := make(map[string][]string)
	for subject, pool := range layout {
		subjects[pool] = append(subjects[pool], subject)
	}
	var failed []error
	for _, pool := range slices.Sorted(maps.Keys(subjects)) {
		failed = append(failed, b.leaveSubjects(ctx, pool, layout))
	}
	for _, pool := range slices.Sorted(maps.Keys(subjects)) {
		failed = append(failed, b.RestorePool(ctx, pool))
	}
	return errors.Join(failed...)
}

// leaveSubjects has a pool no longer listen to what the registry gives to another: a
// hand may have moved it there.
func (b *Broker) leaveSubjects(ctx context.Context, pool string, layout map[string]string) error {
	_, listens, err := b.callsConfig(ctx, pool)
	if err != nil {
		return err
	}
	var moved []string
	for _, subject := range listens {
		if to := layout[subject]; to != "" && to != pool {
			moved = append(moved, subject)
		}
	}
	if len(moved) == 0 {
		return nil
	}
	return b.RemoveSubjects(ctx, pool, moved)
}

// RestorePool makes a pool's stream and consumer anew if somebody has deleted them.
// It is an error of KindUnavailable while a stream is left alone: see absent.
func (b *Broker) RestorePool(ctx context.Context, pool string) error {
	have, _, err := b.callsConfig(ctx, pool)
	if err != nil {
		return err
	}
	stream := CallsStream(pool)
	if have == nil && !b.absent.mayMake(stream, time.Now()) {
		return leftAlone(stream)
	}
	if have != nil {
		b.absent.there(stream)
	}
	r := newRegistry()
	if err := r.read(ctx, b); err != nil {
		return err
	}
	var subjects []string
	for subject, of := range r.layout() {
		if of == pool {
			subjects = append(subjects, subject)
		}
	}
	slices.Sort(subjects)
	return b.EnsurePool(ctx, pool, subjects)
}

func leftAlone(stream string) error {
	return &wire.Error{Op: "restore", Name: stream, Kind: wire.KindUnavailable, Msg: "it was deleted a moment ago, or is being restored from a backup: wait"}
}

// absentFor is how long a stream that is missed is left alone: somebody who restores
// one from a backup has to delete it first.
const absentFor = 2 * time.Second

// restoreWithin is how long a restoration from a backup may take.
const restoreWithin = time.Hour

// absent is what is known of streams that aren't there.
type absent struct {
	mu        sync.Mutex           // guards what follows
	since     map[string]time.Time // by stream: when it was first missed
	restoring map[string]time.Time // by stream: since when it is being restored
}

// mayMake says whether a stream that isn't there may be made anew.
func (a *absent) mayMake(stream string, now time.Time) bool {
	if faulty("grace") {
		return true
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if began, ok := a.restoring[stream]; ok && now.Sub(began) < restoreWithin {
		return false
	}
	since, ok := a.since[stream]
	if !ok {
		if a.since == nil {
			a.since = make(map[string]time.Time)
		}
		a.since[stream] = now
		return false
	}
	return now.Sub(since) >= absentFor
}

// there takes note that a stream is there.
func (a *absent) there(stream string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.since, stream)
	delete(a.restoring, stream)
}

func (a *absent) begun(stream string, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.restoring == nil {
		a.restoring = make(map[string]time.Time)
	}
	a.restoring[stream] = now
}

// A floor is up to where a pool's consumer had settled the calls when it was asked.
type floor struct {
	seq     uint64
	created time.Time // of the consumer
}

// floors are those of the pools that this process has asked for.
type floors struct {
	mu    sync.Mutex // guards pools
	pools map[string]floor
}

func (f *floors) note(pool string, of floor) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.pools == nil {
		f.pools = make(map[string]floor)
	}
	f.pools[pool] = of
}

func (f *floors) of(pool string) (floor, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	of, known := f.pools[pool]
	return of, known
}

// purgeSettled removes the calls that the consumer that was deleted had settled, so
// that the one that is made anew hands out none of them. It is on the safe side: what
// was settled after the floor was seen is handed out again.
func (b *Broker) purgeSettled(ctx context.Context, pool string, known floor) error {
	stream, err := b.js.Stream(ctx, CallsStream(pool))
	if err != nil {
		return apiError("read pool", pool, err)
	}
	info := stream.CachedInfo()
	if known.seq == 0 || known.created.Before(info.Created) || known.seq > info.State.LastSeq || known.seq < info.State.FirstSeq {
		return nil // it is of another stream, or there is nothing to gain
	}
	return apiError("purge settled calls", pool, b.purgeThrough(ctx, CallsStream(pool), "", known.seq))
}

// firstCall is the first sequence of a calls stream that is made. A worker that lives
// through the deletion of the one before tells them apart by it: their sequences never
// meet, since no stream takes a million calls a second from its first.
func (b *Broker) firstCall(ctx context.Context, pool string) uint64 {
	workers, err := b.Workers(ctx)
	_, known := b.floors.of(pool)
	if err == nil && !known && !slices.ContainsFunc(workers, func(w WorkerInfo) bool { return w.Pool == pool }) {
		return 0 // there was none, or nobody knows it: 1
	}
	return beyond()
}

// beyond is a first sequence that no stream before has come to.
func beyond() uint64 { return uint64(time.Now().UnixMicro()) } //nolint:gosec // after 1970

// Where the server tells of what becomes of streams; where it is asked to purge one,
// which others hear too; and where a node tells of a purge by hand.
const (
	subjectAdvisory = "$JS.EVENT.ADVISORY."
	subjectPurge    = "$JS.API.STREAM.PURGE."
	subjectPurged   = subjectEvent + "purged."
	subjectSwept    = subjectRegistry + "swept" // of the registries
)

// FollowPurges tells of the buckets that somebody purges other than the platform does,
// on cb.event.purged.<stream>, until ctx ends: the server tells nobody. It hears the
// requests for that, so it tells twice, the second time once it must have been done.
// It tells likewise of registries that were purged, deleted or restored: their entries
// are gone without a word of each.
func (b *Broker) FollowPurges(ctx context.Context) error {
	purged := make(chan string, 64)
	sub, err := b.nc.Subscribe(subjectPurge+"*", func(msg *nats.Msg) {
		stream := strings.TrimPrefix(msg.Subject, subjectPurge)
		if !strings.HasPrefix(stream, bucketStream("")) || ownPurge(stream, msg.Data) {
			return
		}
		select {
		case purged <- stream:
		default: // so many are told of together
		}
	})
	if err != nil {
		return apiError("listen for purges", "", err)
	}
	defer b.unsubscribe(sub)
	advisories, err := b.nc.Subscribe(subjectAdvisory+"STREAM.*.*", func(msg *nats.Msg) {
		if stream := msg.Subject[strings.LastIndexByte(msg.Subject, '.')+1:]; isRegistry(stream) {
			b.event(subjectSwept, nil)
		}
	})
	if err != nil {
		return apiError("listen for purges", "", err)
	}
	defer b.unsubscribe(advisories)
	tell := func(stream string) {
		if isRegistry(stream) {
			b.event(subjectSwept, nil)
			return
		}
		b.event(subjectPurged+stream, nil)
	}
	var again <-chan time.Time
	pending := make(map[string]bool)
	for {
		select {
		case <-ctx.Done():
			return nil
		case stream := <-purged:
			tell(stream)
			pending[stream] = true
			again = time.After(purgeTakes)
		case <-again:
			again = nil
			for stream := range pending {
				tell(stream)
			}
			clear(pending)
		}
	}
}

func isRegistry(stream string) bool {
	return stream == bucketStream(BucketFunctions) || stream == bucketStream(BucketDAGs)
}

// purgeTakes is how long a purge may take.
const purgeTakes = time.Second

// ownPurge says whether the platform purges a bucket so: a slot, a commit record, a result,
// a worker.
func ownPurge(stream string, body []byte) bool {
	bucket := strings.TrimPrefix(stream, bucketStream(""))
	if strings.HasPrefix(bucket, reservedPrefix) {
		return !isRegistry(stream)
	}
	var what struct {
		Filter string `json:"filter"`
	}
	return json.Unmarshal(body, &what) == nil && (strings.Contains(what.Filter, ".=.") || what.Filter == bucketSubject(bucket, recordPrefix+"*"))
}

// FollowDeletions tells fn of streams and consumers that are deleted, until ctx ends,
// by the server's advisories. fn must not block. It may miss some.
func (b *Broker) FollowDeletions(ctx context.Context, fn func(stream, consumer string)) error {
	for _, what := range []string{"STREAM.*.*", "CONSUMER.DELETED.*.*"} {
		sub, err := b.nc.Subscribe(subjectAdvisory+what, func(msg *nats.Msg) {
			tokens := strings.Split(strings.TrimPrefix(msg.Subject, subjectAdvisory), ".")
			switch verb, stream := tokens[1], tokens[2]; {
			case tokens[0] == "CONSUMER":
				fn(stream, tokens[3])
			case verb == "DELETED":
				fn(stream, "")
			case verb == "RESTORE_CREATE":
				b.absent.begun(stream, time.Now())
			case verb == "CREATED", verb == "RESTORE_COMPLETE":
				b.absent.there(stream)
				fn(stream, "")
			}
		})
		if err != nil {
			return apiError("listen for deletions", "", err)
		}
		defer b.unsubscribe(sub)
	}
	<-ctx.Done()
	return nil
}

// restored tells of something that was made anew.
func (b *Broker) restored(name, why string) {
	b.observe.restored(name, why)
	body, err := json.Marshal(map[string]string{"name": name, "reason": why})
	if err != nil {
		body = nil // strings always marshal
	}
	b.event(subjectEvent+"restored."+name, body)
}
