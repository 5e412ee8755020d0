package guest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"strconv"

	"github.com/cloudburst-nats/cloudburst/broker/wire"
	"github.com/cloudburst-nats/cloudburst/kvlattice"
)

// A place is a key that a request is about.
type place struct {
	*Host
	ns, key string
}

// state carries out what reads or writes a key.
func (h *Host) state(op byte, f *fields) error {
	p := place{h, string(f[0]), string(f[1])}
	if p.ns == "" {
		p.ns = h.call.Namespace
	}
	if h.call.State == nil {
		return &wire.Error{Op: "use", Name: p.key, Kind: wire.KindUnavailable, Msg: "there is no state here"}
	}
	switch op {
	case OpGet:
		return p.get()
	case OpPut:
		v, err := kept(f[2], f[3])
		if err != nil {
			return err
		}
		return h.call.State.Put(h.ctx, p.ns, p.key, v)
	case OpDelete:
		return h.call.State.Delete(h.ctx, p.ns, p.key)
	case OpVersions:
		versions, err := h.call.State.Versions(h.ctx, p.ns, p.key)
		for _, v := range versions {
			h.value(v)
		}
		return err
	case OpUpdate:
		return p.update(kvlattice.Kind(f[2]), f[3])
	default:
		return p.read(kvlattice.Kind(f[2]))
	}
}

func (p place) get() error {
	v, found, err := p.call.State.Get(p.ctx, p.ns, p.key)
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
			return p.call.State.AddGrow(p.ctx, p.ns, p.key, delta)
		}
		return p.call.State.AddCounter(p.ctx, p.ns, p.key, delta)
	case kvlattice.KindSet:
		var elements []json.RawMessage
		if err := decode(kind, body, &elements); err != nil {
			return err
		}
		return p.call.State.AddSet(p.ctx, p.ns, p.key, elements...)
	case kvlattice.KindMax:
		l, err := kvlattice.NewMax(bytes.Clone(body))
		if err != nil {
			return err
		}
		return p.call.State.Merge(p.ctx, p.ns, p.key, l)
	case kvlattice.KindMin:
		l, err := kvlattice.NewMin(bytes.Clone(body))
		if err != nil {
			return err
		}
		return p.call.State.Merge(p.ctx, p.ns, p.key, l)
	case kvlattice.KindORSet:
		var change struct{ Add, Remove []json.RawMessage }
		if err := decode(kind, body, &change); err != nil {
			return err
		}
		if err := p.remove(change.Remove); err != nil {
			return err
		}
		return p.add(change.Add)
	default:
		return unknownKind(kind)
	}
}

// read answers with what a lattice holds.
func (p place) read(kind kvlattice.Kind) error {
	switch kind {
	case kvlattice.KindCounter, kvlattice.KindGrow:
		total, err := p.call.State.Counter(p.ctx, p.ns, p.key)
		if err == nil {
			p.field(strconv.AppendInt(nil, total, 10))
		}
		return err
	case kvlattice.KindSet:
		elements, err := p.call.State.Set(p.ctx, p.ns, p.key)
		if err == nil {
			p.array(slices.Values(elements))
		}
		return err
	case kvlattice.KindMax:
		return extreme[*kvlattice.Max](p)
	case kvlattice.KindMin:
		return extreme[*kvlattice.Min](p)
	case kvlattice.KindORSet:
		set, err := held(p, kvlattice.NewORSet())
		if err == nil {
			p.array(set.All())
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
	l, err := held(p, none)
	switch {
	case err != nil:
		return err
	case l == none:
		return errNothing
	}
	p.field(l.Value().Body)
	return nil
}

// held returns the lattice of a place: none if nothing was written there.
func held[L kvlattice.Lattice](p place, none L) (L, error) {
	l, err := p.call.State.Read(p.ctx, p.ns, p.key)
	if err != nil {
		return none, err
	}
	return kvlattice.As(l, p.key, none)
}

// add adds to an observed-remove set.
func (p place) add(elements []json.RawMessage) error {
	if len(elements) == 0 {
		return nil
	}
	set, err := held(p, kvlattice.NewORSet())
	if err != nil {
		return err
	}
	delta, err := set.Addition(elements, p.call.State.Tag)
	if err != nil {
		return err
	}
	return p.call.State.Merge(p.ctx, p.ns, p.key, delta)
}

// remove removes from an observed-remove set.
func (p place) remove(elements []json.RawMessage) error {
	if len(elements) == 0 {
		return nil
	}
	set, err := held(p, kvlattice.NewORSet())
	if err != nil {
		return err
	}
	delta, news, err := set.Removals(elements)
	if err != nil || !news {
		return err
	}
	p.call.State.Retag()
	return p.call.State.Merge(p.ctx, p.ns, p.key, delta)
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
	p.field(append(list, ']'))
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
	}))
}
