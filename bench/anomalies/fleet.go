package anomalies

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// A fleet is the experiment's worker processes, one a pool. One goroutine at a
// time uses it.
type fleet struct {
	worker func(arg string) *exec.Cmd
	url    string
	dir    string // of their files
	load   workload
	fail   context.CancelCauseFunc // called when one ends that nobody has killed
	procs  []*process
}

// A process is a worker process.
type process struct {
	cmd       *exec.Cmd
	stdin     io.Closer
	complaint bytes.Buffer // its standard error; to be read once it has ended
	ended     chan struct{}

	mu      sync.Mutex // guards stopped
	stopped bool       // it is to end
}

// How long a process may take to be ready, and to end once it was told to
// before it is killed.
const (
	readyWithin = 30 * time.Second
	endWithin   = 10 * time.Second
)

// start starts the i-th worker and returns once it serves, or with an error if it
// doesn't.
func (f *fleet) start(ctx context.Context, i int) error {
	arg, err := json.Marshal(part{URL: f.url, Pool: poolOf(i), File: f.file(i), Workload: f.load})
	if err != nil {
		return err
	}
	p := &process{cmd: f.worker(string(arg)), ended: make(chan struct{})}
	p.cmd.Stderr = &p.complaint
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return fmt.Errorf("start worker: %w", err)
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("start worker: %w", err)
	}
	if err := p.cmd.Start(); err != nil {
		return fmt.Errorf("start worker: %w", err)
	}
	ready := make(chan struct{})
	go p.watch(stdout, ready, f.fail)
	if i == len(f.procs) {
		f.procs = append(f.procs, nil)
	}
	f.procs[i] = p
	late := time.NewTimer(readyWithin)
	defer late.Stop()
	select {
	case <-ready:
		return nil
	case <-p.ended:
		return fmt.Errorf("worker %s ended before it was ready: %s", poolOf(i), strings.TrimSpace(p.complaint.String()))
	case <-late.C:
		return fmt.Errorf("worker %s was not ready within %s", poolOf(i), readyWithin)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// file is where the i-th worker and its successors append what they execute.
func (f *fleet) file(i int) string { return filepath.Join(f.dir, poolOf(i)+".jsonl") }

// watch waits for the process to be ready, and to end.
func (p *process) watch(stdout io.Reader, ready chan<- struct{}, fail context.CancelCauseFunc) {
	defer close(p.ended)
	lines := bufio.NewReader(stdout)
	if line, err := lines.ReadString('\n'); err == nil && strings.TrimSpace(line) == readyLine {
		close(ready)
	}
	_, _ = io.Copy(io.Discard, lines) // until it ends, however it does
	err := p.cmd.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.stopped {
		fail(fmt.Errorf("a worker ended by itself: %v: %s", err, strings.TrimSpace(p.complaint.String()))) //nolint:errorlint // none is an end, too
	}
}

// kill ends the process as a crash would.
func (p *process) kill() error {
	p.mu.Lock()
	p.stopped = true
	p.mu.Unlock()
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill worker: %w", err)
	}
	<-p.ended
	return nil
}

// end has the process finish what it has in hand and go.
func (p *process) end() error {
	p.mu.Lock()
	p.stopped = true
	p.mu.Unlock()
	if err := p.stdin.Close(); err != nil {
		return errors.Join(err, p.kill())
	}
	late := time.NewTimer(endWithin)
	defer late.Stop()
	select {
	case <-p.ended:
		if !p.cmd.ProcessState.Success() {
			return fmt.Errorf("worker: %s: %s", p.cmd.ProcessState, strings.TrimSpace(p.complaint.String()))
		}
		return nil
	case <-late.C:
		return errors.Join(fmt.Errorf("a worker did not end within %s", endWithin), p.kill())
	}
}

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
		if err := f.procs[i].kill(); err != nil {
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
		all[p.cmd.Process.Pid] = true
	}
	return all
}

// close ends all processes.
func (f *fleet) close() error {
	errs := make([]error, len(f.procs))
	var all sync.WaitGroup
	for i, p := range f.procs {
		all.Go(func() { errs[i] = p.end() })
	}
	all.Wait()
	return errors.Join(errs...)
}
