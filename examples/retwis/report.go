package retwis

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// A report is what a run measured and found. Its JSON is what Config.JSON prints.
type report struct {
	Users   int              `json:"users"`
	Follows int              `json:"follows"`
	Callers int              `json:"callers"`
	Calls   []row            `json:"calls"`
	Ahead   int              `json:"ahead"` // posts that a read found listed and could not read yet
	Orphans int              `json:"orphans,omitempty"`
	Stored  map[string]int64 `json:"stored"` // bytes by stream
	Verdict verdict          `json:"verified"`
	Took    float64          `json:"took_s"`
}

// A row is the calls of one kind.
type row struct {
	Kind    kind    `json:"kind"`
	Calls   int     `json:"calls"` // acknowledged
	Errors  int     `json:"errors"`
	Retries int     `json:"retries"` // attempts beyond the first
	PerSec  int     `json:"per_s"`
	P50     float64 `json:"p50_us"`
	P90     float64 `json:"p90_us"`
	P99     float64 `json:"p99_us"`
	Max     float64 `json:"max_us"`
}

// newRow sums up a tally; over is how long its phase took. It sorts t.took.
func newRow(k kind, t *tally, over time.Duration) row {
	slices.Sort(t.took)
	at := func(q float64) float64 { return float64(quantile(t.took, q)) / float64(time.Microsecond) }
	return row{
		Kind: k, Calls: len(t.took), Errors: t.errors, Retries: t.retries, PerSec: rate(len(t.took), over),
		P50: at(0.5), P90: at(0.9), P99: at(0.99), Max: at(1),
	}
}

// quantile returns the smallest value that at least the share q of the sorted
// values doesn't exceed; 0 if there are none.
func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	rank := int(math.Ceil(q * float64(len(sorted)))) // from 1
	return sorted[max(rank, 1)-1]
}

func (r *report) writeJSON(out io.Writer) error {
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}

// mostShown is how many differences are printed.
const mostShown = 10

// write prints the report for people.
func (r *report) write(out io.Writer) error {
	var b strings.Builder
	b.WriteString("\n")
	r.writeCalls(&b)
	fmt.Fprintf(&b, "\nstored    %s: %s\n", size(total(r.Stored)), r.streams())
	if r.Ahead > 0 {
		fmt.Fprintf(&b, "ahead     %s times a read met a post that its timeline listed and that it could not read yet\n", count(r.Ahead))
	}
	v := r.Verdict
	if len(v.Wrong) == 0 {
		fmt.Fprintf(&b, "verified  %s posts on %s timelines, %s entries: none missing, none extra, none twice;\n          %s replies under what they answer; %s follows\n",
			count(v.Posts), count(v.Timelines), count(v.Entries), count(v.Replies), count(v.Follows))
	} else {
		fmt.Fprintf(&b, "NOT verified: %s differences from the reference\n", count(len(v.Wrong)))
		for i, wrong := range v.Wrong {
			if i == mostShown {
				b.WriteString("  …\n")
				break
			}
			b.WriteString("  " + wrong + "\n")
		}
	}
	fmt.Fprintf(&b, "took      %.1f s\n", r.Took)
	_, err := io.WriteString(out, b.String())
	return err
}

func (r *report) writeCalls(out io.Writer) {
	t := table.NewWriter()
	t.SetOutputMirror(out)
	t.SetStyle(table.StyleLight)
	t.Style().Format.Header = text.FormatDefault
	t.AppendHeader(table.Row{"call", "count", "per s", "p50", "p90", "p99", "max", "retries", "errors"})
	var columns []table.ColumnConfig
	for n := 2; n <= 9; n++ {
		columns = append(columns, table.ColumnConfig{Number: n, Align: text.AlignRight, AlignHeader: text.AlignRight})
	}
	t.SetColumnConfigs(columns)
	for _, c := range r.Calls {
		t.AppendRow(table.Row{
			string(c.Kind), count(c.Calls), count(c.PerSec), micros(c.P50), micros(c.P90), micros(c.P99), micros(c.Max),
			count(c.Retries), count(c.Errors),
		})
	}
	t.Render()
}

// streams lists where the bytes are, most first.
func (r *report) streams() string {
	type held struct {
		name  string
		bytes int64
	}
	var all []held
	for name, bytes := range r.Stored {
		if bytes > 0 {
			all = append(all, held{name, bytes})
		}
	}
	slices.SortFunc(all, func(a, b held) int {
		if a.bytes != b.bytes {
			return int(b.bytes - a.bytes)
		}
		return strings.Compare(a.name, b.name)
	})
	words := make([]string, len(all))
	for i, h := range all {
		words[i] = h.name + " " + size(h.bytes)
	}
	return strings.Join(words, ", ")
}

func total(sizes map[string]int64) (sum int64) {
	for _, n := range sizes {
		sum += n
	}
	return sum
}

func rate(n int, over time.Duration) int {
	if over <= 0 {
		return 0
	}
	return int(float64(n)/over.Seconds() + 0.5)
}

// count writes 1234567 as 1,234,567.
func count(n int) string {
	if n < 0 {
		return "-" + count(-n)
	}
	digits := strconv.Itoa(n)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// size writes bytes with a unit.
func size(n int64) string {
	switch {
	case n >= 10<<20:
		return strconv.FormatInt(n>>20, 10) + " MiB"
	case n >= 10<<10:
		return strconv.FormatInt(n>>10, 10) + " KiB"
	}
	return strconv.FormatInt(n, 10) + " B"
}

func micros(us float64) string { return round(time.Duration(us * float64(time.Microsecond))).String() }

// round drops the digits that a reader doesn't need: three are left, or so.
func round(d time.Duration) time.Duration {
	unit := time.Nanosecond
	for d/unit >= 1000 {
		unit *= 10
	}
	return d.Round(unit)
}
