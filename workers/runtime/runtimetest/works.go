package runtimetest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cloudburst-nats/cloudburst/kvlattice"
	"github.com/cloudburst-nats/cloudburst/wire"
	"github.com/cloudburst-nats/cloudburst/workers/runtime"
)

const octets = "application/octet-stream"

func (s Suite) values(t *testing.T) {
	echo := s.load(t, "echo", runtime.Program{})
	for _, body := range []string{
		`null`, `true`, `-1.5`, `"text"`, `""`, `"ä\n\u0000\"\\😀"`, `[]`, `[1,[2,{"a":null}]]`, `{}`, `{"a":{"b":[1,2]},"c":""}`, `12345678901`,
		`"` + strings.Repeat("long ", 200_000) + `"`,
	} {
		returns(t, echo, NewCall("echo", body), body)
	}
	add := s.load(t, "add", runtime.Program{})
	returns(t, add, NewCall("add", `[2,3]`), "5")
	returns(t, add, NewCall("add", ` [ 2 , 0.5 ] `), "2.5")
	returns(t, s.load(t, "run", runtime.Program{}), NewCall("run", ""), `"run-1"`)

	small, large := []byte("\x00\xff\xfea\n"), make([]byte, 8<<20)
	for i := range large {
		large[i] = byte(i*i>>8) | 0x80
	}
	for _, sent := range [][]byte{small, large} {
		call := NewCall("echo", "")
		call.Args = wire.Value{Body: bytes.Clone(sent), Type: octets}
		v, err := invoke(t, echo, call)
		if err != nil || v.Type != octets || !bytes.Equal(v.Body, sent) {
			t.Fatalf("echo of %d bytes: got %d of type %q, %v", len(sent), len(v.Body), v.Type, err)
		}
		if !bytes.Equal(call.Args.Body, sent) {
			t.Fatal("the argument was written to")
		}
		call = NewCall("bytes", "")
		call.Args = wire.Value{Body: sent, Type: octets}
		v, err = invoke(t, s.load(t, "bytes", runtime.Program{}), call)
		if err != nil || v.Type != octets {
			t.Fatalf("%d bytes in reverse: got type %q, %v", len(sent), v.Type, err)
		}
		if slices.Reverse(v.Body); !bytes.Equal(v.Body, sent) {
			t.Fatalf("%d bytes in reverse: got others", len(sent))
		}
	}
}

func (s Suite) state(t *testing.T) {
	f := s.load(t, "state", runtime.Program{})
	call := NewCall("state", `"a key/with ä"`)
	call.Namespace = "mine"
	returns(t, f, call, `[null,{"n":1},null,"last",["last"]]`)
	for _, want := range []struct{ ns, key, value string }{
		{"mine", "a key/with ä", `"last"`}, {"other", "a key/with ä", `"there"`},
	} {
		v, found, err := call.State.Get(t.Context(), want.ns, want.key)
		if err != nil || !found || !sameJSON(string(v.Body), want.value) {
			t.Errorf("state afterwards: %s %q: got %q %v %v, want %s", want.ns, want.key, v.Body, found, err, want.value)
		}
	}
}

func (s Suite) lattices(t *testing.T) {
	state := NewState()
	on := func(program, args string) *runtime.Call {
		call := NewCall(program, args)
		call.State = state
		return call
	}
	counter := s.load(t, "counter", runtime.Program{})
	returns(t, counter, on("counter", `["c",5]`), "5")
	returns(t, counter, on("counter", `["c",-7]`), "-2")
	if n, err := state.Counter(t.Context(), "default", "c"); n != -2 || err != nil {
		t.Errorf("counter: got %d %v, want -2", n, err)
	}
	set := s.load(t, "set", runtime.Program{})
	returns(t, set, on("set", `["s",["b","a"]]`), `[["a","b"],["a"]]`)
	returns(t, set, on("set", `["s",["c","a"]]`), `[["a","b","c"],["a"]]`)
	extremes := s.load(t, "max", runtime.Program{})
	returns(t, extremes, on("max", `["m",5]`), "[5,5]")
	returns(t, extremes, on("max", `["m",3]`), "[5,3]")

	_, err := invoke(t, counter, on("counter", `["s",1]`)) // which holds a set
	if wire.KindOf(err) != wire.KindLattice {
		t.Errorf("counter of a set: got %v, want the kind %q", err, wire.KindLattice)
	}
}

