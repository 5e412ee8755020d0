package broker

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// MemberTTL is after how long without an announcement a worker counts as gone.
// A worker announces itself every third of it.
const MemberTTL = 10 * time.Second

// A WorkerInfo is what a worker says of itself.
type WorkerInfo struct {
	ID       string `json:"id"` // of this incarnation: letters, digits, '_' and '-'
	Pool     string `json:"pool"`
	Host     string `json:"host"`
	PID      int    `json:"pid"`
	Version  string `json:"version"`
	Slots    int    `json:"slots"`
	MinSlots int    `json:"min_slots,omitempty"` // to how few it may be told to go
	MaxSlots int    `json:"max_slots,omitempty"` // to how many; 0: it keeps those it has
	Busy     int    `json:"busy"`
	Blocked  int    `json:"blocked,omitempty"` // calls in hand that wait for others, without a slot
	// Functions are those that it serves, by name, or the first hundred of them; of
	// how many, FunctionCount says. Such a worker serves all of its pool's.
	Functions     []string  `json:"functions"`
	FunctionCount int       `json:"function_count,omitempty"`
	Deploys       bool      `json:"deploys,omitempty"` // serves what is deployed to its pool
	Started       time.Time `json:"started"`

	// Since it started.
	Calls    uint64 `json:"calls"`
	Failures uint64 `json:"failures"`
	Retries  uint64 `json:"retries"`
	Restarts uint64 `json:"restarts"` // runs that it had begin again
	Pinned   int64  `json:"pinned"`   // bytes of versions that it keeps for runs

	CacheBytes int64 `json:"cache_bytes"`
	CacheKeys  int   `json:"cache_keys"`

	// References in arguments, and the calls that have them.
	Placement
}

// Placement counts what a worker did about references in arguments, since it
// started.
type Placement struct {
	RefHits   uint64 `json:"ref_hits"`   // found in its cache
	RefMisses uint64 `json:"ref_misses"` // read from the bucket
	Handed    uint64 `json:"handed"`     // calls that another worker took from it
	Taken     uint64 `json:"taken"`      // that it took from others
	Refused   uint64 `json:"refused"`    // that it offered to others in vain
}

// Serves says whether the worker serves a function of a pool.
func (w *WorkerInfo) Serves(pool, name string) bool {
	if w.FunctionCount > len(w.Functions) {
		return w.Pool == pool
	}
	return slices.Contains(w.Functions, name)
}

// namesAnnounced is how many functions an announcement names: it is repeated every
// few seconds, and everybody who lists the workers reads all of it.
const namesAnnounced = 100

// Announce says that a worker is there, for MemberTTL.
func (b *Broker) Announce(ctx context.Context, w WorkerInfo) error {
	if err := wire.CheckName("worker", w.ID); err != nil {
		return err
	}
	if w.FunctionCount = len(w.Functions); w.FunctionCount > namesAnnounced {
		w.Functions = w.Functions[:namesAnnounced]
	}
	body, err := json.Marshal(w)
	if err != nil {
		return err
	}
	h := nats.Header{jetstream.MsgTTLHeader: {MemberTTL.String()}}
	_, err = b.put(ctx, &nats.Msg{Subject: bucketSubject(BucketWorkers, w.ID), Header: h, Data: body})
	return apiError("announce worker", w.ID, err)
}

// Retire says that a worker has gone, so that nobody has to wait until its
// announcement lapses.
func (b *Broker) Retire(ctx context.Context, id string) error {
	if err := wire.CheckName("worker", id); err != nil {
		return err
	}
	return apiError("retire worker", id, b.purge(ctx, bucketStream(BucketWorkers), map[string]string{"filter": bucketSubject(BucketWorkers, id)}))
}

// Workers lists the workers that are there, by pool and id.
func (b *Broker) Workers(ctx context.Context) ([]WorkerInfo, error) {
	list, broken, err := b.announced(ctx)
	b.TellBroken(broken...)
	return list, err
}

// announced reads the announcements; broken are entries that are none.
func (b *Broker) announced(ctx context.Context) (list []WorkerInfo, broken []BrokenEntry, err error) {
	// One token: locks have two.
	err = b.scan(ctx, bucketStream(BucketWorkers), bucketSubject(BucketWorkers, "*"), 0, func(msg *nats.Msg) bool {
		if isMarker(msg) {
			return true
		}
		key := strings.TrimPrefix(msg.Header.Get(jetstream.SubjectHeader), bucketSubject(BucketWorkers, ""))
		if w, err := decodeWorker(key, msg.Data); err != nil {
			broken = append(broken, BrokenEntry{Bucket: BucketWorkers, Key: key, Reason: err.Error()})
		} else {
			list = append(list, w)
		}
		return true
	})
	slices.SortFunc(list, func(x, y WorkerInfo) int {
		if x.Pool != y.Pool {
			return strings.Compare(x.Pool, y.Pool)
		}
		return strings.Compare(x.ID, y.ID)
	})
	return list, broken, apiError("list workers", "", err)
}

// decodeWorker reads an announcement; what a hand wrote in its place is no worker.
func decodeWorker(key string, body []byte) (WorkerInfo, error) {
	var w WorkerInfo
	if err := json.Unmarshal(body, &w); err != nil {
		return w, notAnEntry(err)
	}
	if w.ID != key {
		return w, &wire.Error{Kind: wire.KindInvalid, Msg: "it bears another name than its key: " + w.ID}
	}
	return w, nil
}

// FunctionStats are the numbers of one function or DAG on one worker, since the
// worker started.
type FunctionStats struct {
	Calls     uint64        `json:"calls"`
	Errors    uint64        `json:"errors"`
	Took      time.Duration `json:"took"`             // nanoseconds, of all calls together
	Waited    time.Duration `json:"waited,omitempty"` // of that, for other calls and without a slot
	LastError string        `json:"last_error,omitempty"`
}

// statsPart is how many functions' numbers one message holds: even with long
// names and errors it stays well under the server's max_payload.
const statsPart = 500

// PublishStats tells the gateways a worker's numbers, by function or DAG. It
// doesn't wait: the numbers only rise, so that the next ones make up for what
// is lost.
func (b *Broker) PublishStats(worker string, stats map[string]FunctionStats) error {
	if err := wire.CheckName("worker", worker); err != nil {
		return err
	}
	used := slices.DeleteFunc(slices.Sorted(maps.Keys(stats)), func(name string) bool { return stats[name].Calls == 0 })
	for names := range slices.Chunk(used, statsPart) {
		part := make(map[string]FunctionStats, len(names))
		for _, name := range names {
			s := stats[name]
			s.LastError = clipString(s.LastError, 300)
			part[name] = s
		}
		body, err := json.Marshal(part)
		if err != nil {
			return err
		}
		if err := b.nc.Publish(subjectStats+worker, body); err != nil {
			return apiError("publish numbers", worker, err)
		}
	}
	return nil
}
