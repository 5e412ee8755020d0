// Package guest is how code that isn't part of the worker asks it for state, for
// calls of other functions and for its log: the protocol that the runtimes for
// WebAssembly and Python share.
//
// A guest asks with a request and gets a response. Both are byte strings, and how
// they travel is each runtime's own business. A guest asks one thing at a time.
//
//	field    = length of the rest as a little-endian uint32, then the bytes
//	request  = one byte of Op, then its fields
//	response = StatusOK, StatusNothing or StatusError, then fields
//
// The fields of an error are its kind in words, as wire.Kind has them, and its
// message. A namespace "" is the call's own. A type is a MIME type, "" is JSON.
//
//	op            fields                 response
//	g  get        ns key                 type body; nothing there
//	p  put        ns key type body
//	d  delete     ns key
//	v  versions   ns key                 type body, of each version
//	u  update     ns key kind json
//	r  read       ns key kind            json; nothing there
//	s  start      name type body [run]   run
//	w  await      run                    type body
//	l  log        text
//	i  info                              json: run, function, node, attempt, namespace, id
//	m  message    to type body
//	c  receive    milliseconds           from type body; nothing came
//	a  args                              type body
//	t  return     type body
//	f  field      ns key request         as that of request, a g, p, d, v, u, r or f
//	x  fail       text
//
// The request within f is about a field of the map that the key holds: its key names the
// field, its namespace doesn't matter. After x the call has failed for good, whatever the
// guest does next.
//
// What an update takes and a read returns depends on the kind: a number for
// counter and gcounter; an array, of what to add and of all elements, for set; a
// number or string for max and min; {"add":[…],"remove":[…]}, either of which may
// be missing, and an array of all elements, for orset; {"put":[{"member","score"},…],
// "remove":[member,…]}, and an array of {"member","score"}, the lowest score first, for zset;
// {"priority":n,"value":v} for priority. A read of a map is an array of its fields' names.
//
// Whatever a guest sends, a Host answers: what can't be read is an error of the
// kind "bad argument".
package guest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/cloudburst-nats/cloudburst/wire"
	"github.com/cloudburst-nats/cloudburst/workers/runtime"
)

// MaxRequest is the longest request: a value of 64 MiB and room for its key.
const MaxRequest = 64<<20 + 4<<10

// What a guest can ask for, in the first byte of a request.
const (
	OpGet      = 'g'
	OpPut      = 'p'
	OpDelete   = 'd'
	OpVersions = 'v'
	OpUpdate   = 'u'
	OpRead     = 'r'
	OpStart    = 's'
	OpAwait    = 'w'
	OpLog      = 'l'
	OpInfo     = 'i'
	OpArgs     = 'a'
	OpReturn   = 't'
	OpMessage  = 'm'
	OpReceive  = 'c'
	OpField    = 'f'
	OpFail     = 'x'
)

// What the first byte of a response says.
const (
	StatusOK      = 'o'
	StatusNothing = 'n'
	StatusError   = 'e'
)

// A Host answers the requests of one call, one at a time.
type Host struct {
	ctx    context.Context //nolint:containedctx // a Host lives as long as its call
	call   *runtime.Call
	out    []byte // the last response
	result wire.Value
	has    bool        // a result
	failed error       // the last that the guest was told
	gaveUp *wire.Error // what the guest said by OpFail; nil if it hasn't
}

// NewHost returns the Host of a call. Once ctx has ended it answers every request
// with an error that tells why.
func NewHost(ctx context.Context, call *runtime.Call) *Host {
	return &Host{ctx: ctx, call: call}
}

// Serve answers a request, of which it keeps nothing. The response is never empty,
// and is the Host's again with the next call of Serve.
func (h *Host) Serve(request []byte) (response []byte) {
	if cap(h.out) > 1<<20 {
		h.out = nil // a large value came by once
	}
	h.out = append(h.out[:0], StatusOK)
	err := context.Cause(h.ctx)
	if err == nil {
		err = h.serve(request)
	}
	switch {
	case errors.Is(err, errNothing):
		h.out = append(h.out[:0], StatusNothing)
	case err != nil:
		h.failed = err
		kind := wire.KindOf(err)
		if kind == 0 {
			kind = wire.KindFunction
		}
		h.out = append(h.out[:0], StatusError)
		h.out = AppendField(h.out, kind.String())
		h.out = AppendField(h.out, err.Error())
	}
	return h.out
}

// Result returns what the guest has returned by OpReturn, and whether it has.
func (h *Host) Result() (wire.Value, bool) { return h.result, h.has }

// GaveUp returns what the guest has failed with by OpFail; nil if it hasn't. Whatever it
// does then, its call has failed for good.
func (h *Host) GaveUp(stack string) *wire.Error {
	if h.gaveUp != nil {
		h.gaveUp.Stack = stack
	}
	return h.gaveUp
}

