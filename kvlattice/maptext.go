package kvlattice

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"unicode/utf8"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// HeaderFields is of a map: what its fields' own headers and bodies would be, or
// "body".
const HeaderFields = "Cb-Fields"

// A fieldNote is what stands beside the value of one field: all that its lattice
// would be stored with if it were a key. A map that counts likes and has a
// nickname has the value {"likes":57,"nick":"Ann"} and the notes
//
//	{"likes":{"headers":{"Cb-Kind":"counter","Cb-Counter":"calls@1|1200|57"}},
//	"nick":{"headers":{"Cb-Kind":"lww","Cb-Ts":"…","Content-Type":"text/plain"},"as":"text"}}
type fieldNote struct {
	Headers map[string]string    `json:"headers,omitempty"`
	Raw     map[string][]byte    `json:"raw,omitempty"`    // headers that aren't UTF-8
	As      string               `json:"as,omitempty"`     // how the value shows the body: one of the below
	Tail    string               `json:"tail,omitempty"`   // of the body, after the value
	Body    []byte               `json:"body,omitempty"`   // where the value doesn't tell it
	Fields  map[string]fieldNote `json:"fields,omitempty"` // of a map, which has none of the four above
}

// How a field's value shows its body. JSON as it is needs no word.
const (
	asText   = "text"   // a string that is the body
	asBase64 = "base64" // a string that is the body's base64
	asNone   = "none"   // not exactly, or there is no value
)

// Encode returns the JSON object of the fields' values as the body, and what
// else they would be stored with as a header, unless that is too long for one.
func (m *Map) Encode() (wire.Header, []byte) {
	object, notes := m.notes()
	return beside(wire.Header{HeaderKind: {string(KindMap)}}, HeaderFields, object, notes)
}

func (m *Map) notes() (object []byte, notes map[string]fieldNote) {
	object, notes = []byte{'{'}, make(map[string]fieldNote, len(m.fields))
	for field, l := range m.All() {
		var value []byte
		if nested, ok := l.(*Map); ok {
			note := fieldNote{Headers: map[string]string{HeaderKind: string(KindMap)}}
			value, note.Fields = nested.notes()
			notes[field] = note
		} else {
			value, notes[field] = noteOf(l)
		}
		if len(value) == 0 {
			continue
		}
		if len(object) > 1 {
			object = append(object, ',')
		}
		object = append(append(object, readable(field)...), ':')
		object = append(object, value...)
	}
	return append(object, '}'), notes
}

func noteOf(l Lattice) (value []byte, note fieldNote) {
	h, body := l.Encode()
	note.Headers = make(map[string]string, len(h))
	for name := range h {
		if v := wire.First(h, name); utf8.ValidString(v) {
			note.Headers[name] = v
		} else {
			if note.Raw == nil {
				note.Raw = make(map[string][]byte)
			}
			note.Raw[name] = []byte(v)
		}
	}
	v := l.Value()
	if value, note.As = show(v); note.As != asNone && bytes.HasPrefix(body, v.Body) && utf8.Valid(body[len(v.Body):]) {
		note.Tail = string(body[len(v.Body):])
	} else {
		note.As, note.Body = asNone, body
	}
	return value, note
}

// show returns a value as JSON on one line, and how that shows the value's body.
func show(v wire.Value) (text []byte, as string) {
	switch {
	case len(v.Body) == 0:
		return nil, asNone
	case v.IsJSON() && json.Valid(v.Body) && fits(string(v.Body)):
		var b bytes.Buffer
		_ = json.Compact(&b, v.Body) // which is valid
		if bytes.Equal(b.Bytes(), v.Body) {
			return v.Body, ""
		}
		return b.Bytes(), asNone
	case utf8.Valid(v.Body):
		return readable(string(v.Body)), asText
	default:
		return readable(v.Body), asBase64
	}
}

func decodeMap(e Entry) (*Map, error) {
	var notes map[string]fieldNote
	object, err := readBeside(e, HeaderFields, &notes)
	if err != nil {
		return nil, damaged(KindMap, err.Error())
	}
	m, err := readMap(object, notes, maxMaps)
	if wire.KindOf(err) == wire.KindLattice { // that only a newer version knows
		return nil, err
	}
	if err != nil {
		return nil, damaged(KindMap, err.Error())
	}
	return m, nil
}

// readMap reads a map that may be so many maps deep.
func readMap(object []byte, notes map[string]fieldNote, levels int) (*Map, error) {
	if levels == 0 {
		return nil, fmt.Errorf("more than %d maps within each other", maxMaps)
	}
	var values map[string]json.RawMessage
	if err := json.Unmarshal(object, &values); err != nil {
		return nil, err
	}
	if values == nil { // JSON's null
		return nil, errors.New("the value of a map isn't an object")
	}
	for field := range values {
		if _, ok := notes[field]; !ok {
			return nil, fmt.Errorf("field %q is of no kind", field)
		}
	}
	m := NewMap()
	for _, field := range slices.Sorted(maps.Keys(notes)) { // the same error each time
		note := notes[field]
		l, err := note.read(values[field], levels)
		if err != nil {
			return nil, fmt.Errorf("field %q: %w", field, err)
		}
		m.fields[field] = l
	}
	return m, nil
}

func (n fieldNote) read(value json.RawMessage, levels int) (Lattice, error) {
	kind := Kind(n.Headers[HeaderKind])
	if kind == KindMap {
		return orNil(readMap(value, n.Fields, levels-1))
	}
	if kind == "" || kind == KindCausal {
		return nil, fmt.Errorf("%q is no kind of a field", kind)
	}
	e := Entry{Header: make(wire.Header, len(n.Headers)+len(n.Raw))}
	for name, v := range n.Headers {
		e.Header[name] = []string{v}
	}
	for name, v := range n.Raw {
		e.Header[name] = []string{string(v)}
	}
	var err error
	switch n.As {
	case "":
		e.Body = value
	case asText:
		var text string
		err = json.Unmarshal(value, &text)
		e.Body = []byte(text)
	case asBase64:
		err = json.Unmarshal(value, &e.Body)
	case asNone:
		e.Body = n.Body
	default:
		err = fmt.Errorf("%q is no way to show a body", n.As)
	}
	if err != nil {
		return nil, err
	}
	e.Body = append(e.Body, n.Tail...)
	return Decode(e)
}
