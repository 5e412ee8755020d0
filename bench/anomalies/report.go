package anomalies

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/cloudburst-nats/cloudburst"
	"github.com/cloudburst-nats/cloudburst/consistency/history"
)

// A Report is what an experiment found.
type Report struct {
	Seed uint64
	Rows []Row // a level each
	// Anomalies are, by level, how many reads at level lww broke that level's
	// promise: those of one key by one execution count once. The causal levels
	// promise what CausalKey does and more, so their counts include its. It is nil
	// if lww wasn't run.
	Anomalies map[string]int
	// Broken are the promises that levels broke: at most one a level, as short as
	// it could be made.
	Broken []Broken
	// Kills is how many workers were killed.
	Kills int
	// Pinned is how many bytes of versions live workers still kept for runs, some
	// seconds after all runs had ended.
	Pinned int64
}

// A Row is what was measured of one level.
type Row struct {
	Bench string `json:"bench"` // "consistency"
	Case  string `json:"case"`  // the level
	// Runs is how many requests were made; Executions, how many executions of
	// nodes there were, those included that came to nothing.
	Runs       int `json:"runs"`
	Executions int `json:"executions"`
	// P50 and P99 are of the time from call to result, in µs, divided by the nodes
	// of the DAG's longest path.
	P50 float64 `json:"p50_us"`
	P99 float64 `json:"p99_us"`
	// RatioP50 and RatioP99 are to level lww; null if that wasn't run.
	RatioP50 *float64 `json:"ratio_p50"`
	RatioP99 *float64 `json:"ratio_p99"`
	// PerSecond is how many runs ended in a second.
	PerSecond float64 `json:"per_s"`
	// Restarts is how often runs began again; Failed, how many gave up at that.
	Restarts int `json:"restarts"`
	Failed   int `json:"failed"`
	// Edges is how many messages carried a run from worker to worker; SessionP50
	// and SessionP99 are of the bytes of session metadata in each.
	Edges      int `json:"edges"`
	SessionP50 int `json:"session_p50_bytes"`
	SessionP99 int `json:"session_p99_bytes"`
	// Violations is how often the level's own promise was broken.
	Violations int `json:"violations"`
	// Anomalies is how many reads at level lww broke this level's promise; null if
	// that wasn't run, or this is it.
	Anomalies *int `json:"anomalies_at_lww"`

	// Kills and Pinned are those of the whole experiment, as in its Report.
	Kills  int   `json:"kills"`
	Pinned int64 `json:"pinned_bytes"`
}

// Broken is a promise that a level didn't keep.
type Broken struct {
	Violation history.Violation
	History   *history.History // the shortest found that shows it
}

// report checks the histories and sums up.
func (x *experiment) report(ctx context.Context) (*Report, error) {
	if err := x.traffic.close(); err != nil {
		return nil, err
	}
	histories, err := x.histories(ctx)
	if err != nil {
		return nil, err
	}
	r := &Report{Seed: x.cfg.Seed, Kills: x.kills, Pinned: x.pinned}
	edges := x.traffic.edges()
	for _, level := range x.cfg.Levels {
		h := histories[level]
		row := x.row(level, edges[level])
		row.Kills, row.Pinned = x.kills, x.pinned
		row.Executions = len(h.Executions)
		if causal(level) {
			row.Executions-- // the audit
		}
		if found := history.Check(level, h); len(found) > 0 {
			row.Violations = len(found)
			r.Broken = append(r.Broken, Broken{found[0], history.Shrink(level, h)})
		}
		if level == cloudburst.LWW {
			r.Anomalies = history.Anomalies(h)
		}
		r.Rows = append(r.Rows, row)
	}
	r.compare()
	return r, nil
}

// row sums up what the clients saw of a level.
func (x *experiment) row(level string, edges []int) Row {
	runs := x.runs[level]
	row := Row{Bench: "consistency", Case: level, Runs: len(runs), Edges: len(edges)}
	micros := make([]float64, 0, len(runs))
	for _, run := range runs {
		row.Restarts += run.restarts
		if run.failed {
			row.Failed++
			continue
		}
		micros = append(micros, run.perNode)
	}
	row.P50, row.P99 = quantiles(micros)
	row.SessionP50, row.SessionP99 = quantiles(edges)
	row.PerSecond = float64(len(runs)) / x.took[level].Seconds()
	return row
}

// quantiles returns the median and the 99th percentile of values, which it sorts.
func quantiles[N int | float64](values []N) (p50, p99 N) {
	if len(values) == 0 {
		return 0, 0
	}
	slices.Sort(values)
	return values[len(values)/2], values[len(values)*99/100]
}

