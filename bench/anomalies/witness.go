package anomalies

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cloudburst-nats/cloudburst/broker"
	"github.com/cloudburst-nats/cloudburst/wire"
)

const (
	// tellWithin bounds how long a Witness reads what it tells.
	tellWithin = 20 * time.Second
	// toldAtMost is how many events of a run, and lines of its state, are told.
	toldAtMost = 40
	// runsHeard is how many runs a Witness keeps events of: the last ones.
	runsHeard = 10_000

	retriedEvents   = "cb.event.retried.>"
	restartedEvents = "cb.event.restarted.>"
)

// A Witness hears what workers tell of runs, and tells how one stands: for runs that
// hang, whose state is gone when the platform ends. Safe for concurrent use.
type Witness struct {
	b    *broker.Broker
	subs []*nats.Subscription

	mu     sync.Mutex // guards what follows
	events map[wire.RunID][]string
	heard  []wire.RunID // the keys of events, the oldest first
}

// NewWitness returns a witness that hears events from now on, until Close.
func NewWitness(b *broker.Broker) (*Witness, error) {
	w := &Witness{b: b, events: make(map[wire.RunID][]string)}
	for _, subject := range []string{retriedEvents, restartedEvents} {
		sub, err := b.Conn().Subscribe(subject, w.hear)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("listen to %s: %w", subject, err), w.Close())
		}
		w.subs = append(w.subs, sub)
	}
	return w, b.Conn().Flush()
}

// Close stops hearing.
func (w *Witness) Close() error {
	var errs []error
	for _, sub := range w.subs {
		errs = append(errs, sub.Unsubscribe())
	}
	return errors.Join(errs...)
}

