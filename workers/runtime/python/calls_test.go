//go:build unix

package python_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/cloudburst-nats/cloudburst/wire"
	"github.com/cloudburst-nats/cloudburst/workers/runtime"
	"github.com/cloudburst-nats/cloudburst/workers/runtime/python"
	"github.com/cloudburst-nats/cloudburst/workers/runtime/runtimetest"
)

const argumentsProgram = `
import functools

def none(cb): return "none"
def one(cb, x): return ["one", x]
def default(cb, x="nothing"): return ["default", x]
def two(cb, a, b=2): return ["two", a, b]
def named(cb, a, *, b): return ["named", a, b]
def rest(cb, *all): return ["rest", *all]
def mixed(cb, a, *all): return ["mixed", a, *all]
def more(cb, **all): return ["more", all]
def bare(): return "bare"
def lone(x): return ["lone", x if isinstance(x, (int, list)) else type(x).__name__]
def only(cb, a, b=2, /, c=3): return ["only", a, b, c]
def choice(cb, *, by=1): return ["choice", by]
def fields(*, a, b=2): return ["fields", a, b]

def wrapper(f):
    @functools.wraps(f)
    def call(*args, **named): return f(*args, **named)
    return call

@wrapper
def wrapped(cb, x): return ["wrapped", x]
`

func TestArguments(t *testing.T) {
	path := program(t, "main.py", argumentsProgram)
	functions := make(map[string]runtime.Loaded)
	for _, tc := range []struct{ entry, args, want string }{ // a want that isn't JSON is of an error
		{"none", "", `"none"`},
		{"none", "[]", `"none"`},
		{"none", "1", "none takes no argument, as its one parameter cb is the platform"},
		{"bare", "", `"bare"`},
		{"bare", "[]", `"bare"`},
		{"bare", "1", "bare takes no argument"},
		{"lone", "7", `["lone",7]`},
		{"lone", "[]", `["lone",[]]`},
		{"lone", "null", `["lone","NoneType"]`},
		{"lone", "", `["lone","Cloudburst"]`},
		{"only", "1", `["only",1,2,3]`},
		{"only", "[1,4,5]", `["only",1,4,5]`},
		{"only", `{"a":1,"c":5}`, `["only",1,2,5]`},
		{"only", `{"c":5,"b":4,"a":1}`, `["only",1,4,5]`},
		{"only", `{"b":4,"c":5}`, "positional-only arguments passed as keyword arguments: 'b'"},
		{"choice", "", `["choice",1]`},
		{"choice", `{"by":3}`, `["choice",3]`},
		{"choice", "3", "takes 1 positional argument but 2 were given"},
		{"fields", `{"a":1}`, `["fields",1,2]`},
		{"one", "[1,2]", `["one",[1,2]]`},
		{"one", `{"x":1}`, `["one",{"x":1}]`},
		{"one", "null", `["one",null]`},
		{"one", "", "missing 1 required positional argument"},
		{"default", "", `["default","nothing"]`},
		{"default", "[]", `["default",[]]`},
		{"two", "[1]", `["two",1,2]`},
		{"two", "[1,3]", `["two",1,3]`},
		{"two", "[1,3,4]", "takes from 2 to 3 positional arguments but 4 were given"},
		{"two", `{"b":1,"a":0}`, `["two",0,1]`},
		{"two", `{"a":0}`, `["two",0,2]`},
		{"two", `{"b":0}`, "missing 1 required positional argument: 'a'"},
		{"two", `{"a":0,"c":1}`, `["two",{"a":0,"c":1},2]`},
		{"two", `"text"`, `["two","text",2]`},
		{"named", `{"a":1,"b":2}`, `["named",1,2]`},
		{"rest", "", `["rest"]`},
		{"rest", "[1,2]", `["rest",1,2]`},
		{"rest", "1", `["rest",1]`},
		{"rest", `{"a":1}`, `["rest",{"a":1}]`},
		{"mixed", "[1,2,3]", `["mixed",1,2,3]`},
		{"more", `{"a":1}`, `["more",{"a":1}]`},
		{"wrapped", "[1,2]", `["wrapped",[1,2]]`},
	} {
		f := functions[tc.entry]
		if f == nil {
			f = load(t, python.Config{}, runtime.Program{Path: path, Entry: tc.entry})
			functions[tc.entry] = f
		}
		got, err := invoke(t, f, runtimetest.NewCall("f", tc.args))
		switch {
		case json.Valid([]byte(tc.want)):
			if got != tc.want || err != nil {
				t.Errorf("%s(%s): got %s %v, want %s", tc.entry, tc.args, got, err, tc.want)
			}
		case wire.KindOf(err) != wire.KindBadArgument || !strings.Contains(err.Error(), tc.want):
			t.Errorf("%s(%s): got %s %v, want a bad argument: %s", tc.entry, tc.args, got, err, tc.want)
		}
	}
}

