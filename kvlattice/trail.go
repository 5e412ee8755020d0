package kvlattice

import (
	"slices"
	"sync"
)

// A Trail remembers the dots that the writes of one run got in one key. The run's
// next write of the key replaces those versions, and of others only what the run was
// shown. The zero Trail is empty. It may be used concurrently.
type Trail struct {
	mu     sync.Mutex // guards what follows
	dots   []Dot
	writes int // that are stored
}

// Stored notes that a write is stored: the next one is another.
func (t *Trail) Stored() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.writes++
}

// Writes returns how many writes are stored.
func (t *Trail) Writes() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.writes
}

// Latest returns the time of the latest dot; the zero Timestamp if there is none.
func (t *Trail) Latest() Timestamp {
	t.mu.Lock()
	defer t.mu.Unlock()
	var at Timestamp
	for _, d := range t.dots {
		at = later(at, d.At)
	}
	return at
}

func (t *Trail) add(d Dot) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.dots = append(t.dots, d)
}

func (t *Trail) has(d Dot) bool {
	if t == nil {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Contains(t.dots, d)
}
