package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestArgs(t *testing.T) {
	for _, tt := range []struct {
		args []any
		want string
	}{
		{nil, ``},
		{[]any{5}, `5`},
		{[]any{[]int{1, 2}}, `[1,2]`},
		{[]any{1, "two", nil}, `[1,"two",null]`},
		{[]any{json.RawMessage(`{"a":1}`)}, `{"a":1}`},
		{[]any{Ref{Key: "k"}, Ref{Run: "r"}}, `[{"$ref":"k"},{"$run":"r"}]`},
	} {
		v, err := Args(tt.args...)
		if err != nil || string(v.Body) != tt.want {
			t.Errorf("Args(%v) = %s, %v, want %s", tt.args, v.Body, err, tt.want)
		}
	}
	if v, err := Args(Value{Body: []byte{0, 1}, Type: "image/png"}); err != nil || v.Type != "image/png" {
		t.Errorf("Args(png) = %+v, %v", v, err)
	}
	for _, bad := range [][]any{{math.NaN()}, {json.RawMessage(`{`)}, {1, Value{Type: "image/png"}}, {1, make(chan int)}} {
		if v, err := Args(bad...); KindOf(err) != KindBadArgument {
			t.Errorf("Args(%v) = %s, %v, want a bad argument", bad, v.Body, err)
		}
	}
}

func TestResolve(t *testing.T) {
	look := func(r Ref) (Value, error) {
		switch {
		case r.Run != "":
			return Value{Body: []byte(`"run ` + string(r.Run) + `"`)}, nil
		case r.Key == "missing":
			return Value{}, &Error{Kind: KindUnknown, Name: r.Key}
		case r.Key == "png":
			return Value{Body: []byte{1}, Type: "image/png"}, nil
		}
		return Value{Body: []byte(`"` + r.Namespace + "/" + r.Key + `"`)}, nil
	}
	for _, tt := range []struct {
		args, want string
		kind       Kind
	}{
		{``, ``, 0},
		{`5`, `5`, 0},
		{`{"$ref":"k"}`, `"/k"`, 0},
		{` {"$ref":"k","ns":"n"} `, `"n/k"`, 0},
		{`{"$run":"r1"}`, `"run r1"`, 0},
		{`[1,{"$ref":"k"},[{"$ref":"deep"}]]`, `[1,"/k",[{"$ref":"deep"}]]`, 0},
		{`{"a":{"$ref":"k"},"b":2}`, `{"a":"/k","b":2}`, 0},
		{`{"$ref":"k","other":1}`, `{"$ref":"k","other":1}`, 0}, // the user's own object
		{`{"$ref":"k","$run":"r"}`, `{"$ref":"k","$run":"r"}`, 0},
		{`"a text with \"$ref\" in it"`, `"a text with \"$ref\" in it"`, 0},
		{`{"$ref":"png"}`, "\x01", 0},
		{`[{"$ref":"png"}]`, ``, KindBadArgument},
		{`[{"$ref":"missing"}]`, ``, KindUnknown},
		{`[{"$ref":"k"}`, ``, KindBadArgument},
	} {
		got, err := Resolve(Value{Body: []byte(tt.args)}, look)
		if KindOf(err) != tt.kind || err == nil && string(got.Body) != tt.want {
			t.Errorf("Resolve(%s) = %s, %v, want %s (%v)", tt.args, got.Body, err, tt.want, tt.kind)
		}
	}
	refs := Refs(Value{Body: []byte(`[{"$ref":"a"},2,{"$ref":"b","ns":"n"}]`)})
	if want := []Ref{{Key: "a"}, {Key: "b", Namespace: "n"}}; !reflect.DeepEqual(refs, want) {
		t.Errorf("Refs = %v, want %v", refs, want)
	}
}

func TestResultRoundTrip(t *testing.T) {
	began := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	for _, want := range []Result{
		{Run: "r", Name: "f", Status: StatusOK, Value: Value{Body: []byte(`5`)}, Worker: "w", Started: began, Took: time.Second, Attempts: 1},
		{Run: "r", Name: "f", Status: StatusOK, Value: Value{Body: []byte{0}, Type: "image/png"}, Started: began, Attempts: 2},
		{Run: "r", Name: "d", Status: StatusOK, Value: Value{Body: []byte(`{}`)}, Started: began, Nodes: []NodeTiming{{Node: "n", Worker: "w", Started: began, Took: 5}}},
		{Run: "r", Name: "f", Status: StatusFailed, Started: began, Err: &Error{Op: "run", Kind: KindPanic, Name: "f", Msg: "oh\nno", Stack: "at\nhere"}},
		{Run: "r", Name: "f", Status: StatusCancelled, Started: began, Err: &Error{Kind: KindCancelled, Msg: "x"}},
	} {
		h, body := want.Encode()
		got, ok := DecodeResult(h, body)
		if !ok || !reflect.DeepEqual(got, want) {
			t.Errorf("round trip of %+v = %+v, %v", want, got, ok)
		}
		for name, values := range h {
			if strings.ContainsAny(values[0], "\r\n") {
				t.Errorf("header %s holds a line break: %q", name, values[0])
			}
		}
	}
	if r, ok := DecodeResult(Header{}, []byte(`{"stream":"S","seq":1}`)); ok {
		t.Errorf("an acknowledgement was read as the result %+v", r)
	}
}

