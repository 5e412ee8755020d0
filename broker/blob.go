package broker

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/klauspost/compress/s2"
	"github.com/nats-io/nats.go"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// Large values. A NATS message holds 1 MiB unless the server says otherwise, so
// a body over 256 KiB, or over what the server takes, is cut into chunks, each stored
// as a message of its own, and what travels in its place is a manifest, with the
// header Cb-Chunks:
//
//	{"size":700000,"chunks":[{"sha256":"9f86…","size":524288},{"sha256":"60303…","size":175712}]}
//
// A chunk's message is compressed (Content-Encoding: snappy, which every language has
// a reader of) where that pays. A
// chunk of an argument or result is found by its digest, so equal ones are
// stored once; for those of state values see chunks.go.
const (
	// MaxValue is the largest argument, result or state value, in bytes.
	MaxValue = 64 << 20

	packOver  = 256 << 10
	chunkSize = 512 << 10

	// chunksInFlight bounds what one value puts onto the connection, which it
	// shares with calls, to 4 MiB.
	chunksInFlight = 8

	// manifestType is put before the type of a Value whose body is a manifest.
	manifestType = "application/vnd.cloudburst.chunks;"

	headerEncoding = "Content-Encoding"
	encodingSnappy = "snappy" // the block format
	encodingS2     = "s2"     // its extension, of chunks that an earlier version stored
)

// A manifest says how to put a large body together.
type manifest struct {
	Size   int     `json:"size"`
	Chunks []chunk `json:"chunks"`
}

type chunk struct {
	Digest string `json:"sha256"` // of the chunk as it is in the body, in hex
	Size   int    `json:"size"`   // of the same
	Seq    uint64 `json:"seq,omitempty"`
}

// pack returns the body to send with the headers h: the given one, or where
// that is large a manifest, once its chunks are stored. A body that is a
// manifest already, as its type says, stays one. Over MaxValue it is an error
// of KindTooLarge.
func (b *Broker) pack(ctx context.Context, h nats.Header, body []byte) ([]byte, error) {
	if typ, ok := strings.CutPrefix(wire.First(wire.Header(h), wire.HeaderType), manifestType); ok {
		delete(h, wire.HeaderType)
		if typ != "" {
			h[wire.HeaderType] = []string{typ}
		}
		h[wire.HeaderChunks] = []string{"1"}
		return body, nil
	}
	if b.whole(h, body) {
		return body, nil
	}
	return b.chunked(ctx, h, body)
}

// Unpack returns a value with its body, where that travelled as chunks; any
// other value as it is. A chunk that is gone is an error of KindUnknown, one
// that was changed of KindInvalid.
func (b *Broker) Unpack(ctx context.Context, v wire.Value) (wire.Value, error) {
	typ, ok := strings.CutPrefix(v.Type, manifestType)
	if !ok {
		return v, nil
	}
	m, err := readManifest(v.Body)
	if err != nil {
		return wire.Value{}, err
	}
	body, err := m.download(ctx, func(ctx context.Context, c chunk) (*nats.Msg, error) {
		return b.last(ctx, StreamBlobs, subjectBlob+c.Digest)
	})
	if wire.KindOf(err) == wire.KindUnknown {
		return wire.Value{}, &wire.Error{Kind: wire.KindUnknown, Name: "value", Msg: fmt.Sprintf("a part of it is gone: large values are kept for %v after they were last sent; send it again", b.topology().Blobs), Err: err}
	}
	return wire.Value{Body: body, Type: typ}, err
}