const resultsProgram = `
import dataclasses, datetime, decimal, pathlib, sys

def handler(cb, what):
    return eval(what)

class Text(str): pass

class Scalar:
    def __init__(self, v=7): self.v = v
    def tolist(self): return self.v

@dataclasses.dataclass
class Record:
    x: int

def around():
    v = {}
    v["self"] = v
    return v
`

func TestResults(t *testing.T) {
	f := load(t, python.Config{}, runtime.Program{Path: program(t, "main.py", resultsProgram)})
	const octets = "application/octet-stream"
	for _, tc := range []struct{ what, want string }{ // a want of "!…" is of an error
		{`None`, `null`},
		{`'ä"\n'`, `"ä\"\n"`},
		{`Text("a")`, `"a"`},
		{`(1, 2.5, True, {"a": [None]})`, `[1,2.5,true,{"a":[null]}]`},
		{`{1: 2}`, `{"1":2}`},
		{`[Scalar()]`, `[7]`},
		{`10**30`, `1000000000000000000000000000000`},
		{`b"\xff"`, octets + "\xff"},
		{`bytearray(b"ab")`, octets + "ab"},
		{`memoryview(b"abcd")[1:3]`, octets + "bc"},
		{`memoryview(b"abcd")[::2]`, octets + "ac"},
		{`memoryview(bytearray(4)).cast("I")`, octets + "\x00\x00\x00\x00"},
		{`b""`, octets},
		{`float("nan")`, "!result: nan isn't JSON; use None"},
		{`{"a": [1, {"b c": float("-inf")}]}`, "!result.a[1]['b c']: -inf isn't JSON; use None"},
		{`{1, 2}`, "!result: set isn't JSON; use sorted() or list()"},
		{`[b"x"]`, "!result[0]: bytes isn't JSON; bytes travel alone"},
		{`"\ud800"`, "!result: the text has half a character"},
		{`{"items": [0, 1, 2, {"when": datetime.datetime(2000, 1, 1)}]}`, "!result.items[3].when: datetime isn't JSON; use .isoformat()"},
		{`{"when": datetime.timedelta(1)}`, "!result.when: timedelta isn't JSON; use .total_seconds()"},
		{`[decimal.Decimal("1.5")]`, "!result[0]: Decimal isn't JSON; use str() or float()"},
		{`[pathlib.Path("/")]`, "!Path isn't JSON; use str()"},
		{`{"all": (i for i in range(3))}`, "!result.all: generator isn't JSON; use list()"},
		{`{(1, 2): 3}`, "!result: a key is a tuple ((1, 2)); keys are texts"},
		{`[Record(1)]`, "!result[0]: Record isn't JSON; use dataclasses.asdict()"},
		{`[Scalar(), Scalar(float("nan"))]`, "!result[1]: nan isn't JSON"},
		{`around()`, "!result.self: it holds itself"},
		{`cb.put("k", {"s": {1}})`, "!value of 'k'.s: set isn't JSON"},
		{`cb.set("k").add(1, {2})`, "!change[1]: set isn't JSON"},
		{`cb.call("f", 1, {2})`, "!arguments[1]: set isn't JSON"},
		{`cb.send("r", {"s": {1}})`, "!message.s: set isn't JSON"},
		{`bytes(70 << 20)`, "!store it, and return its key"},
		{`cb.put("k", bytes(70 << 20))`, "!store large values in parts"},
		{`sys.exit(3)`, "!SystemExit: 3"},
		{`cb.get("")`, "!bad name"},
		{`cb.start("missing").get()`, "!unknown"},
		{`cb.counter("c").add(0.5)`, "!bad argument"},
		{`cb.counter("c").add("x")`, "!bad argument"},
		{`[cb.gcounter("g").add(2), cb.gcounter("g").value()]`, "[null,2]"},
		{`cb.max("unknown").value()`, "null"},
		{`cb.orset("unknown").elements()`, "[]"},
		{`[cb.put("b", b"\xff\x00"), str(cb.get("b"))]`, `[null,"b'\\xff\\x00'"]`},
		{`[cb.put("long", "x" * 1000000), len(cb.get("long"))]`, `[null,1000000]`},
		{`[cb.put("t", "text"), cb.get("t", ns="default"), cb.get("t", ns="other")]`, `[null,"text",null]`},
		{`sorted(cb.info().items())`, `[["attempt",1],["function","f"],["id","run-1"],["namespace","default"],["node",""],["run","run-1"]]`},
	} {
		what, _ := json.Marshal(tc.what)
		got, err := invoke(t, f, runtimetest.NewCall("f", string(what)))
		if want, bad := strings.CutPrefix(tc.want, "!"); bad {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: got %.100s %v, want %s", tc.what, got, err, want)
			}
		} else if got != tc.want || err != nil {
			t.Errorf("%s: got %.100s %v, want %s", tc.what, got, err, tc.want)
		}
	}
}

