package broker

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// pageBytes bounds one page: the replies of all pages share the connection
// with calls.
const pageBytes = 4 << 20

const headerTimeStamp = "Nats-Time-Stamp"

// page reads up to n messages of a stream whose subjects match filter, oldest
// first, from sequence from on: one request, no consumer. more says that there
// was more to read from the last one's sequence on. On a replicated stream the
// page may lag. It is asked for again after a reconnect.
func (b *Broker) page(ctx context.Context, stream, filter string, from uint64, n int) (msgs []*nats.Msg, more bool, err error) {
	body, err := json.Marshal(struct {
		Seq   uint64 `json:"seq"`
		Next  string `json:"next_by_subj"`
		Batch int    `json:"batch"`
		Bytes int    `json:"max_bytes"`
	}{from, filter, n, pageBytes})
	if err != nil {
		return nil, false, err
	}
	for deadline := time.Now().Add(b.timeout); ; {
		p := &pageReader{done: make(chan error, 1)}
		err := b.directGet(ctx, stream, body, p.receive, p.done)
		if err == nil {
			return p.msgs, p.more, nil
		}
		if !errors.Is(err, errMoved) || time.Now().After(deadline) {
			return nil, false, err
		}
	}
}

// A pageReader gathers the replies to one request. It belongs to the mux's
// goroutine until done tells.
type pageReader struct {
	msgs []*nats.Msg
	more bool
	done chan error
}

func (p *pageReader) receive(msg *nats.Msg) bool {
	if msg == nil {
		p.done <- nats.ErrTimeout
		return false
	}
	status := ""
	if len(msg.Data) == 0 { // a stored message may bear any header
		status = msg.Header.Get("Status")
	}
	switch status {
	case "":
		p.msgs = append(p.msgs, msg)
		return true
	case "204": // end of the batch
		left, err := strconv.Atoi(msg.Header.Get(headerPending))
		p.more = err == nil && left > 0 && len(p.msgs) > 0
		p.done <- nil
	case "404":
		p.done <- nil
	case "503":
		p.done <- nats.ErrNoResponders
	default:
		p.done <- &wire.Error{Kind: wire.KindUnavailable, Msg: status + " " + msg.Header.Get("Description")}
	}
	return false
}

// scan hands every matching message from sequence from on to fn, oldest first,
// until fn says that it is enough.
func (b *Broker) scan(ctx context.Context, stream, filter string, from uint64, fn func(*nats.Msg) (more bool)) error {
	for {
		msgs, more, err := b.page(ctx, stream, filter, from, 1000)
		if err != nil {
			return err
		}
		for _, msg := range msgs {
			if !fn(msg) {
				return nil
			}
			from = sequenceOf(msg) + 1
		}
		if !more {
			return nil
		}
	}
}

// scanBack hands matching messages to fn, newest first, until fn says that it is
// enough, or for about most sequence numbers.
func (b *Broker) scanBack(ctx context.Context, stream, filter string, most uint64, fn func(*nats.Msg) (more bool)) error {
	_, last, err := b.bounds(ctx, stream)
	if err != nil {
		return err
	}
	_, err = b.scanBefore(ctx, stream, filter, last+1, most, fn)
	return err
}

// scanBefore is scanBack for the messages before the sequence end. It returns the
// end of what it has not read, 0 if it has read all. Streams can only be read
// forwards, so it reads windows, from the end, that double in length.
func (b *Broker) scanBefore(ctx context.Context, stream, filter string, end, most uint64, fn func(*nats.Msg) (more bool)) (rest uint64, err error) {
	first, _, err := b.bounds(ctx, stream)
	if err != nil {
		return 0, err
	}
	first = max(first, 1) // an empty stream's is 0 or 1
	began := end
	for width := uint64(64); end > first && began-end < most; width *= 2 {
		start := max(first, end-min(end, width))
		window, err := b.window(ctx, stream, filter, start, end)
		if err != nil {
			return 0, err
		}
		for _, msg := range slices.Backward(window) {
			if !fn(msg) {
				return restAfter(sequenceOf(msg), first), nil
			}
		}
		end = start
	}
	return restAfter(end, first), nil
}

// restAfter is the end of what is left before a message; 0 if nothing is.
func restAfter(seq, first uint64) uint64 {
	if seq <= first {
		return 0
	}
	return seq
}

