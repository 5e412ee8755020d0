//go:build unix

package python

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/cloudburst-nats/cloudburst/wire"
	"github.com/cloudburst-nats/cloudburst/workers/runtime/guest"
	"github.com/cloudburst-nats/cloudburst/workers/runtime/runtimetest"
)

// process plays an instance: what it sends is there from the beginning, in pieces of
// size.
type process struct {
	sends    []byte
	size     int
	received bytes.Buffer
}

func (p *process) Read(into []byte) (int, error) {
	if len(p.sends) == 0 {
		return 0, io.EOF
	}
	n := copy(into[:min(len(into), p.size)], p.sends)
	p.sends = p.sends[n:]
	return n, nil
}

func (p *process) Write(b []byte) (int, error) { return p.received.Write(b) }

func frameOf(op byte, fields ...string) []byte {
	body := []byte{op}
	for _, f := range fields {
		body = guest.AppendField(body, f)
	}
	return guest.AppendField(nil, body)
}

// Whatever a process sends is a value, a failure, or the end of the connection.
func FuzzFrames(f *testing.F) {
	for _, frames := range [][]byte{
		frameOf(frameResult, "", "[1]"), frameOf(frameResult, "text/plain", "a"), frameOf(frameError, "failed for good", "msg", "stack", "1"),
		slices.Concat(frameOf(guest.OpPut, "", "k", "", "1"), frameOf(guest.OpGet, "", "k"), frameOf(frameResult, "", "null")),
		{0xff, 0xff, 0xff, 0x03, 'R'},
		{0, 0, 0, 0},
		{},
	} {
		f.Add(frames, 4)
		f.Add(frames, 1<<20)
	}
	f.Fuzz(func(t *testing.T, sends []byte, size int) {
		p := &process{sends: sends, size: max(1, size)}
		c := frames{conn: p}
		if err := c.first(); err != nil {
			t.Fatal(err)
		}
		call := runtimetest.NewCall("f", "")
		v, err := c.answer(guest.NewHost(context.Background(), call))
		var broken *brokenError
		var failed *failedError
		if err != nil && !errors.As(err, &broken) && !errors.As(err, &failed) {
			t.Errorf("%q: got %v", sends, err)
		}
		if err == nil && v.IsJSON() && len(v.Body) > 0 {
			if err := v.Decode(new(any)); err != nil {
				t.Errorf("%q: got a value that can't be read: %v", sends, err)
			}
		}
	})
}

// Frames arrive whole whatever their size, in pieces of any size.
func TestFrames(t *testing.T) {
	for _, n := range []int{0, 1, 1000, small - 20, small, small + 1, 1 << 20} {
		body := bytes.Repeat([]byte{0xff}, n)
		for _, size := range []int{7, small + 4, 1 << 30} {
			p := &process{sends: frameOf(frameResult, "application/octet-stream", string(body)), size: size}
			c := frames{conn: p}
			if err := errors.Join(c.first(), c.invoke(wire.Value{Body: body})); err != nil {
				t.Fatal(err)
			}
			if want := slices.Concat(frameOf(frameImport), frameOf(frameInvoke, "", string(body))); !bytes.Equal(p.received.Bytes(), want) {
				t.Errorf("%d bytes: sent %d, want %d", n, p.received.Len(), len(want))
			}
			v, err := c.answer(nil)
			if err != nil || !bytes.Equal(v.Body, body) {
				t.Errorf("%d bytes in pieces of %d: got %d, %v", n, size, len(v.Body), err)
			}
		}
	}
}
