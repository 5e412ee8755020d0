package paper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"

	"github.com/cloudburst-nats/cloudburst"
	"github.com/cloudburst-nats/cloudburst/examples/basic"
)

// CompositionConfig says how long two functions are composed. The zero value is the
// paper's.
type CompositionConfig struct {
	Common
	// Calls is how many are made of each way one by one, and as many again in
	// parallel. Default 1,000.
	Calls int
	// Callers is how many call in parallel. Default 8.
	Callers int
	// Rounds is how often the ways take turns. Default 5.
	Rounds int
}

// A CompositionRow is one way to compose.
type CompositionRow struct {
	Bench string  `json:"bench"` // "composition"
	Case  string  `json:"case"`
	P50   float64 `json:"p50_us"` // one by one
	P99   float64 `json:"p99_us"`
	// PerSecond is in parallel, the median of the rounds.
	PerSecond float64 `json:"per_s"`
	// RatioP50 and RatioPerSecond are to the plain NATS chain of the same run.
	RatioP50       float64 `json:"ratio_p50"`
	RatioPerSecond float64 `json:"ratio_per_s"`
	Paper          string  `json:"paper"`
}

// Composition measures square(increment(x)) over two workers, composed in six ways:
//
//	nats chain     two plain NATS micro services: the first asks the second
//	dag fused      a DAG whose functions one worker hosts, and runs in one go
//	dag hop        a DAG over two workers
//	caller         a caller that calls one function and then the other
//	future         a function that calls the other and waits for its future
//	kv bucket      two micro services that hand the state on in a plain KV bucket
//
// All but fused use both workers, a function on each.
func Composition(ctx context.Context, cfg CompositionConfig, out io.Writer) error {
	setDefault(&cfg.Calls, 1000)
	setDefault(&cfg.Callers, 8)
	setDefault(&cfg.Rounds, 5)
	var ways []*way
	err := at(ctx, cfg.Common, func(ctx context.Context, s *site) (err error) {
		if ways, err = compositions(ctx, s.client); err != nil {
			return err
		}
		return race(ctx, ways, cfg.Calls, min(cfg.Rounds, cfg.Calls), cfg.Callers)
	}, part{Serves: servesFar}, part{Serves: servesNear})
	if err != nil {
		return fmt.Errorf("composition: %w", err)
	}
	floor := ways[0]
	rows := make([]CompositionRow, len(ways))
	for i, w := range ways {
		rows[i] = CompositionRow{
			Bench: "composition", Case: w.name, Paper: w.paper,
			P50: w.p(0.5, time.Microsecond), P99: w.p(0.99, time.Microsecond), PerSecond: w.perSecond(),
			RatioP50:       rounded(w.p(0.5, time.Microsecond)/floor.p(0.5, time.Microsecond), 3),
			RatioPerSecond: rounded(w.perSecond()/floor.perSecond(), 3),
		}
	}
	return show(out, cfg.JSON, rows,
		table.Row{"square(increment(x))", "p50 µs", "p99 µs", "per second", "p50 ×", "per second ×", "the paper's"},
		func(r CompositionRow) table.Row {
			return table.Row{r.Case, number(r.P50, 0), number(r.P99, 0), number(r.PerSecond, 0), number(r.RatioP50, 2), number(r.RatioPerSecond, 2), r.Paper}
		},
		fmt.Sprintf("%d calls one by one, and as many by %d callers; × is to the nats chain, which stores nothing: a call of it that meets a crash is lost.", cfg.Calls, cfg.Callers))
}

// The functions and services of a composition. The first worker has increment and
// square, the second square under another name.
const (
	far           = "far-"
	fnFarSquare   = far + "square"
	fnIncrement   = "increment"
	fnByFuture    = "square-by-future"
	dagHop        = "compose-hop"
	plainChain    = "plain.chain"        // increments, and asks plainSquare
	plainSquare   = "plain.square"       // squares
	plainToBucket = "plain.kv.increment" // increments into the bucket
	plainFrom     = "plain.kv.square"    // squares what is in the bucket
	plainBucket   = "PLAIN"
)

// serveNear has the first worker: the example functions, one that calls the second
// worker's, and plain services.
func serveNear(w *cloudburst.Worker, c *cloudburst.Client) error {
	basic.Register(w)
	cloudburst.Handle(w, fnByFuture, func(ctx context.Context, s *cloudburst.Session, x float64) (float64, error) {
		squared, err := cloudburst.Go[float64](ctx, s.Client(), fnFarSquare, x+1)
		if err != nil {
			return 0, err
		}
		defer squared.Close()
		return squared.Wait(ctx)
	})
	nc := c.Broker().Conn()
	bucket, err := plainKV(nc)
	if err != nil {
		return err
	}
	return plain(nc, map[string]func(body []byte) ([]byte, error){
		plainChain: func(body []byte) ([]byte, error) {
			x, err := strconv.ParseFloat(string(body), 64)
			if err != nil {
				return nil, err
			}
			squared, err := nc.Request(plainSquare, text64(x+1), hangs)
			if err != nil {
				return nil, err
			}
			return squared.Data, nil
		},
		plainToBucket: func(body []byte) ([]byte, error) {
			x, err := strconv.ParseFloat(string(body), 64)
			if err != nil {
				return nil, err
			}
			key := string(body)
			_, err = bucket.Put(context.Background(), key, text64(x+1))
			return []byte(key), err
		},
	})
}

