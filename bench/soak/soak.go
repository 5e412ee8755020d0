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
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"

	"github.com/cloudburst-nats/cloudburst"
	"github.com/cloudburst-nats/cloudburst/broker"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// Config says how long a mixed load runs. The zero value takes half an hour.
type Config struct {
	// For is how long. Default 30 min.
	For time.Duration
	// Samples is how often everything is measured. Default 60, and at least 10.
	Samples int
	// Rate is how many operations a second each kind of load makes at most. Default 25.
	Rate int
	// Kept is how long the platform keeps results, records of transactions and all else that
	// it keeps for a while. Default: a tenth of For. With more than a fifth of For the results
	// rise during all of the run, which shows that a rise is found.
	Kept time.Duration
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
	c.Kept = cmp.Or(c.Kept, c.For/10) // the last of it is removed half as long afterwards
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
	server, err := start(ctx, dir, keptFor(cfg.Kept))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Close()) }()
	s := &soak{cfg: cfg, server: server, series: make(map[string]*series)}
	if err := s.run(ctx); err != nil {
		return err
	}
	return errors.Join(s.failed(), s.report(out))
}

// keptFor is a topology that keeps for so long what isn't kept for good.
func keptFor(d time.Duration) broker.Topology {
	return broker.Topology{Results: d, Runs: d, Dead: d, Blobs: d, Messages: d, Logs: d, Duplicates: leastDuplicates}
}

func start(ctx context.Context, dir string, sizes broker.Topology) (*cloudburst.Server, error) {
	return cloudburst.Start(ctx, cloudburst.ServerConfig{Listen: "127.0.0.1:0", Store: filepath.Join(dir, "store"), Topology: sizes})
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
	client, err := s.serve(ctx, &parts)
	if err != nil {
		return err
	}
	defer client.Close()
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
	return nil
}

// serve starts two workers, which end with ctx, and returns a client of theirs.
func (s *soak) serve(ctx context.Context, parts *sync.WaitGroup) (*cloudburst.Client, error) {
	for range 2 {
		if err := s.worker(ctx, parts); err != nil {
			return nil, err
		}
	}
	client, err := cloudburst.Connect(ctx, s.server.URL())
	if err != nil {
		return nil, err
	}
	if err := client.ApplyDAG(ctx, soakGraph); err != nil {
		client.Close()
		return nil, err
	}
	return client, nil
}

// failed is an error if an operation was.
func (s *soak) failed() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bad == 0 {
		return nil
	}
	return fmt.Errorf("%d of %d operations failed, the first: %w", s.bad, s.calls, s.first)
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

// sample measures everything once.
func (s *soak) sample(ctx context.Context, client *cloudburst.Client, passed time.Duration) error {
	now := measureHeap()
	s.add("heap, MiB", now.own, flatRatio, heapSlack, "the ids of the last "+leastDuplicates.String()+", by Topology.Duplicates")
	s.add("buffers of the server, MiB", now.buffers, 1, buffersSlack, "8 MiB for each block of a stream's file that was used within 10 s")
	s.add("goroutines", float64(runtime.NumGoroutine()), flatRatio, smallSlack, "")
	list := client.Broker().JetStream().ListStreams(ctx)
	most := ""
	subjects := 0.0
	for info := range list.Info() {
		n := float64(info.State.NumSubjects)
		s.add("subjects of "+info.Config.Name, n, flatRatio, smallSlack, s.levels(info.Config.Name))
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
	s.add(operations, float64(calls-s.counted), 2, 0, "") // shown, so that nobody takes a slower load for a flat one
	s.counted = calls
	for kind := range soakLoad {
		if values := took[kind]; len(values) > 0 {
			s.add(kind+", median ms", median(values), slowerRatio, slowerSlack, "")
		}
	}
	s.cfg.Progress(fmt.Sprintf("%v: %d operations, heap %.1f MiB, %d goroutines, most subjects: %.0f of %s",
		passed.Round(time.Second), calls, now.own, runtime.NumGoroutine(), subjects, most))
	return nil
}

// buffersSlack is for the blocks of all streams, in MiB: a round that reads through them all
// has one of each.
const buffersSlack = 15 * 8

// levels says what bounds the subjects of a stream.
func (s *soak) levels(stream string) string {
	switch stream {
	case "KV_" + broker.BucketResults:
		return fmt.Sprintf("the results of the last %v, by Topology.Results", s.cfg.Kept)
	case "KV_" + broker.DefaultNamespace:
		return fmt.Sprintf("the keys, and commit records of the last %v, by Topology.Runs", s.cfg.Kept*3/2)
	case broker.StreamRuns:
		return "the runs that go on"
	}
	return ""
}

func (s *soak) add(what string, value, ratio, slack float64, bound string) {
	if s.series[what] == nil {
		s.series[what] = &series{what: what, ratio: ratio, slack: slack, bound: bound}
	}
	s.series[what].values = append(s.series[what].values, value)
}

// report writes the trends, and is an error if one rises.
func (s *soak) report(out io.Writer) error {
	trends, grown, err := judge(s.series, s.cfg.Latencies)
	if err != nil {
		return err
	}
	err = write(out, trends, s.cfg.JSON)
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
	t.AppendHeader(table.Row{"figure", "second fifth", "last fifth", "at most", "flat", "levels off at"})
	for _, row := range trends {
		t.AppendRow(table.Row{row.What, fmt.Sprintf("%.1f", row.Early), fmt.Sprintf("%.1f", row.Late), fmt.Sprintf("%.1f", row.Most), row.Flat, row.Bound})
	}
	_, err := fmt.Fprintln(out, t.Render())
	return err
}
