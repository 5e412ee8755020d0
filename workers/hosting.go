package workers

import (
	"slices"
	"strings"

	"github.com/cloudburst-nats/cloudburst/wire"
	"github.com/cloudburst-nats/cloudburst/workers/runtime"
)

type hosted struct {
	spec    wire.Function
	limits  wire.Limits
	timeout *wire.Error // what a call ends with when the time of limits is up
	code    runtime.Function
	stats   *counters // of all versions
}

// Host adds a function, or puts another version in its place: calls that begin
// from now on run it, those in hand end with the code they have.
func (w *Worker) Host(spec wire.Function, code runtime.Function) {
	w.hosting.Lock()
	defer w.hosting.Unlock()
	w.hostLocked(spec.Name, spec, code)
}

func (w *Worker) hostLocked(name string, spec wire.Function, code runtime.Function) *hosted {
	limits := spec.Limits()
	h := &hosted{spec: spec, limits: limits, timeout: timeoutError(spec.Name, limits.Timeout), code: code, stats: new(counters)}
	if old := w.functions[name]; old != nil {
		h.stats = old.stats
	}
	w.functions[name] = h
	return h
}

// Drop ends the hosting of functions: their calls are left to other workers.
func (w *Worker) Drop(names ...string) {
	w.hosting.Lock()
	defer w.hosting.Unlock()
	for _, name := range names {
		delete(w.functions, name)
	}
}

// hosted returns what the worker hosts under a name; nil if it doesn't.
func (w *Worker) hosted(name string) *hosted {
	w.hosting.RLock()
	h := w.functions[name]
	w.hosting.RUnlock()
	if h != nil || w.cfg.Find == nil || !strings.Contains(name, "@") {
		return h
	}
	spec, code, found := w.cfg.Find(name)
	if !found {
		return nil
	}
	w.hosting.Lock()
	defer w.hosting.Unlock()
	if h := w.functions[name]; h != nil {
		return h
	}
	return w.hostLocked(name, spec, code)
}

// Functions lists what the worker hosts, by name.
func (w *Worker) Functions() []wire.Function {
	w.hosting.RLock()
	defer w.hosting.RUnlock()
	specs := make([]wire.Function, 0, len(w.functions))
	for _, h := range w.functions {
		specs = append(specs, h.spec)
	}
	slices.SortFunc(specs, func(a, b wire.Function) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return specs
}

// Function returns what is hosted under a name.
func (w *Worker) Function(name string) (wire.Function, bool) {
	if h := w.hosted(name); h != nil {
		return h.spec, true
	}
	return wire.Function{}, false
}

// Hosts says whether the worker hosts the function.
func (w *Worker) Hosts(function string) bool { return w.hosted(function) != nil }
