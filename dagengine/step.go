package dagengine

import (
	"fmt"

	"github.com/cloudburst-nats/cloudburst/broker/wire"
)

// action is what a command asks for.
type action int

const (
	invoke   action = iota // run the node here and now, in the slot of this call
	dispatch               // publish a call of the node
	deliver                // put an input of a node that several feed where the others are
	finish                 // the run has ended, with this value
)

// command is one thing to do next.
type command struct {
	do    action
	to    *vertex
	from  string     // of deliver: whose result it is
	value wire.Value // the node's argument; of deliver, its input; of finish, the result
}

// String returns the command as the scenarios in testdata show it.
func (c command) String() string {
	switch c.do {
	case invoke:
		return fmt.Sprintf("invoke %s %s", c.to.node.Name, c.value.Body)
	case dispatch:
		return fmt.Sprintf("dispatch %s %s", c.to.node.Name, c.value.Body)
	case deliver:
		return fmt.Sprintf("deliver %s %s=%s", c.to.node.Name, c.from, c.value.Body)
	default:
		return fmt.Sprintf("finish %s", c.value.Body)
	}
}

// finished decides what a node's value leads to; that of $start begins the run.
// An invoke is always the only command: a node is fused with the one before it
// if each is the other's only neighbour on that side and its function is hosted.
func (p *Plan) finished(v *vertex, value wire.Value, hosts func(function string) bool) ([]command, error) {
	todo := make([]command, 0, len(v.next))
	for _, next := range v.next {
		c := command{do: dispatch, to: next}
		var err error
		switch {
		case len(next.feeds) > 1:
			c.do, c.from, c.value = deliver, v.node.Name, value
			// Refused here, the failure is the call's that brought the value.
			_, err = next.part(v.node.Name, value)
		case next == p.result:
			c.do, c.value = finish, value
		default:
			c.value, err = next.argument(func(string) wire.Value { return value })
			if len(v.next) == 1 && hosts(next.node.FunctionName()) {
				c.do = invoke
			}
		}
		if err != nil {
			return nil, err
		}
		todo = append(todo, c)
	}
	return todo, nil
}

// gathered decides what the inputs of a node lead to, so far as they are there:
// to nothing as long as one is missing.
func (p *Plan) gathered(v *vertex, inputs map[string]wire.Input) ([]command, error) {
	for _, from := range v.feeds {
		if _, ok := inputs[from]; !ok {
			return nil, nil
		}
	}
	value, err := v.argument(func(from string) wire.Value { return inputs[from].Value })
	if err != nil {
		return nil, err
	}
	c := command{do: dispatch, to: v, value: value}
	if v == p.result {
		c.do = finish
	}
	return []command{c}, nil
}
