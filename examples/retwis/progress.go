package retwis

import (
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// A progress shows how far a phase is: a bar on a terminal, else a line now
// and then.
type progress struct {
	out   io.Writer
	title string
	total int
	began time.Time

	done  atomic.Int64
	stop  chan struct{}
	shown sync.WaitGroup
}

const (
	lineEvery = 2 * time.Second
	barEvery  = 100 * time.Millisecond
)

// begin starts to show a phase of total steps. end must be called.
func begin(out io.Writer, title string, total int) *progress {
	p := &progress{out: out, title: title, total: total, began: time.Now(), stop: make(chan struct{})}
	if f, ok := out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		bar := progressbar.NewOptions(total,
			progressbar.OptionSetWriter(out), progressbar.OptionSetDescription(fmt.Sprintf("%-9s", title)),
			progressbar.OptionShowCount(), progressbar.OptionShowIts(), progressbar.OptionClearOnFinish())
		p.shown.Go(func() {
			p.every(barEvery, func(n int64) { _ = bar.Set64(n) })
			_ = bar.Clear()
		})
		return p
	}
	p.shown.Go(func() {
		p.every(lineEvery, func(n int64) {
			say(out, "%-9s %s of %s\n", title, count(int(n)), count(total))
		})
	})
	return p
}

// step counts one more. It may be called concurrently.
func (p *progress) step() { p.done.Add(1) }

// end closes the phase with one line and returns how long it took.
func (p *progress) end() time.Duration {
	close(p.stop)
	p.shown.Wait()
	took, n := time.Since(p.began), int(p.done.Load())
	say(p.out, "%-9s %s in %s (%s/s)\n", p.title, count(n), round(took), count(rate(n, took)))
	return took
}

// every calls show with the count until end is called.
func (p *progress) every(d time.Duration, show func(n int64)) {
	tick := time.NewTicker(d)
	defer tick.Stop()
	for {
		select {
		case <-p.stop:
			return
		case <-tick.C:
			show(p.done.Load())
		}
	}
}

// say prints progress. What can't be shown is no reason to stop.
func say(out io.Writer, format string, args ...any) { _, _ = fmt.Fprintf(out, format, args...) }
