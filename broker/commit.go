package broker

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cloudburst-nats/cloudburst/kvlattice"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// A commit is one atomic batch (ADR-50) of a bucket's stream: first its record,
// under $KV.<ns>.=done.<record>, which must not exist, then the slots. On one
// server with file storage the server stages it in a file of its own and syncs
// that, which takes milliseconds; on a cluster it costs about as much as a write.
const (
	headerBatchID     = "Nats-Batch-Id"
	headerBatchSeq    = "Nats-Batch-Sequence"
	headerBatchCommit = "Nats-Batch-Commit"
	headerTTL         = "Nats-TTL"

	recordPrefix = "=done."
	// commitAtMost is how many keys a commit writes: the server takes 1,000
	// messages a batch.
	commitAtMost = 999
)

var _ kvlattice.Transactions = (*Bucket)(nil)

// Commit stores a record and the slots, all or nothing. The record is kept as long as its
// run goes on, and for Topology.Runs at least: the janitor removes it.
func (k *Bucket) Commit(ctx context.Context, record string, r kvlattice.Record, slots []kvlattice.KeySlot) (uint64, error) {
	most := min(packOver, int(k.b.payload.Load())-2*headerRoom)
	switch {
	case len(slots) > commitAtMost:
		return 0, &wire.Error{Op: "commit", Kind: wire.KindTooLarge, Msg: fmt.Sprintf("%d keys, %d at most in one transaction", len(slots), commitAtMost)}
	case len(r.Value.Body) > most:
		return 0, tooLarge("commit the result of a transaction", "", len(r.Value.Body), most, "put it under a key and return that")
	}
	h := nats.Header{jetstream.ExpectedLastSubjSeqHeader: {"0"}}
	setHeader(h, wire.HeaderType, r.Value.Type)
	if r.At != (kvlattice.Timestamp{}) {
		setHeader(h, kvlattice.HeaderTimestamp, r.At.String())
	}
	msgs := make([]*nats.Msg, 0, 1+len(slots))
	msgs = append(msgs, &nats.Msg{Subject: bucketSubject(k.ns, recordPrefix+escapeToken(record)), Header: h, Data: r.Value.Body})
	ups := make([]*manifest, len(slots))
	names := make([]string, len(slots))
	for i, slot := range slots {
		stored, err := slotOf(slot.Key, slot.Entry.Writer)
		if err != nil {
			return 0, err
		}
		h := headerOf(slot.Entry)
		body, up, err := k.putLarge(ctx, stored, h, slot.Entry.Body)
		if err != nil {
			return 0, apiError("commit", slot.Key, err)
		}
		names[i], ups[i] = stored, up
		msgs = append(msgs, &nats.Msg{Subject: bucketSubject(k.ns, stored), Header: h, Data: body})
	}
	seq, err := k.b.putBatch(ctx, msgs)
	for i := range slots {
		k.settleLarge(ctx, names[i], ups[i], err)
	}
	if isStale(err) {
		return 0, kvlattice.ErrCommitted
	}
	return seq, apiError("commit", record, err)
}

// putBatch stores messages of one stream, all or nothing, and returns the
// sequence of the last.
func (b *Broker) putBatch(ctx context.Context, msgs []*nats.Msg) (uint64, error) {
	id := string(wire.NewRunID())
	for i, msg := range msgs {
		msg.Header[headerBatchID] = []string{id}
		msg.Header[headerBatchSeq] = []string{strconv.Itoa(i + 1)}
		if i < len(msgs)-1 {
			if err := b.nc.PublishMsg(msg); err != nil {
				return 0, err
			}
		}
	}
	last := msgs[len(msgs)-1]
	last.Header[headerBatchCommit] = []string{"1"}
	return b.put(ctx, last)
}

// Recorded returns the record of a commit, and whether there is one.
func (k *Bucket) Recorded(ctx context.Context, record string) (kvlattice.Record, bool, error) {
	msg, err := k.b.last(ctx, k.stream, bucketSubject(k.ns, recordPrefix+escapeToken(record)))
	if err != nil || msg == nil || isMarker(msg) {
		return kvlattice.Record{}, false, apiError("read commit", record, err)
	}
	r := kvlattice.Record{Value: wire.Value{Body: msg.Data, Type: msg.Header.Get(wire.HeaderType)}}
	if at := msg.Header.Get(kvlattice.HeaderTimestamp); at != "" { // older ones have none
		if r.At, err = kvlattice.ParseTimestamp(at); err != nil {
			return kvlattice.Record{}, false, &wire.Error{Op: "read commit", Name: record, Kind: wire.KindInvalid, Msg: err.Error()}
		}
	}
	return r, true, nil
}

// ReadAll returns one snapshot of several keys: one request, and one moment of
// one replica. What is more than the server reads at once is KindTooLarge.
func (k *Bucket) ReadAll(ctx context.Context, keys []string, after uint64) ([]kvlattice.Snapshot, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	index := make(map[string]int, len(keys))
	filters := make([]string, 0, 2*len(keys))
	for i, key := range keys {
		escaped, err := kvlattice.EscapeKey(key)
		if err != nil {
			return nil, err
		}
		index[escaped] = i
		base := bucketSubject(k.ns, escaped)
		filters = append(filters, base, kvlattice.SlotKey(base, "*"))
	}
	for range readTries {
		msgs, upTo, err := k.b.lastAsOf(ctx, k.stream, filters, after)
		if errors.Is(err, errTooMany) {
			return nil, &wire.Error{Op: "read", Kind: wire.KindTooLarge, Msg: fmt.Sprintf("%d keys with all that was written to them lately are more than the server reads at one moment (1,024 elements, 64 MiB): read fewer, or again in a second", len(keys))}
		}
		if err != nil {
			return nil, apiError("read", keys[0], err)
		}
		snaps, err := k.snapshots(ctx, index, msgs, len(keys))
		if wire.KindOf(err) == wire.KindUnknown {
			continue // a large value was replaced since we read of it
		}
		for i := range snaps {
			snaps[i].AsOf = upTo
		}
		return snaps, err
	}
	return nil, &wire.Error{Op: "read", Kind: wire.KindBusy, Msg: "large values among the keys are replaced faster than they can be read"}
}

// snapshots sorts the messages of several keys.
func (k *Bucket) snapshots(ctx context.Context, index map[string]int, msgs []*nats.Msg, n int) ([]kvlattice.Snapshot, error) {
	of := make([][]*nats.Msg, n)
	for _, msg := range msgs {
		escaped, _ := kvlattice.SplitSlot(strings.TrimPrefix(msg.Header.Get(jetstream.SubjectHeader), bucketSubject(k.ns, "")))
		if i, ok := index[escaped]; ok {
			of[i] = append(of[i], msg)
		}
	}
	snaps := make([]kvlattice.Snapshot, n)
	for i := range snaps {
		var err error
		if snaps[i], err = k.snapshot(ctx, of[i]); err != nil {
			return nil, err
		}
	}
	return snaps, nil
}
