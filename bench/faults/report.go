package faults

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"

	"github.com/cloudburst-nats/cloudburst/bench/anomalies"
)

// A Report is what a run found.
type Report struct {
	Seed   uint64
	Took   time.Duration
	Events []Event
	// Calls, DAGs and Writes are how many were acknowledged and ended well; none
	// may end otherwise. Twice is how many of the calls were made twice under one
	// id, Refused how often something was refused and done again.
	Calls, DAGs, Writes, Twice, Refused int64
	Probes                              int
	// Lost is what is not as it was acknowledged; nil if all is.
	Lost error
	// Levels is the consistency experiment's; nil if it wasn't run.
	Levels *anomalies.Report
}

// A Row sums up the faults of one kind.
type Row struct {
	Bench  string `json:"bench"` // "faults"
	Kind   string `json:"case"`
	Faults int    `json:"faults"`
	// P50 and Max are of the longest that a call took during each fault, in ms.
	P50 float64 `json:"call_p50_ms"`
	Max float64 `json:"call_max_ms"`
	// Mended is the median time until all servers had everything again, in ms.
	Mended float64 `json:"mended_p50_ms"`
}

// Rows returns a row for each kind, in the order of Kinds.
func (r *Report) Rows() []Row {
	var rows []Row
	for _, k := range kinds {
		var longest, mended []time.Duration
		for _, e := range r.Events {
			if e.Kind == k.name {
				longest, mended = append(longest, e.Longest), append(mended, e.Mended)
			}
		}
		if len(longest) == 0 {
			continue
		}
		slices.Sort(longest)
		slices.Sort(mended)
		rows = append(rows, Row{
			Bench: "faults", Kind: k.name, Faults: len(longest),
			P50: ms(longest[len(longest)/2]), Max: ms(longest[len(longest)-1]), Mended: ms(mended[len(mended)/2]),
		})
	}
	return rows
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// Err says what was lost or done twice; nil if nothing was.
func (r *Report) Err() error {
	errs := []error{r.Lost}
	if r.Levels != nil {
		errs = append(errs, r.Levels.Err())
	}
	return errors.Join(errs...)
}

// Write prints the report, for people or as JSON, an object a line.
func (r *Report) Write(w io.Writer, asJSON bool) error {
	if asJSON {
		enc := json.NewEncoder(w)
		for _, row := range r.Rows() {
			if err := enc.Encode(row); err != nil {
				return err
			}
		}
		return nil
	}
	t := table.NewWriter()
	t.SetStyle(table.StyleLight)
	t.AppendHeader(table.Row{"fault", "times", "longest call, p50 ms", "max ms", "all well, p50 ms", ""})
	for _, row := range r.Rows() {
		t.AppendRow(table.Row{row.Kind, row.Faults, fmt.Sprintf("%.0f", row.P50), fmt.Sprintf("%.0f", row.Max), fmt.Sprintf("%.0f", row.Mended), about(row.Kind)})
	}
	lost := "nothing was lost, nothing was counted twice"
	if r.Lost != nil {
		lost = "LOST: " + r.Lost.Error()
	}
	_, err := fmt.Fprintf(w, "%s\n%d calls (%d of them made twice), %d DAG runs and %d writes were acknowledged in %v, during %d faults: %s.\n%d times something was refused, and done again. Seed %d.\n",
		t.Render(), r.Calls, r.Twice, r.DAGs, r.Writes, r.Took.Round(time.Second), len(r.Events), lost, r.Refused, r.Seed)
	if err == nil && r.Levels != nil {
		err = r.Levels.Write(w, false)
	}
	return err
}

func about(name string) string {
	for _, k := range kinds {
		if k.name == name {
			return k.about
		}
	}
	return ""
}
