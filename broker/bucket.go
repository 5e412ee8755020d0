package broker

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"strconv"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cloudburst-nats/cloudburst/kvlattice"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// A Bucket is the storage of one namespace: the stream of a NATS key-value
// bucket, where a key's base is the bucket's key, and the slots of its writers
// are keys below it:
//
//	$KV.state.cart.42          base
//	$KV.state.cart.42.=.w7     the slot of the writer w7
//
// It is a kvlattice.Bucket and a kvlattice.Feed; methods may be called
// concurrently. On a replicated bucket a read may come from a replica that
// lags: what it shows is complete, but may be older than a write that was
// acknowledged before. Whoever joins what was read with what they know, as
// kvlattice does, isn't misled.
type Bucket struct {
	b      *Broker
	ns     string
	stream string
	large  large

	updates chan *nats.Msg // what the subscriptions of all followed keys deliver

	mu       sync.Mutex // guards what follows
	followed map[string]follow
	again    <-chan struct{} // closed at a reconnect that no listener was told of
	// reconnects is how many of them a listener was told of.
	reconnects uint64
	leading    leading // of a replicated stream: see watch
}

var (
	_ kvlattice.Bucket = (*Bucket)(nil)
	_ kvlattice.Feed   = (*Bucket)(nil)
)

// OpenBucket returns the storage of a namespace, which is made if need be.
func (b *Broker) OpenBucket(ctx context.Context, ns string) (*Bucket, error) {
	if err := b.EnsureNamespace(ctx, ns); err != nil {
		return nil, err
	}
	return &Bucket{
		b: b, ns: ns, stream: bucketStream(ns), large: large{grace: chunksGrace},
		updates: make(chan *nats.Msg, feedQueue), followed: make(map[string]follow),
		again: b.epoch(), reconnects: b.nc.Stats().Reconnects,
	}, nil
}

// readTries is how often a read starts over when what it reads is replaced
// under its hands.
const readTries = 8

// Read returns a snapshot of the key with every write of it up to sequence
// after: one request, and one moment of one replica that has come that far.
func (k *Bucket) Read(ctx context.Context, key string, after uint64) (kvlattice.Snapshot, error) {
	escaped, err := kvlattice.EscapeKey(key)
	if err != nil {
		return kvlattice.Snapshot{}, err
	}
	base := bucketSubject(k.ns, escaped)
	for range readTries {
		var msgs []*nats.Msg
		var upTo uint64
		msgs, upTo, err = k.b.lastAsOf(ctx, k.stream, []string{base, kvlattice.SlotKey(base, "*")}, after)
		if errors.Is(err, errTooMany) {
			msgs, err = k.readPages(ctx, base)
		}
		if err != nil {
			break
		}
		var snap kvlattice.Snapshot
		if snap, err = k.snapshot(ctx, msgs); wire.KindOf(err) != wire.KindUnknown {
			if err != nil {
				break
			}
			snap.AsOf = max(upTo, after)
			return snap, nil
		} // else a large value was replaced, and its chunks purged, since we read of it
	}
	return kvlattice.Snapshot{}, apiError("read", key, err)
}

// readPages reads a key that is too much for one request. The base is read
// before the slots and after: if it is the same, no slot can have been folded
// into a base that we don't show. After, the leader is asked, who applied a
// base before anybody could purge the slots that it includes.
func (k *Bucket) readPages(ctx context.Context, base string) ([]*nats.Msg, error) {
	for range readTries {
		first, err := k.b.last(ctx, k.stream, base)
		if err != nil {
			return nil, err
		}
		// A slot that is overwritten meanwhile comes again, later.
		latest := make(map[string]*nats.Msg)
		err = k.b.scan(ctx, k.stream, kvlattice.SlotKey(base, "*"), 0, func(msg *nats.Msg) bool {
			latest[msg.Header.Get(jetstream.SubjectHeader)] = msg
			return true
		})
		if err != nil {
			return nil, err
		}
		seq, err := k.lastSeq(ctx, base)
		if err != nil {
			return nil, err
		}
		var was uint64
		msgs := make([]*nats.Msg, 0, len(latest)+1)
		if first != nil {
			was = sequenceOf(first)
			msgs = append(msgs, first)
		}
		if was != seq {
			continue
		}
		for _, msg := range latest {
			msgs = append(msgs, msg)
		}
		return msgs, nil
	}
	return nil, &wire.Error{Kind: wire.KindBusy, Msg: "its base is replaced faster than its slots can be read"}
}

// lastSeq asks the stream's leader for the sequence of a subject's last
// message, 0 if there is none.
func (k *Bucket) lastSeq(ctx context.Context, subject string) (uint64, error) {
	return k.b.leaderSeq(ctx, k.stream, getMsg{Last: subject})
}

// A getMsg asks for the last message of a subject, or the next one from a
// sequence on, wildcards allowed.
type getMsg struct {
	Last string `json:"last_by_subj,omitempty"`
	Seq  uint64 `json:"seq,omitempty"`
	Next string `json:"next_by_subj,omitempty"`
}

