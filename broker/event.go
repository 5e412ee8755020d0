package broker

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/cloudburst-nats/cloudburst/broker/wire"
)

// eventEnded publishes cb.event.<status>.<name>. Events are told once and not
// kept: they are for watching, and nothing depends on them.
func (b *Broker) eventEnded(r *wire.Result) {
	// By hand, since every call pays for it; run ids and worker names need no escaping.
	body := make([]byte, 0, 128)
	body = append(append(body, `{"run":"`...), r.Run...)
	body = append(append(body, `","worker":"`...), r.Worker...)
	body = strconv.AppendInt(append(body, `","took_us":`...), r.Took.Microseconds(), 10)
	body = strconv.AppendInt(append(body, `,"attempts":`...), int64(r.Attempts), 10)
	body = append(body, '}')
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

func (b *Broker) event(subject string, body []byte) {
	if err := b.nc.Publish(subject, body); err != nil {
		b.observe.eventLost(subject, err)
	}
}
