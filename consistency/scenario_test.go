package consistency_test

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudburst-nats/cloudburst/consistency"
	"github.com/cloudburst-nats/cloudburst/kvlattice"
	"github.com/cloudburst-nats/cloudburst/kvlattice/latticetest"
	"github.com/cloudburst-nats/cloudburst/wire"
)

var update = flag.Bool("update", false, "write what happens into testdata")

// TestScenarios plays testdata: each file is a story of runs on workers with
// caches, one step a line, and "-> …" is what comes of the step before it.
//
//	worker W          W hears of no write any more:      W is deaf
//	                  W hears of all that it missed:     W hears
//	RUN begins at W at level LEVEL                     RUN repeats RUN at W
//	RUN reads KEY     RUN writes KEY VALUE     RUN counts KEY N     RUN reads count KEY
//	RUN goes on at W  what it wrote is stored, and its session goes to W
//	RUN and RUN meet at W as RUN
//	W dies            RUN ends
//
// A key is in the namespace "state", or as NAMESPACE:KEY in another.
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) < 8 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				text, err := os.ReadFile(file)
				must(t, err)
				got := play(t, string(text))
				if *update {
					must(t, os.WriteFile(file, []byte(got), 0o600))
				} else if got != string(text) {
					t.Errorf("got\n%s\nwant\n%s", got, text)
				}
			})
		})
	}
}

func play(t *testing.T, text string) string {
	t.Helper()
	w := &world{t: t, buckets: map[string]*latticetest.Memory{}, workers: map[string]*worker{}, runs: map[string]*aRun{}}
	ctx, end := context.WithCancel(t.Context())
	w.ctx = ctx
	defer w.stores.Wait() // they fold at their end, and wait for each other
	defer end()
	var out strings.Builder
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "->") {
			continue
		}
		out.WriteString(line + "\n")
		if line == "" || line[0] == '#' {
			continue
		}
		if said := w.step(strings.Fields(line)); said != "" {
			out.WriteString("  -> " + said + "\n")
		}
		synctest.Wait()
	}
	return out.String()
}

// A world has namespaces, workers that cache them, and runs.
type world struct {
	t       *testing.T
	buckets map[string]*latticetest.Memory
	workers map[string]*worker
	runs    map[string]*aRun
	calls   uint64

	ctx    context.Context //nolint:containedctx // ends the stores
	stores sync.WaitGroup
}

type worker struct {
	world  *world
	name   string
	stores map[string]*kvlattice.Store
	feeds  []*latticetest.Feed
	deaf   bool
	dead   bool
	pins   consistency.Pins
}

// aRun is a run where it is now. Its end is the name that its versions are pinned for.
type aRun struct {
	name  string
	level consistency.Level
	at    *worker
	call  uint64
	*consistency.Session
}

// Store opens a namespace on a worker.
func (w *worker) Store(_ context.Context, ns string) (consistency.State, error) {
	if st := w.stores[ns]; st != nil {
		return st, nil
	}
	mem := w.world.buckets[ns]
	if mem == nil {
		mem = latticetest.NewMemory()
		w.world.buckets[ns] = mem
	}
	feed := mem.Feed()
	if w.deaf {
		feed.Hold()
	}
	st := kvlattice.New(kvlattice.Config{Writer: w.name}, mem, feed)
	w.world.stores.Go(func() { _ = st.Run(w.world.ctx) })
	synctest.Wait()
	w.stores[ns], w.feeds = st, append(w.feeds, feed)
	return st, nil
}

// Fetch asks a worker for a version, as it would over the wire.
func (w *world) Fetch(_ context.Context, worker, run, ns, key, id string) (kvlattice.Lattice, bool, error) {
	if w.workers[worker].dead {
		return nil, true, nil
	}
	l, ok := w.workers[worker].pins.Find(run, ns, key, id)
	return l, !ok, nil
}

func (w *world) Release(run, _ string) {
	for _, at := range w.workers {
		at.pins.Release(run)
	}
}

func (w *world) begin(name, past string, level consistency.Level, at *worker) string {
	w.calls++
	return w.execute(name, past, level, at, w.calls)
}

func (w *world) execute(name, past string, level consistency.Level, at *worker, call uint64) string {
	end, _, _ := strings.Cut(name, ".")
	s, err := consistency.NewSession(consistency.Config{
		Identity: consistency.Identity{Writer: at.name, Log: "pool", Source: "calls", Seq: call, Node: fmt.Sprint(call), Attempt: 1},
		Stored:   time.Now().Add(time.Duration(call)), // time stands still here
		Stores:   at, Level: level, Run: end, Past: past, Pins: &at.pins, Peers: w,
	})
	must(w.t, err)
	w.runs[name] = &aRun{end, level, at, call, s}
	return ""
}

func (w *world) step(f []string) string {
	line := strings.Join(f, " ")
	switch {
	case f[0] == "worker":
		w.workers[f[1]] = &worker{world: w, name: f[1], stores: map[string]*kvlattice.Store{}}
		return ""
	case strings.HasSuffix(line, "is deaf"), strings.HasSuffix(line, "hears"):
		at := w.workers[f[0]]
		at.deaf = f[1] == "is"
		for _, feed := range at.feeds {
			if at.deaf {
				feed.Hold()
			} else {
				feed.Release()
			}
		}
		return ""
	case strings.HasSuffix(line, "dies"):
		w.workers[f[0]].dead = true
		return ""
	case f[1] == "begins":
		return w.begin(f[0], "", consistency.Level(f[6]), w.workers[f[3]])
	case f[1] == "repeats":
		first := w.runs[f[2]]
		return w.execute(f[0], "", first.level, w.workers[f[4]], first.call)
	case f[1] == "and":
		return w.meet(f)
	}
	return w.act(w.runs[f[0]], f)
}

