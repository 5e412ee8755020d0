package workers

import (
	"context"
	"sync"
	"time"
)

// Slots are where calls get their slots from.
type Slots interface {
	// Release gives a slot back.
	Release()
	// Retake takes one for a call that runs on. It doesn't wait: for a while more may be
	// taken than there are, and then no new call gets one.
	Retake()
}

// A place is a job's: a slot while it runs, none while it waits for what others do. A
// function may wait on several goroutines. While one of them does, the job has no slot:
// nobody can know what the others wait for.
//
//	slot ── Block ──► blocked ── the last wait ends ──► back (a slot, one of the worker's places)
//	  │                ▲  └─────────────────── Block ──────┘ │
//	  └──────────── end ◄────────────────────────────────────┘
//
// No more jobs are back than the worker has slots, so at most twice as many functions run.
type place struct {
	w     *Worker
	slots Slots

	mu      sync.Mutex // guards what follows
	free    func()     // gives up what the job has; nil if it has nothing
	waits   int        // goroutines that wait
	since   time.Time  // when the first of them began
	sum     time.Duration
	blocked bool
	ended   bool
}

// Block runs wait without a slot. When ctx ends it returns without one: the job is over.
func (p *place) Block(ctx context.Context, wait func() error) error {
	p.enter()
	err := wait()
	p.leave(ctx)
	return err
}

func (p *place) enter() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waits++
	if p.waits == 1 {
		p.since = time.Now()
	}
	if p.free == nil || p.ended {
		return
	}
	p.free()
	p.free, p.blocked = nil, true
	p.w.blocked.Add(1)
}

func (p *place) leave(ctx context.Context) {
	p.mu.Lock()
	p.waits--
	if p.waits == 0 {
		p.sum += time.Since(p.since)
	}
	wants := p.waits == 0 && p.blocked
	p.mu.Unlock()
	if !wants {
		return
	}
	select {
	case p.w.back <- struct{}{}:
	case <-ctx.Done():
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waits > 0 || !p.blocked { // it waits again, was faster, or is over
		<-p.w.back
		return
	}
	p.unblockLocked()
	p.slots.Retake()
	p.free = func() {
		p.slots.Release()
		<-p.w.back
	}
}

func (p *place) unblockLocked() {
	p.blocked = false
	p.w.blocked.Add(-1)
}

// end gives up what the job has, for good.
func (p *place) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	if p.blocked {
		p.unblockLocked()
	}
	if p.free != nil {
		p.free()
		p.free = nil
	}
}

func (p *place) isBlocked() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.blocked
}

// waited returns for how long the job has waited so far.
func (p *place) waited() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waits > 0 {
		return p.sum + time.Since(p.since)
	}
	return p.sum
}
