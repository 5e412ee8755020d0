package kvlattice

import "sync/atomic"

// Stats are the counters of a Store since it was made, and how full its cache is.
type Stats struct {
	Hits      uint64 // reads that were served from memory
	Misses    uint64 // reads that asked the bucket
	Evictions uint64 // keys that made room
	Entries   int64  // keys in memory
	Bytes     int64  // roughly what they take

	BaseWrites    uint64 // writes that went straight to the base
	SlotWrites    uint64 // writes to this writer's slots
	SharedWrites  uint64 // merges that rode along with another's write
	SkippedMerges uint64 // merges that changed nothing, and wrote nothing

	Folds       uint64 // slots compacted into their base
	StaleFolds  uint64 // that another writer's base forestalled
	FailedFolds uint64 // that an error ended; they are tried again
	Unfolded    int64  // keys with something of ours that is not in the base yet
	Lost        uint64 // times the feed missed updates, and everything cached went stale
}

// counters are what Stats reads. Hits are counted by the cache's shards.
type counters struct {
	misses, evictions, bases, slots, shared, skipped atomic.Uint64
	folds, staleFolds, failedFolds, lost             atomic.Uint64
}

// Stats returns the counters as they stand.
func (s *Store) Stats() Stats {
	st := Stats{
		Misses:        s.count.misses.Load(),
		Evictions:     s.count.evictions.Load(),
		Bytes:         s.cache.bytes.Load(),
		BaseWrites:    s.count.bases.Load(),
		SlotWrites:    s.count.slots.Load(),
		SharedWrites:  s.count.shared.Load(),
		SkippedMerges: s.count.skipped.Load(),
		Folds:         s.count.folds.Load(),
		StaleFolds:    s.count.staleFolds.Load(),
		FailedFolds:   s.count.failedFolds.Load(),
		Unfolded:      int64(s.dirty.size()),
		Lost:          s.count.lost.Load(),
	}
	for i := range s.cache.shards {
		sh := &s.cache.shards[i]
		st.Hits += sh.hits.Load()
		sh.mu.RLock()
		st.Entries += int64(len(sh.entries))
		sh.mu.RUnlock()
	}
	return st
}
