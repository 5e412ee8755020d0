package broker

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// Messages between running functions (paper section 3, send and recv) are stored
// in CB_MESSAGES, one subject for each pair of receiver and sender, and handed on
// by the server the moment that they are (RePublish). So a receiver that listens
// hears at once, and one that doesn't yet finds them when it does.
//
// A sender numbers what it sends to each receiver. When it is run again it begins
// again at 1, and what it sends under a number that the receiver has seen is dropped.

// Send stores the number-th message of from to to, and returns once it is stored.
func (b *Broker) Send(ctx context.Context, from, to string, number uint64, v wire.Value) error {
	if err := errors.Join(wire.CheckAddress(to), wire.CheckAddress(from)); err != nil {
		return err
	}
	sequence := strconv.FormatUint(number, 10)
	h := nats.Header{
		wire.HeaderRun:    {to + " " + from + " " + sequence}, // a window of duplicates saves the storage
		wire.HeaderNumber: {sequence},
	}
	if v.Type != "" {
		h[wire.HeaderType] = []string{v.Type}
	}
	body, err := b.pack(ctx, h, v.Body)
	if err != nil {
		return err
	}
	_, err = b.put(ctx, &nats.Msg{Subject: messageSubject(subjectMsg, to, from), Header: h, Data: body})
	return apiError("send a message to", to, err)
}

func messageSubject(prefix, to, from string) string {
	return prefix + runToken(wire.RunID(to)) + "." + runToken(wire.RunID(from))
}

// A Mailbox receives what is sent to one execution, from its first message on:
// also those that an earlier attempt of it had received. Close gives it back.
type Mailbox struct {
	b   *Broker
	to  string
	sub *nats.Subscription

	mu      sync.Mutex // one receives at a time; guards what follows
	inbox   inbox
	epoch   <-chan struct{} // closed at the next reconnect
	dropped int             // of sub, when the stream was last read
	read    bool            // the stream was read, up to inbox.through
}

// mailboxHears is how many messages a mailbox holds that nobody has received yet. The mailbox
// reads further messages from the stream. The client's default takes 512 KiB for each mailbox.
const mailboxHears = 128

// OpenMailbox begins to listen to what is sent to an execution.
func (b *Broker) OpenMailbox(to string) (*Mailbox, error) {
	if err := wire.CheckAddress(to); err != nil {
		return nil, err
	}
	m := &Mailbox{b: b, to: to, inbox: newInbox(), epoch: b.epoch()}
	var err error
	heard := make(chan *nats.Msg, mailboxHears)
	if m.sub, err = b.nc.ChanSubscribe(messageSubject(subjectInbox, to, "")+"*", heard); err != nil {
		return nil, apiError("open mailbox", to, err)
	}
	return m, nil
}

// lookAgain is how long a receiver waits at most before it looks whether the
// connection was lost meanwhile.
const lookAgain = time.Second

// Receive returns the next message, nil if none has come after wait. Messages of
// one sender come in the order in which they were sent, and each comes once.
func (m *Mailbox) Receive(ctx context.Context, wait time.Duration) (*wire.Message, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for until := time.Now().Add(wait); ; {
		if err := m.catchUpLocked(ctx); err != nil {
			return nil, apiError("receive", m.to, err)
		}
		if msg := m.inbox.next(); msg != nil {
			v, err := m.b.Unpack(ctx, msg.Value)
			switch wire.KindOf(err) { //nolint:exhaustive // what another try may help is an error
			case wire.KindUnknown, wire.KindInvalid, wire.KindBadArgument:
				m.b.observe.unreadableMessage(m.to, msg.From, err)
				continue // nobody will ever read it: the next one counts
			}
			return &wire.Message{From: msg.From, Value: v}, err
		}
		left := min(time.Until(until), lookAgain)
		limited, cancel := context.WithTimeout(ctx, max(left, 0))
		msg, err := m.hear(limited, left)
		cancel()
		switch {
		case err == nil:
			m.read = m.inbox.hear(arrivalOf(msg)) && m.read
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, nats.ErrTimeout) && !errors.Is(err, nats.ErrSlowConsumer):
			return nil, apiError("receive", m.to, err)
		case left <= 0:
			return nil, nil //nolint:nilnil // documented: nothing came
		}
	}
}

func (m *Mailbox) hear(ctx context.Context, wait time.Duration) (*nats.Msg, error) {
	if wait <= 0 {
		return m.sub.NextMsg(time.Microsecond) // what is there; 0 would be refused
	}
	return m.sub.NextMsgWithContext(ctx)
}

