package bench

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cloudburst-nats/cloudburst"
	"github.com/cloudburst-nats/cloudburst/broker"
)

// LocalityConfig says how reading large values is measured. The zero value takes
// some minutes, and about 1 GB of memory and disk.
type LocalityConfig struct {
	// Elements are the lengths of the ten arrays. Default 1,000 to 1,000,000 by tens.
	Elements []int
	// For is how long each contender is measured at each size. Default 4 s.
	For time.Duration
	// Workers, Keys and Calls are of the Zipf rows: worker processes, keys of 1 KB,
	// calls that are counted. Default 6, 20,000 and 30,000.
	Workers, Keys, Calls int
	// SkipZipf and SkipArrays leave parts out.
	SkipZipf, SkipArrays bool
	// JSON has one JSON object written for each row, instead of tables.
	JSON bool
	// Store and Exe are as in Config.
	Store, Exe string
}

// A LocalityRow is a contender at a size: the sum of ten arrays.
type LocalityRow struct {
	Bench string  `json:"bench"` // "locality"
	Case  string  `json:"case"`
	Bytes int     `json:"bytes"` // of the arrays together
	Calls int     `json:"calls"`
	P50   float64 `json:"p50_ms"`
	P99   float64 `json:"p99_ms"`
	// Ratio is how many times as long as with the arrays cached it takes.
	Ratio float64 `json:"ratio"`
	// Paper is that ratio in the paper, where it tells.
	Paper string `json:"paper,omitempty"`
}

// A ZipfRow is where a pool found the keys that its calls referred to.
type ZipfRow struct {
	Bench     string  `json:"bench"` // "locality"
	Case      string  `json:"case"`
	Refs      int     `json:"refs"` // of each call
	Workers   int     `json:"workers"`
	Calls     int     `json:"calls"`
	Hits      float64 `json:"hits"` // share of references found in the caches
	Handed    uint64  `json:"handed"`
	Refused   uint64  `json:"refused"`
	PerSecond float64 `json:"per_s"`
}

// The contenders.
const (
	localHot     = "references, cached"
	localCold    = "references, not cached"
	localObjects = "JetStream object store"
	localRedis   = "Redis"

	arrays       = 10
	arraysBucket = "bench_arrays"
)

// paperRatios are to hot, at 8 MB and 80 MB (paper section 6.1.2, figure 5). Redis
// and S3 are what its functions read from Lambda, on other machines.
var paperRatios = map[string]map[int]string{
	localCold:    {8_000_000: "10", 80_000_000: "9"},
	localRedis:   {8_000_000: "25 (Lambda)"},
	localObjects: {8_000_000: "79 (Lambda, S3)", 80_000_000: "24 (Lambda, S3)"},
}

