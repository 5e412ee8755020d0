package deployed

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"

	"github.com/cloudburst-nats/cloudburst"
)

// RuntimesConfig describes a comparison of the runtimes. The zero value works.
type RuntimesConfig struct {
	Calls    int    // timed one by one, of each in a round. Default 1000
	InFlight int    // at once, for throughput. Default 64
	Rounds   int    // how often they take turns. Default 5
	Colds    int    // functions of each that are called for the first time. Default 10
	JSON     bool   // an object a row, instead of a table
	Store    string // existing directory to keep the data under meanwhile
	// Apart has the server and the worker of warm calls be processes, as they are when
	// they are deployed. Else all is one process, in which a native call hardly ever
	// has to wake a thread.
	Apart bool
	// Exe is the program that plays them: with the arguments "role", Role and
	// another one it passes the last one to Serve. Default: this program.
	Exe string
}

func (c RuntimesConfig) withDefaults() RuntimesConfig {
	if c.Calls <= 0 {
		c.Calls = 1000
	}
	if c.InFlight <= 0 {
		c.InFlight = 64
	}
	if c.Rounds <= 0 {
		c.Rounds = 5
	}
	if c.Colds <= 0 {
		c.Colds = 10
	}
	return c
}

// Compared is what came of one contender. Times are medians, in milliseconds; 0 is
// not measured.
type Compared struct {
	Name   string  `json:"name"`
	First  float64 `json:"first_ms"` // first call, on a worker that has to pull and compile the code
	Cold   float64 `json:"cold_ms"`  // first call, on a worker that has both on its disk
	P50    float64 `json:"p50_ms"`   // of a warm call
	P99    float64 `json:"p99_ms"`
	Ratio  float64 `json:"ratio"`  // of P50 to the native function's
	Rate   float64 `json:"rate"`   // warm calls a second
	Memory int64   `json:"memory"` // bytes that a function takes that waits for calls
}

// Runtimes measures a function that squares a number, over loopback TCP, and
// writes what came of it: as Go of the worker's own program, on each runtime, and
// as a program that is executed for each call.
func Runtimes(ctx context.Context, cfg RuntimesConfig, out io.Writer) error {
	cfg = cfg.withDefaults()
	compare := func(ctx context.Context, s *site) error {
		c := &comparison{site: s, cfg: cfg}
		if err := c.run(ctx); err != nil {
			return err
		}
		return writeCompared(out, c.rows(), cfg.JSON)
	}
	if cfg.Apart {
		return apart(ctx, cfg.Exe, cfg.Store, compare)
	}
	return on(ctx, cfg.Store, func(s *site) error { return compare(ctx, s) })
}

// nativeWorker makes a worker whose function is its own.
func nativeWorker(c *cloudburst.Client) *cloudburst.Worker {
	w := cloudburst.NewWorker(c, cloudburst.Pool("native"))
	cloudburst.Handle(w, "square-native", func(_ context.Context, _ *cloudburst.Session, x int) (int, error) { return x * x, nil })
	return w
}

// A contender is one way to run the function.
type contender struct {
	name  string
	image []byte // of one that is deployed, the i-th of several that differ
	call  func(ctx context.Context, x int) (int, error)
	alone bool // not run many at once

	first, cold, warm []time.Duration
	rates             []float64
	memory            int64
}

// comparison is the benchmark under way.
type comparison struct {
	*site
	cfg        RuntimesConfig
	contenders []*contender
}

func (c *comparison) run(ctx context.Context) (err error) {
	c.contenders = append(c.contenders, &contender{name: "native", call: c.caller("square-native")})
	for _, g := range squares() {
		c.contenders = append(c.contenders, &contender{name: g.name, image: g.image, call: c.caller(functionOf(g.name, 0))})
	}
	if err := c.deployAll(ctx); err != nil {
		return err
	}
	// A worker that has never seen any of it, and then one that finds all on its disk.
	const fresh = "fresh"
	if err := c.firstCalls(ctx, fresh, func(x *contender) *[]time.Duration { return &x.first }); err != nil {
		return err
	}
	if err := c.firstCalls(ctx, fresh, func(x *contender) *[]time.Duration { return &x.cold }); err != nil {
		return err
	}
	stop, err := c.serveAll(ctx, fresh)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	programs, err := executed(c.dir)
	if err != nil {
		return err
	}
	c.contenders = append(c.contenders, programs...)
	for range c.cfg.Rounds {
		for _, x := range c.contenders {
			if err := x.round(ctx, c.cfg); err != nil {
				return fmt.Errorf("%s: %w", x.name, err)
			}
		}
	}
	return nil
}

