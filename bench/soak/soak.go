// Package soak runs a mixed load for long and tells what grows.
//
// It runs calls, DAGs, messages, transactions and short-lived clients against a server and
// two workers in the same process. At each sample it measures the heap after a collection,
// the goroutines, the subjects of each stream, and how long operations took. What is higher
// at the end than soon after the beginning grows: one day it fills the memory or the disk.
package soak

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"

	"github.com/cloudburst-nats/cloudburst"
	"github.com/cloudburst-nats/cloudburst/broker"
	"github.com/cloudburst-nats/cloudburst/broker/wire"
)

// Config says how long a mixed load runs. The zero value takes half an hour.
type Config struct {
	// For is how long. Default 30 min.
	For time.Duration
	// Samples is how often everything is measured. Default 60, and at least 10.
	Samples int
	// Rate is how many operations a second each kind of load makes at most. Default 25.
	Rate int
	// Latencies says whether latencies must be flat as well, which they only are on a
	// machine that does nothing else. They are always shown.
	Latencies bool
	// JSON has one JSON object written for each figure, instead of a table.
	JSON bool
	// Store is the directory of the server's data, which is removed. Default: of the system.
	Store string
	// Progress, if set, is told of every sample.
	Progress func(line string)
}

func (c Config) withDefaults() Config {
	c.For = cmp.Or(c.For, 30*time.Minute)
	c.Samples = max(cmp.Or(c.Samples, 60), leastSamples)
	c.Rate = cmp.Or(c.Rate, 25)
	if c.Progress == nil {
		c.Progress = func(string) {}
	}
	return c
}

// leastDuplicates is the least that a platform takes, with some to spare.
const leastDuplicates = 70 * time.Second

// errNotFlat is what a soak ends with that has grown.
var errNotFlat = errors.New("the soak isn't flat: what grows will fill the memory or the disk")

