package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/cloudburst-nats/cloudburst/bench/fleetsim"
)

// FleetConfig says which day is simulated.
type FleetConfig struct {
	fleetsim.Simulation
	// JSON has one JSON object written for each row, instead of a table.
	JSON bool
}

// Fleet replays a day of bursty arrivals against the autoscaler and against fleets
// of a fixed size, without a server and without waiting.
func Fleet(cfg FleetConfig, out io.Writer) error {
	began := time.Now()
	rows, err := cfg.Run()
	if err != nil {
		return err
	}
	took := time.Since(began)
	if cfg.JSON {
		enc := json.NewEncoder(out)
		for _, r := range rows {
			if err := enc.Encode(r); err != nil {
				return err
			}
		}
		return nil
	}
	t := newTable(table.Row{
		"fleet", "peak", "worker-seconds", "over ideal", "bursts", "missed", "capacity p50", "max", "queue age p50", "p99", "max", "changes",
	})
	for _, r := range rows {
		t.AppendRow(table.Row{
			r.Fleet, r.Peak, number(r.WorkerSeconds, 0), number(100*r.Waste, 1) + " %", r.Bursts, r.Missed, r.CapacityP50, r.CapacityMax,
			r.AgeP50, r.AgeP99, r.AgeMax, r.Changes,
		})
	}
	within := "within"
	if rows[0].Waste > 0.2 {
		within = "not within"
	}
	_, err = fmt.Fprintf(out, `%s
%d calls, replayed in %v. Ideal, %.0f worker-seconds, is what an oracle pays: at each
moment the workers that the true rate of arrivals wants at the target, started in
good time and stopped at once, for nothing. Autoscaled workers are paid for from
their start, before they are ready, until they have drained. Missed bursts ended
before the fleet had what the oracle had; capacity is when it had, from their
beginning. The autoscaler is %s 20 %% of the ideal.
`, t.Render(), rows[0].Calls, took.Round(time.Millisecond), rows[0].Ideal, within)
	return err
}

// newTable returns a table whose columns but the first are numbers.
func newTable(header table.Row) table.Writer {
	t := table.NewWriter()
	t.SetStyle(table.StyleLight)
	t.Style().Format.Header = text.FormatDefault
	t.AppendHeader(header)
	var columns []table.ColumnConfig
	for n := 2; n <= len(header); n++ {
		columns = append(columns, table.ColumnConfig{Number: n, Align: text.AlignRight, AlignHeader: text.AlignRight})
	}
	t.SetColumnConfigs(columns)
	return t
}