func (c LocalityConfig) withDefaults() (LocalityConfig, error) {
	if len(c.Elements) == 0 {
		c.Elements = []int{1_000, 10_000, 100_000, 1_000_000}
	}
	if c.For <= 0 {
		c.For = 4 * time.Second
	}
	if c.Workers <= 0 {
		c.Workers = 6
	}
	if c.Keys <= 0 {
		c.Keys = 20_000
	}
	if c.Calls <= 0 {
		c.Calls = 30_000
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

// Locality measures a function that sums ten arrays which its arguments refer to:
// cached and not, and beside the same function reading them from an object store and
// from Redis. Then it measures how many references a pool finds in its caches.
func Locality(ctx context.Context, cfg LocalityConfig, out io.Writer) (err error) {
	if cfg, err = cfg.withDefaults(); err != nil {
		return err
	}
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	s := &site{fail: fail}
	defer func() { err = errors.Join(err, s.close()) }()
	dir, err := os.MkdirTemp(cfg.Store, "cloudburst-bench-")
	if err != nil {
		return fmt.Errorf("make store: %w", err)
	}
	s.ends = append(s.ends, func() error { return os.RemoveAll(dir) })
	if s.url, err = s.spawn(ctx, cfg.Exe, roleServer, filepath.Join(dir, "store")); err != nil {
		return err
	}
	if !cfg.SkipArrays {
		rows, err := s.localityArrays(ctx, cfg)
		if err != nil {
			return err
		}
		if err := printLocality(cfg, out, rows); err != nil {
			return err
		}
	}
	if cfg.SkipZipf {
		return nil
	}
	rows, err := s.localityZipf(ctx, cfg)
	if err != nil {
		return err
	}
	return printZipf(cfg, out, rows)
}

// A source is where a function has its arrays from.
type source struct {
	name string
	call func(ctx context.Context) (float64, error)
}

func (s *site) localityArrays(ctx context.Context, cfg LocalityConfig) ([]LocalityRow, error) {
	for _, role := range []string{roleHot, roleCold} {
		if _, err := s.spawn(ctx, cfg.Exe, role, s.url); err != nil {
			return nil, err
		}
	}
	b, err := s.connect(ctx, "bench caller")
	if err != nil {
		return nil, err
	}
	client := cloudburst.NewClient(b, nil)
	objects, err := b.JetStream().CreateOrUpdateObjectStore(ctx, jetstream.ObjectStoreConfig{Bucket: arraysBucket})
	if err != nil {
		return nil, fmt.Errorf("make object store: %w", err)
	}
	redis, err := s.redis(ctx)
	if err != nil {
		return nil, err
	}
	var rows []LocalityRow
	for _, n := range cfg.Elements {
		names := make([]string, arrays)
		refs := make([]any, arrays)
		want := 0.0
		for i := range arrays {
			names[i] = fmt.Sprintf("array-%d-%d", n, i)
			refs[i] = cloudburst.Ref(names[i])
			body, sum := array(n, uint64(i))
			want += sum
			if err := client.State().Put(ctx, names[i], cloudburst.Value{Body: body, Type: "application/octet-stream"}); err != nil {
				return nil, err
			}
			if _, err := objects.PutBytes(ctx, names[i], body); err != nil {
				return nil, fmt.Errorf("put object: %w", err)
			}
			if redis != nil {
				if err := redis.set(names[i], body); err != nil {
					return nil, err
				}
			}
		}
		sources := []source{
			{localHot, func(ctx context.Context) (float64, error) {
				return cloudburst.Call[float64](ctx, client, fnSumHot, refs...)
			}},
			{localCold, func(ctx context.Context) (float64, error) {
				return cloudburst.Call[float64](ctx, client, fnSumCold, refs...)
			}},
			{localObjects, func(ctx context.Context) (float64, error) {
				return cloudburst.Call[float64](ctx, client, fnSumObjects, sumFrom{Names: names})
			}},
		}
		if redis != nil {
			sources = append(sources, source{localRedis, func(ctx context.Context) (float64, error) {
				return cloudburst.Call[float64](ctx, client, fnSumRedis, sumFrom{Addr: redis.addr, Names: names})
			}})
		}
		hot := 0.0
		for _, src := range sources {
			took, err := src.measure(ctx, cfg.For, want)
			if err != nil {
				return nil, fmt.Errorf("%s, %d bytes: %w", src.name, arrays*8*n, err)
			}
			slices.Sort(took)
			row := LocalityRow{
				Bench: "locality", Case: src.name, Bytes: arrays * 8 * n, Calls: len(took),
				P50: quantile(took, 0.5), P99: quantile(took, 0.99),
			}
			if src.name == localHot {
				hot = row.P50
			}
			row.Ratio, row.Paper = row.P50/hot, paperRatios[src.name][row.Bytes]
			rows = append(rows, row)
		}
		if redis == nil {
			rows = append(rows, LocalityRow{Bench: "locality", Case: localRedis, Bytes: arrays * 8 * n, Paper: paperRatios[localRedis][arrays*8*n]})
		}
	}
	return rows, nil
}

// measure calls one by one for a while, and returns how many milliseconds each took.
func (s source) measure(ctx context.Context, long time.Duration, want float64) (took []float64, err error) {
	const warm, least = 3, 10
	began := time.Now()
	for n := 0; n < warm+least || time.Since(began) < long; n++ {
		at := time.Now()
		got, err := s.call(ctx)
		if err != nil {
			return nil, err
		}
		if math.Abs(got-want) > 1e-6*math.Abs(want) {
			return nil, fmt.Errorf("the sum is %v, want %v", got, want)
		}
		if n >= warm {
			took = append(took, float64(time.Since(at))/float64(time.Millisecond))
		}
	}
	return took, nil
}

// array returns n floats that nothing compresses, and their sum.
func array(n int, seed uint64) (body []byte, sum float64) {
	rng := rand.New(rand.NewPCG(seed, uint64(n)))
	body = make([]byte, 0, 8*n)
	for range n {
		x := rng.Float64()
		sum += x
		body = binary.LittleEndian.AppendUint64(body, math.Float64bits(x))
	}
	return body, sum
}

// sumOf adds up an array. Four sums keep the processor from waiting for each other's
// end.
func sumOf(body []byte) float64 {
	var a, b, c, d float64
	at := func(i int) float64 { return math.Float64frombits(binary.LittleEndian.Uint64(body[i:])) }
	i := 0
	for ; i+32 <= len(body); i += 32 {
		a, b, c, d = a+at(i), b+at(i+8), c+at(i+16), d+at(i+24)
	}
	for ; i+8 <= len(body); i += 8 {
		a += at(i)
	}
	return a + b + c + d
}

// The functions. Each pool has its own.
const (
	fnSumHot     = "sum"
	fnSumCold    = "sum-cold"
	fnSumObjects = "sum-objects"
	fnSumRedis   = "sum-redis"
)

// sumFrom names arrays that a function reads by itself.
type sumFrom struct {
	Addr  string   `json:"addr,omitempty"`
	Names []string `json:"names"`
}

func sumEach(_ context.Context, _ *cloudburst.Session, arrays []cloudburst.Value) (float64, error) {
	sum := 0.0
	for _, a := range arrays {
		sum += sumOf(a.Body)
	}
	return sum, nil
}

// serveHot is the worker that caches, and serves the functions that read elsewhere.
func serveHot(ctx context.Context, b *broker.Broker, ready func()) error {
	w := cloudburst.NewWorker(cloudburst.NewClient(b, nil), cloudburst.Pool(roleHot))
	cloudburst.Handle(w, fnSumHot, sumEach)
	objects, err := b.JetStream().CreateOrUpdateObjectStore(ctx, jetstream.ObjectStoreConfig{Bucket: arraysBucket})
	if err != nil {
		return fmt.Errorf("make object store: %w", err)
	}
	cloudburst.Handle(w, fnSumObjects, func(ctx context.Context, _ *cloudburst.Session, from sumFrom) (float64, error) {
		sum := 0.0
		for _, name := range from.Names {
			body, err := objects.GetBytes(ctx, name)
			if err != nil {
				return 0, err
			}
			sum += sumOf(body)
		}
		return sum, nil
	})
	clients := newRedisClients()
	defer clients.close()
	cloudburst.Handle(w, fnSumRedis, func(_ context.Context, _ *cloudburst.Session, from sumFrom) (float64, error) {
		sum := 0.0
		err := clients.use(from.Addr, func(c *redisClient) error {
			for _, name := range from.Names {
				body, err := c.get(name)
				if err != nil {
					return err
				}
				sum += sumOf(body)
			}
			return nil
		})
		return sum, err
	})
	return serveReady(ctx, w, ready)
}

// serveCold is a worker whose cache holds nothing.
func serveCold(ctx context.Context, b *broker.Broker, ready func()) error {
	w := cloudburst.NewWorker(cloudburst.NewClient(b, nil), cloudburst.Pool(roleCold), cloudburst.CacheBytes(1))
	cloudburst.Handle(w, fnSumCold, sumEach)
	return serveReady(ctx, w, ready)
}

func serveReady(ctx context.Context, w *cloudburst.Worker, ready func()) error {
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

func printLocality(cfg LocalityConfig, out io.Writer, rows []LocalityRow) error {
	if cfg.JSON {
		return encodeAll(out, rows)
	}
	t := newTable(table.Row{"sum of ten arrays", "in all", "calls", "p50 ms", "p99 ms", "times cached", "in the paper"})
	for i, r := range rows {
		if i > 0 && rows[i-1].Bytes != r.Bytes {
			t.AppendSeparator()
		}
		size := strconv.Itoa(r.Bytes/1000) + " KB"
		if r.Bytes >= 1_000_000 {
			size = strconv.Itoa(r.Bytes/1_000_000) + " MB"
		}
		if r.Calls == 0 {
			t.AppendRow(table.Row{r.Case, size, "", "not installed", "", "", r.Paper})
			continue
		}
		t.AppendRow(table.Row{r.Case, size, r.Calls, number(r.P50, 2), number(r.P99, 2), number(r.Ratio, 1), r.Paper})
	}
	_, err := fmt.Fprintln(out, t.Render())
	return err
}

func encodeAll[T any](out io.Writer, rows []T) error {
	enc := json.NewEncoder(out)
	for _, r := range rows {
		if err := enc.Encode(r); err != nil {
			return err
		}
	}
	return nil
}
