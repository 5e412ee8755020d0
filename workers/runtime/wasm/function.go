package wasm

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/sys"

	"github.com/cloudburst-nats/cloudburst/broker/wire"
	"github.com/cloudburst-nats/cloudburst/workers/runtime"
)

// A function is a module that is loaded, and its instances.
type function struct {
	runtime       *Runtime
	name          string
	module        *module
	entry         string
	init, prepare bool // are exported, and to be run before the entry
	limit         int64
	wazero        wazero.Runtime
	compiled      wazero.CompiledModule
	config        wazero.ModuleConfig

	slots chan struct{}   // one for each call in hand; calls wait for one in order
	idle  chan *instance  // to be used again; each is one of total
	freed chan struct{}   // tells one who waits in take that total fell
	ctx   context.Context //nolint:containedctx // ends when the function is closed
	end   context.CancelCauseFunc

	mu     sync.Mutex // guards everything below
	total  int        // instances there are
	closed bool
	hand   sync.WaitGroup // calls, and instances that are being made ready
	made   *image         // as instances are made
	image  *image         // as calls find them, once mode is fromImage
	mode   mode
}

// A mode is how an instance gets from what it is when it is made to what a call
// is to find.
type mode int

const (
	unknown   mode = iota // not before _initialize has run once
	fromImage             // it is in the image
	ahead                 // _initialize runs for each instance, before there is a call
	inCall                // _initialize runs for each call
)

var _ runtime.Loaded = (*function)(nil)

// Invoke runs a call in an instance of its own.
func (f *function) Invoke(ctx context.Context, call *runtime.Call) (wire.Value, error) {
	f.mu.Lock()
	if f.closed {
		f.mu.Unlock()
		return wire.Value{}, errClosed(f.name)
	}
	f.hand.Add(1)
	f.mu.Unlock()
	defer f.hand.Done()
	if err := f.admit(ctx); err != nil {
		return wire.Value{}, err
	}
	defer func() { <-f.slots }()

	x := f.execute(ctx, call)
	defer x.cancel(nil)
	stop := context.AfterFunc(f.ctx, func() { x.cancel(context.Cause(f.ctx)) })
	defer stop()
	inst, err := f.take(x)
	if err != nil {
		return wire.Value{}, x.unable(err)
	}
	code, err := x.serve(inst)
	v, err := x.result(code, err)
	f.put(inst, err)
	if spent := f.runtime.cfg.Spent; spent != nil {
		spent(call, x.spent)
	}
	return v, err
}

// admit waits until there is room for another call.
func (f *function) admit(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	select {
	case f.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-f.ctx.Done():
		return context.Cause(f.ctx)
	}
}

// take returns an instance that nobody has used since it was made or put back.
func (f *function) take(x *execution) (*instance, error) {
	select {
	case inst := <-f.idle:
		return inst, nil
	default:
	}
	for {
		f.mu.Lock()
		room, img := f.total < cap(f.slots), f.image
		if room {
			f.total++
		}
		f.mu.Unlock()
		if room {
			return f.another(x, img)
		}
		select { // one is being made ready
		case inst := <-f.idle:
			return inst, nil
		case <-f.freed:
		case <-x.Done():
			return nil, context.Cause(x)
		}
	}
}

// another makes an instance, which is one of total already.
func (f *function) another(x *execution, img *image) (*instance, error) {
	inst, err := f.newInstance(x)
	if err != nil {
		f.lost()
		return nil, err
	}
	if inst.ready = !f.init && !f.prepare; !inst.ready && img != nil {
		inst.ready = inst.reset(img)
	}
	return inst, nil
}

// put takes an instance back from a call that ended with err.
func (f *function) put(inst *instance, err error) {
	f.mu.Lock()
	img, m := f.image, f.mode
	if m != fromImage {
		img = f.made
	}
	f.mu.Unlock()
	var trapped bool
	if kind := wire.KindOf(err); err != nil {
		trapped = kind != wire.KindFunction
	}
	if trapped || len(f.idle) >= cap(f.idle) || !inst.reset(img) {
		f.drop(inst)
		return
	}
	inst.ready = m == fromImage
	if m == ahead {
		f.hand.Add(1)
		go f.makeReady(inst)
		return
	}
	f.idle <- inst // there is room: it is one of total
}

// preparing is how long an instance may take to get ready ahead of a call; then
// the call does it.
const preparing = 5 * time.Second

// makeReady runs what comes before a call, ahead of it.
func (f *function) makeReady(inst *instance) {
	defer f.hand.Done()
	ctx, cancel := context.WithTimeout(f.ctx, preparing)
	defer cancel()
	x := f.execute(ctx, nil)
	defer x.cancel(nil)
	if _, err := x.run(inst, inst.mod.ExportedFunction(initExport)); err != nil || x.asked&askedCall != 0 {
		f.drop(inst)
		return
	}
	inst.ready = true
	f.idle <- inst
}

