package kvlattice

import (
	"hash/maphash"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// An entry is one key in memory.
//
// state is a lower bound of what the storage holds: all of it that this
// process has seen acknowledged. It always includes the base at revision
// baseRev, which is what makes replacing that base by something that includes
// state safe. The entry is fresh when state is complete as well: it was read
// after the key was followed, and the feed hasn't lost anything since.
type entry struct {
	key    string
	served atomic.Pointer[served] // what Store.Get may answer without the lock
	used   atomic.Bool            // since the evicting hand last came by
	asOf   atomic.Uint64          // state holds every write up to this revision, if it is fresh
	place  int                    // in the ring; guarded by ring.mu

	// mu guards everything below. No I/O happens while it is held. Lock order:
	// entry.mu, then shard.mu, ring.mu or dirty.mu, one at a time.
	mu       sync.Mutex
	state    Lattice           // nil: nothing known
	rev      uint64            // newest revision of anything in state
	baseRev  uint64            // newest base that state includes; 0: none known
	slots    map[string]uint64 // others' slots that may be stored, by revision
	gen      uint64            // Store.gen when the complete state was read; 0: never
	missed   uint64            // updates that couldn't be read
	followed bool
	flight   *flight // someone is reading, following or unfollowing the key
	pins     int     // operations under way; a pinned entry isn't evicted
	size     int64   // as accounted in cache.bytes
	dead     bool    // no longer in the cache: look the key up again

	own   own           // what this process wrote that is not in the base yet
	batch *batch        // merges that wait for the next write of this key
	turn  chan struct{} // held while one write or fold of this key is under way
}

// served is an answer of Store.View. It never changes.
type served struct {
	View
	gen uint64
}

// A View is what a reader is shown of a key.
type View struct {
	Value wire.Value // its body is shared and must not be written to
	Found bool       // false if nothing was written, or it was deleted
	// Rev is the newest revision in it; 0 if nothing was ever stored. Whoever
	// asks for a view after Rev sees no less.
	Rev uint64
	// Seen is the key's causal context, for a write that replaces what was shown
	// (see NewOverwrite); nil unless the key holds a register.
	Seen Lattice
	// After is what else a reader must see by now: of other namespaces, the
	// revision. Usually nil.
	After map[string]uint64
	// At is when the latest of the writes in it happened that are ordered by time:
	// see Latest.
	At Timestamp
}

// A flight is one read of a key that many may wait for.
type flight struct {
	done chan struct{}
	err  error // set before done closes
}

// serveLocked returns the entry's answer, and keeps it for reads to come.
func (e *entry) serveLocked() *served {
	if v := e.served.Load(); v != nil && v.gen == e.gen {
		return v
	}
	v := &served{View: ViewOf(e.state, e.rev), gen: e.gen}
	e.served.Store(v)
	return v
}

// ViewOf is what a user sees of a lattice whose newest revision is rev: a deleted
// register is absent.
func ViewOf(state Lattice, rev uint64) View {
	v := View{Rev: rev, At: Latest(state)}
	v.Seen, v.After = Seen(state)
	if state != nil && !deleted(state) {
		v.Value, v.Found = state.Value(), true
	}
	return v
}

// Seen returns the causal context of a lattice, and what a reader of it must see
// of other namespaces: see View.
func Seen(l Lattice) (context Lattice, after map[string]uint64) {
	switch l := l.(type) {
	case *LWW:
		return l.Clone(), nil
	case *Causal:
		return l.Context(), l.After()
	}
	return nil, nil
}

// joinLocked merges l into the state and takes note of it. l belongs to the
// entry from then on.
func (e *entry) joinLocked(l Lattice) error {
	joined, changed, err := Join(e.state, l)
	if changed {
		e.state = joined
		e.served.Store(nil)
	}
	return err
}

// Join merges l into a lattice and returns the result, which may be either of
// them: both belong to it from then on. nil is an empty one. A plain register
// beside a causal one is one more version of it. As in Snapshot.Join, a deletion
// beside a kind that isn't a register does nothing.
func Join(into, l Lattice) (joined Lattice, changed bool, err error) {
	switch {
	case l == nil:
		return into, false, nil
	case into == nil:
		return l, true, nil
	case joinable(into, l):
		if plain, ok := into.(*LWW); ok && l.Kind() == KindCausal {
			into = Lift(plain)
			_, err = into.Merge(l)
			return into, true, err
		}
		if plain, ok := l.(*LWW); ok && into.Kind() == KindCausal {
			l = Lift(plain)
		}
	case deleted(into):
		return l, true, nil
	case deleted(l):
		return into, false, nil
	}
	changed, err = into.Merge(l)
	return into, changed, err
}

// joinable says whether two lattices can be parts of one key.
func joinable(a, b Lattice) bool {
	return a.Kind() == b.Kind() || isRegister(a) && isRegister(b)
}

// isRegister says whether a lattice is one that a Put writes.
func isRegister(l Lattice) bool { return l.Kind() == KindLWW || l.Kind() == KindCausal }

// deleted says whether a lattice is a register without a value.
func deleted(l Lattice) bool {
	switch r := l.(type) {
	case *LWW:
		return r.Deleted()
	case *Causal:
		return r.Deleted()
	}
	return false
}

// forgetLocked drops what is known of the stored key, not what we wrote.
func (e *entry) forgetLocked() {
	e.state, e.rev, e.baseRev, e.slots, e.gen = nil, 0, 0, nil, 0
	e.served.Store(nil)
}

// slotSeenLocked notes that another's slot is stored at rev.
func (e *entry) slotSeenLocked(writer string, rev uint64) {
	if e.slots == nil {
		e.slots = make(map[string]uint64)
	}
	if have, known := e.slots[writer]; known {
		e.slots[writer] = max(have, rev)
		return
	}
	e.slots[strings.Clone(writer)] = rev // a part of a message's subject
}

// VersionsOf returns all values of a lattice that stand beside each other, the one
// that a reader is shown first; none if it has no value.
func VersionsOf(l Lattice) []wire.Value {
	if l == nil || deleted(l) {
		return nil
	}
	if c, ok := l.(*Causal); ok {
		return c.Versions()
	}
	return []wire.Value{l.Value()}
}

// shards is how many locks the keys are spread over: enough that 64 cores
// rarely meet, few enough to walk for Stats.
const shards = 128

// A cache finds entries by key, and picks which to forget.
type cache struct {
	seed   maphash.Seed
	bytes  atomic.Int64
	ring   ring
	shards [shards]shard
}

type shard struct {
	mu      sync.RWMutex // guards entries
	entries map[string]*entry
	hits    atomic.Uint64
	_       [64]byte // so that neighbours don't share a cache line
}

func (c *cache) at(key string) *shard {
	return &c.shards[maphash.String(c.seed, key)%shards]
}

// serve answers a read at memory speed, or returns nil. What is fresh holds
// every write up to what the feed has come to.
func (c *cache) serve(key string, gen, progress, after uint64) *served {
	sh := c.at(key)
	sh.mu.RLock()
	e := sh.entries[key]
	sh.mu.RUnlock()
	if e == nil {
		return nil
	}
	v := e.served.Load()
	if v == nil || v.gen != gen || after > progress && after > e.asOf.Load() {
		return nil
	}
	e.touch()
	sh.hits.Add(1)
	return v
}

// touch tells the evicting hand to pass by. Most keys are touched already, and
// a load doesn't take the cache line away from other cores.
func (e *entry) touch() {
	if !e.used.Load() {
		e.used.Store(true)
	}
}

// holds says whether a read of the key would be answered from memory.
func (c *cache) holds(key string, gen uint64) bool {
	e := c.find(key)
	if e == nil {
		return false
	}
	if v := e.served.Load(); v != nil {
		return v.gen == gen
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.gen == gen
}

func (c *cache) find(key string) *entry {
	sh := c.at(key)
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	return sh.entries[key]
}

func (c *cache) findOrAdd(key string) *entry {
	if e := c.find(key); e != nil {
		return e
	}
	sh := c.at(key)
	sh.mu.Lock()
	e := sh.entries[key]
	if e == nil {
		if sh.entries == nil {
			sh.entries = make(map[string]*entry)
		}
		e = &entry{key: key, turn: make(chan struct{}, 1)}
		e.used.Store(true)
		sh.entries[key] = e
		defer c.ring.add(e)
	}
	sh.mu.Unlock()
	return e
}

// entryBytes is what an entry takes beside its key and lattices: the struct
// (about 220), its turn (100), its places in map and ring (60), its answer (60).
const entryBytes = 440

// accountLocked brings the cache's size up to date with the entry's.
func (c *cache) accountLocked(e *entry) {
	n := int64(entryBytes + len(e.key))
	if e.state != nil {
		n += int64(e.state.Size())
	}
	if e.own.mine != nil {
		n += int64(e.own.mine.Size())
	}
	c.bytes.Add(n - e.size)
	e.size = n
}

// bury takes an entry that was marked dead out of the cache.
func (c *cache) bury(e *entry) {
	sh := c.at(e.key)
	sh.mu.Lock()
	if sh.entries[e.key] == e {
		delete(sh.entries, e.key)
	}
	sh.mu.Unlock()
	c.ring.remove(e)
}

// A ring holds the entries in the order in which a hand goes round them: an
// entry that was used since the hand last came by gets another round (CLOCK).
type ring struct {
	mu      sync.Mutex // guards the fields below and every entry.place
	entries []*entry
	hand    int
}

func (r *ring) add(e *entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e.place = len(r.entries)
	r.entries = append(r.entries, e)
}

func (r *ring) remove(e *entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e.place >= len(r.entries) || r.entries[e.place] != e {
		return
	}
	last := len(r.entries) - 1
	r.entries[e.place] = r.entries[last]
	r.entries[e.place].place = e.place
	r.entries[last] = nil
	r.entries = r.entries[:last]
}

// next moves the hand to an entry that wasn't used for a round. It returns nil
// after looking at as many entries as there are: they are all in use.
func (r *ring) next() *entry {
	r.mu.Lock()
	defer r.mu.Unlock()
	for range len(r.entries) {
		if r.hand >= len(r.entries) {
			r.hand = 0
		}
		e := r.entries[r.hand]
		r.hand++
		if !e.used.Swap(false) {
			return e
		}
	}
	return nil
}

// all returns the entries that there are now.
func (r *ring) all() []*entry {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.entries)
}

func (r *ring) len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.entries)
}
