package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// A Row is what was measured of one contender on one transport.
type Row struct {
	Bench     string `json:"bench"` // "call"
	Case      string `json:"case"`
	Transport string `json:"transport"`
	// P50 and P99 are of all operations done one by one, in µs. Those of get are
	// means of 1000 reads each, since one is too short to be timed.
	P50 float64 `json:"p50_us"`
	P99 float64 `json:"p99_us"`
	// PerSecond is the median of the rounds, with many operations under way.
	PerSecond float64 `json:"per_s"`
	// Allocs is how many objects an operation allocates in the process that
	// times it: all parts of it on inprocess and tcp, but for transport
	// processes those of the caller alone (of the worker, for get).
	Allocs float64 `json:"allocs"`
	// RatioP50 and RatioPerSecond are to the contender's floor on the same
	// transport; null where there is none.
	RatioP50       *float64 `json:"ratio_p50"`
	RatioPerSecond *float64 `json:"ratio_per_s"`
	// RatioCall is a DAG's P50 to that of one call; absent elsewhere.
	RatioCall *float64 `json:"ratio_call,omitempty"`
}

// rowsOf sums up what the contenders measured.
func rowsOf(transport string, contenders []*contender) []Row {
	rows := make([]Row, len(contenders))
	byCase := make(map[string]*Row, len(contenders))
	for i, c := range contenders {
		sorted := slices.Sorted(slices.Values(c.Micros))
		rows[i] = Row{
			Bench: "call", Case: c.name, Transport: transport,
			P50: quantile(sorted, 0.5), P99: quantile(sorted, 0.99), PerSecond: median(c.rates),
			Allocs: float64(c.Allocs) / float64(max(c.Ops, 1)),
		}
		byCase[c.name] = &rows[i]
	}
	for i, c := range contenders {
		r := &rows[i]
		if floor := byCase[c.against]; floor != nil {
			r.RatioP50 = ratio(r.P50, floor.P50)
			r.RatioPerSecond = ratio(r.PerSecond, floor.PerSecond)
		}
		if call := byCase[caseCall]; call != nil && c.name == caseDAG {
			r.RatioCall = ratio(r.P50, call.P50)
		}
	}
	for i := range rows {
		rows[i].round()
	}
	return rows
}

func ratio(a, b float64) *float64 {
	if b == 0 {
		return nil
	}
	r := a / b
	return &r
}

// round drops the digits that mean nothing; ratios are taken before.
func (r *Row) round() {
	to := func(v *float64, digits float64) {
		if v != nil {
			*v = math.Round(*v*digits) / digits
		}
	}
	to(&r.P50, 1000)
	to(&r.P99, 1000)
	to(&r.PerSecond, 1)
	to(&r.Allocs, 100)
	to(r.RatioP50, 1000)
	to(r.RatioPerSecond, 1000)
	to(r.RatioCall, 1000)
}

// writeMachine says what was run, and on what.
func writeMachine(out io.Writer, args []string) error {
	command := strings.Join(append([]string{filepath.Base(args[0])}, args[1:]...), " ")
	_, err := fmt.Fprintf(out, "%s\n%d cores (GOMAXPROCS %d), %s %s/%s\n\n",
		command, runtime.NumCPU(), runtime.GOMAXPROCS(0), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}

// write shows the rows of one transport.
func write(out io.Writer, rows []Row, asJSON bool) error {
	if asJSON {
		enc := json.NewEncoder(out)
		for _, r := range rows {
			if err := enc.Encode(r); err != nil {
				return err
			}
		}
		return nil
	}
	t := table.NewWriter()
	t.SetStyle(table.StyleLight)
	t.Style().Format.Header = text.FormatDefault
	t.AppendHeader(table.Row{"transport", "case", "p50 µs", "p99 µs", "per second", "allocs", "p50 ×", "per second ×", "p50 × call"})
	var columns []table.ColumnConfig
	for n := 3; n <= 9; n++ {
		columns = append(columns, table.ColumnConfig{Number: n, Align: text.AlignRight, AlignHeader: text.AlignRight})
	}
	t.SetColumnConfigs(columns)
	for _, r := range rows {
		t.AppendRow(table.Row{
			r.Transport, r.Case, micros(r.P50), micros(r.P99), fmt.Sprintf("%.0f", r.PerSecond), number(r.Allocs, 1),
			times(r.RatioP50), times(r.RatioPerSecond), times(r.RatioCall),
		})
	}
	_, err := fmt.Fprintln(out, t.Render())
	return err
}

// micros shows three digits of what is short, and tenths of the rest.
func micros(v float64) string {
	if v == 0 { // not measured
		return ""
	}
	if v < 1 {
		return number(v, 3)
	}
	return number(v, 1)
}

func number(v float64, digits int) string { return strconv.FormatFloat(v, 'f', digits, 64) }

func times(r *float64) string {
	if r == nil {
		return ""
	}
	return number(*r, 2)
}
