package consistency

import (
	"sync"
	"time"

	"github.com/cloudburst-nats/cloudburst/kvlattice"
)

// pinLease is how long a worker keeps a run's versions after somebody last asked
// for one, when it doesn't hear of the run's end.
const pinLease = 10 * time.Minute

// Pins are the versions that a worker keeps for runs that have gone on to others.
// The zero value is empty. All methods may be called concurrently.
type Pins struct {
	mu    sync.Mutex // guards what follows
	runs  map[string]*pinned
	bytes int64
}

type pinned struct {
	versions map[pinKey]kvlattice.Lattice // which nobody changes any more
	bytes    int64
	until    time.Time
}

type pinKey struct {
	at ref
	id string
}

// keep pins a version of a key for a run. It belongs to the pins from then on.
func (p *Pins) keep(run string, at ref, id string, l kvlattice.Lattice) {
	p.mu.Lock()
	defer p.mu.Unlock()
	of := p.runs[run]
	if of == nil {
		if p.runs == nil {
			p.runs = make(map[string]*pinned)
		}
		of = &pinned{versions: make(map[pinKey]kvlattice.Lattice)}
		p.runs[run] = of
	}
	of.until = time.Now().Add(pinLease)
	if _, ok := of.versions[pinKey{at, id}]; ok {
		return
	}
	of.versions[pinKey{at, id}] = l
	n := int64(len(at.namespace) + len(at.key) + len(id) + 64)
	if l != nil {
		n += int64(l.Size())
	}
	of.bytes += n
	p.bytes += n
}

// Find returns a version that a run has pinned; nil for that of a key that held
// nothing. Nobody may change it.
func (p *Pins) Find(run, namespace, key, id string) (l kvlattice.Lattice, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	of := p.runs[run]
	if of == nil {
		return nil, false
	}
	of.until = time.Now().Add(pinLease)
	l, ok = of.versions[pinKey{ref{namespace, key}, id}]
	return l, ok
}

// Holds says whether versions are kept for a run.
func (p *Pins) Holds(run string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.runs[run] != nil
}

// Release forgets the versions of a run that has ended.
func (p *Pins) Release(run string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.releaseLocked(run)
}

func (p *Pins) releaseLocked(run string) {
	if of := p.runs[run]; of != nil {
		p.bytes -= of.bytes
		delete(p.runs, run)
	}
}

// Expire forgets what nobody has asked for in ten minutes.
func (p *Pins) Expire(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for run, of := range p.runs {
		if now.After(of.until) {
			p.releaseLocked(run)
		}
	}
}

// Size returns how many runs have pins here, and roughly how many bytes they take.
func (p *Pins) Size() (runs int, bytes int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.runs), p.bytes
}
