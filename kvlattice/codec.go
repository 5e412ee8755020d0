package kvlattice

import (
	"fmt"
	"slices"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// Headers of a stored element. The last two are NATS's own: what its key-value
// store writes for a deletion, and what the server writes when a value's time
// is up.
const (
	HeaderKind      = "Cb-Kind"    // a Kind; a value put by hand has none
	HeaderTimestamp = "Cb-Ts"      // of a register: when it was written
	HeaderWriter    = "Cb-Writer"  // of a register: by whom; absent if unknown
	HeaderCounter   = "Cb-Counter" // of a counter: its components, or "body"
	HeaderOperation = "KV-Operation"
	HeaderMarker    = "Nats-Marker-Reason"
)

const (
	operationDelete = "DEL"
	operationPurge  = "PURGE"
)

// Decode reads what a lattice's Encode wrote. The lattice keeps e.Body, so
// nobody may write to that any more.
//
// An element without a kind was put or deleted by hand, with any NATS client:
// it is a register that nobody in particular wrote when the storage received
// it. An unknown kind is an error of wire.KindLattice, and an element that
// doesn't hold together one of wire.KindInvalid.
func Decode(e Entry) (Lattice, error) {
	switch kind := Kind(wire.First(e.Header, HeaderKind)); kind {
	case "":
		return registerOf(e, stampOf(e.At), ""), nil
	case KindLWW:
		return orNil(decodeLWW(e))
	case KindCausal:
		return orNil(decodeCausal(e))
	case KindCounter:
		return orNil(decodeCounter(e))
	case KindSet:
		return orNil(decodeSet(e))
	case KindMax:
		return orNil(decodeMax(e))
	case KindMin:
		return orNil(decodeMin(e))
	case KindGrow:
		return orNil(decodeGrow(e))
	case KindORSet:
		return orNil(decodeORSet(e))
	case KindOrderedSet:
		return orNil(decodeOrderedSet(e))
	case KindMap:
		return orNil(decodeMap(e))
	case KindPriority:
		return orNil(decodePriority(e))
	default:
		return nil, &wire.Error{
			Op: "decode", Kind: wire.KindLattice, Name: string(kind),
			Msg: "no such kind of lattice here; a newer version may have written it",
		}
	}
}

// Join returns what the key holds: the join of its base and all its slots, nil
// if there are none. The lattice is the caller's own.
//
// Elements of different kinds are an error of wire.KindLattice, except that a
// deleted key has no kind: a deletion beside a counter or a set does nothing.
func (s Snapshot) Join() (Lattice, error) {
	var joined []held
	if s.Base != nil {
		if err := add(&joined, *s.Base, "the base"); err != nil {
			return nil, err
		}
	}
	for _, slot := range s.Slots {
		if err := add(&joined, slot, fmt.Sprintf("the slot of %q", slot.Writer)); err != nil {
			return nil, err
		}
	}
	if len(joined) > 1 { // only now, so that the order of elements doesn't matter
		joined = slices.DeleteFunc(joined, func(h held) bool { return deleted(h.lattice) })
	}
	switch len(joined) {
	case 0:
		return nil, nil
	case 1:
		return joined[0].lattice, nil
	}
	return nil, &wire.Error{
		Op: "join", Kind: wire.KindLattice,
		Msg: fmt.Sprintf("%s holds a %s and %s a %s; use another key, or delete the plain value to keep the rest",
			joined[0].where, joined[0].lattice.Kind(), joined[1].where, joined[1].lattice.Kind()),
	}
}

// held is the join of a snapshot's elements of one kind.
type held struct {
	lattice Lattice
	where   string // who holds the first of them
}

func add(joined *[]held, e Entry, where string) error {
	l, err := Decode(e)
	if err != nil {
		return fmt.Errorf("%s: %w", where, err)
	}
	for i, h := range *joined {
		if joinable(h.lattice, l) {
			(*joined)[i].lattice, _, err = Join(h.lattice, l)
			return err
		}
	}
	*joined = append(*joined, held{l, where})
	return nil
}

// deletes says whether an element marks a key that was deleted or ran out.
func deletes(h wire.Header) bool {
	operation := wire.First(h, HeaderOperation)
	return operation == operationDelete || operation == operationPurge || wire.First(h, HeaderMarker) != ""
}

// orNil keeps a nil pointer from becoming a Lattice that isn't nil.
func orNil[L Lattice](l L, err error) (Lattice, error) {
	if err != nil {
		return nil, err
	}
	return l, nil
}

// differ is the error of merging two kinds.
func differ(a, b Lattice) error {
	return &wire.Error{
		Kind: wire.KindLattice,
		Msg:  fmt.Sprintf("the key holds a %s, and a %s can't be merged into that; use another key", a.Kind(), b.Kind()),
	}
}

func damaged(kind Kind, msg string) error {
	return &wire.Error{Op: "decode", Kind: wire.KindInvalid, Name: string(kind), Msg: msg}
}
