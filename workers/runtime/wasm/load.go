package wasm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	"github.com/cloudburst-nats/cloudburst/wire"
	"github.com/cloudburst-nats/cloudburst/workers/runtime"
	"github.com/cloudburst-nats/cloudburst/workers/runtime/wasm/fuel"
)

// The functions that a module may export for its host.
const (
	startExport   = "_start"
	initExport    = "_initialize"
	prepareExport = "cloudburst_prepare"
	defaultEntry  = "handler"
)

// linking is how long a start function may take when a module is loaded.
const linking = time.Second

func (r *Runtime) load(ctx context.Context, p runtime.Program) (f *function, err error) {
	code, err := p.Module()
	if err != nil {
		return nil, &wire.Error{Op: "load", Name: p.Function, Kind: wire.KindUnavailable, Msg: err.Error(), Err: err}
	}
	m, err := parse(code)
	if err != nil {
		return nil, err
	}
	if f, err = r.newFunction(p, m); err != nil {
		return nil, err
	}
	if code, err = fuel.Instrument(code); err != nil {
		return nil, err
	}
	if code, err = boundTables(code); err != nil {
		return nil, err
	}
	if err := f.compile(ctx, code); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if err := f.link(ctx); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// newFunction checks what can be known before a module is compiled.
func (r *Runtime) newFunction(p runtime.Program, m *module) (*function, error) {
	if err := checkImports(m); err != nil {
		return nil, err
	}
	if err := m.checkCommand(p.Entry); err != nil {
		return nil, err
	}
	f := &function{
		runtime: r, name: p.Function, module: m, entry: p.Entry, limit: p.Memory, args: append([]string{p.Function}, p.Args...),
	}
	switch {
	case f.entry == "" && m.exports[startExport]:
		f.entry = startExport
	case f.entry == "":
		f.entry = defaultEntry
	}
	if !m.exports[f.entry] {
		return nil, fmt.Errorf("it exports no function %q to call (and no _start); it exports: %s", f.entry, m.functions())
	}
	if f.entry != startExport {
		f.init, f.prepare = m.exports[initExport], m.exports[prepareExport]
	}
	if f.limit <= 0 {
		f.limit = r.cfg.Memory
	}
	f.limit = min(max(f.limit, pageSize), 4<<30)
	if int64(m.pages)*pageSize > f.limit { //nolint:gosec // 2^32 at most
		return nil, fmt.Errorf("it needs %d KiB of memory to start with, and %d KiB is its limit: give it more memory", m.pages*pageSize>>10, f.limit>>10)
	}
	concurrency := p.Concurrency
	if concurrency <= 0 {
		concurrency = r.cfg.Concurrency
	}
	f.room, f.most = runtime.NewRoom(concurrency, r.cfg.Blocked), concurrency
	f.freed = make(chan struct{}, f.room.Held())
	f.ctx, f.end = context.WithCancelCause(context.Background())
	return f, nil
}

// checkCommand refuses a module that has an entry which would never run, or never well: what
// is a command has its main run, and what is made for that has nothing else set up.
func (m *module) checkCommand(entry string) error {
	const build = "build a reactor (Go: -buildmode=c-shared)"
	switch {
	case !m.exports[startExport] || m.exports[initExport]:
		return nil
	case entry == "" && m.exports[defaultEntry]:
		return fmt.Errorf("it is a command, of which main runs and %q never: %s; or deploy it with the entry %q", defaultEntry, build, startExport)
	case m.golang && entry != "" && entry != startExport && m.exports[entry]:
		return fmt.Errorf("it is a command in Go, of which %q can't be called, since main has to run first: %s", entry, build)
	default:
		return nil
	}
}

// compile makes machine code of the module.
func (f *function) compile(ctx context.Context, code []byte) (err error) {
	defer func() {
		if p := recover(); p != nil { // nothing known does that
			err = fmt.Errorf("it can't be compiled: %v", p)
		}
	}()
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	if err := f.machineCode(ctx, code, f.runtime.cache); err != nil {
		if !strings.Contains(err.Error(), "compilationcache") {
			return err
		}
		// What is on disk is damaged: it is made anew, and not kept.
		if err := errors.Join(f.wazero.Close(ctx), f.machineCode(ctx, code, wazero.NewCompilationCache())); err != nil {
			return err
		}
	}
	entry := f.compiled.ExportedFunctions()[f.entry]
	params, results := entry.ParamTypes(), entry.ResultTypes()
	if len(params) > 0 || len(results) > 0 && !slices.Equal(results, []api.ValueType{i32}) {
		return fmt.Errorf("%q can't be called: it is a function of %d parameters and %d results, and it is to have no parameters, and no result or an i32", f.entry, len(params), len(results))
	}
	for _, name := range []string{initExport, prepareExport} {
		if fn := f.compiled.ExportedFunctions()[name]; fn != nil && len(fn.ParamTypes())+len(fn.ResultTypes()) > 0 {
			return fmt.Errorf("%q is to have no parameters and no results", name)
		}
	}
	m, err := parse(code) // metering adds an import
	if err != nil {
		return err
	}
	f.config = wazero.NewModuleConfig().WithName("").WithStartFunctions()
	return provide(ctx, f.wazero, m.imports)
}

// compilers is how many functions of a module are compiled at once. With one alone,
// wazero doesn't look whether ctx has ended.
const compilers = 2

func (f *function) machineCode(ctx context.Context, code []byte, cache wazero.CompilationCache) (err error) {
	config := wazero.NewRuntimeConfig().
		WithCoreFeatures(fuel.Features).
		WithCompilationCache(cache).
		WithMemoryLimitPages(uint32(f.limit / pageSize)). //nolint:gosec // 65,536 at most
		WithDebugInfoEnabled(false)                       // its offsets are those before metering
	f.wazero = wazero.NewRuntimeWithConfig(ctx, config)
	f.compiled, err = f.wazero.CompileModule(experimental.WithCompilationWorkers(ctx, compilers), code)
	return err
}

// link makes the first instance, and the image of it.
func (f *function) link(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, linking, errors.New("its start function takes longer than "+linking.String()))
	defer cancel()
	x := f.execute(ctx, nil)
	defer x.cancel(nil)
	inst, err := f.newInstance(x)
	x.pass()
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return fmt.Errorf("link: %w", err)
	}
	f.total = 1
	if inst.in != nil && x.asked == 0 {
		f.made = imageOf(inst, f.runtime.pagemap)
		if !f.init && !f.prepare {
			f.image, f.mode = f.made, fromImage
		}
	}
	f.give(inst)
	return nil
}
