package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/cloudburst-nats/cloudburst/broker"
	"github.com/cloudburst-nats/cloudburst/kvlattice"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// HotKeyConfig says how long one key is fought for. The zero value works.
type HotKeyConfig struct {
	// Writers are as many workers, each on a connection of its own. Default 8.
	Writers int
	// For is how long a contender writes in a round. Default 2 s.
	For time.Duration
	// Rounds is how often the contenders take turns. Default 3.
	Rounds int
	// Each is how often each of a hundred workers writes the key whose reads are
	// measured then. Default 1,000.
	Each int
	// JSON has one JSON object written for each row, instead of a table.
	JSON bool
	// Store is an existing directory under which the server keeps its data,
	// which is removed in the end. Default: the system's temporary directory.
	Store string
}

func (c HotKeyConfig) withDefaults() HotKeyConfig {
	if c.Writers <= 0 {
		c.Writers = 8
	}
	if c.For <= 0 {
		c.For = 2 * time.Second
	}
	if c.Rounds <= 0 {
		c.Rounds = 3
	}
	if c.Each <= 0 {
		c.Each = 1000
	}
	return c
}

// HotKey measures increments of one key by many writers at once, over loopback:
//
//	cas        read, and write if nobody wrote since, of a plain key-value bucket
//	merge      increments of a counter, merged by each worker's store
//	cas ×16    the same with 16 callers on each connection
//	merge ×16  the same with 16 callers on each worker
//
// Then what a read costs, past any cache, of a key that a hundred workers wrote Each
// times each, beside one of a key that was written once. After each
// the key must hold exactly what was acknowledged; else it fails.
func HotKey(ctx context.Context, cfg HotKeyConfig, out io.Writer) (err error) {
	cfg = cfg.withDefaults()
	if !cfg.JSON {
		if err := writeMachine(out, os.Args); err != nil {
			return err
		}
	}
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	s := &site{fail: fail}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.serveAlone(ctx, cfg.Store); err != nil {
		return err
	}
	cases := []*fight{
		{name: caseCAS, callers: 1, open: s.openCAS},
		{name: caseMerge, against: caseCAS, callers: 1, open: s.openMerge},
		{name: caseCAS + many, callers: 16, open: s.openCAS},
		{name: caseMerge + many, against: caseCAS + many, callers: 16, open: s.openMerge},
	}
	for round := range cfg.Rounds {
		for _, f := range cases {
			key := fmt.Sprintf("hot-%s-%d", strconv.Itoa(f.callers)+f.name[:3], round)
			rate, err := f.run(ctx, cfg, key)
			if err != nil {
				return fmt.Errorf("%s: %w", f.name, err)
			}
			f.rates = append(f.rates, rate)
		}
	}
	rows := hotRows(cases)
	for _, c := range churns() {
		more, err := s.churn(ctx, c, cfg.Each)
		if err != nil {
			return err
		}
		rows = append(rows, more...)
	}
	return write(out, rows, cfg.JSON)
}

const (
	caseCAS   = "cas"
	caseMerge = "merge"
	many      = " ×16"
)

// serveAlone brings a server up, without workers.
func (s *site) serveAlone(ctx context.Context, under string) error {
	dir, err := os.MkdirTemp(under, "cloudburst-bench-")
	if err != nil {
		return fmt.Errorf("make store: %w", err)
	}
	s.ends = append(s.ends, func() error { return os.RemoveAll(dir) })
	p, err := startPlatform(ctx, dir, "127.0.0.1:0")
	if err != nil {
		return err
	}
	s.url = p.server.URL()
	s.ends = append(s.ends, p.close)
	return nil
}

// A fight is a contender for the hot key.
type fight struct {
	name, against string
	callers       int // of each writer
	// open makes one writer: how it adds one to the key, and how it reads it.
	open  func(ctx context.Context, key string) (*fighter, error)
	rates []float64
}

type fighter struct {
	add  func(ctx context.Context) error
	read func(ctx context.Context) (int64, error)
	end  func() error
}

