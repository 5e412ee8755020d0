package deployments

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/cloudburst-nats/cloudburst/broker"
	"github.com/cloudburst-nats/cloudburst/wire"
	"github.com/cloudburst-nats/cloudburst/workers"
	"github.com/cloudburst-nats/cloudburst/workers/runtime"
)

// A program is code of a library: not loaded until it is called, and let go of
// when nobody calls it.
//
//	cold ── hold ──► loading ──► loaded (calls in hand: 0, 1, …)
//	  ▲                 │ fails        │ idle
//	  └─────────────────┴──────────────┘
type program struct {
	library *library
	spec    wire.Function // one of those that it is the code of

	mu      sync.Mutex // guards what follows
	loaded  runtime.Loaded
	loading chan struct{} // closed when the load under way has ended
	failed  error         // of the last load
	calls   int
	used    time.Time
	closed  bool
}

var _ runtime.Function = (*program)(nil)

// imageTries is how often a call looks for an image before it fails. Another worker may have
// it on its disk, or a copy of the object store may lag. The waits between are 2 s in all.
const imageTries = 4

// Invoke loads the code if need be and runs the call. What isn't the code's
// fault leaves the call to be handed out again.
func (p *program) Invoke(ctx context.Context, call *runtime.Call) (wire.Value, error) {
	code, err := p.hold(ctx)
	switch kind := wire.KindOf(err); {
	case err == nil:
	case kind == wire.KindInvalid:
		return wire.Value{}, err
	case kind == wire.KindUnknown && call.Attempt >= imageTries:
		return wire.Value{}, &wire.Error{
			Op: "load", Name: p.spec.ID(), Kind: wire.KindInvalid, Err: err,
			Msg: fmt.Sprintf("its image %s isn't in the object store %s: deploy it again, then `cloudburst dead replay` repeats this call", p.spec.Image, broker.BucketImages),
		}
	default:
		return wire.Value{}, workers.NotHosted(call.Function, err)
	}
	defer p.release()
	return code.Invoke(ctx, call)
}

// hold returns the code once it is loaded, which it stays until release.
func (p *program) hold(ctx context.Context) (runtime.Loaded, error) {
	for {
		p.mu.Lock()
		switch {
		case p.closed:
			p.mu.Unlock()
			return nil, &wire.Error{Op: "load", Name: p.spec.Name, Kind: wire.KindUnavailable, Msg: "the worker is ending"}
		case p.loaded != nil:
			p.calls++
			code := p.loaded
			p.mu.Unlock()
			return code, nil
		case p.loading == nil:
			p.loading = make(chan struct{})
			go p.load() // ends within LoadWithin; close waits for it
		}
		loading := p.loading
		p.mu.Unlock()
		select {
		case <-loading:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		p.mu.Lock()
		failed := p.failed
		p.mu.Unlock()
		if failed != nil {
			return nil, failed
		}
	}
}

func (p *program) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls--
	p.used = time.Now()
}

// load goes on when the caller that needed it first has gone: others wait too.
func (p *program) load() {
	ctx, cancel := context.WithTimeout(context.Background(), p.spec.LoadWithin())
	defer cancel()
	loaded, err := p.open(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.loaded, p.failed, p.used = loaded, err, time.Now()
	close(p.loading)
	p.loading = nil
}

func (p *program) open(ctx context.Context) (runtime.Loaded, error) {
	f := &p.spec
	if err := p.library.check(f); err != nil {
		return nil, err
	}
	code := runtime.Program{Function: f.Name, Version: f.Version, Entry: f.Entry, Args: f.Args, Memory: f.Memory, Concurrency: f.Concurrency}
	done, err := p.library.shelf.take(ctx, f, &code)
	if err != nil {
		return nil, err
	}
	defer done()
	loaded, err := p.library.cfg.Runtimes[f.Runtime].Load(ctx, code)
	if err != nil {
		return nil, err
	}
	return loaded, nil
}

// idleSince is how long nobody has called it.
func (p *program) idleSince(now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.calls > 0 || p.loading != nil {
		return 0
	}
	return now.Sub(p.used)
}

// letGo unloads the code, unless somebody calls it again.
func (p *program) letGo() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.calls == 0 && p.loaded != nil {
		p.failed = p.loaded.Close()
		p.loaded = nil
	}
}

// close unloads the code for good. Calls in hand are ended with an error: a
// worker that drains has none.
func (p *program) close() {
	p.mu.Lock()
	p.closed = true
	loading := p.loading
	p.mu.Unlock()
	if loading != nil {
		<-loading
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.loaded != nil {
		p.failed = p.loaded.Close()
		p.loaded = nil
	}
}