// Run runs a mixed load against a server and two workers in this process, and measures the
// heap, the goroutines, and the subjects of each stream meanwhile. It fails if one of them
// is higher at the end than soon after the beginning.
func Run(ctx context.Context, cfg Config, out io.Writer) (err error) {
	cfg = cfg.withDefaults()
	dir, err := os.MkdirTemp(cfg.Store, "cloudburst-soak-")
	if err != nil {
		return fmt.Errorf("make store: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	// What is kept for a while must come to its level within the first fifth.
	kept := cfg.For / 8
	server, err := cloudburst.Start(ctx, cloudburst.ServerConfig{
		Listen: "127.0.0.1:0", Store: filepath.Join(dir, "store"),
		Topology: broker.Topology{Results: kept, Runs: kept, Dead: kept, Blobs: kept, Messages: kept, Logs: kept, Duplicates: leastDuplicates},
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Close()) }()
	s := &soak{cfg: cfg, server: server, series: make(map[string]*series)}
	if err := s.run(ctx); err != nil {
		return err
	}
	return s.report(out)
}

// soak is one run of Soak.
type soak struct {
	cfg     Config
	server  *cloudburst.Server
	series  map[string]*series
	counted int // operations up to the last sample

	mu    sync.Mutex // guards what follows
	took  map[string][]float64
	calls int
	bad   int
	first error
}

// run has the load run, and measures it.
func (s *soak) run(ctx context.Context) (err error) {
	ctx, stop := context.WithCancel(ctx)
	var parts sync.WaitGroup
	defer func() { stop(); parts.Wait() }()
	for range 2 {
		if err := s.worker(ctx, &parts); err != nil {
			return err
		}
	}
	client, err := cloudburst.Connect(ctx, s.server.URL())
	if err != nil {
		return err
	}
	defer client.Close()
	if err := client.ApplyDAG(ctx, soakGraph); err != nil {
		return err
	}
	loading, unload := context.WithCancel(ctx)
	var load sync.WaitGroup
	defer func() { unload(); load.Wait() }()
	for kind, one := range soakLoad {
		load.Go(func() {
			s.loop(loading, kind, one.rare, func(n int) error { return one.do(loading, client, s.server.URL(), n) })
		})
	}
	tick := time.NewTicker(s.cfg.For / time.Duration(s.cfg.Samples))
	defer tick.Stop()
	began := time.Now()
	for range s.cfg.Samples {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if err := s.sample(ctx, client, time.Since(began)); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bad > 0 {
		return fmt.Errorf("%d of %d operations failed, the first: %w", s.bad, s.calls, s.first)
	}
	return nil
}

// loop makes operations of one kind, at most Rate a second (or Rate by rare), until ctx ends.
func (s *soak) loop(ctx context.Context, kind string, rare int, one func(n int) error) {
	tick := time.NewTicker(time.Second * time.Duration(max(rare, 1)) / time.Duration(s.cfg.Rate))
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		began := time.Now()
		err := one(n)
		if ctx.Err() != nil {
			return
		}
		s.mu.Lock()
		s.calls++
		if err != nil {
			s.bad++
			s.first = cmp.Or(s.first, err)
		}
		if s.took == nil {
			s.took = make(map[string][]float64)
		}
		s.took[kind] = append(s.took[kind], float64(time.Since(began).Microseconds())/1000)
		s.mu.Unlock()
	}
}

// The bounds of what is flat. Figures of memory and subjects are strict, but for what comes
// and goes. Latencies are generous: machines are noisy.
const (
	flatRatio   = 1.1
	heapSlack   = 4  // MiB
	smallSlack  = 60 // goroutines, or subjects
	slowerRatio = 3  // of a median
	slowerSlack = 5  // ms
)

// sample measures everything once.
func (s *soak) sample(ctx context.Context, client *cloudburst.Client, passed time.Duration) error {
	runtime.GC()
	runtime.GC() // what the first one finalized
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	heap := float64(m.HeapAlloc) / (1 << 20)
	s.add("heap, MiB", heap, flatRatio, heapSlack)
	s.add("goroutines", float64(runtime.NumGoroutine()), flatRatio, smallSlack)
	list := client.Broker().JetStream().ListStreams(ctx)
	most := ""
	subjects := 0.0
	for info := range list.Info() {
		n := float64(info.State.NumSubjects)
		s.add("subjects of "+info.Config.Name, n, flatRatio, smallSlack)
		if n > subjects {
			most, subjects = info.Config.Name, n
		}
	}
	if err := list.Err(); err != nil {
		return fmt.Errorf("list streams: %w", err)
	}
	s.mu.Lock()
	took, calls := s.took, s.calls
	s.took = nil
	s.mu.Unlock()
	s.add("operations", float64(calls-s.counted), 2, 0) // shown, so that nobody takes a slower load for a flat one
	s.counted = calls
	for kind := range soakLoad {
		if values := took[kind]; len(values) > 0 {
			s.add(kind+", median ms", median(values), slowerRatio, slowerSlack)
		}
	}
	s.cfg.Progress(fmt.Sprintf("%v: %d operations, heap %.1f MiB, %d goroutines, most subjects: %.0f of %s",
		passed.Round(time.Second), calls, heap, runtime.NumGoroutine(), subjects, most))
	return nil
}

func (s *soak) add(what string, value, ratio, slack float64) {
	if s.series[what] == nil {
		s.series[what] = &series{what: what, ratio: ratio, slack: slack}
	}
	s.series[what].values = append(s.series[what].values, value)
}

// report writes the trends, and is an error if one rises.
func (s *soak) report(out io.Writer) error {
	var trends []Trend
	var grown []string
	for _, what := range slices.Sorted(maps.Keys(s.series)) {
		one := s.series[what]
		if len(one.values) < leastSamples {
			continue // a stream that came late
		}
		t, err := one.trend()
		if err != nil {
			return err
		}
		trends = append(trends, t)
		if what == "operations" && (t.Late > t.Early*flatRatio || t.Early > t.Late*flatRatio) {
			grown = append(grown, fmt.Sprintf("operations: from %.0f to %.0f a sample, so the other figures tell little: the machine must keep up with the load", t.Early, t.Late))
			continue
		}
		if latency := strings.HasSuffix(what, " ms"); !t.Flat && (s.cfg.Latencies || !latency) {
			grown = append(grown, fmt.Sprintf("%s: from %.1f to %.1f, %.1f at most", what, t.Early, t.Late, t.Most))
		}
	}
	err := write(out, trends, s.cfg.JSON)
	if len(grown) > 0 {
		err = errors.Join(err, &wire.Error{Op: "soak", Kind: wire.KindInvalid, Msg: strings.Join(grown, "; "), Err: errNotFlat})
	}
	return err
}

func write(out io.Writer, trends []Trend, asJSON bool) error {
	if asJSON {
		enc := json.NewEncoder(out)
		for _, t := range trends {
			if err := enc.Encode(t); err != nil {
				return fmt.Errorf("write trends: %w", err)
			}
		}
		return nil
	}
	t := table.NewWriter()
	t.SetStyle(table.StyleLight)
	t.AppendHeader(table.Row{"figure", "second fifth", "last fifth", "at most", "flat"})
	for _, row := range trends {
		t.AppendRow(table.Row{row.What, fmt.Sprintf("%.1f", row.Early), fmt.Sprintf("%.1f", row.Late), fmt.Sprintf("%.1f", row.Most), row.Flat})
	}
	_, err := fmt.Fprintln(out, t.Render())
	return err
}
