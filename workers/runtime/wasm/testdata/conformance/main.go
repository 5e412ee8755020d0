// The programs of package runtimetest, each an export of one reactor.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"time"
	"unsafe"
)

func main() {}

//go:wasmimport cloudburst request
func hostRequest(ptr unsafe.Pointer, n uint32) uint32

//go:wasmimport cloudburst response
func hostResponse(ptr unsafe.Pointer)

// ask makes a request and returns the fields of its response; none if there is
// nothing there. An error ends the call.
func ask(op byte, fields ...string) []string {
	request := []byte(pack(op, fields...))
	response := make([]byte, hostRequest(unsafe.Pointer(unsafe.SliceData(request)), uint32(len(request))))
	hostResponse(unsafe.Pointer(unsafe.SliceData(response)))
	var out []string
	for b := response[1:]; len(b) > 0; {
		n := int(b[0]) | int(b[1])<<8 | int(b[2])<<16 | int(b[3])<<24
		out = append(out, string(b[4:4+n]))
		b = b[4+n:]
	}
	if response[0] == 'e' {
		fmt.Fprintln(os.Stderr, out[1])
		os.Exit(1)
	}
	return out
}

// pack returns a request.
func pack(op byte, fields ...string) string {
	request := []byte{op}
	for _, f := range fields {
		n := len(f)
		request = append(request, byte(n), byte(n>>8), byte(n>>16), byte(n>>24))
		request = append(request, f...)
	}
	return string(request)
}

func input() []byte {
	b, err := io.ReadAll(os.Stdin)
	if err != nil {
		panic(err)
	}
	return b
}

func arg[T any]() (v T) {
	if err := json.Unmarshal(input(), &v); err != nil {
		panic(err)
	}
	return v
}

func result(v any) {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	os.Stdout.Write(b)
}

func quoted(v any) string {
	b, _ := json.Marshal(v)
	return string(b)
}

//go:wasmexport run_echo
func echo() { os.Stdout.Write(input()) }

//go:wasmexport run_add
func add() {
	a := arg[[2]float64]()
	result(a[0] + a[1])
}

//go:wasmexport run_bytes
func bytes() {
	b := input()
	slices.Reverse(b)
	os.Stdout.Write(b)
}

//go:wasmexport run_run
func run() {
	var info struct{ Run string }
	if err := json.Unmarshal([]byte(ask('i')[0]), &info); err != nil {
		panic(err)
	}
	result(info.Run)
}

//go:wasmexport run_state
func state() {
	key := arg[string]()
	get := func() json.RawMessage {
		if got := ask('g', "", key); got != nil {
			return json.RawMessage(got[1])
		}
		return nil
	}
	out := []any{get()}
	ask('p', "", key, "", `{"n":1}`)
	out = append(out, get())
	ask('d', "", key)
	out = append(out, get())
	ask('p', "", key, "", `"last"`)
	out = append(out, get())
	var versions []json.RawMessage
	for i, field := range ask('v', "", key) {
		if i%2 == 1 {
			versions = append(versions, json.RawMessage(field))
		}
	}
	out = append(out, versions)
	ask('p', "other", key, "", `"there"`)
	result(out)
}

func update(kind, key, with string) { ask('u', "", key, kind, with) }

func read(kind, key string) json.RawMessage {
	if got := ask('r', "", key, kind); got != nil {
		return json.RawMessage(got[0])
	}
	return nil
}

//go:wasmexport run_counter
func counter() {
	a := arg[[2]any]()
	key := a[0].(string)
	update("counter", key, quoted(a[1]))
	result(read("counter", key))
}

//go:wasmexport run_set
func set() {
	a := arg[[2]any]()
	key, elements := a[0].(string), a[1].([]any)
	update("set", key, quoted(elements))
	update("orset", key+"-or", quoted(map[string]any{"add": elements}))
	update("orset", key+"-or", quoted(map[string]any{"remove": elements[:1]}))
	result([]any{read("set", key), read("orset", key+"-or")})
}

//go:wasmexport run_max
func maximum() {
	a := arg[[2]any]()
	key := a[0].(string)
	update("max", key, quoted(a[1]))
	update("min", key+"-min", quoted(a[1]))
	result([]any{read("max", key), read("min", key+"-min")})
}

//go:wasmexport run_gcounter
func gcounter() {
	a := arg[[2]any]()
	update("gcounter", a[0].(string), quoted(a[1]))
	result(read("gcounter", a[0].(string)))
}

