package anomalies

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/cloudburst-nats/cloudburst/consistency/history"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// auditor is the worker that a history names for what its level's keys held when
// all runs had ended.
const auditor = "audit"

// patiently does something again while the server is away or full, for as long as
// a run may take.
func patiently(ctx context.Context, do func() error) error {
	for began := time.Now(); ; {
		err := do()
		if kind := wire.KindOf(err); kind != wire.KindUnavailable && kind != wire.KindBusy || time.Since(began) > runWithin {
			return err
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return errors.Join(err, context.Cause(ctx))
		}
	}
}

// audit reads from the server what every key holds that was written at a causal
// level, as one more run. A worker's cache may be behind, so that a read which
// lacks a concurrent write doesn't say yet that it was lost; this one does.
func (x *experiment) audit(ctx context.Context, level string, h *history.History) error {
	var keys []string
	for _, e := range h.Executions {
		for _, op := range e.Ops {
			if op.Write != "" {
				keys = append(keys, op.Key)
			}
		}
	}
	slices.Sort(keys)
	keys = slices.Compact(keys)
	run := level + "/" + auditor
	e := history.Execution{ID: run, Run: run, Node: auditor, Worker: auditor, Level: level, Attempt: 1, Start: time.Now().UnixNano()}
	ops, errs := make([]history.Op, len(keys)), make([]error, x.cfg.Clients)
	var readers sync.WaitGroup
	for reader := range x.cfg.Clients {
		readers.Go(func() {
			for i := reader; i < len(keys) && errs[reader] == nil; i += x.cfg.Clients {
				errs[reader] = patiently(ctx, func() (err error) {
					ops[i], err = readOp(ctx, x.client.State().In(namespaceOf(level)), level, keys[i])
					return err
				})
			}
		})
	}
	readers.Wait()
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("audit %s: %w", level, err)
	}
	e.Ops, e.End = ops, time.Now().UnixNano()
	h.Executions = append(h.Executions, e)
	h.Outcomes = append(h.Outcomes, history.Outcome{Run: run, Start: e.Start, End: e.End, Final: []string{e.ID}})
	return nil
}
