package kvlattice

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

// A dirty list says which keys want a fold, and when. It grows with the keys
// that have unfolded writes; past maxDirty writers fold their own (overdue).
type dirty struct {
	mu   sync.Mutex // guards keys
	keys map[*entry]due
	wake chan struct{} // capacity 1: the list is no longer empty
}

// due is when a key is folded: when it rested for long enough, or earlier.
type due struct {
	rested time.Time // zero: resting doesn't matter
	urgent time.Time // zero: it isn't
}

func (d due) at() time.Time {
	if d.rested.IsZero() || !d.urgent.IsZero() && d.urgent.Before(d.rested) {
		return d.urgent
	}
	return d.rested
}

// rest has the key folded at the given time, however it was planned to rest before.
func (d *dirty) rest(e *entry, at time.Time) {
	d.plan(e, func(p *due) { p.rested = at })
}

// urge has the key folded at the given time at the latest.
func (d *dirty) urge(e *entry, at time.Time) {
	d.plan(e, func(p *due) {
		if p.urgent.IsZero() || at.Before(p.urgent) {
			p.urgent = at
		}
	})
}

// set replaces all earlier plans.
func (d *dirty) set(e *entry, at time.Time) {
	d.plan(e, func(p *due) { *p = due{rested: at} })
}

func (d *dirty) plan(e *entry, change func(*due)) {
	d.mu.Lock()
	if d.keys == nil {
		d.keys = make(map[*entry]due)
	}
	p := d.keys[e]
	change(&p)
	d.keys[e] = p
	d.mu.Unlock()
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

func (d *dirty) remove(e *entry) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.keys, e)
}

func (d *dirty) size() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.keys)
}

// take removes and returns the keys that are due.
func (d *dirty) take(now time.Time) []*entry {
	d.mu.Lock()
	defer d.mu.Unlock()
	var keys []*entry
	for e, p := range d.keys {
		if !p.at().After(now) {
			keys = append(keys, e)
			delete(d.keys, e)
		}
	}
	return keys
}

// all returns every key of the list, and leaves it.
func (d *dirty) all() []*entry {
	d.mu.Lock()
	defer d.mu.Unlock()
	keys := make([]*entry, 0, len(d.keys))
	for e := range d.keys {
		keys = append(keys, e)
	}
	return keys
}

// folders is how many keys are folded at once: a fold is three round trips, so
// eight fold some ten thousand keys a second.
const folders = 8

// sweep folds keys as they fall due, until ctx ends. While any are waiting it
// looks four times in the time that they rest.
func (s *Store) sweep(ctx context.Context) {
	var folding sync.WaitGroup
	defer folding.Wait()
	free := make(chan struct{}, folders)
	tick := time.NewTicker(max(s.cfg.Idle/4, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.dirty.wake: // nothing to look for while the list is empty
		}
		for s.dirty.size() > 0 {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			for _, e := range s.dirty.take(time.Now()) {
				select {
				case <-ctx.Done():
					s.dirty.urge(e, time.Now()) // for Fold
					continue
				case free <- struct{}{}:
				}
				folding.Go(func() {
					defer func() { <-free }()
					_ = s.attend(ctx, e, false) // counted, and planned again
				})
			}
			s.evict()
		}
	}
}

// soon is some time within the time that keys rest: several that saw the same
// don't act at once.
func (s *Store) soon() time.Time {
	return time.Now().Add(rand.N(s.cfg.Idle))
}
