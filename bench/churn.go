package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/cloudburst-nats/cloudburst/broker"
	"github.com/cloudburst-nats/cloudburst/kvlattice"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// A churn is a kind of lattice whose key is written by workers that come and go.
type churn struct {
	kind kvlattice.Kind
	// write adds the n-th write of a writer, which knows what the key held before.
	write func(ctx context.Context, st *kvlattice.Store, key, writer string, n int) error
	// check says what is wrong with what the key holds after so many writes.
	check func(l kvlattice.Lattice, last string, writes int) error
}

func churns() []churn {
	text := func(writer string, n int) wire.Value {
		return wire.Value{Body: []byte(strconv.Quote(writer + "/" + strconv.Itoa(n)))}
	}
	isLast := func(l kvlattice.Lattice, last string, _ int) error {
		if got := string(l.Value().Body); got != strconv.Quote(last) {
			return fmt.Errorf("holds %s, want %q", got, last)
		}
		return nil
	}
	return []churn{
		{kvlattice.KindLWW, func(ctx context.Context, st *kvlattice.Store, key, writer string, n int) error {
			return st.Put(ctx, key, text(writer, n))
		}, isLast},
		{kvlattice.KindCausal, func(ctx context.Context, st *kvlattice.Store, key, writer string, n int) error {
			seen, err := st.View(ctx, key, 0)
			if err == nil {
				_, err = st.Merge(ctx, key, kvlattice.NewOverwrite(seen.Seen, text(writer, n), nil))
			}
			return err
		}, isLast},
		{kvlattice.KindCounter, func(ctx context.Context, st *kvlattice.Store, key, writer string, n int) error {
			c := kvlattice.NewCounter()
			c.AddTotal(writer, uint64(n), int64(n))
			_, err := st.Merge(ctx, key, c)
			return err
		}, func(l kvlattice.Lattice, _ string, writes int) error {
			if got := string(l.Value().Body); got != strconv.Itoa(writes) {
				return fmt.Errorf("counts %s, want %d", got, writes)
			}
			return nil
		}},
	}
}

// Of each kind one key is written by churnWriters workers, one after another, and
// another once.
const (
	churnWriters = 100
	churnReads   = 4000
)

// churn measures what a read of a key costs that many have written, beside one
// of a key that was written once.
func (s *site) churn(ctx context.Context, c churn, each int) ([]Row, error) {
	hot, cold := "churn-"+string(c.kind), "once-"+string(c.kind)
	last := ""
	for w := range churnWriters {
		writer := fmt.Sprintf("w%d", w)
		last = writer + "/" + strconv.Itoa(each)
		if err := s.visit(ctx, c, hot, writer, each); err != nil {
			return nil, err
		}
	}
	if err := s.visit(ctx, c, cold, "w", 1); err != nil {
		return nil, err
	}
	b, err := s.connect(ctx, "bench reader")
	if err != nil {
		return nil, err
	}
	bucket, err := b.OpenBucket(ctx, benchNamespace)
	if err != nil {
		return nil, err
	}
	st := kvlattice.New(kvlattice.Config{}, bucket, nil) // without a feed, every read asks the server
	l, _, err := st.Read(ctx, hot, 0)
	if err == nil {
		err = c.check(l, last, churnWriters*each)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", hot, err)
	}
	micros := map[string][]float64{}
	for range churnReads {
		for _, key := range []string{cold, hot} {
			began := time.Now()
			if _, _, err := st.Read(ctx, key, 0); err != nil {
				return nil, err
			}
			micros[key] = append(micros[key], float64(time.Since(began))/float64(time.Microsecond))
		}
	}
	rows := make([]Row, 2)
	for i, key := range []string{cold, hot} {
		sorted := slices.Sorted(slices.Values(micros[key]))
		rows[i] = Row{
			Bench: "hotkey", Case: fmt.Sprintf("read %s, %s", c.kind, map[string]string{cold: "written once", hot: fmt.Sprintf("%d times", churnWriters*each)}[key]),
			Transport: TCP, P50: quantile(sorted, 0.5), P99: quantile(sorted, 0.99),
		}
	}
	rows[1].RatioP50 = ratio(rows[1].P50, rows[0].P50)
	rows[0].round()
	rows[1].round()
	return rows, nil
}

// visit is one worker's life: it comes, writes, folds what it wrote, and goes.
func (s *site) visit(ctx context.Context, c churn, key, writer string, writes int) (err error) {
	b, err := broker.Connect(ctx, broker.Config{Name: "bench writer", URL: s.url})
	if err != nil {
		return err
	}
	defer b.Close()
	bucket, err := b.OpenBucket(ctx, benchNamespace)
	if err != nil {
		return err
	}
	st := kvlattice.New(kvlattice.Config{Writer: writer}, bucket, bucket)
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- st.Run(running) }()
	defer func() { stop(); err = errors.Join(err, <-ended) }()
	for n := range writes {
		if err := c.write(ctx, st, key, writer, n+1); err != nil {
			return fmt.Errorf("%s writes %s: %w", writer, key, err)
		}
	}
	return nil
}
