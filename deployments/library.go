package deployments

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cloudburst-nats/cloudburst/broker"
	"github.com/cloudburst-nats/cloudburst/consistency"
	"github.com/cloudburst-nats/cloudburst/wire"
	"github.com/cloudburst-nats/cloudburst/workers"
	"github.com/cloudburst-nats/cloudburst/workers/runtime"
)

// LibraryConfig says how a worker serves what is deployed to its pool.
type LibraryConfig struct {
	// Dir is where images are kept. Workers may share it.
	Dir string
	// Runtimes run images, by the name that functions bear in wire.Function.Runtime.
	Runtimes map[string]runtime.Runtime
	// Idle is after how long without a call a function's code is let go of; the
	// next call loads it from the disk. Default 10 min.
	Idle time.Duration
}

// A library has a worker host what the registry says is deployed to its pool.
// A program is loaded when it is prepared for a deployment, or first called.
type library struct {
	cfg       LibraryConfig
	pool      string
	catalogue *broker.Catalogue
	worker    *workers.Worker // set before the catalogue runs
	shelf     *shelf
	news      chan<- struct{} // told when the worker serves other functions

	mu       sync.Mutex // guards what follows
	programs map[programKey]*program
	pinned   map[string]bool // names with a version that the worker asked for
}

// A programKey is what makes two versions the same code.
type programKey struct {
	runtime, image, entry string
	args                  string // as JSON
	memory                int64
	concurrency           int
}

func keyOf(f *wire.Function) programKey {
	args, _ := json.Marshal(f.Args) // strings
	return programKey{f.Runtime, f.Image, f.Entry, string(args), f.Memory, f.Concurrency}
}

const (
	// unusedFor is how long the code of a version that takes no new calls is kept,
	// for a rollback.
	unusedFor = time.Minute
	sweepEach = 10 * time.Second
)

func newLibrary(b *broker.Broker, catalogue *broker.Catalogue, pool string, cfg LibraryConfig, news chan<- struct{}) *library {
	if cfg.Idle <= 0 {
		cfg.Idle = 10 * time.Minute
	}
	l := &library{
		cfg: cfg, pool: pool, catalogue: catalogue, shelf: newShelf(b, cfg.Dir), news: news,
		programs: make(map[programKey]*program), pinned: make(map[string]bool),
	}
	catalogue.Notify(l.changed)
	return l
}

// changed has the worker host what the registry says now.
func (l *library) changed(changes []broker.FunctionChange) {
	var gone []string
	for _, c := range changes {
		if c.Now != nil && c.Now.Pool == l.pool && c.Now.Deployed() {
			l.worker.Host(*c.Now, l.program(c.Now))
			continue
		}
		gone = append(gone, c.Name)
		l.mu.Lock()
		for id := range l.pinned {
			if name, _, _ := wire.SplitID(id); name == c.Name {
				gone = append(gone, id)
				delete(l.pinned, id)
			}
		}
		l.mu.Unlock()
	}
	l.worker.Drop(gone...)
	select {
	case l.news <- struct{}{}:
	default: // it is to be told already
	}
}

// find returns the version that a name pins.
func (l *library) find(id string) (wire.Function, runtime.Function, bool) {
	name, version, ok := wire.SplitID(id)
	if !ok || version == 0 {
		return wire.Function{}, nil, false
	}
	f, ok := l.catalogue.FunctionVersion(name, version)
	if !ok || f.Pool != l.pool {
		return wire.Function{}, nil, false
	}
	l.mu.Lock()
	l.pinned[id] = true
	l.mu.Unlock()
	return f, l.program(&f), true
}

// program returns the code of a function, which may be loaded or not.
func (l *library) program(f *wire.Function) *program {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.programs[keyOf(f)]
	if p == nil {
		p = &program{library: l, spec: *f, used: time.Now()}
		l.programs[keyOf(f)] = p
	}
	return p
}

// prepare loads a function's code and tries it, if it says how.
func (l *library) prepare(ctx context.Context, f wire.Function) error {
	if err := l.check(&f); err != nil {
		return err
	}
	code := l.program(&f)
	if _, err := code.hold(ctx); err != nil {
		return err
	}
	defer code.release()
	if f.Check == "" {
		return nil
	}
	got, err := l.worker.Try(ctx, f, code, wire.Value{Body: []byte(f.Check)})
	if err != nil {
		return failedCheck(&f, err.Error(), err)
	}
	if f.Want != "" && !sameJSON(got.Body, []byte(f.Want)) {
		return failedCheck(&f, fmt.Sprintf("it returned %s, wanted was %s", clip(got.Body), f.Want), nil)
	}
	return nil
}

func failedCheck(f *wire.Function, msg string, err error) error {
	e := &wire.Error{Op: "deploy", Name: f.Name, Kind: wire.KindInvalid, Msg: fmt.Sprintf("called with %s: %s", clip([]byte(f.Check)), msg), Err: err}
	if cause, ok := errors.AsType[*wire.Error](err); ok {
		e.Stack = cause.Stack
	}
	return e
}

// check refuses what no attempt will load.
func (l *library) check(f *wire.Function) error {
	if l.cfg.Runtimes[f.Runtime] == nil {
		known := slices.Sorted(maps.Keys(l.cfg.Runtimes))
		return &wire.Error{Op: "deploy", Name: f.Name, Kind: wire.KindInvalid, Msg: fmt.Sprintf("the worker has no runtime %q; it has %s", f.Runtime, strings.Join(known, ", "))}
	}
	return consistency.Check(f.Level)
}

// adopt returns once the worker hosts the version.
func (l *library) adopt(ctx context.Context, f wire.Function) error {
	for {
		if err := l.catalogue.Refresh(ctx); err != nil {
			return err
		}
		if now, ok := l.worker.Function(f.Name); ok && now.Version == f.Version {
			return nil
		}
		// A replica of the registry may lag, or somebody has deployed since.
		if now, ok := l.catalogue.Lookup(f.Name); !ok || now.Function == nil || now.Function.Registered.After(f.Registered) {
			return nil
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return nil
		}
	}
}

// run lets go of code that nobody calls, until ctx ends, and then of all.
func (l *library) run(ctx context.Context) error {
	tick := time.NewTicker(sweepEach)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			l.sweep(time.Now())
		case <-ctx.Done():
			l.mu.Lock()
			all := slices.Collect(maps.Values(l.programs))
			l.mu.Unlock()
			for _, p := range all {
				p.close()
			}
			l.shelf.close()
			return nil
		}
	}
}

func (l *library) sweep(now time.Time) {
	hosted := make(map[programKey]bool)
	for _, f := range l.worker.Functions() {
		hosted[keyOf(&f)] = true
	}
	var idle []*program
	l.mu.Lock()
	for key, p := range l.programs {
		switch since := p.idleSince(now); {
		case !hosted[key] && since > unusedFor:
			delete(l.programs, key)
			idle = append(idle, p)
		case since > l.cfg.Idle:
			idle = append(idle, p)
		}
	}
	l.mu.Unlock()
	for _, p := range idle {
		p.letGo()
	}
}

func sameJSON(x, y []byte) bool {
	var a, b any
	return json.Unmarshal(x, &a) == nil && json.Unmarshal(y, &b) == nil && reflect.DeepEqual(a, b)
}

func clip(b []byte) string {
	const most = 80
	if len(b) > most {
		return strings.ToValidUTF8(string(b[:most]), "") + "…"
	}
	return string(b)
}
