package python

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/cloudburst-nats/cloudburst/wire"
	"github.com/cloudburst-nats/cloudburst/workers/runtime"
)

// A function is a loaded program and its instances. Whatever starts a goroutine adds
// it to running, which Close waits for.
type function struct {
	runtime *Runtime
	name    string
	python  *interpreter
	entry   string
	args    []string
	memory  int64
	idleFor time.Duration
	home    *home    // of the code, and of the instances' directories
	group   identity // who may enter home
	room    *runtime.Room
	running sync.WaitGroup

	mu       sync.Mutex // guards what follows
	closed   bool
	places   int // how many more instances there may be
	starting int
	live     map[*instance]struct{}
	idle     []*instance   // the last one is used first, so that the others can end
	waiting  []chan supply // calls, the first of which is served first; as many as the room lets in
	timer    *time.Timer   // of the instances that are idle for long; nil if it isn't set
}

// A supply is what a waiting call gets.
type supply struct {
	in  *instance
	err error
}

// Invoke runs a call in an instance, once there is one for it. A call that waits for
// another one keeps its instance, and that one gets another: see runtime.Room.
func (f *function) Invoke(ctx context.Context, call *runtime.Call) (wire.Value, error) {
	if err := context.Cause(ctx); err != nil {
		return wire.Value{}, err
	}
	if err := f.room.Enter(ctx); err != nil {
		return wire.Value{}, err
	}
	defer f.room.Leave()
	ctx = runtime.Within(ctx, runtime.Depth(ctx), f.room)
	in, err := f.acquire(ctx)
	if err != nil {
		return wire.Value{}, err
	}
	defer f.release(in)
	return in.run(ctx, call)
}

// Close ends all instances and waits for them.
func (f *function) Close() error {
	f.mu.Lock()
	if f.closed {
		f.mu.Unlock()
		f.running.Wait()
		return nil
	}
	f.closed = true
	if f.timer != nil {
		f.timer.Stop()
	}
	waiting := f.waiting
	f.waiting, f.idle = nil, nil
	live := make([]*instance, 0, len(f.live))
	for in := range f.live {
		live = append(live, in)
	}
	f.mu.Unlock()
	f.room.Close(f.unloaded())
	for _, w := range waiting {
		w <- supply{err: f.unloaded()}
	}
	for _, in := range live {
		in.end()
	}
	f.running.Wait()
	f.home.leave()
	f.python.ids.give(f.group)
	return nil
}

func (f *function) unloaded() error {
	return &wire.Error{Op: "run", Name: f.name, Kind: wire.KindUnavailable, Msg: "its code was unloaded"}
}

// acquire returns an instance that is the caller's until release.
func (f *function) acquire(ctx context.Context) (*instance, error) {
	f.mu.Lock()
	if f.closed {
		f.mu.Unlock()
		return nil, f.unloaded()
	}
	for len(f.idle) > 0 {
		in := f.idle[len(f.idle)-1]
		f.idle = f.idle[:len(f.idle)-1]
		if !in.ended.Load() {
			f.mu.Unlock()
			return in, nil
		}
		f.freeLocked() // it has died, just now
	}
	w := make(chan supply, 1)
	f.waiting = append(f.waiting, w)
	f.growLocked()
	f.mu.Unlock()
	select {
	case s := <-w:
		return s.in, s.err
	case <-ctx.Done():
	}
	f.mu.Lock()
	i := slices.Index(f.waiting, w)
	if i >= 0 {
		f.waiting = slices.Delete(f.waiting, i, i+1)
	}
	f.mu.Unlock()
	if i < 0 { // served in the meantime
		if s := <-w; s.in != nil {
			f.release(s.in)
		}
	}
	return nil, context.Cause(ctx)
}

// release hands an instance to the call that has waited longest.
func (f *function) release(in *instance) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case in.ended.Load():
		f.freeLocked()
	case f.closed:
	case len(f.waiting) > 0:
		f.serveLocked(supply{in: in})
	default:
		in.since = time.Now()
		f.idle = append(f.idle, in)
		f.watchLocked(f.idleFor)
	}
}

// freeLocked gives up an instance's place.
func (f *function) freeLocked() {
	f.places++
	f.growLocked()
}

// serveLocked serves the first waiting call.
func (f *function) serveLocked(s supply) {
	f.waiting[0] <- s // has room for it
	f.waiting[0] = nil
	f.waiting = f.waiting[1:]
}

// growLocked starts as many instances as calls wait for. A start goes on when the
// call has gone: a short time-out would else never see a program that takes longer
// to import.
func (f *function) growLocked() {
	for !f.closed && f.places > 0 && f.starting < len(f.waiting) {
		f.places--
		f.starting++
		f.running.Go(func() {
			ctx, cancel := context.WithTimeoutCause(context.Background(), startWithin, &wire.Error{
				Op: "start", Name: f.name, Kind: wire.KindTimeout, Msg: "no instance within " + startWithin.String() + ": the program takes long to import",
			})
			defer cancel()
			in, err := f.start(ctx, nil)
			f.grown(in, err)
		})
	}
}

const startWithin = 2 * time.Minute

// grown puts a new instance to use, or tells the call that has waited longest why
// there is none.
func (f *function) grown(in *instance, err error) {
	f.mu.Lock()
	f.starting--
	if err == nil {
		f.mu.Unlock()
		f.release(in)
		return
	}
	defer f.mu.Unlock()
	if len(f.waiting) > 0 {
		f.serveLocked(supply{err: f.later(err)})
	}
	f.freeLocked()
}

// later is a failed start's error once another instance has started: then the program
// isn't wrong in itself, and the call may do better when it runs again.
func (f *function) later(err error) error {
	if e, ok := err.(*wire.Error); ok && e.Kind == wire.KindInvalid { //nolint:errorlint // our own
		again := *e
		again.Op, again.Kind = "start", wire.KindFunction
		return &again
	}
	return err
}

// first starts the first instance, which gets itself ready while the program is copied.
func (f *function) first(ctx context.Context, p runtime.Program) error {
	f.mu.Lock()
	f.places--
	f.mu.Unlock()
	in, err := f.start(ctx, func() error { return f.copy(p) })
	if err == nil {
		f.release(in)
	}
	return err
}

// watchLocked has idle instances looked at after a while, if there is more than the
// one that stays.
func (f *function) watchLocked(after time.Duration) {
	if f.timer == nil && len(f.idle) > 1 {
		f.timer = time.AfterFunc(after, f.shrink)
	}
}

// shrink ends the instances that are idle for long, but for one.
func (f *function) shrink() {
	f.mu.Lock()
	f.timer = nil
	var old []*instance
	now := time.Now()
	for len(f.idle) > 1 && !f.closed && now.Sub(f.idle[0].since) >= f.idleFor {
		old = append(old, f.idle[0])
		f.idle = f.idle[1:]
		f.freeLocked()
	}
	if len(f.idle) > 1 && !f.closed {
		f.watchLocked(f.idleFor - now.Sub(f.idle[0].since))
	}
	f.mu.Unlock()
	for _, in := range old {
		in.end()
	}
}

// died forgets an instance whose process has ended.
func (f *function) died(in *instance) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.live, in)
	if i := slices.Index(f.idle, in); i >= 0 {
		f.idle = slices.Delete(f.idle, i, i+1)
		f.freeLocked()
	}
}

func (f *function) isClosed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.closed
}
