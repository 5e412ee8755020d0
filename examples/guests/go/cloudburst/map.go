package cloudburst

import (
	"encoding/json"
	"slices"
)

// A Map is a key with fields, each of which holds a value of its own kind.
type Map struct {
	ns   Namespace
	path []string // the key, the field in it, the field in the map that this holds, and so on
}

// Map returns the map of a key.
func (n Namespace) Map(key string) Map { return Map{n, []string{key}} }

// MapOf returns the map of a key in the function's own namespace.
func MapOf(key string) Map { return own.Map(key) }

// Map returns the map that a field holds.
func (m Map) Map(field string) Map {
	return Map{m.ns, append(slices.Clip(m.path), field)}
}

// ask makes a request for a field.
func (m Map) ask(op byte, field string, more ...[]byte) *response {
	b := request(op, append([][]byte{nil, []byte(field)}, more...)...)
	for i := len(m.path) - 1; i > 0; i-- {
		b = request(opField, nil, []byte(m.path[i]), b)
	}
	return ask(opField, []byte(m.ns), []byte(m.path[0]), b)
}

// Get decodes the value of a field into v, and says whether there is one.
func (m Map) Get(field string, v any) (found bool, err error) {
	r := m.ask(opGet, field)
	if r.err != nil || r.nothing {
		return false, r.err
	}
	value, err := r.value()
	if err != nil {
		return false, err
	}
	return true, value.decode(v)
}

// Put stores v in a field, as JSON unless it is a Value.
func (m Map) Put(field string, v any) error {
	value, err := encode(v)
	if err != nil {
		return err
	}
	return m.ask(opPut, field, []byte(value.Type), value.Body).err
}

// Delete takes a field's value away.
func (m Map) Delete(field string) error { return m.ask(opDelete, field).err }

// Update merges something into a field, as Namespace.Update does.
func (m Map) Update(field, kind string, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return m.ask(opUpdate, field, []byte(kind), body).err
}

// Read decodes what a field of that kind holds, and says whether there is anything.
func (m Map) Read(field, kind string, v any) (found bool, err error) {
	r := m.ask(opRead, field, []byte(kind))
	if r.nothing {
		return false, nil
	}
	text, err := r.text()
	if err != nil {
		return false, err
	}
	return true, json.Unmarshal(text, v)
}
