package paper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// A way is one of several to do the same.
type way struct {
	name  string
	paper string // what the paper saw of it, or of what comes next to it
	// do does it once, and checks the outcome; n was never given before.
	do func(ctx context.Context, n int) error

	next  atomic.Int64
	took  []time.Duration // one by one
	rates []float64       // a second, one a round
}

// hangs is how long one operation may take: a lost answer is an error, and not an
// experiment that never ends.
const hangs = time.Minute

var errHangs = errors.New("it hangs")

// once does it once.
func (w *way) once(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, hangs, errHangs)
	defer cancel()
	n := int(w.next.Add(1))
	if err := w.do(ctx, n); err != nil {
		return fmt.Errorf("%s, number %d: %w", w.name, n, err)
	}
	return nil
}

// serial does it count times, one after the other.
func (w *way) serial(ctx context.Context, count int) error {
	for range count {
		began := time.Now()
		if err := w.once(ctx); err != nil {
			return err
		}
		w.took = append(w.took, time.Since(began))
	}
	return nil
}

// parallel does it count times, by a number of callers.
func (w *way) parallel(ctx context.Context, count, callers int) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var started atomic.Int64
	var all sync.WaitGroup
	began := time.Now()
	for range callers {
		all.Go(func() {
			for started.Add(1) <= int64(count) {
				if err := w.once(ctx); err != nil {
					cancel(err) // the first one is the cause
					return
				}
			}
		})
	}
	all.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	w.rates = append(w.rates, float64(count)/time.Since(began).Seconds())
	return nil
}

// race has the ways take turns, a count of operations in all, in rounds, the first turn
// going round too. What runs first only warms up. No callers: none are parallel.
func race(ctx context.Context, ways []*way, count, rounds, callers int) error {
	for _, w := range ways {
		if err := w.serial(ctx, min(count, max(1, count/10))); err != nil {
			return err
		}
		w.took = nil
	}
	each := max(1, count/rounds)
	for round := range rounds {
		for i := range ways {
			if err := ways[(i+round)%len(ways)].serial(ctx, each); err != nil {
				return err
			}
		}
		if callers == 0 {
			continue
		}
		for i := range ways {
			if err := ways[(i+round)%len(ways)].parallel(ctx, each, callers); err != nil {
				return err
			}
		}
	}
	return nil
}

// p returns a quantile of what operations took one by one, in a unit.
func (w *way) p(q float64, unit time.Duration) float64 {
	sorted := slices.Sorted(slices.Values(w.took))
	if len(sorted) == 0 {
		return 0
	}
	return rounded(float64(sorted[min(int(q*float64(len(sorted))), len(sorted)-1)])/float64(unit), 3)
}

// perSecond is the median of the rounds.
func (w *way) perSecond() float64 {
	sorted := slices.Sorted(slices.Values(w.rates))
	if len(sorted) == 0 {
		return 0
	}
	return math.Round(sorted[len(sorted)/2])
}

func rounded(v float64, digits int) float64 {
	unit := math.Pow10(digits)
	return math.Round(v*unit) / unit
}

// show writes rows as JSON, one object a line, or as a table with a note below. The
// columns from the second on that hold numbers are aligned as such.
func show[R any](out io.Writer, asJSON bool, rows []R, header table.Row, cells func(R) table.Row, note string) error {
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
	t.AppendHeader(header)
	var columns []table.ColumnConfig
	for n := 2; n < len(header); n++ { // the last one is the paper's, in words
		columns = append(columns, table.ColumnConfig{Number: n, Align: text.AlignRight, AlignHeader: text.AlignRight})
	}
	t.SetColumnConfigs(columns)
	for _, r := range rows {
		t.AppendRow(cells(r))
	}
	_, err := fmt.Fprintf(out, "%s\n%s\n", t.Render(), note)
	return err
}

// number writes a figure with as many digits as mean something.
func number(v float64, digits int) string { return strconv.FormatFloat(v, 'f', digits, 64) }