const asyncProgram = `
import asyncio, sys

lock, calls = asyncio.Lock(), 0

async def one(x):
    await asyncio.sleep(0)
    return x * x

async def handler(cb, what):
    global calls
    calls += 1
    if what == "gather":
        async with lock:
            return await asyncio.gather(*(one(x) for x in range(4)))
    if what == "loop":
        return [calls, id(asyncio.get_running_loop())]
    if what == "state":
        cb.put("k", 1)
        return await asyncio.to_thread(cb.get, "k")
    if what == "fail":
        await one("x")
    if what == "permanent":
        raise cb.Permanent("no use")
    if what == "exit":
        sys.exit("bye")
    if what == "left":
        asyncio.get_running_loop().create_task(asyncio.sleep(3600))
        return "left"
    if what == "long":
        await asyncio.sleep(3600)
    return what

class Service:
    async def __call__(self, cb, x): return ["called", await one(x)]

service = Service()
later = lambda cb, x: one(x)
`

// Functions that are coroutines run in one loop, which stays as long as the process does.
func TestAsync(t *testing.T) {
	path := program(t, "main.py", asyncProgram)
	f := load(t, python.Config{}, runtime.Program{Path: path, Concurrency: 1})
	loops := make(map[string]bool)
	for _, tc := range []struct {
		what, want string
		kind       wire.Kind
	}{
		{"gather", "[0,1,4,9]", 0},
		{"loop", "", 0},
		{"state", "1", 0},
		{"fail", "TypeError: can't multiply sequence", wire.KindFunction},
		{"permanent", "no use", wire.KindPermanent},
		{"exit", "SystemExit: bye", wire.KindFunction},
		{"left", `"left"`, 0},
		{"gather", "[0,1,4,9]", 0},
		{"loop", "", 0},
	} {
		got, err := invoke(t, f, runtimetest.NewCall("f", `"`+tc.what+`"`))
		switch {
		case tc.kind != 0:
			if wire.KindOf(err) != tc.kind || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%s: got %s %v, want %s", tc.what, got, err, tc.want)
			}
		case tc.what == "loop" && err == nil:
			_, loop, _ := strings.Cut(got, ",")
			loops[loop] = true
		case got != tc.want || err != nil:
			t.Errorf("%s: got %s %v, want %s", tc.what, got, err, tc.want)
		}
	}
	if len(loops) != 1 {
		t.Errorf("calls of one process ran in the loops %v", loops)
	}
	for entry, want := range map[string]string{"service": `["called",9]`, "later": "9"} {
		if got, err := invoke(t, load(t, python.Config{}, runtime.Program{Path: path, Entry: entry}), runtimetest.NewCall("f", "3")); got != want || err != nil {
			t.Errorf("%s: got %s %v, want %s", entry, got, err, want)
		}
	}
	cause := errors.New("enough")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 200*time.Millisecond, cause)
	defer cancel()
	if _, err := f.Invoke(ctx, runtimetest.NewCall("f", `"long"`)); !errors.Is(err, cause) {
		t.Errorf("a coroutine that doesn't end: got %v, want %v", err, cause)
	}
}