// window reads the matching messages with start <= sequence < end.
func (b *Broker) window(ctx context.Context, stream, filter string, start, end uint64) ([]*nats.Msg, error) {
	var all []*nats.Msg
	err := b.scan(ctx, stream, filter, start, func(msg *nats.Msg) bool {
		if sequenceOf(msg) >= end {
			return false
		}
		all = append(all, msg)
		return true
	})
	return all, err
}

// bySeq returns the message of one sequence; nil if there is none (any more).
func (b *Broker) bySeq(ctx context.Context, stream string, seq uint64) (*nats.Msg, error) {
	msgs, _, err := b.page(ctx, stream, ">", seq, 1)
	if err != nil || len(msgs) == 0 || sequenceOf(msgs[0]) != seq {
		return nil, err
	}
	return msgs[0], nil
}

// newest returns the last message of a subject, nil if there is none, as the stream's
// leader has it: replicas may lag.
func (b *Broker) newest(ctx context.Context, stream, subject string) (*nats.Msg, error) {
	if !b.replicated() {
		return b.last(ctx, stream, subject) // half the price
	}
	return b.stored(ctx, stream, getMsg{Last: subject})
}

// stored asks a stream's leader for a message; nil if there is none. It comes with the
// headers that a direct get adds.
func (b *Broker) stored(ctx context.Context, stream string, what getMsg) (*nats.Msg, error) {
	body, err := json.Marshal(what)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	reply, err := b.nc.RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+stream, body)
	if err != nil {
		return nil, err
	}
	var answer struct {
		Message struct {
			Subject string    `json:"subject"`
			Seq     uint64    `json:"seq"`
			Header  []byte    `json:"hdrs"`
			Data    []byte    `json:"data"`
			Time    time.Time `json:"time"`
		} `json:"message"`
		Error *jetstream.APIError `json:"error"`
	}
	switch err := json.Unmarshal(reply.Data, &answer); {
	case err != nil:
		return nil, err
	case answer.Error != nil && answer.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound:
		return nil, nil //nolint:nilnil // documented: there is none
	case answer.Error != nil:
		return nil, answer.Error
	}
	m := answer.Message
	msg := &nats.Msg{Subject: m.Subject, Data: m.Data, Header: make(nats.Header)}
	if len(m.Header) > 0 {
		if msg.Header, err = nats.DecodeHeadersMsg(m.Header); err != nil {
			return nil, err
		}
	}
	msg.Header[jetstream.SubjectHeader] = []string{m.Subject}
	msg.Header[jetstream.SequenceHeader] = []string{strconv.FormatUint(m.Seq, 10)}
	msg.Header[headerTimeStamp] = []string{m.Time.Format(time.RFC3339Nano)}
	return msg, nil
}

// bounds returns the first and last sequence of a stream.
func (b *Broker) bounds(ctx context.Context, stream string) (first, last uint64, err error) {
	s, err := b.js.Stream(ctx, stream)
	if err != nil {
		return 0, 0, err
	}
	state := s.CachedInfo().State
	return state.FirstSeq, state.LastSeq, nil
}

// purgeThrough removes the messages of a subject up to and including seq.
func (b *Broker) purgeThrough(ctx context.Context, stream, subject string, seq uint64) error {
	return b.purge(ctx, stream, struct {
		Filter string `json:"filter,omitempty"`
		Seq    uint64 `json:"seq"`
	}{subject, seq + 1})
}

// purge asks for a purge and waits until it is done.
func (b *Broker) purge(ctx context.Context, stream string, what any) error {
	return b.api(ctx, "STREAM.PURGE."+stream, what)
}

// api makes a JetStream request whose answer is only success or an error.
func (b *Broker) api(ctx context.Context, request string, args any) error {
	body, err := json.Marshal(args)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	msg, err := b.nc.RequestWithContext(ctx, "$JS.API."+request, body)
	if err != nil {
		return err
	}
	_, _, err = parsePubAck(&nats.Msg{Data: msg.Data})
	return err
}

// storedAt returns when a directly got message was stored.
func storedAt(msg *nats.Msg) time.Time {
	at, err := time.Parse(time.RFC3339Nano, msg.Header.Get(headerTimeStamp))
	if err != nil {
		return time.Time{}
	}
	return at
}
