// Package wasm runs WebAssembly modules: code that is not trusted, at near the
// speed of code that is.
//
// A module is a command, which is run from its _start, or a reactor, of which an
// exported function is called. Either reads the call's argument from its standard
// input and writes the result to its standard output; what it writes to standard
// error is its log. It may import WASI preview 1 and the module "cloudburst",
// through which it asks its host for state and other functions (package guest).
// There are no files, no network and no environment; clocks are coarse.
//
//	Load: check imports -> add metering -> compile (kept on disk) -> link once
//	call: take an instance -> run it in slices -> put it back as it was
//
// Every call finds the instance as if nobody had used it before. That is cheap
// because an instance isn't made anew: its memory, globals and tables are put
// back to an image, taken before the first call. A reactor's _initialize is
// within the image unless it asked its host for something, such as random
// numbers: then it runs for each call, ahead of it where that makes no difference
// to the guest. One that exports cloudburst_prepare says that it is all the same
// to it: the image is then taken after that function has run, once.
//
// A guest is metered: it hands control back after each slice of work (package
// fuel). Then its call may end because its context has, and others get their turn
// on the processor: one that computes for long leaves one processor to those that
// don't. Memory, output and depth of recursion are bounded. A guest that oversteps
// is an error of its call and harms no other.
package wasm

import (
	"context"
	"errors"
	"fmt"
	"os"
	goruntime "runtime"
	"sync"
	"time"

	"github.com/tetratelabs/wazero"

	"github.com/cloudburst-nats/cloudburst/wire"
	"github.com/cloudburst-nats/cloudburst/workers/runtime"
)

// Config says what guests get. The zero value works.
type Config struct {
	// Cache is the directory of what modules were compiled to, which is reused when
	// they are loaded again. Whoever can write to it can run code here. Empty keeps
	// nothing: a module of 2 MB takes about a second to compile.
	Cache string
	// Memory bounds the memory of an instance whose program doesn't say; 0 is
	// 128 MiB. What a guest doesn't touch costs nothing.
	Memory int64
	// MaxOutput bounds what a call writes to its standard output; 0 is 64 MiB.
	MaxOutput int
	// MaxLog bounds what a call writes to its log, in bytes; what is beyond is
	// dropped. 0 is 1 MiB.
	MaxLog int
	// Concurrency is how many calls of a function run at once if its program doesn't
	// say; 0 is four for each processor. More costs memory.
	Concurrency int
	// Blocked is how many calls of a function may wait for calls of their own beside those
	// that run. Each keeps its instance. 0 is 256; the least is wire.MaxDepth.
	Blocked int
	// Slice is how much a guest does before it hands control back, in units of
	// fuel, about an instruction each; 0 is 100,000, some 20 to 100 µs. Less is more
	// even-handed, and slower.
	Slice int64
	// Busy is how many guests may compute at once for longer than a few slices; 0
	// is one less than there are processors, and one at least. The others take turns.
	Busy int
	// Clock is the precision of the clocks that guests see; 0 is 1 ms. A fine clock
	// shows a guest what else the machine does.
	Clock time.Duration
	// Spent, if set, is told after each call what fuel it took. It may be called
	// concurrently.
	Spent func(call *runtime.Call, fuel int64)
}

func (c Config) withDefaults() Config {
	set := func(field *int, value int) {
		if *field <= 0 {
			*field = value
		}
	}
	processors := goruntime.GOMAXPROCS(0)
	set(&c.MaxOutput, 64<<20)
	set(&c.MaxLog, 1<<20)
	set(&c.Concurrency, 4*processors)
	set(&c.Blocked, 256)
	set(&c.Busy, max(1, processors-1))
	if c.Memory <= 0 {
		c.Memory = 128 << 20
	}
	if c.Slice <= 0 {
		c.Slice = 100_000
	}
	if c.Clock <= 0 {
		c.Clock = time.Millisecond
	}
	return c
}

// A Runtime loads modules.
type Runtime struct {
	cfg   Config
	cache wazero.CompilationCache
	turns chan struct{} // one for each guest that computes for long
	// crowded says that guests may take all processors, so that each has to yield
	// its own. Where one is free, yielding does harm: it wakes that one up to take
	// over the guest.
	crowded bool
	// pagemap tells which pages of memory were written to; nil if the system doesn't.
	pagemap *os.File

	loading sync.WaitGroup

	mu     sync.Mutex // guards everything below
	loaded map[*function]struct{}
	closed bool
}

var _ runtime.Runtime = (*Runtime)(nil)

// New returns a Runtime. Close it when its functions are no longer needed.
func New(cfg Config) (*Runtime, error) {
	r := &Runtime{cfg: cfg.withDefaults(), loaded: make(map[*function]struct{})}
	r.turns, r.crowded = make(chan struct{}, r.cfg.Busy), r.cfg.Busy >= goruntime.GOMAXPROCS(0)
	r.cache = wazero.NewCompilationCache()
	if cfg.Cache != "" {
		var err error
		if r.cache, err = wazero.NewCompilationCacheWithDir(cfg.Cache); err != nil {
			return nil, fmt.Errorf("open the cache of compiled modules: %w", err)
		}
	}
	r.pagemap = openPagemap()
	return r, nil
}

// Load compiles a module. It runs none of it, unless the module has a start
// function. When ctx ends, it returns once the functions are compiled that are
// being compiled.
func (r *Runtime) Load(ctx context.Context, p runtime.Program) (runtime.Loaded, error) {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil, errClosed(p.Function)
	}
	r.loading.Add(1)
	r.mu.Unlock()
	defer r.loading.Done()
	f, err := r.load(ctx, p)
	if err != nil {
		if _, known := errors.AsType[*wire.Error](err); known {
			return nil, err
		}
		return nil, &wire.Error{Op: "load", Name: p.Function, Kind: wire.KindInvalid, Msg: err.Error(), Err: err}
	}
	r.mu.Lock()
	r.loaded[f] = struct{}{} // Close waits for it
	r.mu.Unlock()
	return f, nil
}

// Close closes all functions and frees what they were compiled to.
func (r *Runtime) Close() error {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.loading.Wait()
	r.mu.Lock()
	all := make([]*function, 0, len(r.loaded))
	for f := range r.loaded {
		all = append(all, f)
	}
	r.mu.Unlock()
	var errs []error
	for _, f := range all {
		errs = append(errs, f.Close())
	}
	errs = append(errs, r.cache.Close(context.Background()))
	if r.pagemap != nil {
		errs = append(errs, r.pagemap.Close())
	}
	return errors.Join(errs...)
}

func (r *Runtime) forget(f *function) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.loaded, f)
}

func errClosed(function string) error {
	return &wire.Error{Op: "run", Name: function, Kind: wire.KindUnavailable, Msg: "the function was unloaded"}
}
