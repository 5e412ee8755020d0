package broker

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// The server counts how often it hands out a call, and not why. So a worker notes when it
// begins a call that came often, and notes again when it hands the call back alive. What
// was begun and not handed back is an execution that its worker didn't survive, or whose
// server has lost sight of the worker. The note is part of the run's state.

const runTrials = "$tries."

func trialsSubject(c *wire.Call) string { return runSubject(c.Run, runTrials+string(placeOf(c))) }

// isTrials says whether a message of a run's state is such a note: it doesn't say that the
// run goes on.
func isTrials(msg *nats.Msg) bool {
	return strings.Contains(msg.Header.Get(jetstream.SubjectHeader), "."+runTrials)
}

// Begin notes that a call begins to run, and returns how its earlier executions ended.
func (b *Broker) Begin(ctx context.Context, c *wire.Call) (t wire.Trials, err error) {
	msg, err := b.newest(ctx, StreamRuns, trialsSubject(c))
	if err != nil {
		return t, apiError("note that a call begins", c.Name, err)
	}
	if msg != nil && json.Unmarshal(msg.Data, &t) != nil {
		t = wire.Trials{} // not ours
	}
	if t.Begun {
		t.Lost++
	}
	t.Begun = true
	body, err := json.Marshal(t)
	if err != nil {
		return t, err
	}
	if _, err = b.put(ctx, &nats.Msg{Subject: trialsSubject(c), Data: body}); err != nil {
		b.Survived(c, t) // it may be stored, and the call doesn't begin
	}
	return t, apiError("note that a call begins", c.Name, err)
}

// Survived notes that a call is handed back by a worker that lives on. It doesn't wait: if
// the note gets lost, the execution counts as lost.
func (b *Broker) Survived(c *wire.Call, t wire.Trials) {
	t.Begun = false
	body, err := json.Marshal(t)
	if err == nil {
		err = b.nc.Publish(trialsSubject(c), body)
	}
	if err != nil {
		b.observe.noteFailed(c.Name, err)
	}
}
