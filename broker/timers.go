package broker

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// A timer is a message that the server publishes again at its time (ADR-51), to
// the same stream, with its headers but for those that NATS itself knows. So what
// becomes of it is in headers of ours.
const (
	headerSchedule       = "Nats-Schedule"
	headerScheduleTarget = "Nats-Schedule-Target"

	headerTo = "Cb-To" // the subject of the call
	headerID = "Cb-Id" // its Nats-Msg-Id

	// MinWait is the shortest wait: the server's schedules are no finer.
	MinWait = 250 * time.Millisecond
)

// timerOf returns the message that has the server hand out a call later. The server goes by
// its own clock, so ours mustn't say when that is.
func (b *Broker) timerOf(ctx context.Context, msg *nats.Msg, call *wire.Call) (*nats.Msg, error) {
	if err := b.Sync(ctx, BucketResults); err != nil {
		return nil, err
	}
	at := b.Now().Add(max(call.Wait, MinWait))
	timer := &nats.Msg{Subject: timerSubject(call), Header: msg.Header, Data: msg.Data}
	timer.Header[headerTo] = []string{msg.Subject}
	timer.Header[headerID] = msg.Header[wire.HeaderRun]
	delete(timer.Header, wire.HeaderFresh) // it may be published twice: see Timers
	// The client's own helper rounds to seconds.
	timer.Header[headerSchedule] = []string{"@at " + at.UTC().Format(time.RFC3339Nano)}
	timer.Header[headerScheduleTarget] = []string{subjectFire + strings.TrimPrefix(timer.Subject, subjectTimer)}
	return timer, nil
}

// dropTimers takes back what a run would do later.
func (b *Broker) dropTimers(ctx context.Context, run wire.RunID) error {
	return b.purgeThrough(ctx, StreamTimers, subjectTimer+runToken(run)+".>", 1<<62)
}

// Timers publishes the calls whose time has come to the pools that run them.
// Several at once do no harm: they share what there is, and a call that two of
// them publish is one.
type Timers struct{ b *Broker }

// NewTimers returns the timers of all pools.
func (b *Broker) NewTimers() *Timers { return &Timers{b: b} }

const (
	// timersAtOnce is how many calls are asked for at a time.
	timersAtOnce = 256
	// timersExpire is how long the server holds a request for them.
	timersExpire = 30 * time.Second
	// timersAckWait is after how long one that wasn't published is published by
	// another: publishing takes milliseconds.
	timersAckWait = 10 * time.Second
	// timersRetry is the wait before a call that was refused is published again.
	timersRetry = time.Second
	// timersGiveUp is how often a call is published that nobody listens to, as
	// those of a function that was removed meanwhile.
	timersGiveUp = 30
)

// Run publishes calls until ctx ends.
func (t *Timers) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		err := t.publish(ctx)
		if errors.Is(err, ErrClosed) {
			return apiError("run timers", "", err)
		}
		if err != nil && ctx.Err() == nil {
			t.b.observe.catchUpFailed("timers", err)
			select {
			case <-ctx.Done():
			case <-time.After(timersRetry):
			}
		}
	}
	return nil
}

// publish takes calls as they come, until something is wrong.
func (t *Timers) publish(ctx context.Context) error {
	consumer, err := t.b.js.CreateOrUpdateConsumer(ctx, StreamTimers, jetstream.ConsumerConfig{
		Durable: "timers", FilterSubject: subjectFire + ">",
		AckPolicy: jetstream.AckExplicitPolicy, AckWait: timersAckWait, MaxDeliver: -1,
		MaxAckPending: maxAckPending, MaxWaiting: maxWaiting,
	})
	for err == nil && ctx.Err() == nil {
		var batch jetstream.MessageBatch
		asking, cancel := context.WithTimeout(ctx, timersExpire)
		if batch, err = consumer.Fetch(timersAtOnce, jetstream.FetchContext(asking)); err == nil {
			for msg := range batch.Messages() {
				t.fire(ctx, msg)
			}
			if err = batch.Error(); errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout) {
				err = nil // nothing came
			}
		}
		cancel()
	}
	return err
}

// fire publishes one call and settles it once the pool's stream has it. It doesn't
// wait for that.
func (t *Timers) fire(ctx context.Context, msg jetstream.Msg) {
	call := &nats.Msg{Subject: msg.Headers().Get(headerTo), Header: msg.Headers(), Data: msg.Data()}
	if call.Header == nil { // whoever wrote it knows nothing of timers
		call.Header = make(nats.Header)
	}
	id := msg.Headers().Get(headerID)
	for name := range call.Header {
		if name == headerTo || name == headerID || strings.HasPrefix(name, "Nats-Schedule") {
			delete(call.Header, name)
		}
	}
	call.Header[wire.HeaderRun] = []string{id}
	if name, _ := parseCallSubject(call.Subject); name == "" || id == "" {
		call.Subject = msg.Subject() // what it says may be anything
		t.b.unreadable(call, errors.New("a timer of something else than a call"))
		t.settled(call, msg.Term())
		return
	}
	if attemptOf(msg) > timersGiveUp {
		if _, err := t.b.put(ctx, call); errors.Is(err, nats.ErrNoResponders) && t.giveUp(ctx, call) == nil {
			t.settled(call, msg.Term())
			return
		}
	}
	t.b.mux.publish(call, func(_ uint64, err error) {
		if err == nil {
			t.settled(call, msg.Ack())
		} else {
			t.settled(call, msg.NakWithDelay(timersRetry))
		}
	})
}

// giveUp ends the run of a call that nobody can take any more.
func (t *Timers) giveUp(ctx context.Context, call *nats.Msg) error {
	d, err := t.b.delivery(&nats.Msg{Subject: call.Subject, Reply: "$JS.ACK.." + CallsConsumer + ".1.1.1.1.0", Header: call.Header})
	if err != nil {
		return err
	}
	return t.b.endRun(ctx, &wire.Result{
		Run: d.Call.Run, Name: d.Call.Name, Status: wire.StatusFailed,
		Err: &wire.Error{Op: "call", Name: d.Call.Name, Kind: wire.KindUnknown, Msg: "it was to be called at this time, and there is no such function or DAG any more"},
	})
}

func attemptOf(msg jetstream.Msg) uint64 {
	if meta, err := msg.Metadata(); err == nil {
		return meta.NumDelivered
	}
	return 0
}

// settled takes note of a timer that will fire once more.
func (t *Timers) settled(call *nats.Msg, err error) {
	if err != nil {
		t.b.observe.asyncError(&nats.Subscription{Subject: call.Subject}, err)
	}
}
