package guest

import (
	"encoding/json"

	"github.com/cloudburst-nats/cloudburst/kvlattice"
	"github.com/cloudburst-nats/cloudburst/wire"
	"github.com/cloudburst-nats/cloudburst/workers/runtime/handle"
)

// A scored is a member of an ordered set.
type scored struct {
	Member string  `json:"member"`
	Score  float64 `json:"score"`
}

// rank changes an ordered set: it removes members, then sets scores.
func (p place) rank(body []byte) error {
	var change struct {
		Put    []scored
		Remove []string
	}
	if err := decode(kvlattice.KindOrderedSet, body, &change); err != nil {
		return err
	}
	for _, member := range change.Remove {
		if err := p.Unscore(p.ctx, member); err != nil {
			return err
		}
	}
	for _, s := range change.Put {
		if err := p.Score(p.ctx, s.Member, s.Score); err != nil {
			return err
		}
	}
	return nil
}

// ranks answers with the members of an ordered set, the lowest score first.
func (p place) ranks() error {
	set, err := handle.Held(p.ctx, p.Place, kvlattice.NewOrderedSet())
	if err != nil {
		return err
	}
	members := make([]scored, 0, set.Len())
	for member, score := range set.All() {
		members = append(members, scored{member, score})
	}
	return p.json(members)
}

// A priority is a value with its number.
type priority struct {
	Priority *int64          `json:"priority"`
	Value    json.RawMessage `json:"value"`
}

// offer offers a value to a priority.
func (p place) offer(body []byte) error {
	var offered priority
	if err := decode(kvlattice.KindPriority, body, &offered); err != nil {
		return err
	}
	if offered.Priority == nil || offered.Value == nil {
		return badArgument(`update a priority: it takes {"priority":n,"value":v}, and not %.80q`, body)
	}
	return p.Merge(p.ctx, kvlattice.NewPriority(*offered.Priority, wire.Value{Body: offered.Value}))
}

// best answers with the value of the lowest number.
func (p place) best() error {
	l, err := handle.Held[*kvlattice.Priority](p.ctx, p.Place, nil)
	switch {
	case err != nil:
		return err
	case l == nil:
		return errNothing
	case !l.Value().IsJSON():
		return badArgument("the value at %q is of the type %s, and a guest reads JSON of a priority", p.Key, l.Value().Type)
	}
	number := l.Priority()
	return p.json(priority{&number, l.Value().Body})
}

func (p place) json(v any) error {
	text, err := json.Marshal(v)
	if err == nil {
		p.Host.field(text)
	}
	return err
}
