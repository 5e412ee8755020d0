package latticetest

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/cloudburst-nats/cloudburst/kvlattice"
)

// ErrInjected is what a faulty operation of a Memory returns.
var ErrInjected = errors.New("injected fault")

// An Op is one operation on a Memory, as a fault is asked about it.
type Op struct {
	N      int    // counts all operations, from 1
	Name   string // "read", "put base", "put slot", "purge slot" or "commit"
	Key    string
	Writer string // of the slot
}

// An Outcome is what becomes of an operation.
type Outcome int

// The outcomes. All but Works return ErrInjected.
const (
	Works  Outcome = iota
	Fails          // and does nothing
	Stores         // but the acknowledgement is lost
	Late           // and is carried out by Memory.Arrive, whatever happened meanwhile
)

// Memory is a bucket in memory: the simplest true implementation of
// kvlattice.Bucket. It may be used concurrently.
type Memory struct {
	mu    sync.Mutex // guards everything below; never held while others are called
	rev   uint64
	ops   int
	log   map[string][]change // by key, oldest first
	now   map[string]elements // by key: where the log leads
	feeds []*Feed
	late  []func()

	records map[string]kvlattice.Record // of commits
	fault   func(Op) Outcome
	lag     int
}

// A change is one step in the life of a key: a write, or a purge (entry is nil).
type change struct {
	writer string // empty: the base
	entry  *kvlattice.Entry
}

var (
	_ kvlattice.Bucket       = (*Memory)(nil)
	_ kvlattice.Transactions = (*Memory)(nil)
)

// elements are what is stored of a key, by writer.
type elements map[string]*kvlattice.Entry

func (e elements) apply(c change) {
	if c.entry == nil {
		delete(e, c.writer)
	} else {
		e[c.writer] = c.entry
	}
}

// NewMemory returns an empty bucket.
func NewMemory() *Memory {
	return &Memory{log: make(map[string][]change), now: make(map[string]elements), records: make(map[string]kvlattice.Record)}
}

// Fault has fault decide on every operation from now on; nil means that all
// work. It is called with the bucket locked, so it must not use the bucket.
func (m *Memory) Fault(fault func(Op) Outcome) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fault = fault
}

// Lag has reads show every key without its last n changes, as a replica does
// that is behind; but not without what they say that they want to see.
func (m *Memory) Lag(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lag = n
}

// Arrive carries out the operations that were Late, in their order.
func (m *Memory) Arrive() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, do := range m.late {
		do()
	}
	m.late = nil
}

// Ops returns how many operations there were.
func (m *Memory) Ops() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ops
}

// Keys returns the keys that were ever written.
func (m *Memory) Keys() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.log))
}

// Read returns what the key holds.
func (m *Memory) Read(ctx context.Context, key string, after uint64) (kvlattice.Snapshot, error) {
	var snap kvlattice.Snapshot
	_, err := m.do(ctx, Op{Name: "read", Key: key}, func() (uint64, error) {
		snap = m.snapshotLocked(key, m.lag, after)
		if snap.AsOf = after; m.lag == 0 {
			snap.AsOf = m.rev
		}
		return 0, nil
	})
	if err != nil {
		return kvlattice.Snapshot{}, err
	}
	return snap, nil
}

// PutBase replaces the base if it is at rev.
func (m *Memory) PutBase(ctx context.Context, key string, e kvlattice.Entry, rev uint64) (uint64, error) {
	return m.do(ctx, Op{Name: "put base", Key: key}, func() (uint64, error) {
		now := uint64(0)
		if base := m.snapshotLocked(key, 0, 0).Base; base != nil {
			now = base.Rev
		}
		if now != rev {
			return 0, kvlattice.ErrStale
		}
		e.Writer = ""
		return m.putLocked(key, e), nil
	})
}

// PutSlot overwrites a slot.
func (m *Memory) PutSlot(ctx context.Context, key string, e kvlattice.Entry) (uint64, error) {
	return m.do(ctx, Op{Name: "put slot", Key: key, Writer: e.Writer}, func() (uint64, error) {
		if e.Writer == "" {
			return 0, errors.New("a slot needs a writer")
		}
		return m.putLocked(key, e), nil
	})
}

