// Package cloudburst is what a WebAssembly function in Go can ask the platform for.
//
//	func main() {
//		var key string
//		cloudburst.Must(cloudburst.Args(&key))
//		cloudburst.Must(cloudburst.Update(key, "counter", 1))
//		total, err := cloudburst.Counter(key)
//		cloudburst.Must(err)
//		cloudburst.Must(cloudburst.Return(total))
//	}
//
// Build it with GOOS=wasip1 GOARCH=wasm go build. Built for anything else it
// compiles, and every function returns an error: there is no platform to ask.
//
// Values are JSON, of what encoding/json makes of them; those of other types travel
// as a Value. Keys live in namespaces: a key is one of the function's own, and In
// names another. What the platform refuses is an *Error. Must ends the guest, and
// its call, with such an error.
package cloudburst

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"
)

// A Value is bytes and their MIME type. The type "" is JSON.
type Value struct {
	Type string
	Body []byte
}

// IsJSON says whether the value is JSON.
func (v Value) IsJSON() bool { return v.Type == "" || v.Type == "application/json" }

// An Error is what the platform answers if it can't do what it was asked.
type Error struct {
	Kind    string // "unknown", "bad argument", "too large", "lattice kinds differ", …
	Message string
}

func (e *Error) Error() string { return e.Message }

// Must ends the guest if err isn't nil. Its call fails with that error, of the
// platform's kind if it is the platform's.
func Must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// Fail ends the guest, and its call for good: it isn't run again, as it would always fail.
func Fail(format string, args ...any) {
	why := fmt.Sprintf(format, args...)
	if err := ask(opFail, []byte(why)).err; err != nil {
		why = err.Error()
	}
	fmt.Fprintln(os.Stderr, why)
	os.Exit(1)
}

// Argument returns the call's argument; its body is empty if there is none.
func Argument() (Value, error) { return ask(opArgs).value() }

// Args decodes the call's argument into v, which is left as it is if there is none.
func Args(v any) error {
	arg, err := Argument()
	if err != nil || len(arg.Body) == 0 {
		return err
	}
	return arg.decode(v)
}

// Return says what the call returns: v as JSON, or a Value. If nothing does, it
// returns what was written to standard output.
func Return(v any) error {
	value, err := encode(v)
	if err != nil {
		return err
	}
	return ask(opReturn, []byte(value.Type), value.Body).err
}

// CallInfo is what the call is.
type CallInfo struct {
	Run       string `json:"run"`
	Function  string `json:"function"`
	Node      string `json:"node"` // of a DAG; else empty
	Attempt   int    `json:"attempt"`
	Namespace string `json:"namespace"`
	ID        string `json:"id"` // of this execution: others send messages to it
}

// Info returns what the call is.
func Info() (info CallInfo, err error) {
	text, err := ask(opInfo).text()
	if err != nil {
		return info, err
	}
	return info, json.Unmarshal(text, &info)
}

// Log writes a line to the call's log, as writing to standard error does.
func Log(format string, args ...any) error { return ask(opLog, fmt.Appendf(nil, format, args...)).err }

// A Run is a call that was started.
type Run string

// Start calls a function or DAG with v, and returns once the call is stored.
func Start(name string, v any) (Run, error) { return StartAs("", name, v) }

// StartAs is Start with an id for the run, such as one that begins with this call's own
// (CallInfo.ID): made again, it is the same run, and the function isn't run twice. Empty is
// a new id.
func StartAs(run Run, name string, v any) (Run, error) {
	value, err := encode(v)
	if err != nil {
		return "", err
	}
	started, err := ask(opStart, []byte(name), []byte(value.Type), value.Body, []byte(run)).text()
	return Run(started), err
}

// Await decodes into result what the run returned, once it has.
func (r Run) Await(result any) error {
	v, err := ask(opAwait, []byte(r)).value()
	if err != nil {
		return err
	}
	return v.decode(result)
}

// Call calls a function or DAG with v, waits, and decodes what it returned.
func Call(name string, v, result any) error {
	run, err := Start(name, v)
	if err != nil {
		return err
	}
	return run.Await(result)
}

// Send sends v to an execution that runs, by its id (CallInfo.ID). The message is
// stored, and comes once that one listens; messages of one sender come in their order.
func Send(id string, v any) error {
	value, err := encode(v)
	if err != nil {
		return err
	}
	return ask(opMessage, []byte(id), []byte(value.Type), value.Body).err
}

// Recv decodes into v the next message that was sent to this execution, and returns the
// id of who sent it; ok is false if none has come after wait.
func Recv(wait time.Duration, v any) (from string, ok bool, err error) {
	r := ask(opReceive, strconv.AppendInt(nil, wait.Milliseconds(), 10))
	if r.err != nil || r.nothing {
		return "", false, r.err
	}
	from = string(r.field())
	value, err := r.value()
	if err != nil {
		return from, false, err
	}
	return from, true, value.decode(v)
}

// encode makes a value of what it is given.
func encode(v any) (Value, error) {
	switch v := v.(type) {
	case nil:
		return Value{}, nil
	case Value:
		return v, nil
	}
	body, err := json.Marshal(v)
	return Value{Body: body}, err
}

// decode stores what the value is in to: a pointer to what JSON is to be decoded
// into, or to a Value; nil drops it.
func (v Value) decode(to any) error {
	switch to := to.(type) {
	case nil:
		return nil
	case *Value:
		*to = v
		return nil
	}
	if !v.IsJSON() {
		return fmt.Errorf("a value of type %s isn't JSON: take it as a cloudburst.Value", v.Type)
	}
	if len(v.Body) == 0 {
		return errors.New("there is no value; JSON was expected")
	}
	return json.Unmarshal(v.Body, to)
}
