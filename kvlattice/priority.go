package kvlattice

import (
	"bytes"
	"cmp"
	"strconv"
	"strings"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// HeaderPriority is of a value with a priority: the decimal number.
const HeaderPriority = "Cb-Priority"

// Priority is a value with a priority. Of two the one with the lower number
// stays, as rank 1 goes before rank 2; of equal ones that with the greater bytes.
type Priority struct {
	value    wire.Value
	priority int64
}

// NewPriority returns a value with a priority. It keeps v.Body without copying
// it, so nobody may write to that any more. A type that can't be a header line
// is replaced by application/octet-stream.
func NewPriority(priority int64, v wire.Value) *Priority {
	v.Type = headerType(v)
	return &Priority{value: v, priority: priority}
}

// Priority returns the number: the lowest that was merged.
func (p *Priority) Priority() int64 { return p.priority }

// Kind returns KindPriority.
func (p *Priority) Kind() Kind { return KindPriority }

// Merge keeps the value with the lower number.
func (p *Priority) Merge(other Lattice) (changed bool, err error) {
	o, ok := other.(*Priority)
	if !ok {
		return false, differ(p, other)
	}
	if cmp.Or(cmp.Compare(p.priority, o.priority), bytes.Compare(o.value.Body, p.value.Body), strings.Compare(o.value.Type, p.value.Type)) <= 0 {
		return false, nil
	}
	*p = *o // bodies are never written to, so they can be shared
	return true, nil
}

// Clone returns a copy that shares the body.
func (p *Priority) Clone() Lattice {
	c := *p
	return &c
}

// Value returns the value that has the lowest number, without copying it.
func (p *Priority) Value() wire.Value { return p.value }

// Encode returns the user's own bytes, and the number as a header.
func (p *Priority) Encode() (wire.Header, []byte) {
	h := wire.Header{HeaderKind: {string(KindPriority)}, HeaderPriority: {strconv.FormatInt(p.priority, 10)}}
	if p.value.Type != "" {
		h[wire.HeaderType] = []string{p.value.Type}
	}
	return h, p.value.Body
}

// Size returns roughly how many bytes of memory the value takes.
func (p *Priority) Size() int {
	const fixed = 64 // the struct itself
	return fixed + len(p.value.Body) + len(p.value.Type)
}

func decodePriority(e Entry) (*Priority, error) {
	priority, err := strconv.ParseInt(wire.First(e.Header, HeaderPriority), 10, 64)
	if err != nil {
		return nil, damaged(KindPriority, HeaderPriority+": "+err.Error())
	}
	return NewPriority(priority, wire.Value{Body: e.Body, Type: wire.First(e.Header, wire.HeaderType)}), nil
}
