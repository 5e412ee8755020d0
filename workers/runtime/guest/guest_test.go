package guest_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/cloudburst-nats/cloudburst/wire"
	"github.com/cloudburst-nats/cloudburst/workers/runtime"
	"github.com/cloudburst-nats/cloudburst/workers/runtime/guest"
	"github.com/cloudburst-nats/cloudburst/workers/runtime/runtimetest"
)

// functions answers every call with its own argument.
type functions struct{ args map[wire.RunID]wire.Value }

func (f functions) Start(_ context.Context, name string, args wire.Value, run wire.RunID) (wire.RunID, error) {
	if name == "missing" {
		return "", &wire.Error{Op: "call", Name: name, Kind: wire.KindUnknown, Msg: "no such function"}
	}
	run = cmp.Or(run, wire.RunID("run-"+name))
	f.args[run] = args
	return run, nil
}

func (f functions) Await(_ context.Context, run wire.RunID) (wire.Value, error) {
	return f.args[run], nil
}

func newCall(log *bytes.Buffer) *runtime.Call {
	return &runtime.Call{
		Run: "r1", Function: "f", Node: "n", Attempt: 2, Namespace: "default", Log: log,
		Args:  wire.Value{Body: []byte(`[1,2]`)},
		State: runtimetest.NewState(), Functions: functions{make(map[wire.RunID]wire.Value)}, Mail: runtimetest.NewPost().Mail("r1/n"),
	}
}

func request(op byte, fields ...string) []byte {
	b := []byte{op}
	for _, f := range fields {
		b = guest.AppendField(b, f)
	}
	return b
}

// show writes a response as "status field field ...".
func show(t *testing.T, response []byte) string {
	t.Helper()
	parts := []string{string(response[:1])}
	for rest := response[1:]; len(rest) > 0; {
		field, after, ok := guest.CutField(rest)
		if !ok {
			t.Fatalf("response %q: its fields can't be read", response)
		}
		parts, rest = append(parts, string(field)), after
	}
	return strings.Join(parts, "|")
}

