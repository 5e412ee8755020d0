package broker

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/nats-io/nats.go"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// A message holds so many bytes, its headers included, as the server's max_payload
// says. What doesn't fit travels as chunks: see blob.go.
const (
	// leastPayload is the least max_payload of a server that we can work with: the
	// headers of a call alone may take most of it.
	leastPayload = 64 << 10
	// headersAtMost is how much the headers of a message take, as the server has it.
	headersAtMost = 64 << 10
	// headerRoom is for the headers that a message gets after it was packed.
	headerRoom = 4 << 10
)

// checkPayload takes note of how much a message holds.
func (b *Broker) checkPayload() error {
	most := b.nc.MaxPayload()
	b.payload.Store(most)
	if most < leastPayload {
		return &wire.Error{Op: "connect to NATS", Name: b.nc.ConnectedUrlRedacted(), Kind: wire.KindConflict, Msg: fmt.Sprintf("the server's max_payload is %d bytes, and calls need %d at least: raise it", most, leastPayload)}
	}
	return nil
}

// whole says whether a body travels in one message with the headers h, and with those
// that it gets later.
func (b *Broker) whole(h nats.Header, body []byte) bool {
	return len(body) <= packOver && b.fits(h, body, headerRoom)
}

// fits says whether a message with these headers and body is one that the server
// takes, with some room beside it.
func (b *Broker) fits(h nats.Header, body []byte, room int) bool {
	most := int(b.payload.Load())
	return len(body)+headersAtMost+room <= most || (&nats.Msg{Header: h, Data: body}).Size()+room <= most
}

// chunkBytes is how large a chunk is.
func (b *Broker) chunkBytes() int { return min(chunkSize, int(b.payload.Load())-headerRoom) }

// valueAtMost is the largest value: its manifest, of some 110 bytes for each chunk,
// must fit into a message with room for headers.
func (b *Broker) valueAtMost() int {
	return min(MaxValue, int(b.payload.Load())/2/128*b.chunkBytes())
}

// tooLarge is the error of what no message, or no value, holds.
func tooLarge(op, name string, size, most int, then string) error {
	return &wire.Error{Op: op, Name: name, Kind: wire.KindTooLarge, Msg: fmt.Sprintf("%d bytes; the limit is %d: %s", size, most, then)}
}

// chunked stores the chunks of a body and returns the manifest that travels in its
// place, with the headers h.
func (b *Broker) chunked(ctx context.Context, h nats.Header, body []byte) ([]byte, error) {
	// A chunk that exists is stored again, so that its age starts anew.
	m, err := b.upload(ctx, body, func(digest string) string { return subjectBlob + digest })
	if err != nil {
		return nil, err
	}
	for i := range m.Chunks {
		m.Chunks[i].Seq = 0 // it is found by its digest
	}
	h[wire.HeaderChunks] = []string{"1"}
	return json.Marshal(m)
}

// copyFor returns a result as it is sent to a client that may know no chunks: whole, if
// a message holds it, else as it is stored.
func (b *Broker) copyFor(ctx context.Context, h nats.Header, stored []byte) (nats.Header, []byte) {
	if wire.First(wire.Header(h), wire.HeaderChunks) == "" {
		return h, stored
	}
	m, err := readManifest(stored)
	if err != nil || m.Size > int(b.payload.Load()) {
		return h, stored
	}
	v, err := b.Unpack(ctx, wire.Value{Body: stored, Type: manifestType})
	if err != nil {
		return h, stored
	}
	return b.unchunked(h, v.Body, stored)
}

// unchunked returns a message with the whole body in place of its manifest, if that
// is one which the server takes.
func (b *Broker) unchunked(h nats.Header, body, manifest []byte) (nats.Header, []byte) {
	plain := make(nats.Header, len(h))
	for key, v := range h {
		if key != wire.HeaderChunks {
			plain[key] = v
		}
	}
	if !b.fits(plain, body, 0) {
		return h, manifest
	}
	return plain, body
}
