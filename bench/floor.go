package bench

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"sync/atomic"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// The floor: what NATS takes for the same work, as lean as it can be written
// with its own client. Nothing here uses code of ours.
const (
	floorStream  = "FLOOR"
	floorSubject = "floor.call"
	floorReply   = "Floor-Reply"

	floorBucket    = "FLOOR_BUCKET"
	floorBucketKey = "floor.put."
)

// serveFloor is the worker of the floor: it calls ready once it takes calls,
// and returns each one's argument until ctx ends.
func serveFloor(ctx context.Context, nc *nats.Conn, ready func()) error {
	js, err := jetstream.New(nc)
	if err != nil {
		return fmt.Errorf("serve floor: %w", err)
	}
	stream, err := js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name: floorStream, Subjects: []string{floorSubject},
		Retention: jetstream.LimitsPolicy, Storage: jetstream.FileStorage, Discard: jetstream.DiscardNew, MaxBytes: 1 << 30,
	})
	if err != nil {
		return fmt.Errorf("serve floor: %w", err)
	}
	workers, err := stream.CreateOrUpdateConsumer(ctx, jetstream.ConsumerConfig{
		Durable: "workers", AckPolicy: jetstream.AckExplicitPolicy,
	})
	if err != nil {
		return fmt.Errorf("serve floor: %w", err)
	}
	var failed atomic.Pointer[error]
	consuming, err := workers.Consume(func(msg jetstream.Msg) {
		err := nc.Publish(msg.Headers().Get(floorReply), msg.Data())
		if err == nil {
			err = msg.Ack()
		}
		if err != nil {
			first := err // of its own, so that err needn't be allocated for each call
			failed.CompareAndSwap(nil, &first)
		}
	})
	if err != nil {
		return fmt.Errorf("serve floor: %w", err)
	}
	ready()
	<-ctx.Done()
	consuming.Stop()
	<-consuming.Closed()
	if err := failed.Load(); err != nil {
		return fmt.Errorf("serve floor: %w", *err)
	}
	return nil
}

// An inbox takes the replies and acknowledgements of many slots through one
// subscription. Each slot has one operation under way at a time.
type inbox struct {
	prefix string
	slots  []floorSlot
}

type floorSlot struct {
	reply, ack string      // subjects
	header     nats.Header // ours to use again: a message is written out when it is published
	replies    chan []byte
	acks       chan []byte
}

// openInbox returns an inbox of the connection, which ends with it.
func openInbox(nc *nats.Conn, slots int) (*inbox, error) {
	in := &inbox{prefix: nats.NewInbox() + ".", slots: make([]floorSlot, slots)}
	for i := range in.slots {
		s := &in.slots[i]
		s.reply = in.prefix + "r" + strconv.Itoa(i)
		s.ack = in.prefix + "a" + strconv.Itoa(i)
		s.header = nats.Header{floorReply: {s.reply}}
		s.replies, s.acks = make(chan []byte, 1), make(chan []byte, 1)
	}
	_, err := nc.Subscribe(in.prefix+"*", in.route)
	return in, err
}

func (in *inbox) route(msg *nats.Msg) {
	token := msg.Subject[len(in.prefix):]
	i, err := strconv.Atoi(token[1:])
	if err != nil {
		return
	}
	to := in.slots[i].replies
	if token[0] == 'a' {
		to = in.slots[i].acks
	}
	select {
	case to <- msg.Data:
	default: // nobody waits for it
	}
}

// floor is a call of the floor. The caller doesn't await the stream's
// acknowledgement: a reply implies it.
func floor(nc *nats.Conn, in *inbox) *contender {
	return &contender{name: caseFloor, against: caseFloor, op: func(ctx context.Context, slot int, n uint64) error {
		s := &in.slots[slot]
		body := strconv.AppendUint(nil, n, 10)
		if err := nc.PublishMsg(&nats.Msg{Subject: floorSubject, Header: s.header, Data: body}); err != nil {
			return err
		}
		return s.await(ctx, body)
	}}
}

// floorID is a call that may safely be made again, and whose caller hears of a
// refusal: what any caller needs who isn't to wait for a time-out.
func floorID(nc *nats.Conn, in *inbox) *contender {
	return &contender{name: caseFloorID, against: caseFloor, op: func(ctx context.Context, slot int, n uint64) error {
		s := &in.slots[slot]
		body := strconv.AppendUint(nil, n, 10)
		s.header[jetstream.MsgIDHeader] = []string{in.prefix + string(body)}
		if err := nc.PublishMsg(&nats.Msg{Subject: floorSubject, Reply: s.ack, Header: s.header, Data: body}); err != nil {
			return err
		}
		return s.await(ctx, body)
	}}
}

// await waits for the reply to a call, or for its refusal. An earlier call's
// acknowledgement may come first; it is as good.
func (s *floorSlot) await(ctx context.Context, want []byte) error {
	for {
		select {
		case got := <-s.replies:
			if bytes.Equal(got, want) {
				return nil
			} // else one that was handed out twice
		case ack := <-s.acks:
			if err := refusal(ack); err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func refusal(ack []byte) error {
	if len(ack) == 0 || bytes.Contains(ack, []byte(`"error"`)) || bytes.Contains(ack, []byte(`"duplicate"`)) {
		return fmt.Errorf("the stream refused: %s", ack)
	}
	return nil
}

// floorPut is a write of a key to a stream made as those of buckets are.
func floorPut(ctx context.Context, nc *nats.Conn, in *inbox) (*contender, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, err
	}
	_, err = js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name: floorBucket, Subjects: []string{floorBucketKey + "*"},
		Retention: jetstream.LimitsPolicy, Storage: jetstream.FileStorage, Discard: jetstream.DiscardNew, MaxMsgsPerSubject: 1,
		AllowDirect: true, AllowRollup: true, AllowMsgTTL: true, AllowAtomicPublish: true, DenyDelete: true,
		RePublish: &jetstream.RePublish{Source: ">", Destination: "floor.updated.>"},
	})
	if err != nil {
		return nil, fmt.Errorf("make floor bucket: %w", err)
	}
	return &contender{name: caseFloorPut, against: caseFloorPut, op: func(ctx context.Context, slot int, n uint64) error {
		s := &in.slots[slot]
		msg := &nats.Msg{Subject: floorBucketKey + strconv.Itoa(slot), Reply: s.ack, Data: strconv.AppendUint(nil, n, 10)}
		if err := nc.PublishMsg(msg); err != nil {
			return err
		}
		select {
		case ack := <-s.acks:
			return refusal(ack)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}}, nil
}
