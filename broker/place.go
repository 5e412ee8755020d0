package broker

import (
	"context"
	"encoding/json"
	"maps"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// A call that was pulled may be handed to another worker of the pool:
//
//	cb.at.<worker>    request: the call as it was stored, and where it came from in
//	                  the headers below; the answer is "taken" or "busy", and how
//	                  many of the worker's slots are: "taken 12"
//	cb.place.<pool>   what workers tell each other, to decide which worker that is
//
// Nothing waits at a worker's subject: without a subscriber the server says so at
// once. The delivery is the taker's from then on. It acknowledges it where the one
// that pulled it would have; if it dies, the call is handed out again after the
// acknowledgement wait as ever.
const (
	headerSubject = "Cb-Subject" // of the call in its stream
	headerAck     = "Cb-Ack"     // where its delivery is acknowledged

	answerTaken = "taken"
	answerBusy  = "busy"
)

// An Answer is what became of an offer to hand a call over.
type Answer int

// Answers.
const (
	Taken  Answer = iota // the other worker runs the call
	Busy                 // it has no room
	Absent               // nobody is there, or the call couldn't be sent: it is still in hand
	Silent               // no answer in time: it may run the call, or may not
)

// HandOver offers a call to another worker and calls then once with the answer,
// and how many of that one's slots are busy if it told. It does not block, and then
// must not either. Only a call's first delivery may be
// offered: see Silent in Again.
func (b *Broker) HandOver(d *Delivery, to string, within time.Duration, then func(a Answer, busy int)) {
	var told atomic.Bool // an answer and the end of its time may meet
	once := func(a Answer, busy int) {
		if told.CompareAndSwap(false, true) {
			then(a, busy)
		}
	}
	reply, id := b.mux.open(within, func(msg *nats.Msg) bool {
		once(answerOf(msg))
		return false
	})
	msg := &nats.Msg{Subject: subjectAt + to, Reply: reply, Data: d.msg.Data, Header: make(nats.Header, len(d.msg.Header)+2)}
	maps.Copy(msg.Header, d.msg.Header)
	msg.Header[headerSubject] = []string{d.msg.Subject}
	msg.Header[headerAck] = []string{d.msg.Reply}
	if err := b.nc.PublishMsg(msg); err != nil { // too large with those, say
		b.mux.close(id)
		once(Absent, 0)
	}
}

func answerOf(msg *nats.Msg) (a Answer, busy int) {
	if msg == nil {
		return Silent, 0
	}
	if msg.Header.Get("Status") == "503" {
		return Absent, 0
	}
	word, number, _ := strings.Cut(string(msg.Data), " ")
	if word == answerTaken {
		return Taken, count(number)
	}
	return Busy, count(number)
}

// Again has a call that was offered, and not answered for, handed out again at
// once. The worker that was offered it may run it after all. That is what a
// redelivery is to a worker that was only slow, and nothing else: the further
// attempt has a number of its own, by which its effects replace those of the first.
// Were the call run here instead, two executions under one number would write.
func (d *Delivery) Again() error { return d.Nak(0) }

// ServeHandovers takes calls of a pool that other workers hand to this one until
// ctx ends. take returns false if there is no room, and how many slots are busy; it
// must not block.
func (b *Broker) ServeHandovers(ctx context.Context, worker, pool string, take func(*Delivery) (taken bool, busy int)) error {
	if err := wire.CheckName("worker", worker); err != nil {
		return err
	}
	from := CallsStream(pool)
	sub, err := b.nc.Subscribe(subjectAt+worker, func(msg *nats.Msg) {
		call := &nats.Msg{Subject: msg.Header.Get(headerSubject), Reply: msg.Header.Get(headerAck), Header: msg.Header, Data: msg.Data}
		msg.Header.Del(headerSubject)
		msg.Header.Del(headerAck)
		d, err := b.delivery(call)
		if err == nil && (d.Call.Stream != from || d.Call.Name == "" || !strings.HasPrefix(call.Reply, "$JS.ACK.")) {
			err = &wire.Error{Op: "take call", Name: call.Subject, Kind: wire.KindInvalid, Msg: "not a call of the pool " + pool}
		}
		answer, busy := answerBusy, 0
		if err != nil {
			b.unreadable(msg, err)
		} else {
			var taken bool
			if taken, busy = take(d); taken {
				answer = answerTaken
			}
		}
		if msg.Reply == "" {
			return
		}
		if err := b.nc.Publish(msg.Reply, []byte(answer+" "+strconv.Itoa(busy))); err != nil {
			b.observe.replyFailed(worker, err)
		}
	})
	if err != nil {
		return apiError("serve handovers", worker, err)
	}
	defer b.unsubscribe(sub)
	<-ctx.Done()
	return nil
}

// PublishPlacement tells the other workers of a pool something, as JSON. It doesn't
// wait, and may be lost.
func (b *Broker) PublishPlacement(pool string, what any) error {
	body, err := json.Marshal(what)
	if err != nil {
		return err
	}
	return apiError("publish placement", pool, b.nc.Publish(subjectPlace+pool, body))
}

// FollowPlacement hands on what the workers of a pool tell, this one's own included,
// until ctx ends. hear decodes it; it must not block.
func (b *Broker) FollowPlacement(ctx context.Context, pool string, hear func(decode func(any) error)) error {
	sub, err := b.nc.Subscribe(subjectPlace+pool, func(msg *nats.Msg) {
		hear(func(into any) error { return json.Unmarshal(msg.Data, into) })
	})
	if err != nil {
		return apiError("follow placement", pool, err)
	}
	defer b.unsubscribe(sub)
	<-ctx.Done()
	return nil
}