// serveFar has the second worker.
func serveFar(w *cloudburst.Worker, c *cloudburst.Client) error {
	cloudburst.Handle(w, fnFarSquare, func(_ context.Context, _ *cloudburst.Session, x float64) (float64, error) { return x * x, nil })
	nc := c.Broker().Conn()
	bucket, err := plainKV(nc)
	if err != nil {
		return err
	}
	squared := func(body []byte) ([]byte, error) {
		x, err := strconv.ParseFloat(string(body), 64)
		return text64(x * x), err
	}
	return plain(nc, map[string]func(body []byte) ([]byte, error){
		plainSquare: squared,
		plainFrom: func(key []byte) ([]byte, error) {
			entry, err := bucket.Get(context.Background(), string(key))
			if err != nil {
				return nil, err
			}
			return squared(entry.Value())
		},
	})
}

// plainKV returns a bucket of NATS's own, with no code of ours.
func plainKV(nc *nats.Conn) (jetstream.KeyValue, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), hangs)
	defer cancel()
	bucket, err := js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: plainBucket})
	if err != nil {
		return nil, fmt.Errorf("make plain bucket: %w", err)
	}
	return bucket, nil
}

// plain serves micro services that end with the connection. Requests run side by side.
func plain(nc *nats.Conn, services map[string]func([]byte) ([]byte, error)) error {
	service, err := micro.AddService(nc, micro.Config{Name: "plain", Version: "1.0.0"})
	if err != nil {
		return fmt.Errorf("serve plain: %w", err)
	}
	for subject, do := range services {
		handle := micro.HandlerFunc(func(r micro.Request) {
			go func() {
				answer, err := do(r.Data())
				if err != nil {
					_ = r.Error("500", err.Error(), nil) // who asked hears of it, or hangs, and says so
					return
				}
				_ = r.Respond(answer)
			}()
		})
		name := strings.ReplaceAll(subject, ".", "-") // a name has no dots
		if err := service.AddEndpoint(name, handle, micro.WithEndpointSubject(subject)); err != nil {
			return fmt.Errorf("serve plain %s: %w", subject, err)
		}
	}
	return nc.Flush()
}

// compositions returns all ways; the floor is the first.
func compositions(ctx context.Context, c *cloudburst.Client) ([]*way, error) {
	fused := basic.Compose()
	hop := &cloudburst.Graph{
		Name: dagHop, Nodes: []cloudburst.Node{{Name: fnIncrement}, {Name: fnFarSquare}},
		Edges: []cloudburst.Edge{{From: fnIncrement, To: fnFarSquare}},
	}
	if err := errors.Join(c.ApplyDAG(ctx, fused), c.ApplyDAG(ctx, hop)); err != nil {
		return nil, err
	}
	nc := c.Broker().Conn()
	call := func(name string) func(context.Context, float64) (float64, error) {
		return func(ctx context.Context, x float64) (float64, error) {
			return cloudburst.Call[float64](ctx, c, name, x)
		}
	}
	request := func(ctx context.Context, subject string, body []byte) ([]byte, error) {
		answer, err := nc.RequestWithContext(ctx, subject, body)
		if err != nil {
			return nil, err
		}
		if why := answer.Header.Get(micro.ErrorHeader); why != "" {
			return nil, errors.New(why)
		}
		return answer.Data, nil
	}
	parsed := func(body []byte, err error) (float64, error) {
		if err != nil {
			return 0, err
		}
		return strconv.ParseFloat(string(body), 64)
	}
	composed := func(name, paper string, of func(ctx context.Context, x float64) (float64, error)) *way {
		return &way{name: name, paper: paper, do: func(ctx context.Context, n int) error {
			x := float64(n)
			got, err := of(ctx, x)
			if err == nil && got != (x+1)*(x+1) {
				err = fmt.Errorf("square(increment(%v)) = %v", x, got)
			}
			return err
		}}
	}
	return []*way{
		composed("nats chain", "", func(ctx context.Context, x float64) (float64, error) {
			return parsed(request(ctx, plainChain, text64(x)))
		}),
		composed("dag fused", "as fast as Dask, 5x faster than one Lambda; Step Functions 82x slower", call(fused.Name)),
		composed("dag hop", "", call(hop.Name)),
		composed("caller", "", func(ctx context.Context, x float64) (float64, error) {
			more, err := call(fnIncrement)(ctx, x)
			if err != nil {
				return 0, err
			}
			return call(fnFarSquare)(ctx, more)
		}),
		composed("future", "", call(fnByFuture)),
		composed("kv bucket", "", func(ctx context.Context, x float64) (float64, error) {
			key, err := request(ctx, plainToBucket, text64(x))
			if err != nil {
				return 0, err
			}
			return parsed(request(ctx, plainFrom, key))
		}),
	}, nil
}

func text64(x float64) []byte { return strconv.AppendFloat(nil, x, 'f', -1, 64) }

func setDefault(n *int, to int) {
	if *n <= 0 {
		*n = to
	}
}
