package broker

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// catalogueAge is how old a Catalogue can get when the notice of a change is
// lost, or when an entry was changed by hand. Looking costs two requests.
const catalogueAge = 2 * time.Second

// An Entry is a name that can be called: of a function or of a DAG.
type Entry struct {
	Name     string
	Pool     string         // whose stream takes its calls
	Function *wire.Function // nil for a DAG
	DAG      *DAGRecord     // nil for a function
}

// A Catalogue is a local copy of the registry that follows it while Run runs: a
// few milliseconds behind as a rule, 2 s at most while the server can be
// reached. Safe for concurrent use.
type Catalogue struct {
	b     *Broker
	ready chan struct{}
	ask   chan chan<- struct{} // who wants to know when it is up to date

	changed func([]FunctionChange) // may be nil
	news    chan struct{}

	mu  sync.RWMutex // guards what follows
	reg *registry
}

// NewCatalogue returns a catalogue that is empty until Run has read the registry.
func (b *Broker) NewCatalogue() *Catalogue {
	return &Catalogue{b: b, ready: make(chan struct{}), ask: make(chan chan<- struct{}), news: make(chan struct{}, 1), reg: newRegistry()}
}

// Ready returns a channel that is closed once the registry was read.
func (c *Catalogue) Ready() <-chan struct{} { return c.ready }

// Run follows the registry until ctx ends.
func (c *Catalogue) Run(ctx context.Context) error {
	changed, swept := make(chan struct{}, 1), make(chan struct{}, 1)
	sub, err := c.b.nc.Subscribe(subjectRegistry+"*", func(msg *nats.Msg) {
		news := changed
		if msg.Subject == subjectSwept {
			news = swept
		}
		select {
		case news <- struct{}{}:
		default: // a look is due already
		}
	})
	if err != nil {
		return apiError("follow registry", "", err)
	}
	defer c.b.unsubscribe(sub)
	tick := time.NewTicker(catalogueAge)
	defer tick.Stop()
	var waiting []chan<- struct{}
	for anew, again := true, false; ; {
		back := c.b.epoch()
		if err := c.update(ctx, anew); err == nil {
			anew = false
			for _, w := range waiting {
				close(w)
			}
			waiting = nil
		} else if ctx.Err() == nil {
			c.b.observe.catchUpFailed("registry", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-tick.C:
			anew = anew || again
			again = false
		case <-swept:
			anew, again = true, true // once more: the request was heard before it was carried out
		case <-back:
			anew = true // the server may have come back with another registry
		case w := <-c.ask:
			waiting = append(waiting, w)
		}
	}
}

// Refresh returns once the catalogue shows every change that was made before
// the call. It needs Run to be running.
func (c *Catalogue) Refresh(ctx context.Context) error {
	done := make(chan struct{})
	select {
	case c.ask <- done:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// update reads what is new, or everything.
func (c *Catalogue) update(ctx context.Context, anew bool) error {
	next := newRegistry()
	if !anew {
		c.mu.RLock()
		maps.Copy(next.upTo, c.reg.upTo)
		c.mu.RUnlock()
	}
	// What was read before a failure is dropped, and read again next time.
	if err := next.read(ctx, c.b); err != nil {
		return err
	}
	c.take(next, anew)
	select {
	case <-c.ready:
	default:
		close(c.ready)
	}
	return nil
}

// take makes what was read the catalogue's and tells of it.
func (c *Catalogue) take(next *registry, anew bool) {
	var changes []FunctionChange
	c.mu.Lock()
	if c.changed != nil {
		for _, f := range next.functions {
			changes = append(changes, FunctionChange{f.Name, &f})
		}
		for _, e := range next.gone {
			if _, back := next.functions[e.key]; e.bucket == BucketFunctions && !back {
				changes = append(changes, FunctionChange{Name: e.key})
			}
		}
		for name := range c.reg.functions {
			if _, still := next.functions[name]; anew && !still {
				changes = append(changes, FunctionChange{Name: name})
			}
		}
	}
	if anew {
		c.reg = next
	} else {
		c.reg.merge(next)
	}
	c.mu.Unlock()
	if len(changes) > 0 {
		c.changed(changes)
	}
	if len(next.last) > 0 {
		select {
		case c.news <- struct{}{}:
		default: // it is told already
		}
	}
}

// News gets a message once a look has found entries that were written or removed. It
// is for one reader.
func (c *Catalogue) News() <-chan struct{} { return c.news }

// Survey tells what the catalogue holds.
func (c *Catalogue) Survey() Survey {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.reg.survey()
}

// Lookup returns what bears the name.
func (c *Catalogue) Lookup(name string) (Entry, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.lookupLocked(name)
}

func (c *Catalogue) lookupLocked(name string) (Entry, bool) {
	if f, ok := c.reg.functions[name]; ok {
		return Entry{Name: name, Pool: f.Pool, Function: &f}, true
	}
	if rec, ok := c.reg.dags[name]; ok {
		return Entry{Name: name, Pool: rec.Pool, DAG: &rec}, true
	}
	return Entry{}, false
}

// PoolOf returns the pool of a function, whose name may pin a version; empty if
// there is none of the name.
func (c *Catalogue) PoolOf(function string) string {
	name, _, _ := wire.SplitID(function)
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.reg.functions[name].Pool
}

// FunctionVersion returns one version of a function that was deployed.
func (c *Catalogue) FunctionVersion(name string, version int) (wire.Function, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	f, ok := c.reg.deployed[versionKey(name, version)]
	return f, ok
}

// A FunctionChange is what became of a function: its registration now, or none
// if it was removed.
type FunctionChange struct {
	Name string
	Now  *wire.Function
}

// Notify has changed told of each look that found functions changed, and of all
// functions at the first. It is called before Run, and changed on Run's goroutine
// before any Refresh that waits for that look returns.
func (c *Catalogue) Notify(changed func([]FunctionChange)) { c.changed = changed }

// Version returns one version of a DAG.
func (c *Catalogue) Version(dag, version string) (DAGRecord, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	rec, ok := c.reg.versions[dag+"."+version]
	return rec, ok
}

// Entries lists everything that can be called, by name.
func (c *Catalogue) Entries() []Entry {
	c.mu.RLock()
	defer c.mu.RUnlock()
	list := make([]Entry, 0, len(c.reg.functions)+len(c.reg.dags))
	for name := range c.reg.functions {
		e, _ := c.lookupLocked(name)
		list = append(list, e)
	}
	for name := range c.reg.dags {
		if _, hidden := c.reg.functions[name]; !hidden {
			e, _ := c.lookupLocked(name)
			list = append(list, e)
		}
	}
	slices.SortFunc(list, func(x, y Entry) int { return strings.Compare(x.Name, y.Name) })
	return list
}

// Near returns up to three names that somebody who wrote name may have meant,
// the likeliest first.
func (c *Catalogue) Near(name string) []string {
	return wire.Near(name, func(yield func(string) bool) {
		for _, e := range c.Entries() {
			if !yield(e.Name) {
				return
			}
		}
	})
}