// run has all writers add for a while, and returns how often they did in a second.
func (f *fight) run(ctx context.Context, cfg HotKeyConfig, key string) (rate float64, err error) {
	fighters := make([]*fighter, cfg.Writers)
	for i := range fighters {
		if fighters[i], err = f.open(ctx, key); err != nil {
			return 0, err
		}
		end := fighters[i].end
		defer func() { err = errors.Join(err, end()) }()
	}
	var added atomic.Int64
	var over atomic.Bool
	errs := make(chan error, cfg.Writers*f.callers)
	var all sync.WaitGroup
	began := time.Now()
	for _, w := range fighters {
		for range f.callers {
			all.Go(func() {
				for !over.Load() {
					if err := w.add(ctx); err != nil {
						errs <- err
						return
					}
					added.Add(1)
				}
			})
		}
	}
	timer := time.AfterFunc(cfg.For, func() { over.Store(true) })
	defer timer.Stop()
	all.Wait()
	took := time.Since(began)
	select {
	case err := <-errs:
		return 0, err
	default:
	}
	now, err := fighters[0].read(ctx)
	if err == nil && now != added.Load() {
		err = fmt.Errorf("the key holds %d after %d acknowledged increments", now, added.Load())
	}
	return float64(added.Load()) / took.Seconds(), err
}

// openCAS adds one to the number in a plain bucket, and tries again when another
// was faster.
func (s *site) openCAS(ctx context.Context, key string) (*fighter, error) {
	b, err := broker.Connect(ctx, broker.Config{Name: "bench cas", URL: s.url})
	if err != nil {
		return nil, err
	}
	js, err := jetstream.New(b.Conn())
	if err != nil {
		return nil, err
	}
	kv, err := js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: "bench_cas"})
	if err != nil {
		return nil, fmt.Errorf("make bucket: %w", err)
	}
	read := func(ctx context.Context) (int64, uint64, error) {
		e, err := kv.Get(ctx, key)
		if errors.Is(err, jetstream.ErrKeyNotFound) {
			return 0, 0, nil
		}
		if err != nil {
			return 0, 0, err
		}
		n, err := strconv.ParseInt(string(e.Value()), 10, 64)
		return n, e.Revision(), err
	}
	return &fighter{
		add: func(ctx context.Context) error {
			for {
				n, rev, err := read(ctx)
				if err != nil {
					return err
				}
				_, err = kv.Update(ctx, key, strconv.AppendInt(nil, n+1, 10), rev)
				if !errors.Is(err, jetstream.ErrKeyExists) {
					return err
				}
			}
		},
		read: func(ctx context.Context) (int64, error) { n, _, err := read(ctx); return n, err },
		end:  func() error { b.Close(); return nil },
	}, nil
}

// openMerge is a worker's store, and adds one to a counter.
func (s *site) openMerge(ctx context.Context, key string) (*fighter, error) {
	b, err := broker.Connect(ctx, broker.Config{Name: "bench merge", URL: s.url})
	if err != nil {
		return nil, err
	}
	bucket, err := b.OpenBucket(ctx, benchNamespace)
	if err != nil {
		return nil, err
	}
	writer := "b-" + string(wire.NewRunID()[24:])
	st := kvlattice.New(kvlattice.Config{Writer: writer}, bucket, bucket)
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- st.Run(running) }()
	var sent atomic.Uint64
	return &fighter{
		add: func(ctx context.Context) error {
			n := sent.Add(1)
			c := kvlattice.NewCounter()
			c.AddTotal(writer, n, int64(n))
			_, err := st.Merge(ctx, key, c)
			return err
		},
		read: func(ctx context.Context) (int64, error) {
			l, _, err := kvlattice.New(kvlattice.Config{}, bucket, nil).Read(ctx, key, 0)
			if c, ok := l.(*kvlattice.Counter); ok {
				return c.Total(), err
			}
			return 0, err
		},
		end: func() error {
			stop()
			err := <-ended
			b.Close()
			return err
		},
	}, nil
}

// benchNamespace holds what benchmarks write.
const benchNamespace = "bench"

func hotRows(fights []*fight) []Row {
	byName := make(map[string]*fight, len(fights))
	rows := make([]Row, len(fights))
	for i, f := range fights {
		byName[f.name] = f
		rows[i] = Row{Bench: "hotkey", Case: f.name, Transport: TCP, PerSecond: median(f.rates)}
		if floor := byName[f.against]; floor != nil {
			rows[i].RatioPerSecond = ratio(rows[i].PerSecond, median(floor.rates))
		}
		rows[i].round()
	}
	return rows
}
