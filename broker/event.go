package broker

import (
	"encoding/json"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/cloudburst-nats/cloudburst/broker/wire"
)

// eventEnded publishes cb.event.<status>.<name>: a result's headers without its
// value. Events are told once and not kept: they are for watching, and nothing
// depends on them.
func (b *Broker) eventEnded(r *wire.Result, h nats.Header) {
	b.event(&nats.Msg{Subject: subjectEvent + string(r.Status) + "." + r.Name, Header: h})
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
	b.event(&nats.Msg{Subject: subjectEvent + "retried." + call.Name, Data: body})
}

func (b *Broker) event(msg *nats.Msg) {
	if err := b.nc.PublishMsg(msg); err != nil {
		b.observe.eventLost(msg.Subject, err)
	}
}
