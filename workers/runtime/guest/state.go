package guest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"strconv"

	"github.com/cloudburst-nats/cloudburst/kvlattice"
	"github.com/cloudburst-nats/cloudburst/wire"
	"github.com/cloudburst-nats/cloudburst/workers/runtime/handle"
)

// A place is what a request is about: a key, or a field of a map.
type place struct {
	*Host
	handle.Place
}

// state carries out what reads or writes a key.
func (h *Host) state(op byte, f *fields) error {
	p := place{h, handle.Place{In: h.call.State, NS: string(f[0]), Key: string(f[1])}}
	if p.NS == "" {
		p.NS = h.call.Namespace
	}
	if p.In == nil {
		return &wire.Error{Op: "use", Name: p.Key, Kind: wire.KindUnavailable, Msg: "there is no state here"}
	}
	if op == OpField {
		return p.field(f[2])
	}
	return p.carryOut(op, f)
}

// field carries out a request for a field of the map that is here. Its namespace doesn't
// matter, and its key is the field.
func (p place) field(request []byte) error {
	for { // a field of a map in a field, and so on
		if len(request) == 0 {
			return badRequest("there is none for the field of %q", p.Key)
		}
		op := request[0]
		f, err := split(op, request[1:])
		switch {
		case err != nil:
			return err
		case !ofState[op]:
			return badRequest("%q isn't for a field of a map", op)
		}
		p.In, p.Key = handle.Fields(p.In, p.Key), string(f[1])
		if op != OpField {
			return p.carryOut(op, &f)
		}
		request = f[2]
	}
}

// carryOut carries out what reads or writes the place.
func (p place) carryOut(op byte, f *fields) error {
	switch op {
	case OpGet:
		return p.get()
	case OpPut:
		v, err := kept(f[2], f[3])
		if err != nil {
			return err
		}
		return p.In.Put(p.ctx, p.NS, p.Key, v)
	case OpDelete:
		return p.In.Delete(p.ctx, p.NS, p.Key)
	case OpVersions:
		versions, err := p.In.Versions(p.ctx, p.NS, p.Key)
		for _, v := range versions {
			p.value(v)
		}
		return err
	case OpUpdate:
		return p.update(kvlattice.Kind(f[2]), f[3])
	default:
		return p.read(kvlattice.Kind(f[2]))
	}
}

func (p place) get() error {
	v, found, err := p.In.Get(p.ctx, p.NS, p.Key)
	switch {
	case err != nil:
		return err
	case !found:
		return errNothing
	}
	p.value(v)
	return nil
}

// update writes to a lattice.
func (p place) update(kind kvlattice.Kind, body []byte) error {
	switch kind {
	case kvlattice.KindCounter, kvlattice.KindGrow:
		var delta int64
		if err := decode(kind, body, &delta); err != nil {
			return err
		}
		if kind == kvlattice.KindGrow {
			return p.In.AddGrow(p.ctx, p.NS, p.Key, delta)
		}
		return p.In.AddCounter(p.ctx, p.NS, p.Key, delta)
	case kvlattice.KindSet:
		var elements []json.RawMessage
		if err := decode(kind, body, &elements); err != nil {
			return err
		}
		return p.In.AddSet(p.ctx, p.NS, p.Key, elements...)
	case kvlattice.KindMax:
		l, err := kvlattice.NewMax(bytes.Clone(body))
		if err != nil {
			return err
		}
		return p.Merge(p.ctx, l)
	case kvlattice.KindMin:
		l, err := kvlattice.NewMin(bytes.Clone(body))
		if err != nil {
			return err
		}
		return p.Merge(p.ctx, l)
	case kvlattice.KindORSet:
		var change struct{ Add, Remove []json.RawMessage }
		if err := decode(kind, body, &change); err != nil {
			return err
		}
		if len(change.Remove) > 0 {
			if err := p.Exclude(p.ctx, change.Remove); err != nil {
				return err
			}
		}
		if len(change.Add) == 0 {
			return nil
		}
		return p.Include(p.ctx, change.Add)
	case kvlattice.KindOrderedSet:
		return p.rank(body)
	case kvlattice.KindPriority:
		return p.offer(body)
	default:
		return unknownKind(kind)
	}
}

// read answers with what a lattice holds.
func (p place) read(kind kvlattice.Kind) error {
	switch kind {
	case kvlattice.KindCounter, kvlattice.KindGrow:
		total, err := p.In.Counter(p.ctx, p.NS, p.Key)
		if err == nil {
			p.Host.field(strconv.AppendInt(nil, total, 10))
		}
		return err
	case kvlattice.KindSet:
		elements, err := p.In.Set(p.ctx, p.NS, p.Key)
		if err == nil {
			p.array(slices.Values(elements))
		}
		return err
	case kvlattice.KindMax:
		return extreme[*kvlattice.Max](p)
	case kvlattice.KindMin:
		return extreme[*kvlattice.Min](p)
	case kvlattice.KindORSet:
		set, err := handle.Held(p.ctx, p.Place, kvlattice.NewORSet())
		if err == nil {
			p.array(set.All())
		}
		return err
	case kvlattice.KindOrderedSet:
		return p.ranks()
	case kvlattice.KindPriority:
		return p.best()
	case kvlattice.KindMap:
		names, err := p.FieldNames(p.ctx)
		if err == nil {
			err = p.json(append([]string{}, names...))
		}
		return err
	default:
		return unknownKind(kind)
	}
}

// extreme answers with what a Max or Min stands at.
func extreme[L interface {
	comparable
	kvlattice.Lattice
}](p place) error {
	var none L
	l, err := handle.Held(p.ctx, p.Place, none)
	switch {
	case err != nil:
		return err
	case l == none:
		return errNothing
	}
	p.Host.field(l.Value().Body)
	return nil
}

// array answers with a JSON array.
func (p place) array(elements iter.Seq[json.RawMessage]) {
	list := []byte{'['}
	for element := range elements {
		if len(list) > 1 {
			list = append(list, ',')
		}
		list = append(list, element...)
	}
	p.Host.field(append(list, ']'))
}

func decode(kind kvlattice.Kind, body []byte, into any) error {
	if err := json.Unmarshal(body, into); err != nil {
		return badArgument("update a %s: %v: %.80q", kind, err, body)
	}
	return nil
}

func unknownKind(kind kvlattice.Kind) error {
	return badArgument("the kind %.80q is none of %s", kind, fmt.Sprint([]kvlattice.Kind{
		kvlattice.KindCounter, kvlattice.KindGrow, kvlattice.KindSet, kvlattice.KindORSet, kvlattice.KindMax, kvlattice.KindMin,
		kvlattice.KindOrderedSet, kvlattice.KindPriority, kvlattice.KindMap,
	}))
}
