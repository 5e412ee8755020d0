package broker

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"strings"

	"github.com/klauspost/compress/s2"
	"github.com/nats-io/nats.go"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// What a run has seen travels as the header Cb-Session: JSON as it is while it is
// short, compressed when it is longer, and as chunks when it is more than the
// headers of a message hold.
const (
	sessionS2   = "s2:"
	sessionBlob = "blob:"

	sessionPlain  = 512      // bytes, up to which compression doesn't pay
	sessionInline = 24 << 10 // of 64 KiB that all headers of a message may take
)

// setPast adds what a run has seen to the headers of a message.
func (b *Broker) setPast(ctx context.Context, h nats.Header, past string) error {
	switch {
	case past == "":
		return nil
	case strings.HasPrefix(past, sessionS2), strings.HasPrefix(past, sessionBlob): // of a dead letter
	case len(past) > sessionPlain:
		var err error
		if past, err = b.packPast(ctx, past); err != nil {
			return err
		}
	}
	h[wire.HeaderSession] = []string{past}
	return nil
}

func (b *Broker) packPast(ctx context.Context, past string) (string, error) {
	packed := sessionS2 + base64.StdEncoding.EncodeToString(s2.Encode(nil, []byte(past)))
	if len(packed) <= min(sessionInline, int(b.payload.Load())/4) {
		return packed, nil
	}
	m, err := b.upload(ctx, []byte(past), func(digest string) string { return subjectBlob + digest })
	if err != nil {
		return "", err
	}
	for i := range m.Chunks {
		m.Chunks[i].Seq = 0 // it is found by its digest
	}
	body, err := json.Marshal(m)
	return sessionBlob + string(body), err
}

// Past returns what a call's Past stands for: what the run has seen, as it was
// given to the call. One that can't be read is an error of wire.KindBadArgument.
func (b *Broker) Past(ctx context.Context, text string) (string, error) {
	if packed, ok := strings.CutPrefix(text, sessionS2); ok {
		raw, err := base64.StdEncoding.DecodeString(packed)
		if err == nil {
			if n, lenErr := s2.DecodedLen(raw); lenErr != nil || n > MaxValue {
				return "", badSession("it is damaged")
			}
			raw, err = s2.Decode(nil, raw)
		}
		if err != nil {
			return "", badSession(err.Error())
		}
		return string(raw), nil
	}
	if packed, ok := strings.CutPrefix(text, sessionBlob); ok {
		v, err := b.Unpack(ctx, wire.Value{Body: []byte(packed), Type: manifestType})
		return string(v.Body), err
	}
	return text, nil
}

func badSession(why string) error {
	return &wire.Error{Op: "read session", Kind: wire.KindBadArgument, Name: wire.HeaderSession, Msg: why}
}
