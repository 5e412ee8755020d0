package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"golang.org/x/sync/errgroup"

	"github.com/cloudburst-nats/cloudburst"
	"github.com/cloudburst-nats/cloudburst/broker"
	"github.com/cloudburst-nats/cloudburst/kvlattice"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// What grows.
const (
	GrowFunctions = "functions" // of one pool
	GrowBacklog   = "backlog"   // calls that wait in one pool
	GrowKeys      = "keys"      // of one namespace
)

// GrowthConfig says what grows, and how far. The zero value takes some minutes and
// a few hundred megabytes.
type GrowthConfig struct {
	// Cases: GrowFunctions, GrowBacklog and GrowKeys. Default: all.
	Cases []string
	// Functions, Backlog and Keys are the sizes, each measured on a server of its
	// own. Defaults: 10, 1,000 and 10,000; 0 and 1,000,000; 1,000 and 1,000,000.
	Functions, Backlog, Keys []int
	// Calls is how many operations of each kind are timed, one by one. Default 2000.
	Calls int
	// JSON has one JSON object written for each figure, instead of tables.
	JSON bool
	// Store and Exe are as in Config.
	Store, Exe string
}

func (c GrowthConfig) withDefaults() (GrowthConfig, error) {
	if len(c.Cases) == 0 {
		c.Cases = []string{GrowFunctions, GrowBacklog, GrowKeys}
	}
	for _, sizes := range []struct {
		to       *[]int
		name     string
		least    int
		standard []int
	}{
		{&c.Functions, GrowFunctions, 1, []int{10, 1000, 10_000}},
		{&c.Backlog, GrowBacklog, 0, []int{0, 1_000_000}},
		{&c.Keys, GrowKeys, 1, []int{1000, 1_000_000}},
	} {
		if len(*sizes.to) == 0 {
			*sizes.to = sizes.standard
		}
		if n := slices.Min(*sizes.to); n < sizes.least {
			return c, &wire.Error{Op: "bench", Kind: wire.KindBadArgument, Name: sizes.name, Msg: fmt.Sprintf("%d is too few; the least is %d", n, sizes.least)}
		}
	}
	if c.Calls <= 0 {
		c.Calls = 2000
	}
	if c.Exe == "" {
		exe, err := os.Executable()
		if err != nil {
			return c, fmt.Errorf("find this program: %w", err)
		}
		c.Exe = exe
	}
	return c, nil
}

// A GrowthRow is one figure at one size.
type GrowthRow struct {
	Bench string  `json:"bench"` // "growth"
	Case  string  `json:"case"`  // what grows
	Size  int     `json:"size"`
	What  string  `json:"what"` // is measured, and its unit
	Value float64 `json:"value"`
	// Ratio is to the first size; null where that one has none.
	Ratio *float64 `json:"ratio"`
}

// A figure is what was measured of one size.
type figure struct {
	what  string
	value float64
}

// Growth measures what calls, memory and the work around them cost with few and
// with many functions, waiting calls, and keys.
func Growth(ctx context.Context, cfg GrowthConfig, out io.Writer) error {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return err
	}
	for _, name := range cfg.Cases {
		var sizes []int
		var measure func(context.Context, GrowthConfig, *site, int) ([]figure, error)
		switch name {
		case GrowFunctions:
			sizes, measure = cfg.Functions, growFunctions
		case GrowBacklog:
			sizes, measure = cfg.Backlog, growBacklog
		case GrowKeys:
			sizes, measure = cfg.Keys, growKeys
		default:
			return &wire.Error{Op: "bench", Kind: wire.KindBadArgument, Name: name, Msg: "no such case; there are functions, backlog and keys"}
		}
		all := make([][]figure, len(sizes))
		for i, n := range sizes {
			if all[i], err = growOne(ctx, cfg, n, measure); err != nil {
				return fmt.Errorf("%d %s: %w", n, name, err)
			}
		}
		if err := writeGrowth(out, growthRows(name, sizes, all), cfg.JSON); err != nil {
			return err
		}
	}
	return nil
}

