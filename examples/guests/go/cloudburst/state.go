package cloudburst

import "encoding/json"

// A Namespace is where keys live; "" is the function's own. It has all that can be
// done with keys.
type Namespace string

// own is the namespace of the functions that have none.
const own Namespace = ""

// In names a namespace.
func In(name string) Namespace { return Namespace(name) }

// Get decodes the value of a key into v, and says whether there is one.
func (n Namespace) Get(key string, v any) (found bool, err error) {
	r := ask(opGet, []byte(n), []byte(key))
	if r.err != nil || r.nothing {
		return false, r.err
	}
	value, err := r.value()
	if err != nil {
		return false, err
	}
	return true, value.decode(v)
}

// Put stores v, as JSON unless it is a Value.
func (n Namespace) Put(key string, v any) error {
	value, err := encode(v)
	if err != nil {
		return err
	}
	return ask(opPut, []byte(n), []byte(key), []byte(value.Type), value.Body).err
}

// Delete deletes a key.
func (n Namespace) Delete(key string) error { return ask(opDelete, []byte(n), []byte(key)).err }

// Versions returns all values that no other has replaced, the one of Get first.
func (n Namespace) Versions(key string) ([]Value, error) {
	r := ask(opVersions, []byte(n), []byte(key))
	var all []Value
	for r.err == nil && len(r.rest) > 0 {
		v, err := r.value()
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, r.err
}

// Update merges something into a key: a number for the kinds "counter" and
// "gcounter"; a slice of what to add for "set"; OR for "orset"; a number or a string
// for "max" and "min"; Ranking for "zset"; Offer for "priority".
func (n Namespace) Update(key, kind string, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return ask(opUpdate, []byte(n), []byte(key), []byte(kind), body).err
}

// OR is what to add to an "orset", and what to remove from it.
type OR struct {
	Add    []any `json:"add,omitempty"`
	Remove []any `json:"remove,omitempty"`
}

// Ranking is what to change in a "zset": scores that are set, and members that are
// removed. A read is a slice of Scored, the lowest score first.
type Ranking struct {
	Put    []Scored `json:"put,omitempty"`
	Remove []string `json:"remove,omitempty"`
}

// Scored is a member of a "zset".
type Scored struct {
	Member string  `json:"member"`
	Score  float64 `json:"score"`
}

// Offer is a value of a "priority", in which that with the lowest number stays.
type Offer struct {
	Priority int64 `json:"priority"`
	Value    any   `json:"value"`
}

// Read decodes what a key of that kind holds: a number, a slice or a value; of a "map"
// the names of its fields. It says whether there is anything.
func (n Namespace) Read(key, kind string, v any) (found bool, err error) {
	r := ask(opRead, []byte(n), []byte(key), []byte(kind))
	if r.nothing {
		return false, nil
	}
	text, err := r.text()
	if err != nil {
		return false, err
	}
	return true, json.Unmarshal(text, v)
}

// Counter returns the total of a counter; 0 if there is none.
func (n Namespace) Counter(key string) (total int64, err error) {
	_, err = n.Read(key, "counter", &total)
	return total, err
}

// The same for the function's own namespace.

// Get decodes the value of a key into v, and says whether there is one.
func Get(key string, v any) (found bool, err error) { return own.Get(key, v) }

// Put stores v, as JSON unless it is a Value.
func Put(key string, v any) error { return own.Put(key, v) }

// Delete deletes a key.
func Delete(key string) error { return own.Delete(key) }

// Update merges something into a key, as Namespace.Update does.
func Update(key, kind string, v any) error { return own.Update(key, kind, v) }

// Read decodes what a key of that kind holds, and says whether there is anything.
func Read(key, kind string, v any) (found bool, err error) { return own.Read(key, kind, v) }

// Counter returns the total of a counter; 0 if there is none.
func Counter(key string) (total int64, err error) { return own.Counter(key) }
