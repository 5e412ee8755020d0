package broker

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// Large state values. The chunks of an element (a base, or a slot) are messages
// of the stream CB_CHUNKS_<namespace>, under the element's own name, and its
// manifest says their sequences. That stream is made by the first large value.
//
// State has no age, so what is superseded has to be purged. Whoever replaced an
// element purges its chunks that are older than their own, or than those they
// saw: nobody who stored theirs before can succeed after, the base because of
// its expected revision, a slot because it has one writer. They do so a while
// later, at a next write to the bucket, for the sake of those who read the
// manifest just before; who comes too late even so reads the key again. What
// isn't purged because the writer died, or because somebody deleted the key by
// hand, goes with the next large value of the element.

// chunksGrace is how long superseded chunks are kept.
const chunksGrace = 10 * time.Second

// large keeps the books of a bucket's large values.
type large struct {
	grace time.Duration // see chunksGrace

	mu   sync.Mutex        // guards what follows
	last map[string]uint64 // element to its last chunk; bounded by the large elements we saw
	old  []superseded      // in the order in which they are due
	made bool              // whether we know that the stream exists
}

// superseded are the chunks of an element up to a sequence.
type superseded struct {
	stored string
	upTo   uint64
	due    time.Time
}

// putLarge returns the body to store for an element: the given one, or the
// manifest of its chunks.
func (k *Bucket) putLarge(ctx context.Context, stored string, h nats.Header, body []byte) ([]byte, *manifest, error) {
	if k.b.whole(h, body) {
		return body, nil, nil
	}
	if err := k.makeChunks(ctx); err != nil {
		return nil, nil, err
	}
	m, err := k.b.upload(ctx, body, func(string) string { return subjectChunk + k.ns + "." + stored })
	if err != nil {
		return nil, nil, err
	}
	h[wire.HeaderChunks] = []string{"1"}
	body, err = json.Marshal(m)
	return body, &m, err
}

// makeChunks makes the stream of chunks.
func (k *Bucket) makeChunks(ctx context.Context) error {
	k.large.mu.Lock()
	made := k.large.made
	k.large.mu.Unlock()
	if made {
		return nil
	}
	if err := k.b.ensureStream(ctx, k.b.topology().chunks(k.ns)); err != nil {
		return err
	}
	k.large.mu.Lock()
	k.large.made = true
	k.large.mu.Unlock()
	return nil
}

// settleLarge keeps the books after an element was put, or wasn't.
func (k *Bucket) settleLarge(ctx context.Context, stored string, up *manifest, err error) {
	switch {
	case err == nil && up == nil:
		k.large.supersede(stored, 0)
	case err == nil:
		k.large.supersede(stored, up.first()-1)
		k.large.saw(stored, up.last())
	case up != nil && isStale(err):
		// Nothing points at them. Any other error leaves open whether it was stored.
		for _, c := range up.Chunks {
			k.tidied(k.b.api(ctx, "STREAM.MSG.DELETE."+chunksStream(k.ns), struct {
				Seq uint64 `json:"seq"`
			}{c.Seq}))
		}
	}
	k.sweep(ctx)
}

// getLarge reads the body that a manifest stands for.
func (k *Bucket) getLarge(ctx context.Context, stored string, raw []byte) ([]byte, error) {
	m, err := readManifest(raw)
	if err != nil {
		return nil, err
	}
	k.large.saw(stored, m.last())
	return m.download(ctx, func(ctx context.Context, c chunk) (*nats.Msg, error) {
		return k.b.bySeq(ctx, chunksStream(k.ns), c.Seq)
	})
}

// sweep purges what is due, but nothing that the element needs: of two writes
// that overlapped, the one that was acknowledged first may have been stored last.
func (k *Bucket) sweep(ctx context.Context) {
	for _, s := range k.large.due(time.Now()) {
		msg, err := k.b.last(ctx, k.stream, bucketSubject(k.ns, s.stored))
		if err == nil && msg != nil && wire.First(wire.Header(msg.Header), wire.HeaderChunks) != "" {
			var m manifest
			m, err = readManifest(msg.Data)
			s.upTo = min(s.upTo, m.first()-1)
		}
		if err == nil && s.upTo > 0 {
			err = k.b.purgeThrough(ctx, chunksStream(k.ns), subjectChunk+k.ns+"."+s.stored, s.upTo)
		}
		k.tidied(err)
	}
}

// tidied takes note of a removal that failed: what is left takes room and does
// no harm, and the next large value of the element removes it.
func (k *Bucket) tidied(err error) {
	if err != nil && !errors.Is(err, context.Canceled) {
		k.b.observe.asyncError(nil, &wire.Error{Op: "purge chunks", Kind: wire.KindUnavailable, Name: k.ns, Err: err})
	}
}

// saw takes note of an element's chunks.
func (l *large) saw(stored string, last uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.last == nil {
		l.last = make(map[string]uint64)
	}
	l.last[stored] = max(l.last[stored], last)
}

// supersede has an element's chunks purged up to a sequence, or all that we saw.
func (l *large) supersede(stored string, upTo uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if upTo == 0 {
		upTo = l.last[stored]
	}
	if upTo == 0 {
		return
	}
	delete(l.last, stored)
	l.old = append(l.old, superseded{stored, upTo, time.Now().Add(l.grace)})
}

// due takes from the books what may be purged now.
func (l *large) due(now time.Time) []superseded {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for n < len(l.old) && !l.old[n].due.After(now) {
		n++
	}
	ready := l.old[:n:n]
	l.old = l.old[n:]
	return ready
}

func (m manifest) first() uint64 {
	first := m.last()
	for _, c := range m.Chunks {
		first = min(first, c.Seq)
	}
	return first
}

func (m manifest) last() uint64 {
	var last uint64
	for _, c := range m.Chunks {
		last = max(last, c.Seq)
	}
	return last
}