// growOne brings a server up in a process of its own and measures one size on it.
func growOne(ctx context.Context, cfg GrowthConfig, n int, measure func(context.Context, GrowthConfig, *site, int) ([]figure, error)) (figures []figure, err error) {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	s := &site{fail: fail}
	defer func() { err = errors.Join(err, s.close()) }()
	dir, err := os.MkdirTemp(cfg.Store, "cloudburst-bench-")
	if err != nil {
		return nil, fmt.Errorf("make store: %w", err)
	}
	s.ends = append(s.ends, func() error { return os.RemoveAll(dir) })
	if s.url, err = s.spawn(ctx, cfg.Exe, roleServer, filepath.Join(dir, "store")); err != nil {
		return nil, err
	}
	if figures, err = measure(ctx, cfg, s, n); err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return figures, err
}

const (
	grownPool  = "grown"
	fnLook     = "bench-look"
	grownCache = 16 << 20
)

func grownName(i int) string { return "grown-" + strconv.Itoa(i) }

// serveGrown is a worker of count functions that return their argument, and of one
// that reads a key.
func serveGrown(ctx context.Context, b *broker.Broker, ready func(), count int) error {
	w := cloudburst.NewWorker(cloudburst.NewClient(b, nil), cloudburst.Pool(grownPool), cloudburst.Namespace(benchNamespace), cloudburst.CacheBytes(grownCache))
	for i := range count {
		cloudburst.Handle(w, grownName(i), func(_ context.Context, _ *cloudburst.Session, n int) (int, error) { return n, nil })
	}
	cloudburst.Handle(w, fnLook, func(ctx context.Context, s *cloudburst.Session, key string) (int, error) {
		return cloudburst.Get[int](ctx, &s.State, key)
	})
	ended := make(chan error, 1)
	go func() { ended <- w.Serve(ctx) }()
	select {
	case <-w.Ready():
		ready()
		return <-ended
	case err := <-ended:
		return err
	}
}

// grown is the argument of the role that serves count functions at a URL.
func grown(count int, url string) string { return strconv.Itoa(count) + "," + url }

func parseGrown(arg string) (count int, url string, err error) {
	first, url, _ := strings.Cut(arg, ",")
	count, err = strconv.Atoi(first)
	return count, url, err
}

// growFunctions measures a pool of n functions.
func growFunctions(ctx context.Context, cfg GrowthConfig, s *site, n int) ([]figure, error) {
	began := time.Now()
	if _, err := s.spawn(ctx, cfg.Exe, roleGrown, grown(n, s.url)); err != nil {
		return nil, err
	}
	ready := time.Since(began)
	b, err := s.connect(ctx, "bench caller")
	if err != nil {
		return nil, err
	}
	client := cloudburst.NewClient(b, nil)
	rng := rand.New(rand.NewPCG(1, 2))
	calls, err := each(ctx, cfg.Calls, "call", func(i int) error {
		return echoOnce(ctx, client, grownName(rng.IntN(n)), i)
	})
	if err != nil {
		return nil, err
	}
	workers, err := b.Workers(ctx)
	if err != nil {
		return nil, err
	}
	announced := 0
	for _, w := range workers {
		body, err := json.Marshal(w)
		if err != nil {
			return nil, err
		}
		announced += len(body)
	}
	return slices.Concat(calls, []figure{{"worker ready s", ready.Seconds()}, {"announcement B", float64(announced)}}, s.memory()), nil
}

