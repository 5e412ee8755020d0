package workers

import (
	"context"
	"sync"
	"time"

	"github.com/cloudburst-nats/cloudburst/wire"
	"github.com/cloudburst-nats/cloudburst/workers/runtime"
)

// Post carries messages between executions, on whichever workers they are.
type Post interface {
	// Send returns once the number-th message of from to to is stored.
	Send(ctx context.Context, from, to string, number uint64, v wire.Value) error
	// Open begins to receive what is sent to an execution.
	Open(to string) (Mailbox, error)
}

// A Mailbox is one execution's.
type Mailbox interface {
	// Receive returns the next message, nil if none has come after wait.
	Receive(ctx context.Context, wait time.Duration) (*wire.Message, error)
	// Close ends it; what was sent stays, for the execution when it is run again.
	Close()
	// Discard removes what was sent to an execution that won't be. It doesn't wait.
	Discard()
}

// mail is one execution's side of the Post. It costs nothing until it is used.
type mail struct {
	job  *job
	node string

	mu   sync.Mutex // guards what follows
	sent map[string]*correspondent
	box  Mailbox // nil until the first Receive
	shut bool
}

// A correspondent is sent one message at a time, so that they are stored in the
// order of their numbers.
type correspondent struct {
	mu   sync.Mutex // guards sent, and is held while one is sent
	sent uint64
}

var _ runtime.Mail = (*mail)(nil)

// ID names the execution: its run and, in a DAG, its node.
func (m *mail) ID() string { return wire.Address(m.job.call.Run, m.node) }

// Send numbers messages by their receiver, so that those of a retried execution
// are known for what they are.
func (m *mail) Send(ctx context.Context, to string, msg wire.Value) error {
	if m.job.w.cfg.Post == nil {
		return errNoPost
	}
	c := m.correspondent(to)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sent++
	return m.job.w.cfg.Post.Send(ctx, m.ID(), to, c.sent, msg)
}

func (m *mail) correspondent(to string) *correspondent {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.sent == nil {
		m.sent = make(map[string]*correspondent)
	}
	c := m.sent[to]
	if c == nil {
		c = new(correspondent)
		m.sent[to] = c
	}
	return c
}

// Receive opens the mailbox when it is first called. The job keeps its slot if a message
// is there.
func (m *mail) Receive(ctx context.Context, wait time.Duration) (msg *wire.Message, err error) {
	box, err := m.open()
	if err != nil {
		return nil, err
	}
	if msg, err = box.Receive(ctx, 0); msg != nil || err != nil || wait <= 0 {
		return msg, err
	}
	err = runtime.Block(ctx, func() (err error) {
		msg, err = box.Receive(ctx, wait)
		return err
	})
	return msg, err
}

func (m *mail) open() (Mailbox, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.job.w.cfg.Post == nil:
		return nil, errNoPost
	case m.shut:
		return nil, &wire.Error{Op: "receive", Kind: wire.KindPermanent, Msg: "the execution has ended"}
	case m.box != nil:
		return m.box, nil
	}
	box, err := m.job.w.cfg.Post.Open(m.ID())
	m.box = box
	return box, err
}

// close ends the mailbox and returns it; nil if none was opened.
func (m *mail) close() Mailbox {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.shut = true
	if m.box != nil {
		m.box.Close()
	}
	return m.box
}

var errNoPost = &wire.Error{Op: "send or receive", Kind: wire.KindPermanent, Msg: "no messages can be exchanged from here"}