func TestErrorKindsSurviveTheWire(t *testing.T) {
	for k := KindFunction; int(k) < len(kindNames); k++ {
		e := &Error{Kind: k, Name: "f", Msg: "m"}
		h, body := (&Result{Status: StatusFailed, Err: e}).Encode()
		r, _ := DecodeResult(h, body)
		if KindOf(r.Err) != k || !errors.Is(fmt.Errorf("wrapped: %w", r.Err), &Error{Kind: k}) {
			t.Errorf("kind %v came back as %v", k, r.Err)
		}
		if errors.Is(r.Err, &Error{Kind: k + 1}) {
			t.Errorf("%v matches kind %v", r.Err, k+1)
		}
		if k.Code() < 400 || k.String() == "" {
			t.Errorf("kind %d: code %d, name %q", k, k.Code(), k.String())
		}
	}
}

func TestNames(t *testing.T) {
	for _, good := range []string{"a", "A-b_9", "_x", strings.Repeat("a", MaxName)} {
		if err := CheckName("function", good); err != nil {
			t.Errorf("CheckName(%q) = %v", good, err)
		}
	}
	for _, bad := range []string{"", "a.b", "a b", "-a", "ä", "a*", ">", strings.Repeat("a", MaxName+1)} {
		if err := CheckName("function", bad); KindOf(err) != KindBadName {
			t.Errorf("CheckName(%q) = %v, want a bad name", bad, err)
		}
	}
	for id, want := range map[RunID]bool{"a": true, "order-1.2=3/4": true, NewRunID(): true, "": false, "a b": false, "a..b": false, ".a": false, "a.": false, "a*": false, RunID(strings.Repeat("a", 129)): false} {
		if err := CheckRunID(id); (err == nil) != want {
			t.Errorf("CheckRunID(%q) = %v, want ok: %v", id, err, want)
		}
	}
}

func TestBackoffDoublesUpToTheLimit(t *testing.T) {
	l := Limits{Backoff: 100 * time.Millisecond}
	for attempt, want := range map[int]time.Duration{1: 100 * time.Millisecond, 2: 200 * time.Millisecond, 4: 800 * time.Millisecond, 100: MaxBackoff} {
		if got := l.Wait(attempt); got != want {
			t.Errorf("Wait(%d) = %v, want %v", attempt, got, want)
		}
	}
}

func FuzzDecodeResult(f *testing.F) {
	f.Add("ok", "run=r took=1s", "[]", []byte("5"))
	f.Add("failed", "", "", []byte(`{"kind":1}`))
	f.Fuzz(func(t *testing.T, status, info, nodes string, body []byte) {
		h := Header{HeaderStatus: {status}, HeaderInfo: {info}, HeaderNodes: {nodes}}
		r, ok := DecodeResult(h, body)
		if ok != (status != "") || ok && r.Status != StatusOK && r.Err == nil {
			t.Errorf("DecodeResult(%v, %q) = %+v, %v", h, body, r, ok)
		}
	})
}

func FuzzResolve(f *testing.F) {
	f.Add([]byte(`[{"$ref":"a"}]`))
	f.Add([]byte(`{"x":{"$run":"a"}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := Resolve(Value{Body: body}, func(Ref) (Value, error) { return Value{Body: []byte("1")}, nil })
		if err == nil && json.Valid(body) && !json.Valid(got.Body) {
			t.Errorf("Resolve(%s) = %s, which is not JSON", body, got.Body)
		}
	})
}

func TestNear(t *testing.T) {
	known := slices.Values([]string{"square", "sum", "increment", "squares", "echo"})
	for name, want := range map[string]string{"squaer": "square,squares", "Square": "square,squares", "sun": "sum", "incremnt": "increment", "nothinglikeit": "", "squares": "", "incr": "increment", "ec": ""} {
		if got := strings.Join(Near(name, known), ","); got != want {
			t.Errorf("Near(%q) = %s, want %s", name, got, want)
		}
	}
}