// catchUpLocked reads from the stream what was sent before the mailbox was open,
// or may have been missed since.
func (m *Mailbox) catchUpLocked(ctx context.Context) error {
	select {
	case <-m.epoch:
		m.read = false
	default:
	}
	dropped, err := m.sub.Dropped()
	if err != nil {
		return err
	}
	if m.read && dropped == m.dropped {
		return nil
	}
	m.epoch, m.dropped = m.b.epoch(), dropped
	err = m.b.scan(ctx, StreamMessages, messageSubject(subjectMsg, m.to, "")+"*", m.inbox.through+1, func(msg *nats.Msg) bool {
		m.inbox.stored(arrivalOf(msg))
		return true
	})
	m.read = err == nil
	return err
}

// Close ends it. What was sent stays, for the execution when it is run again.
func (m *Mailbox) Close() { m.b.unsubscribe(m.sub) }

// Discard removes what was sent to an execution that won't be run again. It
// doesn't wait for that.
func (m *Mailbox) Discard() {
	reply, _ := m.b.mux.open(m.b.timeout, func(*nats.Msg) bool { return false })
	body := `{"filter":"` + messageSubject(subjectMsg, m.to, "") + `*"}`
	// What isn't removed runs out.
	_ = m.b.nc.PublishRequest("$JS.API.STREAM.PURGE."+StreamMessages, reply, []byte(body))
}

// An arrival is a message as it was stored.
type arrival struct {
	wire.Message
	seq    uint64 // in the stream
	last   uint64 // of the sender's message before; only of what was heard
	number uint64 // by the sender's own count; 0: a plain NATS client doesn't count
}

// arrivalOf reads a message that was heard, or read from the stream.
func arrivalOf(msg *nats.Msg) arrival {
	h := wire.Header(msg.Header)
	subject := wire.First(h, jetstream.SubjectHeader)
	if subject == "" {
		subject = msg.Subject
	}
	a := arrival{seq: sequenceOf(msg)}
	a.last, _ = strconv.ParseUint(wire.First(h, jetstream.LastSequenceHeader), 10, 64)
	a.number, _ = strconv.ParseUint(wire.First(h, wire.HeaderNumber), 10, 64)
	a.From = unescapeToken(subject[strings.LastIndexByte(subject, '.')+1:])
	a.Value = wire.Value{Body: msg.Data, Type: wire.First(h, wire.HeaderType)}
	switch {
	case wire.First(h, wire.HeaderChunks) != "":
		a.Type = manifestType + a.Type
	case !a.IsJSON() || json.Valid(a.Body):
	case len(a.Body) == 0:
		a.Body = []byte("null")
	case utf8.Valid(a.Body): // a plain client says of nothing what it is
		a.Type = "text/plain; charset=utf-8"
	default:
		a.Type = "application/octet-stream"
	}
	return a
}

// An inbox puts what is heard and what is read into one order, each message once.
// It knows no NATS.
type inbox struct {
	through uint64            // all that is stored up to here was taken in
	seen    map[string]uint64 // the sequence of each sender's newest message
	numbers map[string]uint64 // its own count of it
	queue   []wire.Message
}

func newInbox() inbox {
	return inbox{seen: make(map[string]uint64), numbers: make(map[string]uint64)}
}

// hear takes in a message from the server as it was stored. It is false if one of
// the same sender is missing before it: then the stream is to be read.
func (in *inbox) hear(a arrival) bool {
	if a.seq <= in.through || a.seq <= in.seen[a.From] {
		return true // it was read before it was heard
	}
	if a.last != in.seen[a.From] && a.last > in.through {
		return false
	}
	in.take(a)
	return true
}

// stored takes in a message that was read from the stream.
func (in *inbox) stored(a arrival) {
	in.through = max(in.through, a.seq)
	if a.seq > in.seen[a.From] {
		in.take(a)
	}
}

func (in *inbox) take(a arrival) {
	in.seen[a.From] = a.seq
	if a.number > 0 {
		if a.number <= in.numbers[a.From] {
			return // the sender was run again
		}
		in.numbers[a.From] = a.number
	}
	in.queue = append(in.queue, a.Message)
}

// next takes the oldest message out; nil if there is none.
func (in *inbox) next() *wire.Message {
	if len(in.queue) == 0 {
		return nil
	}
	msg := in.queue[0]
	in.queue = in.queue[1:]
	return &msg
}
