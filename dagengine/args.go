package dagengine

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// A slot is one place of a node's argument, and what fills it: the result of
// another node, or a constant.
type slot struct {
	place    string // as Edge.Arg
	from     string // the node; empty for a constant
	field    string // what to take of the node's result; empty means all
	when     *When  // the condition of its edge; nil means none
	constant json.RawMessage
}

// slotsOf returns what a node's argument is made of, its edges being in.
func slotsOf(n *Node, in []Edge) []slot {
	slots := make([]slot, 0, len(in)+len(n.With)+2)
	if len(in) == 0 {
		slots = append(slots, slot{place: n.As, from: startNode, field: n.Input})
	}
	for _, e := range in {
		slots = append(slots, slot{place: e.Arg, from: e.From, when: e.When})
	}
	if n.Signal != "" {
		slots = append(slots, slot{place: cmp.Or(n.SignalAs, "signal"), from: signalNode})
	}
	for _, place := range slices.Sorted(maps.Keys(n.With)) {
		slots = append(slots, slot{place: place, constant: n.With[place]})
	}
	return slots
}

// index returns the place as an index, if it is one.
func (s slot) index() (int, bool) {
	if s.place == "" || strings.Trim(s.place, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.Atoi(s.place)
	if err != nil {
		n = math.MaxInt // a gap in any list
	}
	return n, true
}

// origin says in words where the slot is filled from.
func (s slot) origin() string {
	switch s.from {
	case "":
		return "a constant"
	case startNode:
		return "the run's argument"
	case signalNode:
		return "the signal"
	}
	return "the edge from " + s.from
}

// placeField is where a user writes the slot's place.
func (s slot) placeField() string {
	switch s.from {
	case "":
		return "its key"
	case startNode:
		return "as"
	case signalNode:
		return "signal_as"
	}
	return "arg"
}

// shape is the form of a node's argument.
type shape int

const (
	whole  shape = iota // what the one slot holds, JSON or not
	list                // a JSON array, by index
	object              // a JSON object, by name
)

// arranged returns the slots in the order of the argument, and its shape.
func arranged(slots []slot) ([]slot, shape) {
	if slots[0].place == "" {
		return slots, whole
	}
	if _, ok := slots[0].index(); !ok {
		slices.SortFunc(slots, func(a, b slot) int { return cmp.Compare(a.place, b.place) })
		return slots, object
	}
	slices.SortFunc(slots, func(a, b slot) int {
		i, _ := a.index()
		j, _ := b.index()
		return cmp.Compare(i, j)
	})
	return slots, list
}

// argument puts a node's argument together from what the nodes that feed it
// brought. What was skipped is left out of an object and null in a list; skipped is
// true if all of it was. It is an Error of wire.KindBadArgument if the results
// don't allow an argument.
func (v *vertex) argument(brought func(node string) wire.Input) (value wire.Value, skipped bool, err error) {
	parts := make([]slotValue, 0, len(v.slots))
	skipped = true
	for _, s := range v.slots {
		open, err := v.open(s, brought)
		if err != nil {
			return wire.Value{}, false, err
		}
		if open && s.from != "" && s.from != signalNode {
			skipped = false
		}
		parts = append(parts, slotValue{s, open})
	}
	if skipped {
		return wire.Value{}, true, nil
	}
	value, err = v.assemble(parts, func(node string) wire.Value { return brought(node).Value })
	return value, false, err
}

// slotValue is a slot of which is known whether anything is in it.
type slotValue struct {
	slot
	open bool
}

// open says whether the slot's edge carries anything.
func (v *vertex) open(s slot, brought func(node string) wire.Input) (bool, error) {
	if s.from == "" {
		return true, nil
	}
	in := brought(s.from)
	if in.Skipped || s.when == nil {
		return !in.Skipped, nil
	}
	if _, err := v.part(s.from, in.Value); err != nil {
		return false, err
	}
	holds, err := s.when.holds(in.Value)
	if err != nil {
		return false, v.badArgument(err, "its condition can't be read off %s", resultOf(s.from))
	}
	return holds, nil
}

// takes says whether the node takes anything of what another brings.
func (v *vertex) takes(from string, in wire.Input) (bool, error) {
	for _, s := range v.slots {
		if s.from != from {
			continue
		}
		if open, err := v.open(s, func(string) wire.Input { return in }); open || err != nil {
			return open, err
		}
	}
	return false, nil
}

func (v *vertex) assemble(slots []slotValue, result func(node string) wire.Value) (wire.Value, error) {
	if v.shape == whole {
		return v.fill(slots[0].slot, result)
	}
	var b bytes.Buffer
	b.WriteByte("[{"[v.shape-list])
	for _, s := range slots {
		if !s.open && v.shape == object {
			continue
		}
		if b.Len() > 1 {
			b.WriteByte(',')
		}
		if v.shape == object {
			b.WriteString(strconv.Quote(s.place)) // a name: nothing to escape
			b.WriteByte(':')
		}
		if !s.open {
			b.WriteString("null")
			continue
		}
		part, err := v.fill(s.slot, result)
		if err == nil {
			part.Body, err = v.part(s.from, part)
		}
		if err != nil {
			return wire.Value{}, err
		}
		b.Write(part.Body)
	}
	b.WriteByte("]}"[v.shape-list])
	return wire.Value{Body: b.Bytes()}, nil
}

// fill returns what the slot holds.
func (v *vertex) fill(s slot, result func(node string) wire.Value) (wire.Value, error) {
	switch {
	case s.from == "":
		return wire.Value{Body: s.constant}, nil
	case s.field == "":
		return result(s.from), nil
	}
	var fields map[string]json.RawMessage
	if err := result(s.from).Decode(&fields); err != nil {
		return wire.Value{}, v.badArgument(err, "it takes field %q of the run's argument, which is not a JSON object", s.field)
	}
	body, ok := fields[s.field]
	if !ok {
		return wire.Value{}, v.badArgument(nil, "it takes field %q of the run's argument, which has none of that name", s.field)
	}
	return wire.Value{Body: body}, nil
}

// part returns a value as a piece of JSON, if it can be one.
func (v *vertex) part(from string, value wire.Value) ([]byte, error) {
	switch {
	case !value.IsJSON():
		return nil, v.badArgument(nil, "%s is %s, which can only be a whole argument: store it and pass a reference", resultOf(from), value.Type)
	case len(value.Body) == 0:
		return []byte("null"), nil
	case !json.Valid(value.Body):
		return nil, v.badArgument(nil, "%s is not valid JSON: give its content type", resultOf(from))
	}
	return value.Body, nil
}

func resultOf(node string) string {
	switch node {
	case startNode:
		return "the run's argument"
	case signalNode:
		return "the signal"
	}
	return "the result of " + node
}

func (v *vertex) badArgument(cause error, format string, args ...any) error {
	return &wire.Error{Op: "make the argument of", Kind: wire.KindBadArgument, Name: v.node.Name, Msg: fmt.Sprintf(format, args...), Err: cause}
}