func TestServe(t *testing.T) {
	for _, steps := range [][]struct {
		request []byte
		want    string // how the response begins
	}{
		{
			{request('g', "", "k"), "n"},
			{request('p', "", "k", "", `{"a":1}`), "o"},
			{request('g', "default", "k"), `o||{"a":1}`},
			{request('g', "other", "k"), "n"},
			{request('v', "", "k"), `o||{"a":1}`},
			{request('d', "", "k"), "o"},
			{request('g', "", "k"), "n"},
			{request('v', "", "k"), "o"},
			{request('p', "", "k", "text/plain", "\xff"), "o"},
			{request('g', "", "k"), "o|text/plain|\xff"},
			{request('p', "", "k", "", "{"), "e|bad argument|"},
			{request('p', "", "k", "a\nb", "{"), "e|bad argument|"},
			{request('p', "", "", "", "1"), "e|bad name|"},
		},
		{
			{request('r', "", "c", "counter"), "o|0"},
			{request('u', "", "c", "counter", "5"), "o"},
			{request('u', "", "c", "counter", "-2"), "o"},
			{request('r', "", "c", "counter"), "o|3"},
			{request('u', "", "c", "counter", "1.5"), "e|bad argument|"},
			{request('r', "", "c", "set"), "e|lattice kinds differ|"},
			{request('u', "", "g", "gcounter", "5"), "o"},
			{request('u', "", "g", "gcounter", "-5"), "e|bad argument|"},
			{request('r', "", "g", "gcounter"), "o|5"},
			{request('u', "", "z", "zset", `{"put":[{"member":"b","score":2},{"member":"a","score":1}]}`), "o"},
			{request('u', "", "z", "zset", `{"put":[{"member":"b","score":0}],"remove":["a","c"]}`), "o"},
			{request('r', "", "z", "zset"), `o|[{"member":"b","score":0}]`},
			{request('r', "", "none", "zset"), "o|[]"},
			{request('u', "", "z", "zset", `["b"]`), "e|bad argument|"},
			{request('r', "", "pr", "priority"), "n"},
			{request('u', "", "pr", "priority", `{"priority":2,"value":[1]}`), "o"},
			{request('u', "", "pr", "priority", `{"value":[1]}`), "e|bad argument|"},
			{request('r', "", "pr", "priority"), `o|{"priority":2,"value":[1]}`},
			{request('f', "", "mp", string(request('p', "", "x", "", "1"))), "o"},
			{request('f', "", "mp", string(request('g', "", "x"))), "o||1"},
			{request('f', "", "mp", string(request('f', "", "y", string(request('u', "", "c", "counter", "4"))))), "o"},
			{request('f', "", "mp", string(request('f', "", "y", string(request('r', "", "c", "counter"))))), "o|4"},
			{request('r', "", "mp", "map"), `o|["x","y"]`},
			{request('r', "", "none", "map"), "o|[]"},
			{request('f', "", "mp", ""), "e|bad argument|"},
			{request('f', "", "mp", string(request('l', "x"))), "e|bad argument|"},
			{request('f', "", "g", string(request('g', "", "x"))), "e|lattice kinds differ|"},
			{request('u', "", "mp", "map", "{}"), "e|bad argument|"},
			{request('u', "", "g", "sum", "-5"), `e|bad argument|bad argument: the kind "sum" is none of [counter gcounter set`},
		},
		{
			{request('r', "", "s", "set"), "o|[]"},
			{request('u', "", "s", "set", `["b", "a", 1]`), "o"},
			{request('r', "", "s", "set"), `o|["a","b",1]`},
			{request('u', "", "s", "set", `"b"`), "e|bad argument|"},
			{request('r', "", "o", "orset"), "o|[]"},
			{request('u', "", "o", "orset", `{"remove":["x"]}`), "o"},
			{request('u', "", "o", "orset", `{"add":["x","y"]}`), "o"},
			{request('u', "", "o", "orset", `{"add":["z"],"remove":["x"]}`), "o"},
			{request('r', "", "o", "orset"), `o|["y","z"]`},
			{request('u', "", "o", "orset", `{"add":["x"]}`), "o"},
			{request('r', "", "o", "orset"), `o|["x","y","z"]`},
			{request('r', "", "s", "orset"), "e|lattice kinds differ|"},
		},
		{
			{request('r', "", "m", "max"), "n"},
			{request('u', "", "m", "max", "3"), "o"},
			{request('u', "", "m", "max", "2"), "o"},
			{request('r', "", "m", "max"), "o|3"},
			{request('u', "", "m", "max", "[]"), "e|bad argument|"},
			{request('u', "", "l", "min", `"b"`), "o"},
			{request('u', "", "l", "min", "2"), "o"},
			{request('r', "", "l", "min"), "o|2"},
			{request('r', "", "l", "max"), "e|lattice kinds differ|"},
		},
		{
			{request('s', "echo", "", "[7]"), "o|run-echo"},
			{request('w', "run-echo"), "o||[7]"},
			{request('s', "echo", "", "[8]", "mine"), "o|mine"},
			{request('w', "mine"), "o||[8]"},
			{request('s', "echo", "", "[8]", "mine", "more"), "e|bad argument|"},
			{append(request('s', "echo", "", "[8]"), 9, 0, 0, 0), "e|bad argument|"},
			{request('s', "missing", "", ""), "e|unknown|"},
			{request('s', "echo", "", "{"), "e|bad argument|"},
		},
		{
			{request('i'), `o|{"run":"r1","function":"f","node":"n","attempt":2,"namespace":"default","id":"r1/n"}`},
			{request('m', "r2", "", `"hi"`), "o"},
			{request('m', "r2", "", `"hi`), "e|bad argument|"},
			{request('m', "", "", `1`), "e|bad name|"},
			{request('c', "0"), "n"},
			{request('c', "-1"), "e|bad argument|"},
			{request('m', "r1/n", "text/plain", "to myself"), "o"},
			{request('c', "1000"), "o|r1/n|text/plain|to myself"},
			{request('a'), "o||[1,2]"},
			{nil, "e|bad argument|request: bad argument: it is empty"},
			{[]byte("?"), "e|bad argument|"},
			{request('g', "k"), "e|bad argument|"},
			{request('g', "", "k", "more"), "e|bad argument|"},
			{[]byte("g\xff\xff\xff\xff"), "e|bad argument|"},
			{make([]byte, guest.MaxRequest+1), "e|too large|"},
		},
	} {
		h := guest.NewHost(t.Context(), newCall(new(bytes.Buffer)))
		for _, step := range steps {
			got := show(t, h.Serve(step.request))
			if exact := !strings.HasPrefix(step.want, "e"); exact && got != step.want || !strings.HasPrefix(got, step.want) {
				t.Errorf("%.60q: got %.200q, want %q", step.request, got, step.want)
			}
		}
	}
}

// A guest may use its request's memory again, and does.
func TestServeKeepsNothing(t *testing.T) {
	call := newCall(new(bytes.Buffer))
	h := guest.NewHost(t.Context(), call)
	for _, r := range [][]byte{
		request('p', "", "k", "t", "value"), request('u', "", "m", "max", "12"), request('u', "", "s", "set", `["a"]`),
		request('u', "", "o", "orset", `{"add":["a"]}`), request('s', "f", "t", "value"), request('t', "t", "value"),
	} {
		if got := show(t, h.Serve(r)); got[0] != 'o' {
			t.Fatalf("%q: %s", r, got)
		}
		for i := range r {
			r[i] = 'X'
		}
	}
	for _, want := range []struct{ request, response string }{
		{string(request('g', "", "k")), "o|t|value"},
		{string(request('r', "", "m", "max")), "o|12"},
		{string(request('r', "", "s", "set")), `o|["a"]`},
		{string(request('r', "", "o", "orset")), `o|["a"]`},
		{string(request('w', "run-f")), "o|t|value"},
	} {
		if got := show(t, h.Serve([]byte(want.request))); got != want.response {
			t.Errorf("%q: got %q, want %q", want.request, got, want.response)
		}
	}
	if v, ok := h.Result(); !ok || string(v.Body) != "value" || v.Type != "t" {
		t.Errorf("result: got %v %v", v, ok)
	}
}