// meet is "A and B meet at W as C".
func (w *world) meet(f []string) string {
	a, b := w.runs[f[0]], w.runs[f[2]]
	if err := cmpErr(a.Flush(w.t.Context()), b.Flush(w.t.Context())); err != "" {
		return err
	}
	past, err := consistency.Join([]string{a.Past(), b.Past()})
	if err != nil {
		return err.Error()
	}
	return w.begin(f[7], past, a.level, w.workers[f[5]])
}

func (w *world) act(r *aRun, f []string) string {
	ctx := w.t.Context()
	at := func(i int) (ns, key string) {
		if ns, key, ok := strings.Cut(f[i], ":"); ok {
			return ns, key
		}
		return "state", f[i]
	}
	switch {
	case f[1] == "reads" && f[2] == "count":
		ns, key := at(3)
		n, err := r.Counter(ctx, ns, key)
		return cmp(fmt.Sprint(n), err)
	case f[1] == "reads":
		ns, key := at(2)
		all, err := r.Versions(ctx, ns, key)
		var shown []string
		for _, v := range all {
			shown = append(shown, string(v.Body))
		}
		slices.Sort(shown) // by name, so that a story doesn't hang on the clock
		if len(shown) == 0 {
			shown = []string{"nothing"}
		}
		return cmp(strings.Join(shown, " and "), err)
	case f[1] == "writes":
		ns, key := at(2)
		return cmp("", r.Put(ctx, ns, key, wire.Value{Body: []byte(f[3])}))
	case f[1] == "counts":
		ns, key := at(2)
		var n int64
		_, err := fmt.Sscan(f[3], &n)
		must(w.t, err)
		return cmp("", r.AddCounter(ctx, ns, key, n))
	case f[1] == "goes":
		if err := r.Flush(ctx); err != nil {
			return err.Error()
		}
		past := r.Past()
		return cmp(tell(past), nil) + w.begin(f[0], past, r.level, w.workers[f[4]])
	case f[1] == "ends":
		if err := r.Flush(ctx); err != nil {
			return err.Error()
		}
		consistency.Release(r.Past(), r.name, false, &r.at.pins, w)
		kept := 0
		for _, other := range w.workers {
			runs, _ := other.pins.Size()
			if !other.dead {
				kept += runs
			}
		}
		if kept > 0 {
			return fmt.Sprintf("versions are kept at %d worker", kept)
		}
		return ""
	}
	w.t.Fatalf("what is %q?", strings.Join(f, " "))
	return ""
}

// tell says what travels in a session.
func tell(text string) string {
	if text == "" {
		return "takes nothing along"
	}
	p, err := consistency.ParsePast(text)
	if err != nil {
		return err.Error()
	}
	var parts []string
	for _, ns := range slices.Sorted(maps.Keys(p.After)) {
		parts = append(parts, fmt.Sprintf("%s after %d", ns, p.After[ns]))
	}
	for _, ns := range slices.Sorted(maps.Keys(p.Seen)) {
		for _, key := range slices.Sorted(maps.Keys(p.Seen[ns])) {
			parts = append(parts, fmt.Sprintf("%s as of %d", key, p.Seen[ns][key]))
		}
	}
	for _, ns := range slices.Sorted(maps.Keys(p.Pins)) {
		for _, key := range slices.Sorted(maps.Keys(p.Pins[ns])) {
			parts = append(parts, key+" pinned")
		}
	}
	if p.Stamp != "" {
		parts = append(parts, "a time")
	}
	return "takes along: " + strings.Join(parts, ", ")
}

func cmp(said string, err error) string {
	if err != nil {
		return err.Error()
	}
	return said
}

func cmpErr(errs ...error) string {
	for _, err := range errs {
		if err != nil {
			return err.Error()
		}
	}
	return ""
}

func FuzzParsePast(f *testing.F) {
	f.Add(`{"after":{"state":7},"token":true}`)
	f.Add(`{"stamp":"18ece754585b7cf2-0000002a"}`)
	f.Add(`{"stamp":"a\"b","token":true}`)
	f.Add(`{"seen":{"state":{"k":3}},"pins":{"state":{"k":{"read":{"id":"v","at":"w","rev":3},"wrote":[{"id":"x","at":"w"}]}}},"workers":["w"]}`)
	f.Fuzz(func(t *testing.T, text string) {
		p, err := consistency.ParsePast(text)
		if err != nil {
			return
		}
		again, err := consistency.ParsePast(p.String())
		if err != nil || again.String() != p.String() {
			t.Errorf("%q became %q, %v", p.String(), again.String(), err)
		}
		if joined, err := consistency.Join([]string{p.String(), p.String()}); err != nil {
			t.Errorf("%s conflicts with itself: %v", joined, err)
		}
	})
}

// However much a run reads, its session-causal past is one number for each
// namespace.
func TestPastStaysSmall(t *testing.T) {
	mem := latticetest.NewMemory()
	s, err := consistency.NewSession(consistency.Config{
		Identity: id(1, 1), Stores: open(mem, "w"), Level: consistency.SessionCausal, Pins: new(consistency.Pins),
	})
	must(t, err)
	for i := range 10_000 {
		key := fmt.Sprint("key", i)
		mem.Put(key, kvlattice.Entry{Body: []byte("1")})
		_, _, err := s.Get(t.Context(), "ns", key)
		must(t, err)
	}
	if past := s.Past(); !strings.HasPrefix(past, `{"after":{"ns":10000},"stamp":"`) || len(past) > 80 {
		t.Errorf("the past is %q", past)
	}
}