//go:wasmexport run_zset
func zset() {
	a := arg[[3]string]()
	put := func(member string, score int) string {
		return quoted(map[string]any{"put": []any{map[string]any{"member": member, "score": score}}})
	}
	update("zset", a[0], put(a[1], 2))
	update("zset", a[0], put(a[2], 1))
	update("zset", a[0], put("gone", 3))
	update("zset", a[0], `{"remove":["gone"]}`)
	var members []struct{ Member string }
	if err := json.Unmarshal(read("zset", a[0]), &members); err != nil {
		panic(err)
	}
	var names []string
	for _, m := range members {
		names = append(names, m.Member)
	}
	result(names)
}

//go:wasmexport run_map
func maps() {
	key := arg[string]()
	of := func(key string, op byte, fields ...string) []string {
		return ask('f', "", key, pack(op, fields...))
	}
	of(key, 'p', "", "a", "", "1")
	of(key, 'u', "", "n", "counter", "2")
	of(key, 'f', "", "in", pack('u', "", "s", "set", `["e"]`))
	of(key, 'd', "", "a")
	result([]any{read("map", key), json.RawMessage(of(key, 'r', "", "n", "counter")[0]), json.RawMessage(of(key, 'f', "", "in", pack('r', "", "s", "set"))[0])})
}

//go:wasmexport run_priority
func priority() {
	a := arg[[3]any]()
	key := a[0].(string)
	update("priority", key, quoted(map[string]any{"priority": a[1], "value": a[2]}))
	var best struct{ Priority, Value any }
	if err := json.Unmarshal(read("priority", key), &best); err != nil {
		panic(err)
	}
	result([]any{best.Priority, best.Value})
}

//go:wasmexport run_once
func once() {
	a := arg[[3]any]()
	var runs [2]string
	for i := range runs {
		runs[i] = ask('s', a[0].(string), "", quoted(a[1]), a[2].(string))[0]
	}
	result([]any{runs[0], runs[1], await(runs[1])})
}

//go:wasmexport run_refuse
func refuse() {
	ask('x', arg[string]())
	os.Exit(3)
}

//go:wasmexport run_args
func arguments() { result(append([]string{}, os.Args[1:]...)) }

func start(name string, v any) string { return ask('s', name, "", quoted(v))[0] }

func await(run string) json.RawMessage { return json.RawMessage(ask('w', run)[1]) }

//go:wasmexport run_call
func call() {
	a := arg[[2]any]()
	result(await(start(a[0].(string), a[1])))
}

//go:wasmexport run_future
func future() {
	a := arg[[3]any]()
	first, second := start(a[0].(string), a[1]), start(a[0].(string), a[2])
	result([]any{await(first), await(second)})
}

//go:wasmexport run_mail
func mail() {
	a := arg[[2]any]()
	var info struct{ ID string }
	if err := json.Unmarshal([]byte(ask('i')[0]), &info); err != nil {
		panic(err)
	}
	ask('m', a[0].(string), "", quoted(a[1]))
	got := ask('c', "60000")
	result([]any{info.ID, got[0], json.RawMessage(got[2])})
}

//go:noinline
func explode(msg string) { panic(msg) }

//go:wasmexport run_fail
func fail() { explode(arg[string]()) }

//go:wasmexport run_log
func log() {
	word := arg[string]()
	fmt.Fprintln(os.Stderr, word+"-1")
	fmt.Fprintln(os.Stderr, word+"-2")
	result(nil)
}

var calls int

//go:wasmexport run_remember
func remember() {
	result(calls)
	calls++
}

// count returns how many calls this memory has seen, and a random number. It is no
// program of runtimetest.
//
//go:wasmexport run_count
func count() {
	calls++
	result([]uint64{uint64(calls), rand.Uint64() >> 12})
}

//go:wasmexport run_sleep
func sleep() {
	time.Sleep(time.Duration(arg[float64]()) * time.Millisecond)
	result("fine")
}

var sink [][]byte

//go:wasmexport run_loop
func loop() {
	for arg[bool]() {
		for {
		}
	}
	result("fine")
}

//go:wasmexport run_memory
func memory() {
	if arg[bool]() {
		for {
			sink = append(sink, make([]byte, 1<<20))
		}
	}
	result("fine")
}

//go:wasmexport run_garbage
func garbage() {
	if arg[bool]() {
		b := make([]byte, 1<<20)
		for i := range b {
			b[i] = byte(i * i >> 3)
		}
		os.Stdout.Write(b)
		return
	}
	result("fine")
}

//go:wasmexport run_crash
func crash() {
	if arg[bool]() {
		os.Exit(9)
	}
	result("fine")
}