const failuresProgram = `
import cloudburst
from helper import deep

def handler(cb, what):
    if what == "permanent":
        raise cb.Permanent("no such customer")
    if what == "imported":
        raise cloudburst.Permanent("no such order")
    if what == "error":
        cb.call("missing")
    if what == "caught":
        try:
            cb.call("missing")
        except cloudburst.Error as e:
            return [e.kind, str(e)]
    if what == "chained":
        try:
            deep(5)
        except KeyError as e:
            raise RuntimeError("it broke") from e
    if what == "recursion":
        return handler(cb, what)
    if what == "unprintable":
        class Bad(Exception):
            def __str__(self): raise self
        raise Bad()
    if what == "memory":
        return len(bytearray(1 << 40))
    if what == "type":
        return "a" + 1
    return what
`

func TestFailures(t *testing.T) {
	f := load(t, python.Config{}, runtime.Program{Path: program(t,
		"main.py", failuresProgram, "helper.py", "def deep(n):\n    return deep(n - 1) if n else {}['missing']\n",
	)})
	for _, tc := range []struct {
		what  string
		kind  wire.Kind
		msg   string
		stack []string
	}{
		{"permanent", wire.KindPermanent, "no such customer", []string{`File "main.py", line 7, in handler`}},
		{"imported", wire.KindPermanent, "no such order", nil},
		{"error", wire.KindUnknown, "no such function", []string{`File "main.py", line 11, in handler`, `cb.call("missing")`}},
		{"chained", wire.KindFunction, "RuntimeError: it broke", []string{`File "helper.py", line 2, in deep`, "KeyError: 'missing'", "direct cause", `File "main.py", line 21`}},
		{"recursion", wire.KindFunction, "RecursionError: ", []string{"line 23, in handler", "more times"}},
		{"unprintable", wire.KindFunction, "Bad", nil},
		{"memory", wire.KindPermanent, "MemoryError: it took more than its 256 MiB; deploy it with more (--memory)", []string{"line 29"}},
		{"type", wire.KindFunction, "TypeError: ", []string{"line 31"}},
	} {
		_, err := invoke(t, f, runtimetest.NewCall("f", `"`+tc.what+`"`))
		e, ok := err.(*wire.Error) //nolint:errorlint // as runtime.Function promises
		if !ok || e.Kind != tc.kind || !strings.Contains(e.Msg, tc.msg) {
			t.Errorf("%s: got %v, want %q of the kind %q", tc.what, err, tc.msg, tc.kind)
			continue
		}
		for _, line := range tc.stack {
			if !strings.Contains(e.Stack, line) {
				t.Errorf("%s: stack %s\nwant %q in it", tc.what, e.Stack, line)
			}
		}
		if strings.Contains(e.Stack, "shim.py") || strings.Contains(e.Stack, "cloudburst.py") {
			t.Errorf("%s: stack %s\nwant none of ours in it", tc.what, e.Stack)
		}
	}
	if got, err := invoke(t, f, runtimetest.NewCall("f", `"caught"`)); !strings.HasPrefix(got, `["unknown",`) || err != nil {
		t.Errorf("an error that was caught: got %s %v", got, err)
	}
	// The error that the platform gave comes back as what it was.
	_, err := invoke(t, f, runtimetest.NewCall("f", `"error"`))
	if !errors.Is(err, &wire.Error{Kind: wire.KindUnknown}) {
		t.Errorf("got %v", err)
	}
}

