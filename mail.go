package cloudburst

import (
	"context"
	"strconv"
	"time"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// A Message is what one running function has sent another: who it is from, and
// the value, which Decode reads.
type Message = wire.Message

// ID names this execution: the address that others send messages to (paper section
// 3, get_id). It is the run's id and, in a DAG, ":" and the node. It stays the same
// when the call is retried. Functions find each other by what they put into state,
// or hand on as arguments.
func (s *Session) ID() string { return s.call.Mail.ID() }

// Send sends a message to the execution with an id (paper section 3, send), and
// returns once it is stored: the receiver may begin later, on any worker. v is
// anything that encodes as JSON, or a Value. Messages to one receiver keep their
// order, and each comes once, also if this execution is retried: then what it sends
// again is dropped, message by message. After an error it is open whether the
// message was stored. Messages wait for an hour.
func (s *Session) Send(ctx context.Context, to string, v any) error {
	value, err := wire.JSON(v)
	if err != nil {
		return err
	}
	return s.call.Mail.Send(ctx, to, value)
}

// Recv returns the next message that was sent to this execution (paper section 3,
// recv); ok is false if none came within wait. An execution that is retried
// receives everything again, from its first message. While it waits under the function's
// context it gives up its slot, so that functions may wait for each other in any pool.
func (s *Session) Recv(ctx context.Context, wait time.Duration) (msg Message, ok bool, err error) {
	m, err := s.call.Mail.Receive(ctx, wait)
	if m == nil || err != nil {
		return Message{}, false, err
	}
	return *m, true, nil
}

// Send sends a message to a running function from outside, as Session.Send does.
// The sender is this client.
func (c *Client) Send(ctx context.Context, to string, v any) error {
	value, err := wire.JSON(v)
	if err != nil {
		return err
	}
	// Each is from a sender of its own name, so that those of many goroutines
	// needn't wait for each other to be in order.
	from := c.writer + "-" + strconv.FormatUint(c.sent.Add(1), 36)
	return c.broker.Send(ctx, from, to, 1, value)
}