// leaderSeq asks a stream's leader for the sequence of a message, 0 if there is none.
func (b *Broker) leaderSeq(ctx context.Context, stream string, what getMsg) (uint64, error) {
	msg, err := b.stored(ctx, stream, what)
	if err != nil || msg == nil {
		return 0, err
	}
	return sequenceOf(msg), nil
}

// snapshot makes entries of a key's messages.
func (k *Bucket) snapshot(ctx context.Context, msgs []*nats.Msg) (kvlattice.Snapshot, error) {
	var snap kvlattice.Snapshot
	for _, msg := range msgs {
		stored := msg.Header.Get(jetstream.SubjectHeader)[len(subjectKV)+len(k.ns)+1:]
		_, writer := kvlattice.SplitSlot(stored)
		e, err := k.entry(ctx, stored, writer, msg)
		if err != nil {
			return kvlattice.Snapshot{}, err
		}
		if writer == "" {
			snap.Base = &e
			continue
		}
		if snap.Slots == nil {
			snap.Slots = make([]kvlattice.Entry, 0, len(msgs))
		}
		snap.Slots = append(snap.Slots, e)
	}
	return snap, nil
}

// entry reads one element, as direct gets and republished messages have it. A
// value that was put by hand has no headers of ours, and no more than that.
func (k *Bucket) entry(ctx context.Context, stored, writer string, msg *nats.Msg) (kvlattice.Entry, error) {
	e := kvlattice.Entry{
		Writer: writer, Header: wire.Header(msg.Header), Body: msg.Data,
		Rev: sequenceOf(msg), At: storedAt(msg),
	}
	if msg.Size() > 2*len(msg.Data) { // a cache that kept the body would keep the headers, too
		e.Body = bytes.Clone(msg.Data)
	}
	if wire.First(e.Header, wire.HeaderChunks) == "" {
		return e, nil
	}
	delete(e.Header, wire.HeaderChunks)
	var err error
	e.Body, err = k.getLarge(ctx, stored, msg.Data)
	return e, err
}

// PutBase replaces the base if its revision is still rev (0: there is none),
// else returns kvlattice.ErrStale. It returns the new revision.
func (k *Bucket) PutBase(ctx context.Context, key string, e kvlattice.Entry, rev uint64) (uint64, error) {
	escaped, err := kvlattice.EscapeKey(key)
	if err != nil {
		return 0, err
	}
	h := headerOf(e)
	h[jetstream.ExpectedLastSubjSeqHeader] = []string{strconv.FormatUint(rev, 10)}
	seq, err := k.put(ctx, escaped, h, e.Body)
	if isStale(err) {
		return 0, kvlattice.ErrStale
	}
	return seq, apiError("write", key, err)
}

// PutSlot overwrites the slot of e.Writer, whatever it holds, and returns its
// revision.
func (k *Bucket) PutSlot(ctx context.Context, key string, e kvlattice.Entry) (uint64, error) {
	slot, err := slotOf(key, e.Writer)
	if err != nil {
		return 0, err
	}
	seq, err := k.put(ctx, slot, headerOf(e), e.Body)
	return seq, apiError("write", key, err)
}

// PurgeSlot removes the writer's slot unless it is newer than rev.
func (k *Bucket) PurgeSlot(ctx context.Context, key, writer string, rev uint64) error {
	slot, err := slotOf(key, writer)
	if err != nil {
		return err
	}
	if err := k.b.purgeThrough(ctx, k.stream, bucketSubject(k.ns, slot), rev); err != nil {
		return apiError("purge slot", key, err)
	}
	k.large.supersede(slot, 0)
	k.sweep(ctx)
	return nil
}

// put stores an element: its chunks first, where it is large.
func (k *Bucket) put(ctx context.Context, stored string, h nats.Header, body []byte) (uint64, error) {
	body, up, err := k.putLarge(ctx, stored, h, body)
	if err != nil {
		return 0, err
	}
	seq, err := k.b.put(ctx, &nats.Msg{Subject: bucketSubject(k.ns, stored), Header: h, Data: body})
	k.settleLarge(ctx, stored, up, err)
	return seq, err
}

// headerOf returns the element's headers, to add to.
func headerOf(e kvlattice.Entry) nats.Header {
	h := make(nats.Header, len(e.Header)+2)
	maps.Copy(h, e.Header)
	return h
}

// slotOf returns under what a writer's slot is stored.
func slotOf(key, writer string) (string, error) {
	escaped, err := kvlattice.EscapeKey(key)
	if err != nil {
		return "", err
	}
	if writer == "" || strings.ContainsAny(writer, ".*> \t\r\n") {
		return "", &wire.Error{Kind: wire.KindBadName, Name: writer, Msg: "the writer of a slot must be one token of a subject"}
	}
	return kvlattice.SlotKey(escaped, writer), nil
}
