package broker

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// A PoolLoad is what a pool has to do, and how it does it.
type PoolLoad struct {
	PoolLag
	// Arrivals is calls a second since the last time that the pool was measured;
	// 0 the first time.
	Arrivals float64
	// Service is the mean time that an execution since then kept a slot, by what the workers
	// told; as before if none has ended, 0 if none ever has. A DAG's call that
	// runs several functions in one slot counts with their mean.
	Service time.Duration
}

// A Meter measures pools by the difference to the time before. Run hears the
// workers' numbers meanwhile. Safe for concurrent use.
type Meter struct {
	b *Broker

	mu    sync.Mutex // guards what follows
	pools map[string]*metered
	heard map[string]*heard // by worker
}

// metered is what a pool was when it was measured last.
type metered struct {
	at      time.Time
	last    uint64 // sequence in the stream of calls
	service time.Duration
}

// heard is a worker's numbers.
type heard struct {
	at    time.Time
	total map[string]FunctionStats
	since map[string]FunctionStats // the pool was measured last
}

// NewMeter returns a meter that has measured nothing yet.
func (b *Broker) NewMeter() *Meter {
	return &Meter{b: b, pools: make(map[string]*metered), heard: make(map[string]*heard)}
}

// Run hears the workers until ctx ends. Without it, Service stays 0.
func (m *Meter) Run(ctx context.Context) error {
	sub, err := m.b.nc.Subscribe(subjectStats+"*", m.hear)
	if err != nil {
		return apiError("hear workers", "", err)
	}
	defer m.b.unsubscribe(sub)
	<-ctx.Done()
	return nil
}

func (m *Meter) hear(msg *nats.Msg) {
	var stats map[string]FunctionStats
	if err := json.Unmarshal(msg.Data, &stats); err != nil {
		m.b.unreadable(msg, err)
		return
	}
	worker := strings.TrimPrefix(msg.Subject, subjectStats)
	m.mu.Lock()
	defer m.mu.Unlock()
	h := m.heard[worker]
	if h == nil {
		// What it did before it was first heard is as good a guess as any.
		h = &heard{total: make(map[string]FunctionStats), since: make(map[string]FunctionStats)}
		m.heard[worker] = h
	}
	for name, now := range stats {
		before, since := h.total[name], h.since[name]
		if now.Calls > before.Calls {
			since.Calls += now.Calls - before.Calls
			since.Took += now.ran() - before.ran()
			h.since[name] = since
		}
		h.total[name] = now
	}
	h.at = time.Now()
}

// ran is how long the executions of a function kept slots.
func (s FunctionStats) ran() time.Duration { return s.Took - s.Waited }

// Measure measures a pool whose workers are given. Calls that wait for others, and need no
// slot, don't count as in hand. KindUnknown if there is no
// such pool.
func (m *Meter) Measure(ctx context.Context, pool string, workers []WorkerInfo) (PoolLoad, error) {
	lag, err := m.b.Lag(ctx, pool)
	if err != nil {
		return PoolLoad{}, err
	}
	stream, err := m.b.js.Stream(ctx, CallsStream(pool))
	if err != nil {
		return PoolLoad{}, apiError("measure pool", pool, err)
	}
	now, last := time.Now(), stream.CachedInfo().State.LastSeq
	m.mu.Lock()
	defer m.mu.Unlock()
	load := PoolLoad{PoolLag: lag}
	for _, w := range workers {
		if w.Pool == pool { // they need no slot; a worker that was just lost may be among these
			load.AckPending = max(load.AckPending-w.Blocked, 0)
		}
	}
	before := m.pools[pool]
	if before == nil {
		before = &metered{at: now, last: last}
		m.pools[pool] = before
	}
	if passed := now.Sub(before.at).Seconds(); passed > 0 && last > before.last {
		load.Arrivals = float64(last-before.last) / passed
	}
	calls, took := m.drainLocked(now, pool, workers)
	if calls > 0 {
		before.service = took / time.Duration(calls)
	}
	load.Service = before.service
	before.at, before.last = now, last
	return load, nil
}

// drainLocked returns what the functions of a pool's workers have done since the
// last time, and forgets workers that were not heard for long. What a DAG took is
// left out: it is from the call to the end of the run, on whatever workers.
func (m *Meter) drainLocked(now time.Time, pool string, workers []WorkerInfo) (calls uint64, took time.Duration) {
	for _, w := range workers {
		h := m.heard[w.ID]
		if w.Pool != pool || h == nil {
			continue
		}
		for _, name := range w.Functions {
			calls, took = calls+h.since[name].Calls, took+h.since[name].Took
		}
		clear(h.since)
	}
	for id, h := range m.heard {
		if now.Sub(h.at) > MemberTTL {
			delete(m.heard, id)
		}
	}
	return calls, took
}
