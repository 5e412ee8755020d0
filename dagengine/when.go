package dagengine

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// A When is a condition on the result that an edge carries: that a value in it is
// this one, or that it isn't that one. What isn't there is null.
type When struct {
	Field string          // the value's path, such as "order.paid"; empty means the whole result
	Is    json.RawMessage // one of the two, as JSON
	Not   json.RawMessage
}

// String returns the condition as people read it.
func (w *When) String() string {
	field := w.Field
	if field == "" {
		field = "it"
	}
	if w.Not != nil {
		return fmt.Sprintf("%s is not %s", field, w.Not)
	}
	return fmt.Sprintf("%s is %s", field, w.Is)
}

// holds says whether the condition holds for a result, which is JSON.
func (w *When) holds(value wire.Value) (bool, error) {
	var at any
	if len(value.Body) > 0 {
		var err error
		if at, err = exactly(value.Body); err != nil {
			return false, err
		}
	}
	if w.Field != "" {
		for name := range strings.SplitSeq(w.Field, ".") {
			fields, _ := at.(map[string]any)
			at = fields[name] // null below anything but an object
		}
	}
	want, wanted := w.Is, true
	if w.Not != nil {
		want, wanted = w.Not, false
	}
	other, err := exactly(want)
	return same(at, other) == wanted, err
}

// exactly reads JSON and keeps all digits of its numbers.
func exactly(body []byte) (v any, err error) {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	return v, d.Decode(&v)
}

// same compares two values that exactly returned. Whole numbers are compared by
// their digits, so that long ids aren't taken for each other; 1 is 1.0 all the same.
func same(a, b any) bool {
	switch a := a.(type) {
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for name, v := range a {
			other, ok := b[name]
			if !ok || !same(v, other) {
				return false
			}
		}
		return true
	case []any:
		b, ok := b.([]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for i := range a {
			if !same(a[i], b[i]) {
				return false
			}
		}
		return true
	case json.Number:
		b, ok := b.(json.Number)
		return ok && sameNumber(string(a), string(b))
	}
	switch b.(type) {
	case map[string]any, []any:
		return false // which can't be compared with ==
	}
	return a == b
}

func sameNumber(a, b string) bool {
	if !strings.ContainsAny(a+b, ".eE") {
		return a == b
	}
	x, errX := strconv.ParseFloat(a, 64)
	y, errY := strconv.ParseFloat(b, 64)
	return a == b || errX == nil && errY == nil && x == y
}

// problem says what is wrong with the condition as it is written; empty if nothing is.
func (w *When) problem() string {
	switch {
	case (w.Is == nil) == (w.Not == nil):
		return "a condition needs either is or not"
	case w.Is != nil && !json.Valid(w.Is), w.Not != nil && !json.Valid(w.Not):
		return "the condition's value is not valid JSON"
	case w.Field == "":
		return ""
	}
	for name := range strings.SplitSeq(w.Field, ".") {
		if name == "" {
			return fmt.Sprintf("field %q of the condition has an empty part: a path looks like order.paid", w.Field)
		}
	}
	return ""
}
