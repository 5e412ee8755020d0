package broker

import (
	"context"
	"encoding/json"

	"github.com/nats-io/nats.go"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// slotsMessage is the request on cb.slots.<worker> and its answer: how many calls
// the worker should run at once, and how many it does now.
type slotsMessage struct {
	Slots int `json:"slots"`
}

// SetSlots has a worker run so many calls at once, within the bounds that it was
// started with, and returns how many it runs at once now. Calls that it has above
// that end in their own time. KindUnavailable if it does not answer.
func (b *Broker) SetSlots(ctx context.Context, worker string, n int) (int, error) {
	if err := wire.CheckName("worker", worker); err != nil {
		return 0, err
	}
	body, err := json.Marshal(slotsMessage{n})
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	msg, err := b.nc.RequestWithContext(ctx, subjectSlots+worker, body)
	if err != nil {
		return 0, apiError("set slots", worker, err)
	}
	var now slotsMessage
	if err := json.Unmarshal(msg.Data, &now); err != nil {
		return 0, &wire.Error{Op: "set slots", Name: worker, Kind: wire.KindInvalid, Msg: "the worker refused: " + clipString(string(msg.Data), 300)}
	}
	return now.Slots, nil
}

// ServeSlots answers SetSlots for a worker until ctx ends. set returns how many
// slots there are after it; it must not block.
func (b *Broker) ServeSlots(ctx context.Context, worker string, set func(n int) int) error {
	if err := wire.CheckName("worker", worker); err != nil {
		return err
	}
	sub, err := b.nc.Subscribe(subjectSlots+worker, func(msg *nats.Msg) {
		var asked struct {
			Slots *int `json:"slots"` // without it, nothing is set to nothing
		}
		answer := []byte(`not understood: want {"slots": 16}`)
		if err := json.Unmarshal(msg.Data, &asked); err == nil && asked.Slots != nil {
			if answer, err = json.Marshal(slotsMessage{set(*asked.Slots)}); err != nil {
				panic(err) // a number always marshals
			}
		}
		if msg.Reply == "" {
			return // nobody wants to know
		}
		if err := msg.Respond(answer); err != nil {
			b.observe.replyFailed(worker, err)
		}
	})
	if err != nil {
		return apiError("serve slots", worker, err)
	}
	defer b.unsubscribe(sub)
	<-ctx.Done()
	return nil
}
