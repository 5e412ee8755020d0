// Package process runs the parts of a benchmark that want a process of their own,
// and ends them: in order, or as a crash would. A part says in a line of its
// standard output that it is ready, and ends when its standard input closes, so
// that none outlives the program that started it.
package process

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// Ready is what the line begins with by which a part says that it is ready.
const Ready = "ready"

// How long a process may take to be ready, and to end once it was told to
// before it is killed.
const (
	readyWithin = time.Minute
	endWithin   = 20 * time.Second
)

// A Process is a part that runs.
type Process struct {
	cmd       *exec.Cmd
	stdin     io.Closer
	complaint bytes.Buffer // its standard error; to be read once it has ended
	ended     chan struct{}

	mu      sync.Mutex // guards stopped
	stopped bool       // it is to end
}

// Start starts a part and returns once it is ready, or with an error if it isn't
// in time. Should it end later without being told to, fail is called.
func Start(ctx context.Context, cmd *exec.Cmd, fail func(error)) (*Process, error) {
	p := &Process{cmd: cmd, ended: make(chan struct{})}
	cmd.Stderr = &p.complaint
	var err error
	if p.stdin, err = cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("start part: %w", err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start part: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start part: %w", err)
	}
	ready := make(chan struct{})
	go p.watch(stdout, ready, fail)
	late := time.NewTimer(readyWithin)
	defer late.Stop()
	select {
	case <-ready:
		return p, nil
	case <-p.ended:
		return nil, fmt.Errorf("a part ended before it was ready: %s", p.said())
	case <-late.C:
		err = fmt.Errorf("a part was not ready within %s", readyWithin)
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	return nil, errors.Join(err, p.Kill())
}

// watch waits for the process to be ready, and to end.
func (p *Process) watch(stdout io.Reader, ready chan<- struct{}, fail func(error)) {
	defer close(p.ended)
	lines := bufio.NewReader(stdout)
	if line, err := lines.ReadString('\n'); err == nil && strings.HasPrefix(line, Ready) {
		close(ready)
	}
	_, _ = io.Copy(io.Discard, lines) // until it ends, however it does
	err := p.cmd.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.stopped {
		fail(fmt.Errorf("a part ended by itself: %v: %s", err, p.said())) //nolint:errorlint // none is an end, too
	}
}

func (p *Process) said() string { return strings.TrimSpace(p.complaint.String()) }

// PID is the process's id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Signal sends it a signal: one that doesn't end it.
func (p *Process) Signal(s os.Signal) error { return p.cmd.Process.Signal(s) }

// Kill ends the process as a crash would.
func (p *Process) Kill() error {
	p.stop()
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill part: %w", err)
	}
	<-p.ended
	return nil
}

// End has the process finish what it has in hand and go.
func (p *Process) End() error {
	p.stop()
	if err := p.stdin.Close(); err != nil {
		return errors.Join(err, p.Kill())
	}
	late := time.NewTimer(endWithin)
	defer late.Stop()
	select {
	case <-p.ended:
		if !p.cmd.ProcessState.Success() {
			return fmt.Errorf("part: %s: %s", p.cmd.ProcessState, p.said())
		}
		return nil
	case <-late.C:
		return errors.Join(fmt.Errorf("a part did not end within %s", endWithin), p.Kill())
	}
}

func (p *Process) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = true
}
