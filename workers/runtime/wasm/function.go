package wasm

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/tetratelabs/wazero"

	"github.com/cloudburst-nats/cloudburst/wire"
	"github.com/cloudburst-nats/cloudburst/workers/runtime"
)

// A function is a module that is loaded, and its instances.
type function struct {
	runtime       *Runtime
	name          string
	module        *module
	entry         string
	args          []string // its command line, the name first
	init, prepare bool     // are exported, and to be run before the entry
	limit         int64
	wazero        wazero.Runtime
	compiled      wazero.CompiledModule
	config        wazero.ModuleConfig

	room  *runtime.Room   // calls wait for it
	most  int             // calls that run at once
	freed chan struct{}   // tells those who wait for an instance to look again
	ctx   context.Context //nolint:containedctx // ends when the function is closed
	end   context.CancelCauseFunc
	hand  sync.WaitGroup // calls, and instances that are being made ready

	mu     sync.Mutex // guards everything below
	closed bool
	total  int         // instances there are
	idle   []*instance // of them, the one that was used last at the end
	made   *image      // of an instance of which nothing has run
	image  *image      // of one that is ready for a call, once mode is fromImage
	mode   mode
}

// A mode is how an instance that nothing of has run gets ready for a call.
type mode int

const (
	unknown   mode = iota // not before _initialize has run once
	fromImage             // it is put back to an image
	ahead                 // _initialize runs in each instance, before there is a call
	inCall                // _initialize runs in each call
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
	if err := context.Cause(ctx); err != nil {
		return wire.Value{}, err
	}
	if err := f.room.Enter(ctx); err != nil {
		return wire.Value{}, err
	}
	defer f.room.Leave()

	x := f.execute(runtime.Within(ctx, runtime.Depth(ctx), f.room), call)
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

// serve runs a call in an instance.
func (x *execution) serve(inst *instance) (code uint32, err error) {
	if !inst.ready {
		if err := x.initialize(inst); err != nil {
			return 0, err
		}
	}
	got, err := x.run(inst, inst.entry)
	if x.f.entry == startExport || len(inst.entry.Definition().ResultTypes()) == 0 {
		return 0, err
	}
	return uint32(got), err //nolint:gosec // an i32
}

// initialize runs what comes before the entry, and finds out how that is done best.
func (x *execution) initialize(inst *instance) error {
	f := x.f
	if f.init {
		if _, err := x.run(inst, inst.init); err != nil {
			return err
		}
	}
	if f.prepare {
		call := x.call
		x.call = nil // it is for all calls
		_, err := x.run(inst, inst.mod.ExportedFunction(prepareExport))
		x.call, x.asked = call, 0
		if err != nil {
			return err
		}
	}
	f.learn(inst, x.asked)
	return nil
}

// learn decides by how the first instance got ready how others will.
func (f *function) learn(inst *instance, asked asked) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mode != unknown || f.made == nil || inst.in == nil {
		return
	}
	whole := inst.in.portable() && inst.in.references() == 0
	switch {
	case asked&askedCall != 0 || f.prepare && !whole:
		f.mode = inCall
	case asked == 0 && whole:
		f.mode, f.image = fromImage, imageOf(inst, f.runtime.pagemap)
	default:
		f.mode = ahead
	}
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
	if _, err := x.run(inst, inst.init); err != nil || x.asked&askedCall != 0 {
		f.drop(inst)
		return
	}
	inst.ready = true
	f.give(inst)
}

// Close ends the calls in hand and frees everything. It returns when they have
// returned.
func (f *function) Close() error {
	f.mu.Lock()
	first := !f.closed
	f.closed = true
	f.mu.Unlock()
	f.end(errClosed(f.name))
	f.room.Close(errClosed(f.name))
	f.hand.Wait()
	if !first {
		return nil
	}
	f.runtime.forget(f)
	var errs []error
	for _, inst := range f.idle {
		errs = append(errs, inst.close())
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
