package anomalies

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/cloudburst-nats/cloudburst/bench/process"
)

// A fleet is the experiment's worker processes, one a pool. One goroutine at a
// time uses it.
type fleet struct {
	worker func(arg string) *exec.Cmd
	url    string
	dir    string // of their files
	load   workload
	fail   context.CancelCauseFunc // called when one ends that nobody has killed
	procs  []*process.Process
}

// start starts the i-th worker and returns once it serves, or with an error if it
// doesn't.
func (f *fleet) start(ctx context.Context, i int) error {
	arg, err := json.Marshal(part{URL: f.url, Pool: poolOf(i), File: f.file(i), Workload: f.load})
	if err != nil {
		return err
	}
	p, err := process.Start(ctx, f.worker(string(arg)), f.fail)
	if err != nil {
		return fmt.Errorf("worker %s: %w", poolOf(i), err)
	}
	if i == len(f.procs) {
		f.procs = append(f.procs, nil)
	}
	f.procs[i] = p
	return nil
}

// file is where the i-th worker and its successors append what they execute.
func (f *fleet) file(i int) string { return filepath.Join(f.dir, poolOf(i)+".jsonl") }

// harass kills a worker every so often and starts it again, until ctx ends. It
// returns how many it killed.
func (f *fleet) harass(ctx context.Context, every time.Duration, r *rand.Rand) (kills int, err error) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return kills, nil
		case <-tick.C:
		}
		i := r.IntN(len(f.procs))
		if err := f.procs[i].Kill(); err != nil {
			return kills, err
		}
		kills++
		// It is needed again, whether or not this was the last one.
		if err := f.start(context.WithoutCancel(ctx), i); err != nil {
			return kills, err
		}
	}
}

// pids are of the processes that run.
func (f *fleet) pids() map[int]bool {
	all := make(map[int]bool, len(f.procs))
	for _, p := range f.procs {
		all[p.PID()] = true
	}
	return all
}

// close ends all processes.
func (f *fleet) close() error {
	errs := make([]error, len(f.procs))
	var all sync.WaitGroup
	for i, p := range f.procs {
		all.Go(func() { errs[i] = p.End() })
	}
	all.Wait()
	return errors.Join(errs...)
}