func (w *Witness) hear(msg *nats.Msg) {
	var of struct {
		Run wire.RunID `json:"run"`
	}
	if json.Unmarshal(msg.Data, &of) != nil || of.Run == "" {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, known := w.events[of.Run]; !known {
		w.heard = append(w.heard, of.Run)
		if len(w.heard) > runsHeard {
			delete(w.events, w.heard[0])
			w.heard = w.heard[1:]
		}
	}
	line := time.Now().Format("15:04:05.000 ") + strings.TrimPrefix(msg.Subject, "cb.event.") + " " + string(msg.Data)
	told := append(w.events[of.Run], line)
	w.events[of.Run] = told[max(0, len(told)-toldAtMost):]
}

// Tell returns how a run stands, in lines: what it waits for, its state, its calls in
// the pools' streams, and which of them were handed out again, how often and why. What
// can't be read is told as well.
func (w *Witness) Tell(ctx context.Context, run wire.RunID) string {
	ctx, cancel := context.WithTimeout(ctx, tellWithin)
	defer cancel()
	t := &tale{}
	t.add("run %s at %s", run, time.Now().Format("15:04:05.000"))
	info, err := w.b.RunState(ctx, run)
	if err != nil {
		t.add("  it can't be shown: %v", err)
	} else {
		t.add("  %s %s, since %s: %s", info.Name, info.Status, info.Started.Format("15:04:05.000"), info.Error)
		for _, wait := range info.Waits {
			t.add("  waits for %s %s at node %s since %s", wait.For, wait.Name, wait.Node, wait.Since.Format("15:04:05.000"))
		}
	}
	w.state(ctx, t, run)
	w.calls(ctx, t, run)
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, line := range w.events[run] {
		t.add("  event %s", line)
	}
	return strings.Join(t.lines, "\n")
}

// A tale is gathered line by line.
type tale struct{ lines []string }

func (t *tale) add(format string, args ...any) {
	t.lines = append(t.lines, fmt.Sprintf(format, args...))
}

// state tells of claims, inputs and all else that is kept of a run.
func (w *Witness) state(ctx context.Context, t *tale, run wire.RunID) {
	subject := "cb.run." + strings.NewReplacer("=", "=3D", ".", "=2E").Replace(string(run)) + ".>"
	left := toldAtMost
	err := w.each(ctx, broker.StreamRuns, subject, false, func(msg jetstream.Msg, at *jetstream.MsgMetadata) bool {
		body := string(msg.Data())
		t.add("  state %6d %s %s %.100s", at.Sequence.Stream, at.Timestamp.Format("15:04:05.000"), strings.TrimPrefix(msg.Subject(), strings.TrimSuffix(subject, ">")), body)
		left--
		return left > 0
	})
	if err != nil {
		t.add("  its state can't be read: %v", err)
	}
}

// calls tells of a run's calls, and of the consumers of the streams that they are in.
func (w *Witness) calls(ctx context.Context, t *tale, run wire.RunID) {
	pools, err := w.b.Pools(ctx)
	if err != nil {
		t.add("  the pools can't be listed: %v", err)
	}
	for _, pool := range pools {
		stream := broker.CallsStream(pool)
		consumer, err := w.b.JetStream().Consumer(ctx, stream, broker.CallsConsumer)
		if err != nil {
			t.add("  the consumer of pool %s can't be read: %v", pool, err)
			continue
		}
		now := consumer.CachedInfo()
		leader := "of a single server"
		if now.Cluster != nil {
			leader = "led by " + now.Cluster.Leader
		}
		t.add("  pool %s, %s: settled through %d, handed out through %d; %d in hand, %d of them again; %d wait; %d requests of workers",
			pool, leader, now.AckFloor.Stream, now.Delivered.Stream, now.NumAckPending, now.NumRedelivered, now.NumPending, now.NumWaiting)
		err = w.each(ctx, stream, "", true, func(msg jetstream.Msg, at *jetstream.MsgMetadata) bool {
			h := msg.Headers()
			if h.Get(wire.HeaderOf) != string(run) && h.Get(wire.HeaderRun) != string(run) {
				return true
			}
			how := "may be in hand"
			switch {
			case at.Sequence.Stream <= now.AckFloor.Stream:
				how = "is settled"
			case at.Sequence.Stream > now.Delivered.Stream:
				how = "waits"
			}
			t.add("    call %d %s, stored %s, %s", at.Sequence.Stream, how, at.Timestamp.Format("15:04:05.000"), msg.Subject()+" "+h.Get(wire.HeaderRun))
			return true
		})
		if err != nil {
			t.add("    its calls can't be read: %v", err)
		}
	}
}

// each hands every message of a stream to fn, the oldest first, until fn says that it is
// enough.
func (w *Witness) each(ctx context.Context, stream, filter string, headersOnly bool, fn func(jetstream.Msg, *jetstream.MsgMetadata) bool) error {
	cfg := jetstream.OrderedConsumerConfig{HeadersOnly: headersOnly}
	if filter != "" {
		cfg.FilterSubjects = []string{filter}
	}
	consumer, err := w.b.JetStream().OrderedConsumer(ctx, stream, cfg)
	if err != nil {
		return err
	}
	for {
		batch, err := consumer.FetchNoWait(1000)
		if err != nil {
			return err
		}
		got := 0
		for msg := range batch.Messages() {
			got++
			at, err := msg.Metadata()
			if err != nil {
				return err
			}
			if !fn(msg, at) {
				return nil
			}
		}
		if err := batch.Error(); err != nil || got == 0 || ctx.Err() != nil {
			return errors.Join(err, context.Cause(ctx))
		}
	}
}

// Hung is the error of a run that had no result within a time. It tells how the run stands, waits
// for its result for longer, and tells whether that came.
func (w *Witness) Hung(ctx context.Context, run wire.RunID, within, longer time.Duration) error {
	before := w.Tell(ctx, run)
	began := time.Now()
	waiting, cancel := context.WithTimeout(ctx, longer)
	defer cancel()
	r, err := w.b.Await(waiting, run)
	if err == nil {
		return fmt.Errorf("%w: it had no result within %v, and ended %s %v later:\n%s\n%s", errHung, within, r.Status, time.Since(began).Round(time.Millisecond), before, w.Tell(ctx, run))
	}
	return fmt.Errorf("%w: it had no result within %v, nor %v later (%w):\n%s\n%s", errHung, within, time.Since(began).Round(time.Second), err, before, w.Tell(ctx, run))
}