// What isn't JSON can still be sent as such, by a caller in another language.
func TestBadJSON(t *testing.T) {
	f := load(t, python.Config{}, runtime.Program{Path: program(t, "main.py", "def handler(cb, x): return x")})
	for args, typ := range map[string]string{"{": "", "\xff": "text/plain", "[1": "application/json", "junk": "application/vnd.numpy"} {
		call := runtimetest.NewCall("f", args)
		call.Args.Type = typ
		if _, err := invoke(t, f, call); wire.KindOf(err) != wire.KindBadArgument {
			t.Errorf("%q as %q: got %v, want a bad argument", args, typ, err)
		}
	}
	call := runtimetest.NewCall("f", "ä")
	call.Args.Type = "text/plain; charset=utf-8"
	if got, err := invoke(t, f, call); got != `"ä"` || err != nil {
		t.Errorf("text: got %s %v", got, err)
	}
}

const numpyProgram = `
try:
    import numpy
except ImportError:
    numpy = None

def handler(cb, x=None):
    if numpy is None or x is None:
        return numpy and numpy.__version__
    if isinstance(x, str):
        return eval(x)
    if x.flags.owndata or not x.flags.writeable or x.ctypes.data % 16:
        return [x.flags.owndata, x.flags.writeable, x.ctypes.data % 16]
    cb.put("kept", x)
    return cb.get("kept") * 2
`

func TestNumpy(t *testing.T) {
	tested := false
	for _, interpreter := range interpreters(t) {
		f := load(t, config(t, interpreter), runtime.Program{Path: program(t, "main.py", numpyProgram)})
		version, err := invoke(t, f, runtimetest.NewCall("f", ""))
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("numpy of %s: %s", interpreter, version)
		if version == "null" {
			call := runtimetest.NewCall("f", "x")
			call.Args.Type = "application/vnd.numpy"
			if _, err := invoke(t, f, call); wire.KindOf(err) != wire.KindBadArgument || !strings.Contains(err.Error(), "numpy") {
				t.Errorf("an array without numpy: got %v, want an error that names it", err)
			}
			continue
		}
		tested = true
		for _, code := range []string{
			"numpy.arange(6.0).reshape(2, 3)", "numpy.arange(1 << 20)", "numpy.arange(6).reshape(2, 3).T", "numpy.arange(10)[::3]",
			"numpy.array(5.0)", "numpy.zeros((0, 3))", "numpy.array(['a', 'bc'])", "numpy.array([1], 'datetime64[s]')", "numpy.array([(1, 2.0)], 'i4,f8')",
			"numpy.asfortranarray(numpy.arange(12.0).reshape(3, 4))", "numpy.arange(3, dtype='>i2')",
		} {
			call := runtimetest.NewCall("f", "")
			call.Args.Body, _ = json.Marshal(code)
			v, err := f.Invoke(t.Context(), call)
			if err != nil || v.Type != "application/vnd.numpy" || !bytes.HasPrefix(v.Body, []byte("\x93NUMPY")) {
				t.Errorf("%s: got %q %v", code, v.Type, err)
				continue
			}
			if strings.Contains(code, "'") || strings.Contains(code, "zeros") || strings.Contains(code, "5.0") {
				continue // nothing to multiply, or no array then
			}
			call = runtimetest.NewCall("f", "")
			call.Args = v
			twice, err := f.Invoke(t.Context(), call)
			if err != nil || twice.Type != v.Type || len(twice.Body) != len(v.Body) || bytes.Equal(twice.Body, v.Body) {
				t.Errorf("%s, twice: got %q of type %q, %v", code, twice.Body[:min(300, len(twice.Body))], twice.Type, err)
			}
		}
		for what, want := range map[string]string{
			"numpy.array([{}])":                     "!an array of objects",
			"[numpy.float64(1.5), numpy.arange(2)]": "[1.5,[0,1]]",
		} {
			call := runtimetest.NewCall("f", "")
			call.Args.Body, _ = json.Marshal(what)
			got, err := invoke(t, f, call)
			if bad, ok := strings.CutPrefix(want, "!"); ok && (err == nil || !strings.Contains(err.Error(), bad)) || !ok && got != want {
				t.Errorf("%s: got %s %v, want %s", what, got, err, want)
			}
		}
	}
	if !tested {
		t.Log("no interpreter here has numpy: arrays weren't tested")
	}
}
