package paper

import (
	"context"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"

	"github.com/cloudburst-nats/cloudburst/examples/gossip"
)

// GossipConfig says how often an average is computed. The zero value works.
type GossipConfig struct {
	Common
	// Actors is how many have a value each. Default 10, which is the paper's.
	Actors int
	// Repeats is how many averages are computed in each way. Default 200.
	Repeats int
	// Workers is how many processes run the actors. Default 2.
	Workers int
	// Seed draws the values.
	Seed uint64
}

// A GossipRow is one way to compute an average.
type GossipRow struct {
	Bench   string  `json:"bench"` // "gossip"
	Case    string  `json:"case"`
	Actors  int     `json:"actors"`
	Repeats int     `json:"repeats"`
	P50     float64 `json:"p50_ms"`
	P99     float64 `json:"p99_ms"`
	// Converged is the share of repeats in which all were within 5 % of the average;
	// Worst is how far the worst of all estimates was off, as a share of it.
	Converged float64 `json:"converged"`
	Worst     float64 `json:"worst_error"`
	// Rounds is the mean of how often an actor of gossip sent; 0 of gather.
	Rounds float64 `json:"rounds,omitempty"`
	// Ratio is of P50 to that of gather.
	Ratio float64 `json:"ratio_p50"`
	Paper string  `json:"paper"`
}

// within is how close to the average all have to come.
const within = 0.05

// accuracy adds up how close estimates were.
type accuracy struct {
	repeats   int
	converged int
	worst     float64
	rounds    []int
}

// add takes the estimates of one repeat.
func (a *accuracy) add(mean float64, estimates ...float64) {
	far := 0.0
	for _, e := range estimates {
		far = max(far, math.Abs(e-mean)/mean)
	}
	a.repeats++
	a.worst = max(a.worst, far)
	if far <= within {
		a.converged++
	}
}

func (a *accuracy) meanRounds() float64 {
	if len(a.rounds) == 0 {
		return 0
	}
	sum := 0
	for _, r := range a.rounds {
		sum += r
	}
	return float64(sum) / float64(len(a.rounds))
}

// Gossip measures how long actors take to agree on their average by sending each other
// messages (push-sum), beside a leader that gathers the values from state. It fails if
// a gathered average isn't exact; how many gossiped ones are within 5 % is in the rows.
func Gossip(ctx context.Context, cfg GossipConfig, out io.Writer) error {
	setDefault(&cfg.Actors, 10)
	setDefault(&cfg.Repeats, 200)
	setDefault(&cfg.Workers, 2)
	// All actors run at once, and which worker takes how many is left to chance.
	worker := part{Serves: servesGossip, Slots: cfg.Actors}
	workers := make([]part, cfg.Workers)
	for i := range workers {
		workers[i] = worker
	}
	var gossiped, gathered accuracy
	ways := []*way{
		{name: "gossip", paper: "20 times Cloudburst's gather; 3x faster than gather on DynamoDB, 1.1x than on Redis"},
		{name: "gather", paper: "22x faster than on Redis, 53x than on DynamoDB"},
	}
	err := at(ctx, cfg.Common, func(ctx context.Context, s *site) error {
		ways[0].do = func(ctx context.Context, n int) error {
			values, mean := cfg.values(n)
			estimates, err := gossip.Gossip(ctx, s.client, "gossip-"+strconv.Itoa(n), values)
			means := make([]float64, len(estimates))
			for i, e := range estimates {
				means[i] = e.Mean
				gossiped.rounds = append(gossiped.rounds, e.Rounds)
			}
			if err == nil {
				gossiped.add(mean, means...)
			}
			return err
		}
		ways[1].do = func(ctx context.Context, n int) error {
			values, mean := cfg.values(n)
			got, err := gossip.Gather(ctx, s.client, "gather-"+strconv.Itoa(n), values)
			if err != nil {
				return err
			}
			if math.Abs(got-mean) > 1e-9*mean {
				return fmt.Errorf("gathered %v, want %v", got, mean)
			}
			gathered.add(mean, got)
			return nil
		}
		return race(ctx, ways, cfg.Repeats, min(5, cfg.Repeats), 0)
	}, workers...)
	if err != nil {
		return fmt.Errorf("gossip: %w", err)
	}
	rows := make([]GossipRow, len(ways))
	for i, a := range []*accuracy{&gossiped, &gathered} {
		rows[i] = GossipRow{
			Bench: "gossip", Case: ways[i].name, Paper: ways[i].paper, Actors: cfg.Actors, Repeats: a.repeats,
			P50: ways[i].p(0.5, time.Millisecond), P99: ways[i].p(0.99, time.Millisecond),
			Converged: rounded(float64(a.converged)/float64(max(a.repeats, 1)), 4), Worst: rounded(a.worst, 4), Rounds: rounded(a.meanRounds(), 1),
			Ratio: rounded(ways[i].p(0.5, time.Millisecond)/ways[1].p(0.5, time.Millisecond), 3),
		}
	}
	return show(out, cfg.JSON, rows,
		table.Row{"average", "p50 ms", "p99 ms", "p50 ×", "within 5 %", "worst error", "rounds", "the paper's"},
		func(r GossipRow) table.Row {
			return table.Row{
				r.Case, number(r.P50, 2), number(r.P99, 2), number(r.Ratio, 2), number(100*r.Converged, 1) + " %",
				number(100*r.Worst, 2) + " %", number(r.Rounds, 1), r.Paper,
			}
		},
		fmt.Sprintf("%d actors on %d worker processes, %d averages each way; × is to gather. Actors listen for up to 2 ms a round, and end once their estimate is steady.",
			cfg.Actors, cfg.Workers, rows[0].Repeats))
}

// values returns what the actors of the n-th repeat have, and their average.
func (c GossipConfig) values(n int) (values []float64, mean float64) {
	rng := rand.New(rand.NewPCG(c.Seed, uint64(n))) //nolint:gosec // not negative, and no secret
	values = make([]float64, c.Actors)
	for i := range values {
		values[i] = 1 + 99*rng.Float64()
		mean += values[i] / float64(c.Actors)
	}
	return values, mean
}