// drop closes an instance that can't be used again.
func (f *function) drop(inst *instance) {
	_ = inst.close() //nolint:errcheck // there is nothing in it that could fail
	f.lost()
}

func (f *function) lost() {
	f.mu.Lock()
	f.total--
	f.mu.Unlock()
	select {
	case f.freed <- struct{}{}:
	default:
	}
}

// serve runs a call in an instance.
func (x *execution) serve(inst *instance) (code uint64, err error) {
	f := x.f
	if !inst.ready {
		if err := x.initialize(inst); err != nil {
			return 0, err
		}
	}
	code, err = x.run(inst, inst.entry)
	if f.entry == startExport || len(inst.entry.Definition().ResultTypes()) == 0 {
		code = 0
	}
	return uint64(uint32(code)), err //nolint:gosec // an i32
}

// initialize runs what comes before the entry, and finds out how that is done best.
func (x *execution) initialize(inst *instance) error {
	f := x.f
	before := x.asked
	x.asked = 0
	if f.init {
		if _, err := x.run(inst, inst.mod.ExportedFunction(initExport)); err != nil {
			return err
		}
	}
	if f.prepare {
		call := x.call
		x.call = nil
		_, err := x.run(inst, inst.mod.ExportedFunction(prepareExport))
		if x.call = call; err != nil {
			return err
		}
		x.asked = 0
	}
	f.learn(inst, x.asked)
	x.asked |= before
	return nil
}

// learn decides from how the first instance got ready how others will.
func (f *function) learn(inst *instance, a asked) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mode != unknown || f.made == nil {
		return
	}
	whole := inst.in.portable() && inst.in.references() == 0
	switch {
	case a&askedCall != 0 || f.prepare && !whole:
		f.mode = inCall
	case a == 0 && whole:
		f.mode, f.image = fromImage, imageOf(inst, f.runtime.pagemap)
	default:
		f.mode = ahead
	}
}

// result makes of how a guest ended what Invoke returns.
func (x *execution) result(code uint64, err error) (wire.Value, error) {
	defer x.log.flush()
	if exit, ok := errors.AsType[*sys.ExitError](err); ok {
		code, err = uint64(exit.ExitCode()), nil
	}
	switch {
	case err != nil:
		return wire.Value{}, x.failed(err)
	case code != 0:
		if cause := context.Cause(x); cause != nil {
			return wire.Value{}, cause
		}
		return wire.Value{}, x.exited(uint32(code)) //nolint:gosec // an i32
	}
	v, ok := x.host.Result()
	if !ok {
		return output(x.out), nil
	}
	x.log.flush()
	x.log.write(x.out) // it is the result only if there is no other
	return v, nil
}

// exited is the error of a guest that has said that it failed.
func (x *execution) exited(code uint32) error {
	tail := x.log.last()
	msg := reason(tail)
	if msg == "" {
		msg = fmt.Sprintf("exit status %d", code)
		if x.f.entry != startExport {
			msg = fmt.Sprintf("%s returned %d", x.f.entry, int32(code)) //nolint:gosec // bits
		}
	}
	if x.told.msg != "" && strings.HasSuffix(msg, x.told.msg) { // it lets through what it was told
		return x.host.Failure(x.told.kind, x.told.msg, tail)
	}
	return x.host.Failure(wire.KindFunction.String(), msg, tail)
}

// reason returns the line of a log that says best what went wrong: a panic, if
// there is one, for what follows it is its stack; else the last.
func reason(tail string) string {
	last := ""
	for line := range strings.Lines(tail) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "panic: ") || strings.HasPrefix(line, "fatal error: ") {
			return line
		}
		if line != "" {
			last = line
		}
	}
	return last
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
		e.Stack = strings.TrimSpace(e.Stack + "\n\n" + tail)
	}
	return e
}

// unable is the error of a call that got no instance.
func (x *execution) unable(err error) error {
	if x.Err() != nil {
		return context.Cause(x)
	}
	return &wire.Error{Op: "run", Name: x.f.name, Kind: wire.KindUnavailable, Msg: "make an instance: " + err.Error(), Err: err}
}

// Close ends the calls in hand and frees everything. It returns when they have
// returned.
func (f *function) Close() error {
	f.mu.Lock()
	first := !f.closed
	f.closed = true
	f.mu.Unlock()
	f.end(errClosed(f.name))
	f.hand.Wait()
	if !first {
		return nil
	}
	f.runtime.forget(f)
	var errs []error
	for len(f.idle) > 0 {
		errs = append(errs, (<-f.idle).close())
	}
	if f.compiled != nil {
		errs = append(errs, f.compiled.Close(context.Background()))
	}
	if f.wazero != nil {
		errs = append(errs, f.wazero.Close(context.Background()))
	}
	for _, img := range []*image{f.made, f.image} {
		if img != nil {
			img.close()
		}
	}
	return errors.Join(errs...)
}
