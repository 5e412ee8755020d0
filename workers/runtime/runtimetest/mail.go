package runtimetest

import (
	"context"
	"sync"
	"time"

	"github.com/cloudburst-nats/cloudburst/wire"
	"github.com/cloudburst-nats/cloudburst/workers/runtime"
)

// A Post carries messages between executions, in memory. It may be used
// concurrently.
type Post struct {
	mu    sync.Mutex // guards boxes
	boxes map[string]chan wire.Message
}

// NewPost returns a Post that holds no message.
func NewPost() *Post { return &Post{boxes: make(map[string]chan wire.Message)} }

// Mail returns the Mail of one execution.
func (p *Post) Mail(id string) runtime.Mail { return mail{p, id} }

func (p *Post) box(id string) chan wire.Message {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.boxes[id] == nil {
		p.boxes[id] = make(chan wire.Message, 1000)
	}
	return p.boxes[id]
}

type mail struct {
	post *Post
	id   string
}

// ID returns the execution's.
func (m mail) ID() string { return m.id }

// Send puts a message where the other execution finds it.
func (m mail) Send(_ context.Context, to string, v wire.Value) error {
	if err := wire.CheckAddress(to); err != nil {
		return err
	}
	m.post.box(to) <- wire.Message{From: m.id, Value: v}
	return nil
}

// Receive returns the next message, nil if there is none in time.
func (m mail) Receive(ctx context.Context, wait time.Duration) (*wire.Message, error) {
	select {
	case msg := <-m.post.box(m.id):
		return &msg, nil
	default:
	}
	select {
	case msg := <-m.post.box(m.id):
		return &msg, nil
	case <-time.After(wait):
		return nil, nil //nolint:nilnil // as runtime.Mail says
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}
