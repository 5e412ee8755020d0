package wasm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/tetratelabs/wazero/sys"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// result makes of how a guest ended what Invoke returns.
func (x *execution) result(code uint32, err error) (wire.Value, error) {
	defer x.log.flush()
	if e := x.host.GaveUp(x.log.last()); e != nil && x.Err() == nil {
		return wire.Value{}, e
	}
	how := fmt.Sprintf
	exit, exited := errors.AsType[*sys.ExitError](err)
	switch {
	case exited && exit.ExitCode() != 0:
		return wire.Value{}, x.gaveUp(how("exit status %d", exit.ExitCode()))
	case err != nil && !exited:
		return wire.Value{}, x.failed(err)
	case code != 0:
		return wire.Value{}, x.gaveUp(how("%s returned %d", x.f.entry, int32(code))) //nolint:gosec // bits
	}
	v, ok := x.host.Result()
	if !ok {
		return output(x.out), nil
	}
	x.log.flush()
	x.log.write(x.out) // it is the result only if there is no other
	return v, nil
}

// gaveUp is the error of a guest that has said that it failed.
func (x *execution) gaveUp(how string) error {
	if cause := context.Cause(x); cause != nil {
		return cause // it was told so
	}
	tail := x.log.last()
	msg := cmp.Or(panicIn(tail), x.log.cause, lastLine(tail), how)
	if e := x.starved(msg, tail); e != nil {
		return e
	}
	if x.told.msg != "" && strings.HasSuffix(msg, x.told.msg) { // it lets through what it was told
		return x.host.Failure(x.told.kind, x.told.msg, tail)
	}
	return x.host.Failure(wire.KindFunction.String(), msg, tail)
}

// panicIn returns what a log says of a panic, as Go and Rust do; empty if there
// was none.
func panicIn(tail string) string {
	rust := ""
	for line := range strings.Lines(tail) {
		line = strings.TrimSpace(line)
		switch {
		case rust != "":
			return rust + " " + line // the message has a line of its own
		case strings.HasPrefix(line, "panic: "), strings.HasPrefix(line, "fatal error: "):
			return line
		case strings.HasPrefix(line, "thread '") && strings.Contains(line, "' panicked at "):
			rust = line
		}
	}
	return rust
}

// lastLine returns the last line that isn't empty.
func lastLine(tail string) string {
	tail = strings.TrimSpace(tail)
	return strings.TrimSpace(tail[strings.LastIndexByte(tail, '\n')+1:])
}

// failed is the error of a guest that was ended.
func (x *execution) failed(err error) error {
	e := &wire.Error{Op: "run", Name: x.f.name, Kind: wire.KindPanic, Err: err}
	msg, stack, _ := strings.Cut(err.Error(), "\nwasm stack trace:\n")
	e.Msg = strings.TrimSuffix(strings.TrimPrefix(msg, "wasm error: "), " (recovered by wazero)")
	e.Stack = stack
	switch {
	case x.Err() != nil:
		return context.Cause(x)
	case errors.Is(err, errOutput):
		e.Kind, e.Stack = wire.KindTooLarge, ""
		e.Msg = fmt.Sprintf("more than %d bytes of output: store large values in parts", x.f.runtime.cfg.MaxOutput)
	}
	if tail := x.log.last(); tail != "" {
		e.Msg = cmp.Or(panicIn(tail), x.log.cause, e.Msg)
		e.Stack = strings.TrimSpace(e.Stack + "\n\n" + tail)
	}
	if starved := x.starved(e.Msg, e.Stack); starved != nil {
		return starved
	}
	return e
}

// starved is the error of a guest that has no memory left; nil if that isn't why it ended. Its
// words are its runtime's, and it holds much of what it may.
func (x *execution) starved(msg, stack string) error {
	if x.inst == nil || x.inst.mod.Memory() == nil {
		return nil
	}
	holds, words := int64(x.inst.mod.Memory().Size()), strings.ToLower(msg+"\n"+x.log.cause)
	for _, sign := range []string{"out of memory", "memory allocation of", "cannot allocate", "bad_alloc", "outofmemory"} {
		if strings.Contains(words, sign) && holds >= x.f.limit/2 {
			return &wire.Error{Op: "run", Name: x.f.name, Kind: wire.KindPermanent, Stack: stack, Msg: fmt.Sprintf(
				"out of memory: it holds %d MiB, and %d MiB is its limit; deploy it with more (--memory), or give it less at once", holds>>20, x.f.limit>>20)}
		}
	}
	return nil
}

// unable is the error of a call that got no instance.
func (x *execution) unable(err error) error {
	if x.Err() != nil {
		return context.Cause(x)
	}
	return &wire.Error{Op: "run", Name: x.f.name, Kind: wire.KindUnavailable, Msg: "make an instance: " + err.Error(), Err: err}
}
