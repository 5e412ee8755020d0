package wire

import (
	"bytes"
	"encoding/json"
	"strings"
)

// Args packs arguments into the body of a call: none is an empty body, one is
// its own bytes, several are a JSON array in order. A function that takes
// several arguments also accepts a JSON object by name.
func Args(args ...any) (Value, error) {
	switch len(args) {
	case 0:
		return Value{}, nil
	case 1:
		return JSON(args[0])
	}
	list := make([]json.RawMessage, len(args))
	for i, arg := range args {
		v, err := JSON(arg)
		if err != nil {
			return Value{}, err
		}
		if !v.IsJSON() {
			return Value{}, &Error{Kind: KindBadArgument, Msg: "a " + v.Type + " argument can only travel alone; store it and pass a reference"}
		}
		list[i] = v.Body
	}
	body, err := json.Marshal(list)
	if err != nil {
		return Value{}, &Error{Kind: KindBadArgument, Msg: err.Error()}
	}
	return Value{Body: body}, nil
}

// A Ref stands for something that the worker looks up before the function
// runs: a key of the state, or the result of another run. It may be a whole
// argument, an element of an argument list, or a field of an argument object.
type Ref struct {
	Key       string `json:"$ref,omitempty"` // paper section 3: CloudburstReference
	Namespace string `json:"ns,omitempty"`   // empty means the function's own
	Run       RunID  `json:"$run,omitempty"` // a future: the result of this run
}

// AsRef says whether a JSON value is a reference, and which.
func AsRef(body []byte) (Ref, bool) {
	body = bytes.TrimSpace(body)
	if len(body) < len(`{"$ref":""}`) || body[0] != '{' || !mayHoldRef(body) {
		return Ref{}, false
	}
	var r Ref
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields() // an object with more in it is the user's own
	if dec.Decode(&r) != nil || (r.Key == "") == (r.Run == "") {
		return Ref{}, false
	}
	return r, true
}

// Resolve replaces every reference in args by what look returns for it. It
// looks at the argument itself, the elements of a list and the fields of an
// object, no deeper. Arguments without references are returned untouched.
func Resolve(args Value, look func(Ref) (Value, error)) (Value, error) {
	if !args.IsJSON() || !mayHoldRef(args.Body) {
		return args, nil
	}
	if ref, ok := AsRef(args.Body); ok {
		return look(ref)
	}
	trimmed := bytes.TrimSpace(args.Body)
	switch {
	case len(trimmed) == 0:
		return args, nil
	case trimmed[0] == '[':
		return resolveList(args, look)
	case trimmed[0] == '{':
		return resolveObject(args, look)
	}
	return args, nil
}

// ResolveEach returns the elements of an argument list one by one, references
// resolved; an argument that is no list is the only one. Unlike with Resolve, what
// they hold may be of any type, and isn't copied.
func ResolveEach(args Value, look func(Ref) (Value, error)) ([]Value, error) {
	if len(args.Body) == 0 {
		return nil, nil
	}
	items := []json.RawMessage{args.Body}
	if !args.IsJSON() {
		return []Value{args}, nil
	}
	if trimmed := bytes.TrimSpace(args.Body); len(trimmed) > 0 && trimmed[0] == '[' {
		if err := args.Decode(&items); err != nil {
			return nil, err
		}
	}
	each := make([]Value, len(items))
	for i, item := range items {
		ref, ok := AsRef(item)
		if !ok {
			each[i] = Value{Body: item}
			continue
		}
		v, err := look(ref)
		if err != nil {
			return nil, err
		}
		each[i] = v
	}
	return each, nil
}

// Refs lists the references that Resolve would look up. Without any it costs a look
// at the bytes.
func Refs(args Value) []Ref {
	if !args.IsJSON() || !mayHoldRef(args.Body) {
		return nil
	}
	var refs []Ref
	_, err := Resolve(args, func(r Ref) (Value, error) {
		refs = append(refs, r)
		return Value{Body: []byte("null")}, nil
	})
	if err != nil {
		return nil
	}
	return refs
}

func resolveList(args Value, look func(Ref) (Value, error)) (Value, error) {
	var list []json.RawMessage
	if err := args.Decode(&list); err != nil {
		return Value{}, err
	}
	changed := false
	for i, item := range list {
		v, found, err := resolveOne(item, look)
		if err != nil {
			return Value{}, err
		}
		if found {
			list[i], changed = v, true
		}
	}
	if !changed {
		return args, nil
	}
	return JSON(list)
}

func resolveObject(args Value, look func(Ref) (Value, error)) (Value, error) {
	var fields map[string]json.RawMessage
	if err := args.Decode(&fields); err != nil {
		return Value{}, err
	}
	changed := false
	for name, item := range fields {
		v, found, err := resolveOne(item, look)
		if err != nil {
			return Value{}, err
		}
		if found {
			fields[name], changed = v, true
		}
	}
	if !changed {
		return args, nil
	}
	return JSON(fields)
}

func resolveOne(item json.RawMessage, look func(Ref) (Value, error)) (json.RawMessage, bool, error) {
	ref, ok := AsRef(item)
	if !ok {
		return nil, false, nil
	}
	v, err := look(ref)
	if err != nil {
		return nil, false, err
	}
	if !v.IsJSON() {
		return nil, false, &Error{
			Kind: KindBadArgument, Name: strings.TrimSpace(ref.Key + string(ref.Run)),
			Msg: "holds a " + v.Type + ", which can't stand inside a JSON argument; pass it as the only argument",
		}
	}
	return v.Body, true, nil
}

func mayHoldRef(body []byte) bool {
	return bytes.Contains(body, []byte(`"$r`))
}