func (s Suite) functions(t *testing.T) {
	functions := NewFunctions(map[string]func(wire.Value) (wire.Value, error){
		"double": func(args wire.Value) (wire.Value, error) {
			var n float64
			if err := args.Decode(&n); err != nil {
				return wire.Value{}, err
			}
			return wire.JSON(2 * n)
		},
		"bad": func(wire.Value) (wire.Value, error) {
			return wire.Value{}, &wire.Error{Op: "run", Name: "bad", Kind: wire.KindPermanent, Msg: "never again"}
		},
	})
	on := func(program, args string) *runtime.Call {
		call := NewCall(program, args)
		call.Functions = functions
		return call
	}
	call := s.load(t, "call", runtime.Program{})
	returns(t, call, on("call", `["double",21]`), "42")
	returns(t, s.load(t, "future", runtime.Program{}), on("future", `["double",1,2]`), "[2,4]")
	for name, want := range map[string]wire.Kind{"bad": wire.KindPermanent, "missing": wire.KindUnknown} {
		if _, err := invoke(t, call, on("call", `["`+name+`",1]`)); wire.KindOf(err) != want {
			t.Errorf("call of %s: got %v, want the kind %q", name, err, want)
		}
	}
}

func (s Suite) mail(t *testing.T) {
	post := NewPost()
	f := s.load(t, "mail", runtime.Program{Concurrency: 2})
	on := func(id, args string) *runtime.Call {
		call := NewCall("mail", args)
		call.Mail = post.Mail(id)
		return call
	}
	returns(t, f, on("alone", `["alone",{"n":1}]`), `["alone","alone",{"n":1}]`)
	var group sync.WaitGroup
	group.Go(func() { returns(t, f, on("a", `["b","from a"]`), `["a","b","from b"]`) })
	returns(t, f, on("b", `["a","from b"]`), `["b","a","from a"]`)
	group.Wait()
	if _, err := invoke(t, f, on("a", `["",1]`)); wire.KindOf(err) != wire.KindBadName {
		t.Errorf("a message to nobody: got %v, want the kind %q", err, wire.KindBadName)
	}
}

func (s Suite) errors(t *testing.T) {
	f := s.load(t, "fail", runtime.Program{})
	for _, msg := range []string{"no luck today", "nor tomorrow"} {
		_, err := invoke(t, f, NewCall("fail", `"`+msg+`"`))
		e, ok := err.(*wire.Error) //nolint:errorlint // as runtime.Function promises
		if !ok || e.Kind != wire.KindFunction && e.Kind != wire.KindPanic {
			t.Fatalf("got %T %v, want a *wire.Error of a function that failed or panicked", err, err)
		}
		if !strings.Contains(e.Error()+e.Stack, msg) {
			t.Errorf("got %v, want it to say %q", e, msg)
		}
		if !strings.Contains(e.Stack, "explode") {
			t.Errorf("stack %q: want the function's own explode in it", e.Stack)
		}
	}
}

// guests tries what the protocol of guests has, and Go code gets by other means.
func (s Suite) guests(t *testing.T) {
	if s.NoGuest != "" {
		t.Log("it is no guest: ", s.NoGuest)
		return
	}
	t.Run("lattices", s.guestLattices)
	once := NewCall("once", `["double",3,"mine/1"]`)
	runs := 0
	once.Functions = NewFunctions(map[string]func(wire.Value) (wire.Value, error){
		"double": func(wire.Value) (wire.Value, error) { runs++; return wire.JSON(6) },
	})
	returns(t, s.load(t, "once", runtime.Program{}), once, `["mine/1","mine/1",6]`)
	if runs != 1 {
		t.Errorf("a run of one id began %d times", runs)
	}
	refuse := s.load(t, "refuse", runtime.Program{Concurrency: 1})
	for _, msg := range []string{"no such customer", "nor such an order"} {
		_, err := invoke(t, refuse, NewCall("refuse", `"`+msg+`"`))
		if wire.KindOf(err) != wire.KindPermanent || !strings.Contains(err.Error(), msg) {
			t.Errorf("got %v, want it to have failed for good: %s", err, msg)
		}
	}
	returns(t, s.load(t, "args", runtime.Program{Args: []string{"-v", "two words", "", "ä"}}), NewCall("args", ""), `["-v","two words","","ä"]`)
	returns(t, s.load(t, "args", runtime.Program{}), NewCall("args", ""), "[]")
}

