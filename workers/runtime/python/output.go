package python

import (
	"bytes"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
)

// An output takes what a process prints to the log of the call in hand. Whoever
// looks takes all that is there, so that nothing which was printed during a call is
// still in the pipe when end returns.
type output struct {
	pipe *os.File
	raw  syscall.RawConn

	mu   sync.Mutex // guards what follows, and reading: what is read first is logged first
	on   bool       // a call is in hand
	log  io.Writer  // its log; nil drops all
	buf  []byte     // what was read, the end of which may be the beginning of a line
	have int        // in buf
	tail []byte     // of what the call in hand has printed
}

const (
	lineAtMost = 64 << 10
	tailAtMost = 16 << 10
	// atOnce bounds what is taken in one go from a process that prints without end.
	// A pipe holds 64 KiB, 1 MiB at most.
	atOnce = 1<<20 + lineAtMost
)

func (o *output) open(pipe *os.File) (err error) {
	o.pipe = pipe
	o.buf = make([]byte, lineAtMost)
	o.raw, err = pipe.SyscallConn()
	return err
}

// run takes what is printed until close.
func (o *output) run() {
	_ = o.raw.Read(func(fd uintptr) bool { // the end
		for {
			o.mu.Lock()
			more, ended := o.takeLocked(fd)
			o.mu.Unlock()
			if !more {
				return ended
			}
		}
	})
}

// begin drops what was printed before a call.
func (o *output) begin(log io.Writer) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.on = false
	o.drainLocked()
	o.on, o.log, o.have, o.tail = true, log, 0, o.tail[:0]
}

// end returns when all that was printed is in the log.
func (o *output) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.on {
		return
	}
	o.drainLocked()
	if o.have > 0 {
		o.writeLocked(o.have)
	}
	o.on, o.log = false, nil
}

// last returns the last lines of the call that has ended.
func (o *output) last() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return strings.ToValidUTF8(string(o.tail), "\uFFFD")
}

// close ends run. What the process has printed by now was taken.
func (o *output) close() {
	o.mu.Lock()
	o.drainLocked()
	o.mu.Unlock()
	_ = o.pipe.Close() // only read
}

func (o *output) drainLocked() {
	_ = o.raw.Control(func(fd uintptr) { o.takeLocked(fd) }) // it is closed, and was drained
}

// takeLocked reads what there is. There is more if that was too much for one go.
func (o *output) takeLocked(fd uintptr) (more, ended bool) {
	for taken := 0; taken < atOnce; {
		n, ended := readNow(fd, o.buf[o.have:])
		if n == 0 {
			return false, ended
		}
		taken += n
		if !o.on {
			continue
		}
		o.have += n
		if end := bytes.LastIndexByte(o.buf[:o.have], '\n'); end >= 0 {
			o.writeLocked(end + 1)
		} else if o.have == len(o.buf) {
			o.writeLocked(o.have)
		}
	}
	return true, false
}

// writeLocked logs the first n bytes of buf, which are lines, or one that is cut off.
func (o *output) writeLocked(n int) {
	text := o.buf[:n]
	if text[n-1] != '\n' {
		text = append(bytes.Clone(text), '\n')
	}
	if o.log != nil {
		// Nobody's function fails because its log does.
		_, _ = o.log.Write(text)
	}
	o.tail = append(o.tail, text[max(0, len(text)-tailAtMost):]...)
	if cut := len(o.tail) - tailAtMost; cut > 0 {
		o.tail = append(o.tail[:0], o.tail[cut:]...)
	}
	o.have = copy(o.buf, o.buf[n:o.have])
}