// compare sets the rows beside level lww's, and drops the digits that mean nothing.
func (r *Report) compare() {
	var base *Row
	if i := slices.IndexFunc(r.Rows, func(row Row) bool { return row.Case == cloudburst.LWW }); i >= 0 {
		was := r.Rows[i] // before it is rounded
		base = &was
	}
	for i := range r.Rows {
		row := &r.Rows[i]
		if base != nil {
			row.RatioP50, row.RatioP99 = ratio(row.P50, base.P50), ratio(row.P99, base.P99)
			if row.Case != cloudburst.LWW {
				n := r.Anomalies[row.Case]
				row.Anomalies = &n
			}
		}
		row.P50, row.P99, row.PerSecond = round(row.P50, 10), round(row.P99, 10), round(row.PerSecond, 10)
	}
}

func ratio(a, b float64) *float64 {
	if b == 0 {
		return nil
	}
	r := round(a/b, 1000)
	return &r
}

func round(v, digits float64) float64 { return math.Round(v*digits) / digits }

// paper is what the paper saw at a level in 4,000 requests on its machines.
type paper struct{ anomalies, p99, session string }

func papers(level string) paper {
	switch level {
	case cloudburst.LWW:
		return paper{"", "1.0", ""}
	case cloudburst.Repeatable:
		return paper{"46", "1.8", ""}
	case cloudburst.CausalKey:
		return paper{"904", "5.3", ""} // a level session-causal's 9 is 1.7 times as much
	case cloudburst.Causal:
		return paper{"939", "5.3", ""}
	case cloudburst.SessionCausal:
		return paper{"1043", "9.0", "624 / 7100"}
	}
	return paper{}
}

// Write shows the report: tables beside the paper's figures, or an object a row.
func (r *Report) Write(out io.Writer, asJSON bool) error {
	if asJSON {
		enc := json.NewEncoder(out)
		for _, row := range r.Rows {
			if err := enc.Encode(row); err != nil {
				return err
			}
		}
		return nil
	}
	cost := newTable(10, "level", "p50 µs/node", "p99 µs/node", "p50 × lww", "p99 × lww", "paper", "per second", "restarts", "failed", "session B p50 / p99", "paper")
	kept := newTable(4, "level", "runs", "executions", "violations", "reads at lww that break it", "paper, in 4000 runs")
	for _, row := range r.Rows {
		was := papers(row.Case)
		cost.AppendRow(table.Row{
			row.Case, number(row.P50), number(row.P99), times(row.RatioP50), times(row.RatioP99), was.p99,
			fmt.Sprintf("%.0f", row.PerSecond), row.Restarts, row.Failed, fmt.Sprintf("%d / %d", row.SessionP50, row.SessionP99), was.session,
		})
		kept.AppendRow(table.Row{row.Case, row.Runs, row.Executions, row.Violations, count(row.Anomalies), was.anomalies})
	}
	if _, err := fmt.Fprintf(out, "%s\n%s\nseed %d, %d workers killed, %d bytes still pinned at the end\n", cost.Render(), kept.Render(), r.Seed, r.Kills, r.Pinned); err != nil {
		return err
	}
	return nil
}

// Err is an error that shows each promise that was broken, with the shortest
// history found; nil if all were kept.
func (r *Report) Err() error {
	if len(r.Broken) == 0 {
		return nil
	}
	var msg strings.Builder
	for _, b := range r.Broken {
		fmt.Fprintf(&msg, "\n%s, key %s, run %s: %s\n%s", b.Violation.Level, b.Violation.Key, b.Violation.Run, b.Violation.Message, b.History)
	}
	return fmt.Errorf("%d levels broke their promise; seed %d%s", len(r.Broken), r.Seed, msg.String())
}

func newTable(numbers int, header ...any) table.Writer {
	t := table.NewWriter()
	t.SetStyle(table.StyleLight)
	t.Style().Format.Header = text.FormatDefault
	t.AppendHeader(header)
	columns := make([]table.ColumnConfig, numbers)
	for i := range columns {
		columns[i] = table.ColumnConfig{Number: i + 2, Align: text.AlignRight, AlignHeader: text.AlignRight}
	}
	t.SetColumnConfigs(columns)
	return t
}

func number(v float64) string { return strconv.FormatFloat(v, 'f', 1, 64) }

func times(r *float64) string {
	if r == nil {
		return ""
	}
	return strconv.FormatFloat(*r, 'f', 2, 64)
}

func count(n *int) string {
	if n == nil {
		return ""
	}
	return strconv.Itoa(*n)
}