func (s Suite) guestLattices(t *testing.T) {
	state := NewState()
	on := func(program, args string) *runtime.Call {
		call := NewCall(program, args)
		call.State = state
		return call
	}
	grows := s.load(t, "gcounter", runtime.Program{})
	returns(t, grows, on("gcounter", `["g",3]`), "3")
	returns(t, grows, on("gcounter", `["g",4]`), "7")
	if _, err := invoke(t, grows, on("gcounter", `["g",-1]`)); wire.KindOf(err) != wire.KindBadArgument {
		t.Errorf("counting down: got %v", err)
	}
	returns(t, s.load(t, "zset", runtime.Program{}), on("zset", `["z","two","one"]`), `["one","two"]`)
	best := s.load(t, "priority", runtime.Program{})
	returns(t, best, on("priority", `["p",5,{"a":1}]`), `[5,{"a":1}]`)
	returns(t, best, on("priority", `["p",7,"later"]`), `[5,{"a":1}]`)
	returns(t, best, on("priority", `["p",-1,"first"]`), `[-1,"first"]`)
	returns(t, s.load(t, "map", runtime.Program{}), on("map", `"m1"`), `[["in","n"],2,["e"]]`)
	l, err := state.Read(t.Context(), "default", "m1")
	if m, ok := l.(*kvlattice.Map); err != nil || !ok || m.Field("in").Kind() != kvlattice.KindMap {
		t.Errorf("the map: got %v %v", l, err)
	}
}

func (s Suite) log(t *testing.T) {
	f := s.load(t, "log", runtime.Program{Concurrency: 4})
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			for j := range 10 {
				word := fmt.Sprintf("word-%d-%d", i, j)
				var log bytes.Buffer // only this call writes to it, and not any more when it has returned
				call := NewCall("log", `"`+word+`"`)
				call.Log = &log
				if _, err := invoke(t, f, call); err != nil {
					t.Errorf("log: %v", err)
				}
				if got, want := log.String(), word+"-1\n"+word+"-2\n"; got != want {
					t.Errorf("got %q, want %q", got, want)
				}
			}
		})
	}
	group.Wait()
	returns(t, f, NewCall("log", `"nobody listens"`), "null")
}

// many runs a thousand calls at once, more than there can be instances.
func (s Suite) many(t *testing.T) {
	f := s.load(t, "echo", runtime.Program{})
	var group sync.WaitGroup
	for i := range 1000 {
		group.Go(func() {
			body := fmt.Sprintf(`{"call":%d}`, i)
			v, err := invoke(t, f, NewCall("echo", body))
			if err != nil || !sameJSON(string(v.Body), body) {
				t.Errorf("echo of %s: got %q %v", body, v.Body, err)
			}
		})
	}
	group.Wait()
}

func (s Suite) remember(t *testing.T) {
	if s.Remembers != "" {
		t.Log("calls may find what earlier ones left: ", s.Remembers)
		return
	}
	f := s.load(t, "remember", runtime.Program{Concurrency: 1})
	for range 5 {
		returns(t, f, NewCall("remember", ""), "0")
	}
}

// sameJSON says whether two texts are the same JSON.
func sameJSON(a, b string) bool {
	var x, y any
	return json.Unmarshal([]byte(a), &x) == nil && json.Unmarshal([]byte(b), &y) == nil && reflect.DeepEqual(x, y)
}