// growBacklog measures a pool in which n calls wait, and what is beside it.
func growBacklog(ctx context.Context, cfg GrowthConfig, s *site, n int) ([]figure, error) {
	if _, err := s.spawn(ctx, cfg.Exe, roleWorker, s.url); err != nil {
		return nil, err
	}
	b, err := s.connect(ctx, "bench caller")
	if err != nil {
		return nil, err
	}
	if err := b.RegisterFunctions(ctx, []wire.Function{
		{Name: grownName(0), Pool: grownPool, Runtime: "native"}, {Name: fnLook, Pool: grownPool, Runtime: "native"},
	}); err != nil {
		return nil, err
	}
	send := func(ctx context.Context) error {
		return b.Dispatch(ctx, wire.Call{Name: grownName(0), Run: wire.NewRunID(), Args: wire.Value{Body: []byte("1")}})
	}
	if err := together(ctx, n, func(ctx context.Context, _ int) error { return send(ctx) }); err != nil {
		return nil, err
	}
	figures, err := each(ctx, cfg.Calls, "publish", func(int) error { return send(ctx) })
	if err != nil {
		return nil, err
	}
	client := cloudburst.NewClient(b, nil)
	calls, err := each(ctx, cfg.Calls, "call of another pool", func(i int) error { return echoOnce(ctx, client, "echo", i) })
	if err != nil {
		return nil, err
	}
	lag, err := b.Lag(ctx, grownPool)
	if err != nil {
		return nil, err
	}
	if want := n + cfg.Calls + warmups(cfg.Calls); lag.Pending != uint64(want) {
		return nil, fmt.Errorf("%d calls wait, want %d", lag.Pending, want)
	}
	figures = slices.Concat(figures, calls, s.memory())
	began := time.Now()
	if _, err := s.spawn(ctx, cfg.Exe, roleGrown, grown(1, s.url)); err != nil {
		return nil, err
	}
	if err := drained(ctx, b); err != nil {
		return nil, err
	}
	took := time.Since(began).Seconds()
	return append(figures, figure{"drained s", took}, figure{"drained calls/s", float64(lag.Pending) / took}), nil
}

// drained returns once no call waits or is run in the grown pool.
func drained(ctx context.Context, b *broker.Broker) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for least, since := uint64(0), time.Now(); ; {
		lag, err := b.Lag(ctx, grownPool)
		if err != nil {
			return err
		}
		left := lag.Pending + uint64(lag.AckPending)
		switch {
		case left == 0:
			return nil
		case left < least || least == 0:
			least, since = left, time.Now()
		case time.Since(since) > time.Minute:
			return fmt.Errorf("%d calls are left, and none was run for a minute", left)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// growKeys measures reads and writes in a namespace of n keys.
func growKeys(ctx context.Context, cfg GrowthConfig, s *site, n int) ([]figure, error) {
	if _, err := s.spawn(ctx, cfg.Exe, roleGrown, grown(1, s.url)); err != nil {
		return nil, err
	}
	b, err := s.connect(ctx, "bench caller")
	if err != nil {
		return nil, err
	}
	bucket, err := b.OpenBucket(ctx, benchNamespace)
	if err != nil {
		return nil, err
	}
	store := kvlattice.New(kvlattice.Config{Writer: "bench", CacheBytes: grownCache}, bucket, bucket)
	if err := s.start(ctx, func(ctx context.Context, ready func()) error { ready(); return store.Run(ctx) }); err != nil {
		return nil, err
	}
	put := func(ctx context.Context, i int) error {
		return store.Put(ctx, grownName(i), wire.Value{Body: strconv.AppendInt(nil, int64(i), 10)})
	}
	if err := together(ctx, n, put); err != nil {
		return nil, err
	}
	client := cloudburst.NewClient(b, nil)
	look := func(i int) error {
		got, err := cloudburst.Call[int](ctx, client, fnLook, grownName(i))
		if err == nil && got != i {
			err = fmt.Errorf("key %s holds %d", grownName(i), got)
		}
		return err
	}
	rng := rand.New(rand.NewPCG(1, 2))
	zipf := rand.NewZipf(rng, 1.1, 1, uint64(n-1))
	var figures []figure
	for _, c := range []struct {
		what string
		op   func() error
	}{
		{"read one key", func() error { return look(0) }},
		{"read zipf", func() error { return look(int(zipf.Uint64())) }},
		{"read uniform", func() error { return look(rng.IntN(n)) }},
		{"write uniform", func() error { return put(ctx, rng.IntN(n)) }},
	} {
		f, err := each(ctx, cfg.Calls, c.what, func(int) error { return c.op() })
		if err != nil {
			return nil, err
		}
		figures = append(figures, f...)
	}
	figures = append(figures, s.memory()...)
	began, listed := time.Now(), 0
	for _, err := range bucket.Keys(ctx, "", 0) {
		if err != nil {
			return nil, err
		}
		listed++
	}
	if listed != n {
		return nil, fmt.Errorf("%d keys are listed, want %d", listed, n)
	}
	return append(figures, figure{"list keys s", time.Since(began).Seconds()}), nil
}

// each does an operation count times, one after the other, and returns how long
// one took.
func each(ctx context.Context, count int, what string, op func(i int) error) ([]figure, error) {
	micros := make([]float64, 0, count)
	for i := range warmups(count) + count {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		began := time.Now()
		if err := op(i); err != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
		if i >= warmups(count) {
			micros = append(micros, float64(time.Since(began))/float64(time.Microsecond))
		}
	}
	slices.Sort(micros)
	return []figure{{what + " p50 µs", quantile(micros, 0.5)}, {what + " p99 µs", quantile(micros, 0.99)}}, nil
}

// warmups is how many operations go before those that are timed.
func warmups(count int) int { return count / 4 }

// together does an operation for each of count numbers, many at once.
func together(ctx context.Context, count int, op func(ctx context.Context, i int) error) error {
	const atOnce = 256
	all, ctx := errgroup.WithContext(ctx)
	for first := range min(atOnce, count) {
		all.Go(func() error {
			for i := first; i < count; i += atOnce {
				if err := op(ctx, i); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return all.Wait()
}

func echoOnce(ctx context.Context, client *cloudburst.Client, name string, i int) error {
	got, err := cloudburst.Call[int](ctx, client, name, i)
	if err == nil && got != i {
		err = fmt.Errorf("%s(%d) = %d", name, i, got)
	}
	return err
}

// memory returns what the site's processes hold in memory, where /proc tells.
func (s *site) memory() []figure {
	var figures []figure
	for _, p := range s.parts {
		what := "worker RSS MB"
		if p.role == roleServer {
			what = "server RSS MB"
		}
		if bytes, ok := resident(p.pid); ok {
			figures = append(figures, figure{what, float64(bytes) / 1e6})
		}
	}
	return figures
}

// resident returns how much memory of a process is resident.
func resident(pid int) (int64, bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0, false // not Linux, or it is gone
	}
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return 0, false
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize()), err == nil
}

func growthRows(name string, sizes []int, all [][]figure) []GrowthRow {
	var rows []GrowthRow
	first := make(map[string]float64)
	for i, figures := range all {
		for _, f := range figures {
			if i == 0 {
				first[f.what] = f.value
			}
			rows = append(rows, GrowthRow{Bench: "growth", Case: name, Size: sizes[i], What: f.what, Value: f.value, Ratio: ratio(f.value, first[f.what])})
		}
	}
	return rows
}

// writeGrowth shows the rows of one case: a line for each figure, a column for
// each size.
func writeGrowth(out io.Writer, rows []GrowthRow, asJSON bool) error {
	if asJSON {
		enc := json.NewEncoder(out)
		for _, r := range rows {
			if err := enc.Encode(r); err != nil {
				return err
			}
		}
		return nil
	}
	header := table.Row{rows[0].Case}
	lines := make(map[string]table.Row)
	var order []string
	size := -1
	for i, r := range rows {
		if r.Size != size {
			size = r.Size
			header = append(header, size)
			if i > 0 {
				header = append(header, "×")
			}
		}
		if lines[r.What] == nil {
			order = append(order, r.What)
			lines[r.What] = table.Row{r.What}
		}
		lines[r.What] = append(lines[r.What], number(r.Value, 1))
		if r.Size != rows[0].Size {
			lines[r.What] = append(lines[r.What], times(r.Ratio))
		}
	}
	t := newTable(header)
	for _, what := range order {
		t.AppendRow(lines[what])
	}
	_, err := fmt.Fprintln(out, t.Render())
	return err
}
