package anomalies

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"time"
)

// news is how the subjects begin on which caches are told of writes: see the wire
// contract.
const news = "cb.upd."

// A lag stands between the workers and the server and holds news of writes back,
// in their order: every second connection hears of a write that much later. All
// else passes at once, so a run can be faster than the news of what it has seen,
// which without it takes some luck.
type lag struct {
	by       time.Duration
	server   string // host:port
	listener net.Listener
	open     sync.WaitGroup

	mu     sync.Mutex // guards what follows
	conns  []net.Conn
	closed bool
}

// newLag starts a lag, which runs until close.
func newLag(server string, by time.Duration) (*lag, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	l := &lag{by: by, server: server, listener: listener}
	l.open.Go(l.accept)
	return l, nil
}

// url is where workers connect.
func (l *lag) url() string { return "nats://" + l.listener.Addr().String() }

// accept serves connections until the listener is closed.
func (l *lag) accept() {
	for n := 0; ; n++ {
		worker, err := l.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", l.server)
		if err != nil {
			_ = worker.Close() // it connects again
			continue
		}
		if !l.keep(worker, server) {
			return
		}
		l.open.Go(func() {
			_, _ = io.Copy(server, worker) // until either ends
			_ = server.Close()
		})
		l.open.Go(func() {
			l.hold(worker, server, time.Duration(n%2)*l.by)
			_ = worker.Close()
		})
	}
}

// keep remembers connections for close; if that was called, they are closed.
func (l *lag) keep(conns ...net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		for _, c := range conns {
			_ = c.Close()
		}
		return false
	}
	l.conns = append(l.conns, conns...)
	return true
}

// A held frame waits until it is due.
type held struct {
	frame []byte
	due   time.Time
}

// hold passes on what the server sends, news later, until either side ends. Over
// so much news that it can't be held, everything waits.
func (l *lag) hold(worker io.Writer, server io.Reader, by time.Duration) {
	var mu sync.Mutex // of writes to worker
	write := func(frame []byte) error {
		mu.Lock()
		defer mu.Unlock()
		_, err := worker.Write(frame)
		return err
	}
	late := make(chan held, 1<<16)
	var delayed sync.WaitGroup
	delayed.Go(func() {
		for h := range late {
			<-time.After(time.Until(h.due))
			if write(h.frame) != nil {
				break // nothing more is read, then
			}
		}
		for range late { // that the reader doesn't wait
		}
	})
	defer delayed.Wait()
	defer close(late)
	in := bufio.NewReaderSize(server, 64<<10)
	for {
		frame, told, err := readFrame(in)
		if err == nil && told && by > 0 {
			late <- held{frame, time.Now().Add(by)}
			continue
		}
		if err != nil || write(frame) != nil {
			return
		}
	}
}

// readFrame reads what a NATS server says next: one line, and of a message also
// what follows it. told says that it is news of a write.
func readFrame(in *bufio.Reader) (frame []byte, told bool, err error) {
	frame, err = in.ReadBytes('\n')
	if err != nil || !bytes.HasPrefix(frame, []byte("MSG ")) && !bytes.HasPrefix(frame, []byte("HMSG ")) {
		return frame, false, err
	}
	fields := bytes.Fields(frame) // (H)MSG <subject> <sid> [reply] [header bytes] <bytes>
	size, err := strconv.Atoi(string(fields[len(fields)-1]))
	if err != nil {
		return nil, false, fmt.Errorf("read %q: %w", frame, err)
	}
	line := len(frame)
	frame = append(frame, make([]byte, size+len("\r\n"))...)
	_, err = io.ReadFull(in, frame[line:])
	return frame, bytes.HasPrefix(fields[1], []byte(news)), err
}

// close ends all connections and returns when nothing is left running.
func (l *lag) close() error {
	l.mu.Lock()
	l.closed = true
	conns := l.conns
	l.mu.Unlock()
	err := l.listener.Close()
	for _, c := range conns {
		if e := c.Close(); e != nil && !errors.Is(e, net.ErrClosed) {
			err = errors.Join(err, e)
		}
	}
	l.open.Wait()
	return err
}