// upload stores the chunks of a body and returns once all are acknowledged.
func (b *Broker) upload(ctx context.Context, body []byte, subject func(digest string) string) (manifest, error) {
	if most := b.valueAtMost(); len(body) > most {
		return manifest{}, tooLarge("store value", "", len(body), most, "store parts of it under keys and pass references, or keep it in an object store and pass its name")
	}
	size := b.chunkBytes()
	type ack struct {
		i   int
		seq uint64
		err error
	}
	m := manifest{Size: len(body)}
	acks := make(chan ack, chunksInFlight)
	pending := 0
	settle := func() error {
		select {
		case a := <-acks:
			pending--
			if a.err == nil {
				m.Chunks[a.i].Seq = a.seq
			}
			return apiError("store value", "", a.err)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	// One for all chunks: the client copies what it sends.
	scratch := make([]byte, s2.MaxEncodedLen(min(len(body), size)))
	for start := 0; start < len(body); start += size {
		raw := body[start:min(start+size, len(body))]
		sum := sha256.Sum256(raw)
		c := chunk{Digest: hex.EncodeToString(sum[:]), Size: len(raw)}
		i := len(m.Chunks)
		m.Chunks = append(m.Chunks, c)
		if pending == chunksInFlight {
			if err := settle(); err != nil {
				return manifest{}, err
			}
		}
		pending++
		b.mux.publish(chunkMsg(subject(c.Digest), raw, scratch), func(seq uint64, err error) { acks <- ack{i, seq, err} })
	}
	for pending > 0 {
		if err := settle(); err != nil {
			return manifest{}, err
		}
	}
	return m, nil
}

// chunkMsg compresses a chunk, into scratch, where that saves an eighth at least.
func chunkMsg(subject string, raw, scratch []byte) *nats.Msg {
	msg := &nats.Msg{Subject: subject, Data: raw}
	if packed := s2.EncodeSnappy(scratch, raw); len(packed) <= len(raw)*7/8 {
		msg.Header, msg.Data = nats.Header{headerEncoding: {encodingSnappy}}, packed
	}
	return msg
}

// readManifest reads and checks what somebody sent: it may be anything.
func readManifest(body []byte) (manifest, error) {
	var m manifest
	err := json.Unmarshal(body, &m)
	size := 0
	for _, c := range m.Chunks {
		if sum, bad := hex.DecodeString(c.Digest); bad != nil || len(sum) != sha256.Size || c.Size <= 0 || c.Size > chunkSize {
			size = -1
			break
		}
		size += c.Size
	}
	if err != nil || size != m.Size || size > MaxValue {
		return manifest{}, &wire.Error{Kind: wire.KindBadArgument, Name: "value", Msg: "the header " + wire.HeaderChunks + " says that this is a manifest of chunks, and it isn't", Err: err}
	}
	return m, nil
}

// download puts a body together from what fetch returns for each chunk, nil
// where there is nothing. A few are fetched at a time.
func (m manifest) download(ctx context.Context, fetch func(context.Context, chunk) (*nats.Msg, error)) ([]byte, error) {
	body := make([]byte, m.Size)
	starts := make([]int, len(m.Chunks))
	for i, c := range m.Chunks[:max(len(m.Chunks)-1, 0)] {
		starts[i+1] = starts[i] + c.Size
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var all sync.WaitGroup
	for range min(chunksInFlight, len(m.Chunks)) {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(m.Chunks) && ctx.Err() == nil; i = int(next.Add(1)) - 1 {
				c := m.Chunks[i]
				msg, err := fetch(ctx, c)
				if err == nil {
					err = c.read(body[starts[i]:starts[i]+c.Size], msg)
				}
				if err != nil {
					cancel(apiError("read value", "", err)) // the first counts
				}
			}
		})
	}
	all.Wait()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return body, nil
}

// read writes the chunk that a message holds to its place, and checks it.
func (c chunk) read(place []byte, msg *nats.Msg) error {
	if msg == nil {
		return &wire.Error{Kind: wire.KindUnknown, Name: "chunk " + c.Digest, Msg: "not there any more"}
	}
	damaged := &wire.Error{Kind: wire.KindInvalid, Name: "chunk " + c.Digest, Msg: "it isn't what was stored"}
	raw := msg.Data
	if encoding := wire.First(wire.Header(msg.Header), headerEncoding); encoding == encodingSnappy || encoding == encodingS2 {
		if n, err := s2.DecodedLen(raw); err != nil || n != c.Size {
			return damaged
		}
		var err error
		if raw, err = s2.Decode(place[:0:len(place)], raw); err != nil {
			return damaged
		}
	}
	if sum := sha256.Sum256(raw); len(raw) != c.Size || hex.EncodeToString(sum[:]) != c.Digest {
		return damaged
	}
	copy(place, raw)
	return nil
}