func TestResult(t *testing.T) {
	h := guest.NewHost(t.Context(), newCall(new(bytes.Buffer)))
	if _, ok := h.Result(); ok {
		t.Error("a result before there is one")
	}
	h.Serve(request('t', "", "{"))
	if _, ok := h.Result(); ok {
		t.Error("took what isn't JSON for a result")
	}
	h.Serve(request('t', "", "1"))
	h.Serve(request('t', "", ""))
	if v, ok := h.Result(); !ok || len(v.Body) != 0 {
		t.Errorf("got %v %v, want the last one", v, ok)
	}
}

func TestLogIsWholeLines(t *testing.T) {
	var log bytes.Buffer
	h := guest.NewHost(t.Context(), newCall(&log))
	for _, text := range []string{"a", "b\n", "", "c\nd"} {
		h.Serve(request('l', text))
	}
	if got, want := log.String(), "a\nb\nc\nd\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestEndedContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	call := newCall(new(bytes.Buffer))
	h := guest.NewHost(ctx, call)
	cancel(&wire.Error{Op: "run", Name: "f", Kind: wire.KindTimeout, Msg: "no answer within 1s"})
	for _, r := range [][]byte{request('g', "", "k"), request('l', "x"), request('i'), request('t', "", "1"), nil} {
		if got := show(t, h.Serve(r)); !strings.HasPrefix(got, "e|timed out|") || !strings.Contains(got, "no answer within 1s") {
			t.Errorf("%q: got %q, want the cause", r, got)
		}
	}
	if _, ok := h.Result(); ok {
		t.Error("took a result after the end")
	}
}

func TestFailure(t *testing.T) {
	h := guest.NewHost(t.Context(), newCall(new(bytes.Buffer)))
	e := h.Failure("failed for good", "bad luck", "here")
	if e.Kind != wire.KindPermanent || e.Msg != "bad luck" || e.Stack != "here" || e.Name != "f" {
		t.Errorf("got %+v", e)
	}
	fields := strings.SplitN(show(t, h.Serve(request('s', "missing", "", ""))), "|", 3)
	e = h.Failure(fields[1], fields[2], "there")
	if e.Kind != wire.KindUnknown || e.Name != "missing" || e.Stack != "there" || !errors.Is(e, &wire.Error{Kind: wire.KindUnknown}) {
		t.Errorf("an error that was let through: got %+v", e)
	}
	if e = h.Failure("nonsense", "x", ""); e.Kind != wire.KindFunction {
		t.Errorf("a kind that isn't known: got %v", e.Kind)
	}
}

func FuzzServe(f *testing.F) {
	for _, r := range [][]byte{
		nil, request('g', "", "k"), request('p', "ns", "k", "", "1"), request('d', "", "k"), request('v', "", "k"),
		request('u', "", "c", "counter", "5"), request('u', "", "s", "set", `["b"]`), request('u', "", "m", "max", "1e9"),
		request('u', "", "o", "orset", `{"add":["x"],"remove":["y"]}`), request('r', "", "o", "orset"), request('r', "", "m", "min"),
		request('s', "f", "", "[1]"), request('w', "run-f"), request('l', "text"), request('i'), request('a'), request('t', "", "1"),
	} {
		f.Add(r, r)
	}
	f.Fuzz(func(t *testing.T, first, second []byte) {
		h := guest.NewHost(t.Context(), newCall(new(bytes.Buffer)))
		for _, r := range [][]byte{first, second, first} {
			response := h.Serve(r)
			if len(response) == 0 || !strings.ContainsRune("one", rune(response[0])) {
				t.Fatalf("%q: got %q", r, response)
			}
			show(t, response)
			if !guest.Readable(r) && !strings.HasPrefix(show(t, response), "e|bad argument|") {
				t.Fatalf("%q, which can't be read: got %q", r, response)
			}
		}
	})
}

func BenchmarkServe(b *testing.B) {
	h := guest.NewHost(b.Context(), newCall(new(bytes.Buffer)))
	h.Serve(request('p', "", "k", "", `{"a":1}`))
	for name, r := range map[string][]byte{"get": request('g', "", "k"), "put": request('p', "", "k", "", `{"a":1}`), "args": request('a')} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				h.Serve(r)
			}
		})
	}
}
