package broker

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/cloudburst-nats/cloudburst/wire"
)

func openPlatform(t testing.TB, topology Topology) *Broker {
	t.Helper()
	s, err := StartServer(t.Context(), ServerConfig{Listen: "none", Store: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Shutdown)
	b := connect(t, s, topology)
	if err := b.EnsurePlatform(t.Context()); err != nil {
		t.Fatal(err)
	}
	return b
}

// noisy returns bytes that don't compress.
func noisy(t testing.TB, n int) []byte {
	t.Helper()
	b := make([]byte, n)
	if _, err := rand.NewChaCha8([32]byte{byte(n)}).Read(b); err != nil {
		t.Fatal(err)
	}
	return b
}

// packed returns the value that travels.
func packed(t testing.TB, b *Broker, v wire.Value) wire.Value {
	t.Helper()
	h := nats.Header{}
	if v.Type != "" {
		h[wire.HeaderType] = []string{v.Type}
	}
	body, err := b.pack(t.Context(), h, v.Body)
	if err != nil {
		t.Fatal(err)
	}
	out := wire.Value{Body: body, Type: wire.First(wire.Header(h), wire.HeaderType)}
	if wire.First(wire.Header(h), wire.HeaderChunks) != "" {
		out.Type = manifestType + out.Type
	}
	return out
}

func TestLargeValuesTravelAsChunks(t *testing.T) {
	b := openPlatform(t, Topology{})
	text := bytes.Repeat([]byte("the same again "), 200_000)
	for name, v := range map[string]wire.Value{
		"nothing":     {},
		"small":       {Body: []byte("5")},
		"just below":  {Body: noisy(t, packOver)},
		"just over":   {Body: noisy(t, packOver+1), Type: "image/png"},
		"one chunk":   {Body: noisy(t, chunkSize)},
		"two chunks":  {Body: noisy(t, chunkSize+1)},
		"text":        {Body: text, Type: "text/plain"},
		"many chunks": {Body: noisy(t, 8<<20)},
		"all alike":   {Body: make([]byte, 6<<20)},
		"the largest": {Body: make([]byte, MaxValue)},
	} {
		t.Run(name, func(t *testing.T) {
			p := packed(t, b, v)
			if large := len(v.Body) > packOver; large != strings.HasPrefix(p.Type, manifestType) || large && len(p.Body) > 64<<10 {
				t.Errorf("%d bytes travel as %d of %q", len(v.Body), len(p.Body), p.Type)
			}
			for range 2 { // what is packed stays so when it is sent on
				got, err := b.Unpack(t.Context(), p)
				if err != nil || !bytes.Equal(got.Body, v.Body) || got.Type != v.Type {
					t.Errorf("came back as %d bytes of %q, %v, want %d of %q", len(got.Body), got.Type, err, len(v.Body), v.Type)
				}
				p = packed(t, b, p)
			}
		})
	}
}

func TestChunksAreSharedAndCompressed(t *testing.T) {
	b := openPlatform(t, Topology{})
	body := bytes.Repeat([]byte("the same again "), 200_000)
	first, second := packed(t, b, wire.Value{Body: body}), packed(t, b, wire.Value{Body: body})
	if !bytes.Equal(first.Body, second.Body) {
		t.Errorf("equal values have manifests %s and %s", first.Body, second.Body)
	}
	s, err := b.js.Stream(t.Context(), StreamBlobs)
	if err != nil {
		t.Fatal(err)
	}
	state := s.CachedInfo().State
	if want := uint64(len(body)/chunkSize + 1); state.Msgs != want || state.Bytes > uint64(len(body)/2) {
		t.Errorf("%d chunks of %d bytes, want %d and half of %d at most", state.Msgs, state.Bytes, want, len(body))
	}
	if state.LastSeq != 2*state.Msgs {
		t.Errorf("sequence %d: what was sent again must be young again", state.LastSeq)
	}
}

func TestDamagedValues(t *testing.T) {
	b := openPlatform(t, Topology{})
	good := packed(t, b, wire.Value{Body: noisy(t, 2<<20)})
	var m manifest
	if err := json.Unmarshal(good.Body, &m); err != nil {
		t.Fatal(err)
	}
	manifestOf := func(edit func(*manifest)) wire.Value {
		bad := manifest{Size: m.Size, Chunks: append([]chunk{}, m.Chunks...)}
		edit(&bad)
		body, err := json.Marshal(bad)
		if err != nil {
			t.Fatal(err)
		}
		return wire.Value{Body: body, Type: manifestType}
	}
	absent := strings.Repeat("0", 64)
	for name, tt := range map[string]struct {
		v    wire.Value
		kind wire.Kind
		hint string
	}{
		"no JSON":         {wire.Value{Body: []byte("5"), Type: manifestType}, wire.KindBadArgument, "it isn't"},
		"empty":           {wire.Value{Type: manifestType}, wire.KindBadArgument, "it isn't"},
		"wrong size":      {manifestOf(func(m *manifest) { m.Size++ }), wire.KindBadArgument, "it isn't"},
		"negative":        {manifestOf(func(m *manifest) { m.Chunks[0].Size = -1 }), wire.KindBadArgument, "it isn't"},
		"huge chunk":      {manifestOf(func(m *manifest) { m.Size, m.Chunks = 1<<40, []chunk{{absent, 1 << 40, 0}} }), wire.KindBadArgument, "it isn't"},
		"wild digest":     {manifestOf(func(m *manifest) { m.Chunks[0].Digest = ">" }), wire.KindBadArgument, "it isn't"},
		"missing chunk":   {manifestOf(func(m *manifest) { m.Chunks[1].Digest = absent }), wire.KindUnknown, "kept for 168h0m0s"},
		"swapped lengths": {manifestOf(func(m *manifest) { m.Size--; m.Chunks[3].Size-- }), wire.KindInvalid, "isn't what was stored"},
	} {
		if _, err := b.Unpack(t.Context(), tt.v); wire.KindOf(err) != tt.kind || !strings.Contains(err.Error(), tt.hint) {
			t.Errorf("%s: %v, want %v with %q", name, err, tt.kind, tt.hint)
		}
	}
	for _, h := range []nats.Header{nil, {headerEncoding: {"s2"}}, {headerEncoding: {"snappy"}}} {
		if _, err := b.put(t.Context(), &nats.Msg{Subject: subjectBlob + m.Chunks[0].Digest, Header: h, Data: []byte("tampered")}); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Unpack(t.Context(), good); wire.KindOf(err) != wire.KindInvalid {
			t.Errorf("a chunk that was changed: %v", err)
		}
	}
	if _, err := b.pack(t.Context(), nats.Header{}, make([]byte, MaxValue+1)); wire.KindOf(err) != wire.KindTooLarge || !strings.Contains(err.Error(), "67108865 bytes; the limit is 67108864: store parts of it") {
		t.Errorf("over the limit: %v", err)
	}
}

func FuzzManifest(f *testing.F) {
	f.Add([]byte(`{"size":1,"chunks":[{"sha256":"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08","size":1}]}`))
	f.Add([]byte(`{"size":9223372036854775807,"chunks":[]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := readManifest(raw)
		if err != nil {
			return
		}
		sum := 0
		for _, c := range m.Chunks {
			sum += c.Size
		}
		if m.Size != sum || m.Size < 0 || m.Size > MaxValue {
			t.Errorf("readManifest(%s) = %+v", raw, m)
		}
	})
}

func BenchmarkPack(b *testing.B) {
	br := openPlatform(b, Topology{})
	for name, body := range map[string][]byte{"noise": noisy(b, 4<<20), "text": bytes.Repeat([]byte("the same again "), 4<<20/15)} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				v := packed(b, br, wire.Value{Body: body})
				if _, err := br.Unpack(b.Context(), v); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
