package broker

import (
	"encoding/json"
	"time"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// eventEnded publishes cb.event.<status>.<name> for a run that failed or was
// cancelled. One that went well is told of by its result, on
// $KV.cb_results.<run>: another message would cost every call. Events are told
// once and not kept: they are for watching, and nothing depends on them.
func (b *Broker) eventEnded(r *wire.Result) {
	body, err := json.Marshal(struct {
		Run      wire.RunID `json:"run"`
		Worker   string     `json:"worker"`
		Took     string     `json:"took"`
		Attempts int        `json:"attempts"`
		Error    string     `json:"error"`
	}{r.Run, r.Worker, r.Took.String(), r.Attempts, r.Err.Error()})
	if err != nil {
		body = nil // strings and a number always marshal
	}
	b.event(subjectEvent+string(r.Status)+"."+r.Name, body)
}

// EventRetried publishes cb.event.retried.<name>.
func (b *Broker) EventRetried(call *wire.Call, wait time.Duration, why error) {
	body, err := json.Marshal(struct {
		Run     wire.RunID `json:"run"`
		Node    string     `json:"node,omitempty"`
		Attempt int        `json:"attempt"`
		Wait    string     `json:"wait"`
		Error   string     `json:"error"`
	}{call.Run, call.Node, call.Attempt, wait.String(), why.Error()})
	if err != nil {
		body = nil // strings and a number always marshal
	}
	b.event(subjectEvent+"retried."+call.Name, body)
}

// EventRestarted publishes cb.event.restarted.<name>: the run begins again, because
// of what it has read.
func (b *Broker) EventRestarted(call *wire.Call, why string) {
	body, err := json.Marshal(struct {
		Run   wire.RunID `json:"run"`
		Node  string     `json:"node,omitempty"`
		Epoch int        `json:"epoch"` // how often it began again before
		Why   string     `json:"why"`
	}{call.Run, call.Node, call.Epoch, why})
	if err != nil {
		body = nil // strings and a number always marshal
	}
	b.event(subjectEvent+"restarted."+call.Name, body)
}

// EventScaled publishes cb.event.scaled.<pool>.
func (b *Broker) EventScaled(pool string, from, to int, panics bool, why string) {
	body, err := json.Marshal(struct {
		From  int    `json:"from"`
		To    int    `json:"to"`
		Panic bool   `json:"panic"`
		Why   string `json:"why"`
	}{from, to, panics, why})
	if err != nil {
		body = nil // strings and numbers always marshal
	}
	b.event(subjectEvent+"scaled."+pool, body)
}

func (b *Broker) event(subject string, body []byte) {
	if err := b.nc.Publish(subject, body); err != nil {
		b.observe.eventLost(subject, err)
	}
}
