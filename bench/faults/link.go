package faults

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
)

// A link is a TCP proxy that can be cut.
type link struct {
	to       string // host:port
	listener net.Listener
	open     sync.WaitGroup

	mu     sync.Mutex // guards what follows
	conns  map[net.Conn]struct{}
	down   bool
	closed bool
}

// newLink starts a link, which runs until close.
func newLink(to string) (*link, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	l := &link{to: to, listener: listener, conns: make(map[net.Conn]struct{})}
	l.open.Go(l.accept)
	return l, nil
}

func (l *link) addr() string { return l.listener.Addr().String() }

func (l *link) accept() {
	for {
		in, err := l.listener.Accept()
		if err != nil {
			return
		}
		l.open.Go(func() { l.pass(in) })
	}
}

// pass joins a connection to one of its own, until either ends or the link is cut.
func (l *link) pass(in net.Conn) {
	defer func() { _ = in.Close() }()
	if !l.keep(in) {
		return
	}
	defer l.forget(in)
	out, err := net.Dial("tcp", l.to)
	if err != nil {
		return // nobody is there now
	}
	defer func() { _ = out.Close() }()
	if !l.keep(out) {
		return
	}
	defer l.forget(out)
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(in, out)
		_ = in.Close()
	})
	_, _ = io.Copy(out, in)
	_ = out.Close()
	back.Wait()
}

// keep remembers a connection so that it can be cut; false: the link is down.
func (l *link) keep(c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.down {
		return false
	}
	l.conns[c] = struct{}{}
	return true
}

func (l *link) forget(c net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
}

// cut ends all connections and lets no new one through, until heal.
func (l *link) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = true
	for c := range l.conns {
		_ = c.Close()
	}
}

func (l *link) heal() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = l.closed
}

func (l *link) close() error {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.cut()
	err := l.listener.Close()
	l.open.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