// Failure makes an error of what a guest failed with. If that is the last error
// that it was told here, and let through, it is that error.
func (h *Host) Failure(kind, msg, stack string) *wire.Error {
	e := &wire.Error{Op: "run", Name: h.call.Function, Msg: msg, Stack: stack}
	_ = e.Kind.UnmarshalText([]byte(kind)) // it never fails
	if h.failed == nil || h.failed.Error() != msg {
		return e
	}
	if told, ok := errors.AsType[*wire.Error](h.failed); ok && told.Kind == e.Kind {
		same := *told
		same.Stack, same.Err = stack, h.failed
		return &same
	}
	e.Err = h.failed
	return e
}

// errNothing is StatusNothing.
var errNothing = errors.New("nothing there")

// serve carries out a request and appends the fields of its response.
func (h *Host) serve(request []byte) error {
	if len(request) == 0 {
		return badRequest("it is empty")
	}
	if len(request) > MaxRequest {
		return &wire.Error{
			Op: "request", Kind: wire.KindTooLarge,
			Msg: fmt.Sprintf("%d bytes, and %d is the most: store large values in parts", len(request), MaxRequest),
		}
	}
	op := request[0]
	f, err := split(op, request[1:])
	if err != nil {
		return err
	}
	switch op {
	case OpGet, OpPut, OpDelete, OpVersions, OpUpdate, OpRead, OpField:
		return h.state(op, &f)
	case OpStart, OpAwait:
		return h.functions(op, &f)
	case OpMessage, OpReceive:
		return h.mail(op, &f)
	case OpLog:
		return h.log(f[0])
	case OpInfo:
		h.field(Info(h.call))
	case OpArgs:
		h.value(h.call.Args)
	case OpFail:
		h.gaveUp = &wire.Error{Op: "run", Name: h.call.Function, Kind: wire.KindPermanent, Msg: string(f[0])}
	case OpReturn:
		v, err := kept(f[0], f[1])
		if err != nil {
			return err
		}
		h.result, h.has = v, true
	}
	return nil
}

// Info describes a call to a guest, as JSON.
func Info(call *runtime.Call) []byte {
	id := string(call.Run)
	if call.Mail != nil {
		id = call.Mail.ID()
	}
	b, err := json.Marshal(struct {
		Run       wire.RunID `json:"run"`
		Function  string     `json:"function"`
		Node      string     `json:"node"`
		Attempt   int        `json:"attempt"`
		Namespace string     `json:"namespace"`
		ID        string     `json:"id"`
	}{call.Run, call.Function, call.Node, call.Attempt, call.Namespace, id})
	if err != nil {
		panic(err) // strings and a number
	}
	return b
}

// log writes whole lines, so that what is logged one after the other stays apart.
func (h *Host) log(text []byte) error {
	if h.call.Log == nil || len(text) == 0 {
		return nil
	}
	if text[len(text)-1] != '\n' {
		text = append(slices.Clip(text), '\n')
	}
	// Nobody's function fails because its log does.
	_, _ = h.call.Log.Write(text)
	return nil
}

func (h *Host) functions(op byte, f *fields) error {
	if h.call.Functions == nil {
		return &wire.Error{Op: "call", Name: string(f[0]), Kind: wire.KindUnavailable, Msg: "no functions can be called from here"}
	}
	if op == OpAwait {
		v, err := h.call.Functions.Await(h.ctx, wire.RunID(f[0]))
		if err == nil {
			h.value(v)
		}
		return err
	}
	args, err := kept(f[1], f[2])
	if err != nil {
		return err
	}
	run, err := h.call.Functions.Start(h.ctx, string(f[0]), args, wire.RunID(f[3]))
	if err == nil {
		h.field([]byte(run))
	}
	return err
}

// mail exchanges messages with other executions.
func (h *Host) mail(op byte, f *fields) error {
	if h.call.Mail == nil {
		return &wire.Error{Op: "send or receive", Kind: wire.KindUnavailable, Msg: "no messages can be exchanged from here"}
	}
	if op == OpMessage {
		v, err := kept(f[1], f[2])
		if err != nil {
			return err
		}
		return h.call.Mail.Send(h.ctx, string(f[0]), v)
	}
	wait, err := strconv.ParseUint(string(f[0]), 10, 31)
	if err != nil {
		return badArgument("receive waits for a number of milliseconds, not %.20q", f[0])
	}
	msg, err := h.call.Mail.Receive(h.ctx, time.Duration(wait)*time.Millisecond)
	switch {
	case err != nil:
		return err
	case msg == nil:
		return errNothing
	}
	h.field([]byte(msg.From))
	h.value(msg.Value)
	return nil
}

// kept returns a value of a request, which is the guest's.
func kept(typ, body []byte) (wire.Value, error) {
	v, err := Value(typ, body)
	v.Body = bytes.Clone(v.Body)
	return v, err
}

func (h *Host) field(b []byte) { h.out = AppendField(h.out, b) }

func (h *Host) value(v wire.Value) {
	h.out = AppendField(h.out, v.Type)
	h.out = AppendField(h.out, v.Body)
}