// PurgeSlot removes a slot that isn't newer than rev.
func (m *Memory) PurgeSlot(ctx context.Context, key, writer string, rev uint64) error {
	_, err := m.do(ctx, Op{Name: "purge slot", Key: key, Writer: writer}, func() (uint64, error) {
		for _, slot := range m.snapshotLocked(key, 0, 0).Slots {
			if slot.Writer == writer && slot.Rev <= rev {
				m.changeLocked(key, change{writer: writer})
			}
		}
		return 0, nil
	})
	return err
}

// Commit stores a record and slots, all or nothing.
func (m *Memory) Commit(ctx context.Context, record string, r kvlattice.Record, slots []kvlattice.KeySlot) (uint64, error) {
	return m.do(ctx, Op{Name: "commit", Key: record}, func() (uint64, error) {
		if _, there := m.records[record]; there {
			return 0, kvlattice.ErrCommitted
		}
		m.records[record] = r
		for _, slot := range slots {
			m.putLocked(slot.Key, slot.Entry)
		}
		return m.rev, nil
	})
}

// Recorded returns the record of a commit.
func (m *Memory) Recorded(_ context.Context, record string) (kvlattice.Record, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, found := m.records[record]
	return r, found, nil
}

// ReadAll returns one snapshot of several keys.
func (m *Memory) ReadAll(_ context.Context, keys []string, after uint64) ([]kvlattice.Snapshot, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make([]kvlattice.Snapshot, len(keys))
	for i, key := range keys {
		all[i] = m.snapshotLocked(key, m.lag, after)
	}
	return all, nil
}

// Put writes a base by hand, whatever is there: as `nats kv put` does.
func (m *Memory) Put(key string, e kvlattice.Entry) uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	e.Writer = ""
	return m.putLocked(key, e)
}

func (m *Memory) do(ctx context.Context, op Op, act func() (uint64, error)) (uint64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if _, err := kvlattice.EscapeKey(op.Key); err != nil {
		return 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ops++
	op.N = m.ops
	outcome := Works
	if m.fault != nil {
		outcome = m.fault(op)
	}
	switch outcome {
	case Fails:
		return 0, ErrInjected
	case Stores:
		_, _ = act() // nobody hears of it
		return 0, ErrInjected
	case Late:
		if op.Name != "read" {
			m.late = append(m.late, func() { _, _ = act() })
		}
		return 0, ErrInjected
	default:
		return act()
	}
}

func (m *Memory) putLocked(key string, e kvlattice.Entry) uint64 {
	m.rev++
	e.Rev, e.At = m.rev, time.Now()
	e.Header = maps.Clone(e.Header)
	m.changeLocked(key, change{writer: e.Writer, entry: &e})
	for _, f := range m.feeds {
		f.hear(kvlattice.Update{Key: key, Entry: e, AsOf: e.Rev})
	}
	return m.rev
}

func (m *Memory) changeLocked(key string, c change) {
	m.log[key] = append(m.log[key], c)
	if m.now[key] == nil {
		m.now[key] = make(elements)
	}
	m.now[key].apply(c)
}

func (m *Memory) snapshotLocked(key string, lag int, after uint64) kvlattice.Snapshot {
	at := m.now[key]
	if lag > 0 {
		log := m.log[key]
		seen := max(len(log)-lag, 0)
		for i, c := range log {
			if c.entry != nil && c.entry.Rev <= after {
				seen = max(seen, i+1)
			}
		}
		at = make(elements)
		for _, c := range log[:seen] {
			at.apply(c)
		}
	}
	var snap kvlattice.Snapshot
	for writer, e := range at {
		if writer == "" {
			base := *e
			snap.Base = &base
		} else {
			snap.Slots = append(snap.Slots, *e)
		}
	}
	return snap
}

// Feed returns a new feed of the bucket, for one store.
func (m *Memory) Feed() *Feed {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := &Feed{bucket: m, followed: make(map[string]bool), news: make(chan struct{}, 1)}
	m.feeds = append(m.feeds, f)
	return f
}
