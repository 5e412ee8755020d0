package paper

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"

	"github.com/jedib0t/go-pretty/v6/table"

	"github.com/cloudburst-nats/cloudburst"
	"github.com/cloudburst-nats/cloudburst/examples/retwis"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// RetwisConfig says how much the clone is used. The zero value is the paper's: 1,000
// users who follow 50 others each, 5,000 posts, and 20,000 reads of timelines.
type RetwisConfig struct {
	Common
	// Workers are the numbers of worker processes that are measured. Default 1, 2, 4.
	Workers []int
	// Levels are those of all calls. Default lww and causal.
	Levels []string
	// Users, Follows, Posts and Callers are as in retwis.Config.
	Users, Follows, Posts, Callers int
	// Progress, if set, is told what begins.
	Progress io.Writer
}

// A RetwisRow is the clone at one level, on a number of workers.
type RetwisRow struct {
	Bench   string `json:"bench"` // "retwis"
	Case    string `json:"case"`  // level and number of workers
	Level   string `json:"level"`
	Workers int    `json:"workers"`
	// PerSecond is of posts, replies and reads together.
	PerSecond float64 `json:"per_s"`
	ReadP50   float64 `json:"read_p50_ms"`
	ReadP99   float64 `json:"read_p99_ms"`
	PostP50   float64 `json:"post_p50_ms"` // of posts that answer nothing
	PostP99   float64 `json:"post_p99_ms"`
	// Efficiency is PerSecond as a share of Workers times what the fewest workers did
	// each.
	Efficiency float64 `json:"efficiency"`
	// Ahead is how many posts reads found listed on a timeline and not there yet;
	// Orphans, how many replies they showed without the post they answer.
	Ahead   int    `json:"ahead"`
	Orphans int    `json:"orphans"`
	Paper   string `json:"paper"`
}

// Retwis measures the Twitter clone (package retwis) with more and more worker
// processes, at each level, on a fresh platform each. It fails if a call did, or if
// the state in the end isn't what was acknowledged.
func Retwis(ctx context.Context, cfg RetwisConfig, out io.Writer) error {
	if len(cfg.Workers) == 0 {
		cfg.Workers = []int{1, 2, 4}
	}
	slices.Sort(cfg.Workers)
	if cfg.Workers[0] < 1 {
		return &wire.Error{Op: "bench retwis", Kind: wire.KindBadArgument, Name: "workers", Msg: "less than 1"}
	}
	if len(cfg.Levels) == 0 {
		cfg.Levels = []string{cloudburst.LWW, cloudburst.Causal}
	}
	var rows []RetwisRow
	for _, level := range cfg.Levels {
		first := len(rows)
		for _, workers := range cfg.Workers {
			if cfg.Progress != nil {
				fmt.Fprintf(cfg.Progress, "retwis at %s on %d workers\n", level, workers)
			}
			row, err := retwisOne(ctx, cfg, level, workers)
			if err != nil {
				return fmt.Errorf("retwis at %s on %d workers: %w", level, workers, err)
			}
			one := row.PerSecond
			if len(rows) > first {
				one = rows[first].PerSecond
			}
			row.Efficiency = rounded(row.PerSecond/one*float64(cfg.Workers[0])/float64(workers), 3)
			rows = append(rows, row)
		}
	}
	return show(out, cfg.JSON, rows,
		table.Row{"level", "workers", "per second", "efficiency", "read p50 ms", "read p99 ms", "post p50 ms", "post p99 ms", "ahead", "orphans", "the paper's"},
		func(r RetwisRow) table.Row {
			return table.Row{
				r.Level, r.Workers, number(r.PerSecond, 0), number(100*r.Efficiency, 0) + " %", number(r.ReadP50, 2), number(r.ReadP99, 2),
				number(r.PostP50, 2), number(r.PostP99, 2), r.Ahead, r.Orphans, r.Paper,
			}
		},
		`Server, callers and workers share this machine's cores, which bound the scaling.
Ahead are posts that a timeline listed and that couldn't be read yet, orphans are replies
that were shown without the post they answer. All that was acknowledged was verified.`)
}

// retwisOne runs the clone once.
func retwisOne(ctx context.Context, cfg RetwisConfig, level string, workers int) (row RetwisRow, err error) {
	parts := make([]part, workers)
	for i := range parts {
		parts[i] = part{Serves: servesRetwis}
	}
	var report struct {
		Calls []struct {
			Kind   string
			Calls  int
			PerSec float64 `json:"per_s"`
			P50    float64 `json:"p50_us"`
			P99    float64 `json:"p99_us"`
		}
		Ahead, Orphans int
	}
	err = at(ctx, cfg.Common, func(ctx context.Context, s *site) error {
		var out bytes.Buffer
		if err := retwis.Run(ctx, retwis.Config{
			Client: s.client, Level: level, Namespace: namespace, Served: true, Answers: true, JSON: true,
			Users: cfg.Users, Follows: cfg.Follows, Posts: cfg.Posts, Callers: cfg.Callers,
		}, &out); err != nil {
			return err
		}
		return json.Unmarshal(out.Bytes(), &report)
	}, parts...)
	row = RetwisRow{
		Bench: "retwis", Case: fmt.Sprintf("%s, %d", level, workers), Level: level, Workers: workers,
		Ahead: report.Ahead, Orphans: report.Orphans, Paper: retwisPaper(level),
	}
	for _, c := range report.Calls {
		p50, p99 := rounded(c.P50/1000, 3), rounded(c.P99/1000, 3)
		switch c.Kind {
		case "timeline":
			row.ReadP50, row.ReadP99 = p50, p99
		case "post":
			row.PostP50, row.PostP99 = p50, p99
		case "reply":
		default: // the users come before the mix
			continue
		}
		row.PerSecond += c.PerSec
	}
	return row, err
}

func retwisPaper(level string) string {
	switch level {
	case cloudburst.LWW:
		return "27 % over Redis at the median; 30 % below linear at 160 threads"
	case cloudburst.Causal:
		return "4 % over lww at the median, 20 % at p99; anomalies on over 60 % of requests prevented"
	}
	return ""
}