// serveAll serves what is called when it is warm, until stop.
func (c *comparison) serveAll(ctx context.Context, dir string) (stop func() error, err error) {
	if c.apart {
		return play(ctx, c.fail, c.exe, part{URL: c.url, Images: c.images(dir, 0)})
	}
	native, err := c.work(ctx, nativeWorker)
	if err != nil {
		return nil, err
	}
	images, err := c.serve(ctx, dir, 1)
	if err != nil {
		return nil, errors.Join(err, native())
	}
	return func() error { return errors.Join(images(), native()) }, nil
}

func functionOf(contender string, i int) string { return fmt.Sprintf("square-%s-%d", contender, i) }

func (c *comparison) caller(function string) func(context.Context, int) (int, error) {
	return func(ctx context.Context, x int) (int, error) {
		return cloudburst.Call[int](ctx, c.client, function, x)
	}
}

// deployAll deploys every contender some times, each time as another image.
func (c *comparison) deployAll(ctx context.Context) error {
	stop, err := c.serve(ctx, "deploy", 1)
	if err != nil {
		return err
	}
	if err := deployReady(ctx, c.client); err != nil {
		return errors.Join(err, stop())
	}
	for _, x := range c.contenders {
		for i := range c.cfg.Colds {
			if x.image == nil {
				continue
			}
			d := cloudburst.Deployment{Name: functionOf(x.name, i), Image: differently(x.image, i), Check: "5", Want: "25"}
			if _, err := c.client.Deploy(ctx, d); err != nil {
				return errors.Join(err, stop())
			}
		}
	}
	return stop()
}

// firstCalls times the first call of each function on a worker that has just started.
func (c *comparison) firstCalls(ctx context.Context, images string, into func(*contender) *[]time.Duration) error {
	stop, err := c.serve(ctx, images, 1)
	if err != nil {
		return err
	}
	if err := callReady(ctx, c.client); err != nil {
		return errors.Join(err, stop())
	}
	for _, x := range c.contenders {
		if x.image == nil {
			continue
		}
		before := taken()
		for i := range c.cfg.Colds {
			began := time.Now()
			if got, err := c.caller(functionOf(x.name, i))(ctx, i); err != nil || got != i*i {
				return errors.Join(fmt.Errorf("%s: %d squared is %d, %w", x.name, i, got, err), stop())
			}
			samples := into(x)
			*samples = append(*samples, time.Since(began))
		}
		x.memory = (taken() - before) / int64(c.cfg.Colds)
	}
	return stop()
}

// round times calls one by one, and then many at once.
func (x *contender) round(ctx context.Context, cfg RuntimesConfig) error {
	n := cfg.Calls
	if x.alone {
		n = min(n, 50)
	}
	for i := range n {
		began := time.Now()
		if got, err := x.call(ctx, i%1000); err != nil || got != (i%1000)*(i%1000) {
			return fmt.Errorf("%d squared is %d, %w", i%1000, got, err)
		}
		x.warm = append(x.warm, time.Since(began))
	}
	if x.alone {
		return nil
	}
	failed := make(chan error, cfg.InFlight)
	var all sync.WaitGroup
	began := time.Now()
	for range cfg.InFlight {
		all.Go(func() {
			for i := range 2 * n / cfg.InFlight {
				if _, err := x.call(ctx, i); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	all.Wait()
	x.rates = append(x.rates, float64(2*n/cfg.InFlight*cfg.InFlight)/time.Since(began).Seconds())
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}

func (c *comparison) rows() []Compared {
	var rows []Compared
	for _, x := range c.contenders {
		for _, samples := range [][]time.Duration{x.first, x.cold, x.warm} {
			slices.Sort(samples)
		}
		slices.Sort(x.rates)
		row := Compared{Name: x.name, First: at(x.first, 50), Cold: at(x.cold, 50), P50: at(x.warm, 50), P99: at(x.warm, 99), Memory: max(x.memory, 0)}
		if len(x.rates) > 0 {
			row.Rate = x.rates[len(x.rates)/2]
		}
		row.Ratio = row.P50 / at(c.contenders[0].warm, 50)
		rows = append(rows, row)
	}
	return rows
}

func writeCompared(out io.Writer, rows []Compared, asJSON bool) error {
	some := func(format string, v float64) string {
		if v == 0 {
			return ""
		}
		return fmt.Sprintf(format, v)
	}
	header := table.Row{"runtime", "first call ms", "cold ms", "warm p50 ms", "p99 ms", "× native", "calls/s", "KiB idle"}
	return write(out, rows, asJSON, header, func(r Compared) table.Row {
		return table.Row{
			r.Name, some("%.2f", r.First), some("%.2f", r.Cold), some("%.3f", r.P50), some("%.3f", r.P99), some("%.2f", r.Ratio),
			some("%.0f", r.Rate), some("%.0f", float64(r.Memory)/1024),
		}
	})
}
