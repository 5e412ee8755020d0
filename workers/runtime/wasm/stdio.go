package wasm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/cloudburst-nats/cloudburst/wire"
)

const (
	// maxLine is where a line of the log is broken, if the guest doesn't.
	maxLine = 16 << 10
	// maxTail is how much of the log's end an error shows.
	maxTail = 4 << 10
)

// lines takes a guest's standard error: it writes whole lines to the log, and
// keeps the last of them for an error.
type lines struct {
	to      io.Writer // may be nil
	most    int       // how many bytes are written
	written int
	part    []byte // of a line
	begun   []byte // how the line begins that isn't whole
	cause   string // the last line that tells why a program ends
	tail    []byte
}

func (l *lines) write(p []byte) {
	l.watch(p)
	l.tail = append(l.tail, p[max(0, len(p)-maxTail):]...)
	if n := len(l.tail) - maxTail; n > maxTail {
		l.tail = append(l.tail[:0], l.tail[n:]...)
	}
	if l.to == nil {
		return
	}
	for len(p) > 0 {
		n := bytes.IndexByte(p, '\n') + 1
		whole := n > 0
		if !whole {
			n = len(p)
		}
		if n > maxLine-len(l.part) {
			n, whole = maxLine-len(l.part), true
		}
		l.part = append(l.part, p[:n]...)
		p = p[n:]
		if whole {
			l.flush()
		}
	}
}

// watch looks for the line that tells why a program ends: what follows it can be longer than
// the tail that is kept.
func (l *lines) watch(p []byte) {
	const enough = 256
	for len(p) > 0 {
		part, rest, whole := bytes.Cut(p, []byte("\n"))
		l.begun = append(l.begun, part[:min(len(part), enough-len(l.begun))]...)
		if !whole {
			return
		}
		for _, sign := range signs {
			if bytes.HasPrefix(l.begun, []byte(sign)) {
				l.cause = string(bytes.ToValidUTF8(l.begun, nil))
			}
		}
		p, l.begun = rest, l.begun[:0]
	}
}

// signs are how lines begin that tell why a program ends.
var signs = []string{"panic: ", "fatal error: ", "runtime: out of memory", "memory allocation of "}

// flush writes what there is of a line.
func (l *lines) flush() {
	if len(l.part) == 0 || l.to == nil {
		return
	}
	line := l.part
	l.part = l.part[:0]
	if line[len(line)-1] != '\n' {
		line = append(line, '\n')
	}
	switch before := l.written; {
	case before > l.most:
		return
	case before+len(line) > l.most:
		l.written = l.most + 1
		line = fmt.Appendf(nil, "[the rest of this call's log is dropped: it is more than %d bytes]\n", l.most)
	default:
		l.written += len(line)
	}
	// Nobody's function fails because its log does.
	_, _ = l.to.Write(line) // said above
}

// last returns the end of what was written.
func (l *lines) last() string {
	tail := l.tail[max(0, len(l.tail)-maxTail):]
	return string(bytes.ToValidUTF8(tail, []byte("\uFFFD")))
}

var errOutput = errors.New("too much output")

// print takes what the guest writes to standard output.
func (x *execution) print(p []byte) {
	if len(x.out)+len(p) > x.f.runtime.cfg.MaxOutput {
		panic(errOutput)
	}
	x.out = append(x.out, p...)
}

// output makes a value of what a guest has printed.
func output(b []byte) wire.Value {
	switch {
	case len(b) == 0:
		return wire.Value{}
	case json.Valid(b):
		return wire.Value{Body: bytes.TrimSpace(b)} // programs end their lines
	case utf8.Valid(b):
		return wire.Value{Body: b, Type: "text/plain; charset=utf-8"}
	default:
		return wire.Value{Body: b, Type: "application/octet-stream"}
	}
}
