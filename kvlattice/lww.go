package kvlattice

import (
	"bytes"
	"cmp"
	"strings"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// LWW is a last-writer-wins register: of two writes the one with the later
// timestamp stays. It holds a value, or the mark that the key was deleted.
type LWW struct {
	value   wire.Value
	ts      Timestamp
	writer  string
	deleted bool
}

// NewLWW returns a register written at ts by writer, a name that no other write of the
// same time has. It keeps v.Body without
// copying it, so nobody may write to that any more. A type that can't be a
// header line is replaced by application/octet-stream.
func NewLWW(v wire.Value, ts Timestamp, writer string) *LWW {
	v.Type = headerType(v)
	return &LWW{value: v, ts: ts, writer: writer}
}

// NewTombstone returns a register that was deleted at ts by writer.
func NewTombstone(ts Timestamp, writer string) *LWW {
	return &LWW{ts: ts, writer: writer, deleted: true}
}

// Deleted says whether the last write was a deletion; Value is empty then.
func (l *LWW) Deleted() bool { return l.deleted }

// Timestamp returns when the last write happened.
func (l *LWW) Timestamp() Timestamp { return l.ts }

// Stamped returns the same write at another time.
func (l *LWW) Stamped(ts Timestamp) *LWW {
	c := *l
	c.ts = ts
	return &c
}

// Writer returns whose write it was; empty for one made by hand.
func (l *LWW) Writer() string { return l.writer }

// Kind returns KindLWW.
func (l *LWW) Kind() Kind { return KindLWW }

// Merge keeps the later of the two writes.
func (l *LWW) Merge(other Lattice) (changed bool, err error) {
	o, ok := other.(*LWW)
	if !ok {
		return false, differ(l, other)
	}
	if l.compare(o) >= 0 {
		return false, nil
	}
	*l = *o // bodies are never written to, so they can be shared
	return true, nil
}

// compare orders writes by time, then by writer. The rest only matters if a
// writer used one timestamp twice: the order is then arbitrary, but the same
// everywhere.
func (l *LWW) compare(o *LWW) int {
	if c := cmp.Or(l.ts.Compare(o.ts), strings.Compare(l.writer, o.writer)); c != 0 {
		return c
	}
	if l.deleted != o.deleted {
		if l.deleted {
			return 1
		}
		return -1
	}
	return cmp.Or(bytes.Compare(l.value.Body, o.value.Body), strings.Compare(l.value.Type, o.value.Type))
}

// Clone returns a register that shares the body.
func (l *LWW) Clone() Lattice {
	c := *l
	return &c
}

// Value returns the value that was written last, without copying it. It is
// empty if the register was deleted.
func (l *LWW) Value() wire.Value { return l.value }

// Encode returns the user's own bytes. A deletion looks as the one that the
// NATS key-value store writes, so that any client sees no value.
func (l *LWW) Encode() (wire.Header, []byte) {
	h := make(wire.Header, 4)
	h[HeaderKind] = []string{string(KindLWW)}
	h[HeaderTimestamp] = []string{l.ts.String()}
	if l.writer != "" {
		h[HeaderWriter] = []string{l.writer}
	}
	if l.deleted {
		h[HeaderOperation] = []string{operationDelete}
		return h, nil
	}
	if l.value.Type != "" {
		h[wire.HeaderType] = []string{l.value.Type}
	}
	return h, l.value.Body
}

// Size returns roughly how many bytes of memory the register takes.
func (l *LWW) Size() int {
	const fixed = 96 // the struct itself
	return fixed + len(l.value.Body) + len(l.value.Type) + len(l.writer)
}

func decodeLWW(e Entry) (*LWW, error) {
	stamp := wire.First(e.Header, HeaderTimestamp)
	ts, err := ParseTimestamp(stamp)
	if err != nil {
		return nil, damaged(KindLWW, HeaderTimestamp+": "+err.Error())
	}
	return registerOf(e, ts, wire.First(e.Header, HeaderWriter)), nil
}

// registerOf reads an entry whose timestamp and writer are known already.
func registerOf(e Entry, ts Timestamp, writer string) *LWW {
	if deletes(e.Header) {
		return NewTombstone(ts, writer)
	}
	return NewLWW(wire.Value{Body: e.Body, Type: wire.First(e.Header, wire.HeaderType)}, ts, writer)
}

// headerType returns the type to store: JSON is the default and has none.
func headerType(v wire.Value) string {
	if v.IsJSON() {
		return ""
	}
	if strings.TrimSpace(v.Type) != v.Type || strings.ContainsFunc(v.Type, isControl) {
		return "application/octet-stream"
	}
	return v.Type
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }
