package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"

	"github.com/cloudburst-nats/cloudburst"
	"github.com/cloudburst-nats/cloudburst/bench/poolsim"
	"github.com/cloudburst-nats/cloudburst/broker"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// The Zipf rows: calls with references to keys of zipfBytes, drawn with the paper's
// exponent 1.0, to workers whose caches hold a quarter of the keys each.
const (
	zipfBytes    = 1024
	zipfNS       = "bench_zipf"
	zipfInFlight = 32
)

// zipfFunction is the function of a pool with placement on or off.
func zipfFunction(role string) string { return role + "-length" }

// localityZipf measures the share of references found in caches.
func (s *site) localityZipf(ctx context.Context, cfg LocalityConfig) ([]ZipfRow, error) {
	b, err := s.connect(ctx, "bench caller")
	if err != nil {
		return nil, err
	}
	client := cloudburst.NewClient(b, nil)
	if err := putAll(ctx, client, cfg.Keys); err != nil {
		return nil, err
	}
	var rows []ZipfRow
	for _, c := range []struct{ role, name string }{{roleZipfOn, "placement on"}, {roleZipfOff, "placement off"}} {
		some, err := s.zipfPool(ctx, cfg, client, c.role, c.name)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.name, err)
		}
		rows = append(rows, some...)
	}
	return rows, nil
}

// putAll stores the keys.
func putAll(ctx context.Context, client *cloudburst.Client, keys int) error {
	state := client.State().In(zipfNS)
	body := make([]byte, zipfBytes)
	return inParallel(ctx, keys, func(ctx context.Context, k int, _ *rand.Rand) error {
		return state.Put(ctx, zipfKey(k), cloudburst.Value{Body: body, Type: "application/octet-stream"})
	})
}

func zipfKey(k int) string { return "key-" + strconv.Itoa(k) }

// inParallel does something count times, zipfInFlight at once.
func inParallel(ctx context.Context, count int, do func(ctx context.Context, n int, rng *rand.Rand) error) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	var next atomic.Int64
	var all sync.WaitGroup
	for range zipfInFlight {
		rng := rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
		all.Go(func() {
			for n := next.Add(1); n <= int64(count) && ctx.Err() == nil; n = next.Add(1) {
				if err := do(ctx, int(n)-1, rng); err != nil {
					fail(err)
				}
			}
		})
	}
	all.Wait()
	return context.Cause(ctx)
}

// zipfPool starts a pool, has it read every key once, and counts, with one reference
// in each call and then with two, each after as many calls to warm up. The pool ends with it.
func (s *site) zipfPool(ctx context.Context, cfg LocalityConfig, client *cloudburst.Client, role, name string) (rows []ZipfRow, err error) {
	pool := &site{url: s.url, fail: s.fail}
	defer func() { err = errors.Join(err, pool.close()) }()
	for range cfg.Workers {
		// About what a key takes beside its value: see kvlattice.
		bytes := cfg.Keys / 4 * (zipfBytes + 700)
		if _, err := pool.spawn(ctx, cfg.Exe, role+":"+strconv.Itoa(bytes), s.url); err != nil {
			return nil, err
		}
	}
	call := func(ctx context.Context, keys ...int) error {
		refs := make([]any, len(keys))
		for i, k := range keys {
			refs[i] = cloudburst.RefIn(zipfNS, zipfKey(k))
		}
		got, err := cloudburst.Call[int](ctx, client, zipfFunction(role), refs...)
		if err == nil && got != zipfBytes*len(keys) {
			err = fmt.Errorf("read %d bytes, want %d", got, zipfBytes*len(keys))
		}
		return err
	}
	zipf := poolsim.NewZipf(cfg.Keys, 1)
	if err := inParallel(ctx, cfg.Keys, func(ctx context.Context, n int, _ *rand.Rand) error { return call(ctx, n) }); err != nil {
		return nil, err
	}
	asked := cfg.Keys
	for _, refs := range []int{1, 2} {
		row := ZipfRow{Bench: "locality", Case: name, Refs: refs, Workers: cfg.Workers, Calls: cfg.Calls}
		var before, after broker.Placement
		for _, sum := range []*broker.Placement{&before, &after} { // what is before only warms up
			began := time.Now()
			if err := inParallel(ctx, cfg.Calls, func(ctx context.Context, _ int, rng *rand.Rand) error {
				keys := make([]int, refs)
				for i := range keys {
					keys[i] = zipf.Draw(rng)
				}
				return call(ctx, keys...)
			}); err != nil {
				return nil, err
			}
			row.PerSecond = float64(cfg.Calls) / time.Since(began).Seconds()
			asked += refs * cfg.Calls
			if *sum, err = references(ctx, client.Broker(), role, asked); err != nil {
				return nil, err
			}
		}
		hits, misses := after.RefHits-before.RefHits, after.RefMisses-before.RefMisses
		row.Hits = float64(hits) / float64(hits+misses)
		row.Handed, row.Refused = after.Handed-before.Handed, after.Refused-before.Refused
		rows = append(rows, row)
	}
	return rows, nil
}

// references returns what the workers of a pool tell, once they tell of all.
func references(ctx context.Context, b *broker.Broker, pool string, asked int) (sum broker.Placement, err error) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for late := time.Now().Add(broker.MemberTTL); ; {
		workers, err := b.Workers(ctx)
		if err != nil {
			return sum, err
		}
		sum = broker.Placement{}
		for _, w := range workers {
			if w.Pool == pool {
				sum.RefHits += w.RefHits
				sum.RefMisses += w.RefMisses
				sum.Handed += w.Handed
				sum.Refused += w.Refused
			}
		}
		if sum.RefHits+sum.RefMisses >= uint64(asked) {
			return sum, nil
		}
		if time.Now().After(late) {
			return sum, fmt.Errorf("workers tell of %d references, want %d", sum.RefHits+sum.RefMisses, asked)
		}
		select {
		case <-ctx.Done():
			return sum, context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// serveZipf is a worker whose cache is bounded.
func serveZipf(ctx context.Context, b *broker.Broker, role string, cacheBytes int64, ready func()) error {
	opts := []cloudburst.WorkerOption{cloudburst.Pool(role), cloudburst.CacheBytes(cacheBytes)}
	if role == roleZipfOff {
		opts = append(opts, cloudburst.WithoutPlacement())
	}
	w := cloudburst.NewWorker(cloudburst.NewClient(b, nil), opts...)
	cloudburst.Handle(w, zipfFunction(role), func(_ context.Context, _ *cloudburst.Session, values []cloudburst.Value) (int, error) {
		length := 0
		for _, v := range values {
			length += len(v.Body)
		}
		return length, nil
	})
	return serveReady(ctx, w, ready)
}

func printZipf(cfg LocalityConfig, out io.Writer, rows []ZipfRow) error {
	if cfg.JSON {
		return encodeAll(out, rows)
	}
	t := newTable(table.Row{"keys by Zipf 1.0", "references", "workers", "calls", "found in cache", "handed over", "refused", "calls/s"})
	for _, r := range rows {
		t.AppendRow(table.Row{r.Case, r.Refs, r.Workers, r.Calls, number(100*r.Hits, 1) + " %", r.Handed, r.Refused, number(r.PerSecond, 0)})
	}
	_, err := fmt.Fprintf(out, "%s\n%d keys of %d bytes; a worker's cache holds a quarter of them.\n", t.Render(), cfg.Keys, zipfBytes)
	return err
}

// PlacementConfig says which pool is simulated.
type PlacementConfig struct {
	poolsim.Simulation
	// JSON has one JSON object written for each row, instead of a table.
	JSON bool
}

// A PlacementRow is an outcome of the simulation.
type PlacementRow struct {
	Bench string `json:"bench"` // "placement"
	Case  string `json:"case"`
	poolsim.Outcome
}

// Placement simulates a pool with placement on and off, without a server.
func Placement(cfg PlacementConfig, out io.Writer) error {
	var rows []PlacementRow
	for _, off := range []bool{false, true} {
		row := PlacementRow{Bench: "placement", Case: "on"}
		if off {
			row.Case = "off"
		}
		cfg.Off = off
		row.Outcome = cfg.Run()
		rows = append(rows, row)
	}
	if cfg.JSON {
		return encodeAll(out, rows)
	}
	t := newTable(table.Row{"placement", "found in cache", "busiest/mean", "handed over", "refused", "deaths"})
	for _, r := range rows {
		t.AppendRow(table.Row{r.Case, number(100*r.Hits, 1) + " %", number(r.Spread, 2), number(100*r.Handed, 1) + " %", number(100*r.Refused, 1) + " %", r.Deaths})
	}
	_, err := fmt.Fprintln(out, t.Render())
	return err
}

// zipfRole reads a role of zipfPool's, with the bytes of its cache.
func zipfRole(role string, bytes string) (func(context.Context, *broker.Broker, func()) error, error) {
	n, err := strconv.ParseInt(bytes, 10, 64)
	if err != nil || n <= 0 || role != roleZipfOn && role != roleZipfOff {
		return nil, &wire.Error{Op: "role", Kind: wire.KindBadArgument, Name: role, Msg: "no such role"}
	}
	return func(ctx context.Context, b *broker.Broker, ready func()) error {
		return serveZipf(ctx, b, role, n, ready)
	}, nil
}
