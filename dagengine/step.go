package dagengine

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// MaxItems is how many items a node with Each may be given. Each is a call of its own,
// and one call publishes them all.
const MaxItems = 10_000

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
	do      action
	to      *vertex
	from    string     // of deliver: whose result it is
	value   wire.Value // the node's argument; of deliver, its input; of finish, the result
	skipped bool       // of deliver: there is no result

	// Of a node with Each: which item of how many. A deliver is then of the item's
	// result, to the others of its node.
	item, items int
}

// String returns the command as the scenarios in testdata show it.
func (c command) String() string {
	switch c.do {
	case invoke:
		return fmt.Sprintf("invoke %s %s", c.step(), c.value.Body)
	case dispatch:
		if wait := c.to.node.Wait; wait > 0 {
			return fmt.Sprintf("dispatch %s %s after %v", c.step(), c.value.Body, wait)
		}
		return fmt.Sprintf("dispatch %s %s", c.step(), c.value.Body)
	case deliver:
		if c.skipped {
			return fmt.Sprintf("deliver %s %s skipped", c.join(), c.from)
		}
		return fmt.Sprintf("deliver %s %s=%s", c.join(), c.from, c.value.Body)
	default:
		return fmt.Sprintf("finish %s", c.value.Body)
	}
}

// step names what is run: the node, or an item of it.
func (c command) step() string {
	call := wire.Call{Node: c.to.node.Name, Item: c.item, Items: c.items}
	return call.Step()
}

// join names where a deliver's input waits for the others.
func (c command) join() string {
	if c.items > 0 {
		return c.to.node.Name + ".each"
	}
	return c.to.node.Name
}

// finished decides what a node's value leads to; that of $start begins the run.
// An invoke is always the only command: a node is fused with the one before it
// if each is the other's only neighbour on that side and its function is hosted.
func (p *Plan) finished(v *vertex, value wire.Value, hosts func(function string) bool) ([]command, error) {
	return p.after(v, wire.Input{Value: value}, hosts)
}

// nowhere hosts nothing: what begins where several ways meet is never fused.
func nowhere(string) bool { return false }

// after decides what follows a node that has finished, or was skipped.
func (p *Plan) after(v *vertex, in wire.Input, hosts func(function string) bool) ([]command, error) {
	if len(v.next) > 1 {
		hosts = nowhere
	}
	todo := make([]command, 0, len(v.next))
	for _, next := range v.next {
		more, err := p.bring(v, next, in, hosts)
		if err != nil {
			return nil, err
		}
		todo = append(todo, more...)
	}
	return todo, nil
}

// bring decides what a node's value leads to at one of those that it feeds.
func (p *Plan) bring(v, next *vertex, in wire.Input, hosts func(function string) bool) ([]command, error) {
	name := v.node.Name
	if len(next.feeds) > 1 {
		c := command{do: deliver, to: next, from: name}
		taken, err := next.takes(name, in)
		if err == nil && taken {
			// Refused here, the failure is the call's that brought the value.
			_, err = next.part(name, in.Value)
		}
		if c.skipped = !taken; taken {
			c.value = in.Value
		}
		return []command{c}, err
	}
	if next == p.result {
		if in.Skipped {
			in.Value = wire.Value{Body: []byte("null")}
		}
		return []command{{do: finish, to: next, value: in.Value}}, nil
	}
	return p.run(next, func(string) wire.Input { return in }, hosts)
}

// run decides how a node runs whose inputs are all there: not at all if they were
// all skipped, and then the same is asked of those that it feeds.
func (p *Plan) run(v *vertex, brought func(node string) wire.Input, hosts func(function string) bool) ([]command, error) {
	value, skipped, err := v.argument(brought)
	switch {
	case err != nil:
		return nil, err
	case skipped:
		return p.after(v, wire.Input{Skipped: true}, nowhere)
	case v.node.Each:
		return p.split(v, value, hosts)
	}
	c := command{do: dispatch, to: v, value: value}
	if v.fusible() && hosts(v.node.FunctionName()) {
		c.do = invoke
	}
	return []command{c}, nil
}

// fusible says whether the node may run in the slot of the one before it.
func (v *vertex) fusible() bool { return v.node.DAG == "" && v.node.Wait == 0 }

// split has a node run once for each item of its argument.
func (p *Plan) split(v *vertex, value wire.Value, hosts func(function string) bool) ([]command, error) {
	var items []json.RawMessage
	if err := value.Decode(&items); err != nil || items == nil {
		return nil, v.badArgument(err, "it runs once for each item of a list, and its argument isn't one")
	}
	if len(items) > MaxItems {
		return nil, v.badArgument(nil, "its list has %d items, %d at most: make a list of shorter lists, and have its function take one of them", len(items), MaxItems)
	}
	if len(items) == 0 {
		return p.after(v, wire.Input{Value: wire.Value{Body: []byte("[]")}}, hosts)
	}
	todo := make([]command, len(items))
	for i, item := range items {
		todo[i] = command{do: dispatch, to: v, value: wire.Value{Body: item}, item: i, items: len(items)}
	}
	return todo, nil
}

// finishedItem decides what the value of one of a node's items leads to: it waits
// for the others.
func (p *Plan) finishedItem(v *vertex, item, items int, value wire.Value) ([]command, error) {
	from := strconv.Itoa(item)
	if _, err := v.part(v.node.Name+"."+from, value); err != nil {
		return nil, err
	}
	return []command{{do: deliver, to: v, from: from, value: value, item: item, items: items}}, nil
}

// gathered decides what the inputs of a node lead to, so far as they are there:
// to nothing as long as one is missing that it needs. A node that is skipped
// doesn't need its signal.
func (p *Plan) gathered(v *vertex, inputs map[string]wire.Input) ([]command, error) {
	signalled, skipped := true, true
	for _, from := range v.feeds {
		in, ok := inputs[from]
		switch {
		case from == signalNode:
			signalled = ok
		case !ok:
			return nil, nil
		case skipped:
			taken, err := v.takes(from, in)
			if err != nil {
				return nil, err
			}
			skipped = !taken
		}
	}
	if !signalled && !skipped {
		return nil, nil
	}
	brought := func(from string) wire.Input { return inputs[from] }
	if v != p.result {
		return p.run(v, brought, nowhere)
	}
	value, skipped, err := v.argument(brought)
	if skipped {
		value = wire.Value{Body: []byte("{}")} // every one of several sinks was
	}
	return []command{{do: finish, to: v, value: value}}, err
}

// gatheredItems decides what the results of a node's items lead to: once all are
// there, the node has finished, with the list of them.
func (p *Plan) gatheredItems(v *vertex, items int, inputs map[string]wire.Input) ([]command, error) {
	var list bytes.Buffer
	for i := range items {
		in, ok := inputs[strconv.Itoa(i)]
		if !ok {
			return nil, nil
		}
		part, err := v.part(v.node.Name, in.Value)
		if err != nil {
			return nil, err
		}
		list.WriteByte("[,"[min(i, 1)])
		list.Write(part)
	}
	list.WriteByte(']')
	return p.finished(v, wire.Value{Body: list.Bytes()}, nowhere)
}
