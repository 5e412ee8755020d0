package python

import (
	"encoding/binary"
	"fmt"
	"io"
	"strings"

	"github.com/cloudburst-nats/cloudburst/wire"
	"github.com/cloudburst-nats/cloudburst/workers/runtime/guest"
)

// What the first byte of a frame says, beside requests.
const (
	frameImport = 'i'
	frameInvoke = 'x'
	frameResult = 'R'
	frameError  = 'E'
)

// A brokenError is a connection that can't be used any more.
type brokenError struct {
	ended bool   // by the process
	what  string // what the process did; else
}

func (e *brokenError) Error() string { return "its process " + e.what }

// A failedError is what an instance says of a call that failed.
type failedError struct {
	kind, msg, stack string
	last             bool
}

func (e *failedError) Error() string { return e.msg }

// frames are a connection's. One side speaks at a time. Whoever has the instance has
// its frames.
type frames struct {
	conn io.ReadWriter
	in   []byte // the frame that was read last, if it is small
	out  []byte // the frame that is written
}

// small is how long a frame may be to be copied and read in one piece.
const small = 64 << 10

// invoke asks for a call.
func (c *frames) invoke(args wire.Value) error {
	c.out = append(c.out[:0], 0, 0, 0, 0, frameInvoke)
	c.out = guest.AppendField(c.out, args.Type)
	c.out = binary.LittleEndian.AppendUint32(c.out, uint32(len(args.Body))) //nolint:gosec // it came by the network
	return c.send(args.Body)
}

// respond answers a request.
func (c *frames) respond(response []byte) error {
	c.out = append(c.out[:0], 0, 0, 0, 0)
	return c.send(response)
}

// send completes the frame that c.out begins, and sends it.
func (c *frames) send(rest []byte) error {
	size := len(c.out) - 4 + len(rest)
	binary.LittleEndian.PutUint32(c.out, uint32(size)) //nolint:gosec // values are 64 MiB at most
	if size <= small {
		c.out, rest = append(c.out, rest...), nil
	}
	if _, err := c.conn.Write(c.out); err != nil {
		return &brokenError{ended: true}
	}
	if len(rest) > 0 {
		if _, err := c.conn.Write(rest); err != nil {
			return &brokenError{ended: true}
		}
	}
	return nil
}

// first has an instance import its program.
func (c *frames) first() error {
	c.in = make([]byte, small+4)
	c.out = append(c.out[:0], 0, 0, 0, 0, frameImport)
	return c.send(nil)
}

// answer serves requests up to the result.
func (c *frames) answer(host *guest.Host) (wire.Value, error) {
	for {
		frame, err := c.receive()
		if err != nil {
			return wire.Value{}, err
		}
		switch op := frame[0]; {
		case op == frameResult:
			return result(frame[1:], len(frame) <= small)
		case op == frameError:
			return wire.Value{}, failed(frame[1:])
		case !guest.Readable(frame):
			return wire.Value{}, garbage("a frame that begins with %q", frame[:min(len(frame), 16)])
		}
		if err := c.respond(host.Serve(frame)); err != nil {
			return wire.Value{}, err
		}
	}
}

// receive returns a frame, which is gone with the next one if it is small.
func (c *frames) receive() ([]byte, error) {
	have, err := io.ReadAtLeast(c.conn, c.in, 4)
	if err != nil {
		return nil, &brokenError{ended: true}
	}
	size := int(binary.LittleEndian.Uint32(c.in))
	switch {
	case size > guest.MaxRequest:
		return nil, garbage("a frame of %d bytes", size)
	case size == 0:
		return nil, garbage("an empty frame")
	case have > size+4:
		return nil, garbage("%d bytes after a frame", have-size-4)
	}
	frame := c.in[4:]
	if size > small {
		frame = make([]byte, size)
		copy(frame, c.in[4:have])
	}
	frame = frame[:size]
	if _, err := io.ReadFull(c.conn, frame[have-4:]); err != nil {
		return nil, &brokenError{ended: true}
	}
	return frame, nil
}

// result reads what a function returned. Its body is copied from a frame that isn't
// kept.
func result(frame []byte, copied bool) (wire.Value, error) {
	typ, rest, ok := guest.CutField(frame)
	body, rest, ok2 := guest.CutField(rest)
	if !ok || !ok2 || len(rest) > 0 {
		return wire.Value{}, garbage("a result that can't be read")
	}
	if copied {
		body = append(make([]byte, 0, len(body)), body...)
	}
	v, err := guest.Value(typ, body)
	if err != nil {
		return wire.Value{}, garbage("a result that isn't what it says: %v", err)
	}
	return v, nil
}

// failed reads how a call failed.
func failed(frame []byte) error {
	var fields [4]string
	for i := range fields {
		field, rest, ok := guest.CutField(frame)
		if !ok {
			return garbage("an error that can't be read")
		}
		fields[i], frame = strings.ToValidUTF8(string(field), "\uFFFD"), rest
	}
	return &failedError{kind: fields[0], msg: fields[1], stack: fields[2], last: fields[3] != ""}
}

func garbage(format string, args ...any) error {
	return &brokenError{what: "wrote garbage to its connection: " + fmt.Sprintf(format, args...)}
}
