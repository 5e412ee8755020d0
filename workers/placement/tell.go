package placement

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// How often a worker tells of itself: in a large pool less often, so that each
// hears about a hundred summaries a second at most, however many there are.
const (
	tellEvery = 200 * time.Millisecond
	tellShare = 10 * time.Millisecond // for each other worker
	beatEvery = time.Second           // when there is no news
	fullEvery = 10 * time.Second      // all of it, for who missed some
)

// Every is how long a worker waits at least between two summaries, with so many
// others in its pool.
func Every(peers int) time.Duration { return max(tellEvery, time.Duration(peers)*tellShare) }

// Silence is after how long without a summary a worker counts as gone: three
// heartbeats.
func Silence(peers int) time.Duration { return 3 * max(beatEvery, Every(peers)) }

// keysInAll bounds the keys that a view knows: about 30 MB of them.
const keysInAll = 1 << 18

// Most is how many keys a worker tells of.
func Most(peers int) int { return min(max(keysInAll/(peers+1), 256), 4096) }

// A Teller knows which of the keys that calls refer to a worker has, and makes its
// summaries. It is not safe for concurrent use.
type Teller struct {
	worker string
	n      uint64
	clock  uint64 // counts uses, to know the latest
	keys   map[Key]*used
	news   bool // keys may differ from what was told
	busy   int  // as told
	told   time.Time
	full   time.Time // told last
}

type used struct {
	namespace, key string
	bytes          int64
	at             uint64
	told           bool
}

// NewTeller returns a teller of a worker that has no keys.
func NewTeller(worker string) *Teller { return &Teller{worker: worker, keys: make(map[Key]*used)} }

// Used notes that a call used a key, which the worker therefore has. Of more keys
// than are told of, the latest used are kept.
func (t *Teller) Used(k Key, namespace, key string, bytes int64) {
	t.clock++
	if u := t.keys[k]; u != nil {
		u.at, u.bytes = t.clock, bytes
		return
	}
	t.news = true
	if len(t.keys) >= 2*Most(0) {
		t.forget(Most(0), nil)
	}
	t.keys[k] = &used{namespace: namespace, key: key, bytes: bytes, at: t.clock}
}

// forget keeps the most latest used keys, and tells gone of the others.
func (t *Teller) forget(most int, gone func(Key)) {
	if len(t.keys) <= most {
		return
	}
	latest := slices.SortedFunc(maps.Keys(t.keys), func(x, y Key) int { return cmp.Compare(t.keys[y].at, t.keys[x].at) })
	for _, k := range latest[most:] {
		if gone != nil {
			gone(k)
			delete(t.keys, k)
		} else if !t.keys[k].told {
			delete(t.keys, k) // what was told is taken back by the next summary
		}
	}
}

// Wants is why a summary is made.
type Wants struct {
	Peers int  // how many others there are
	Asked bool // one of them wants a full one
	Ask   bool // it wants full ones itself
}

// Tell returns the next summary, if it is time for one. has says what is in the
// cache.
func (t *Teller) Tell(now time.Time, slots, busy int, want Wants, has func(namespace, key string) bool) (Summary, bool) {
	since := now.Sub(t.told)
	if since < Every(want.Peers) {
		return Summary{}, false
	}
	full := want.Asked || now.Sub(t.full) >= max(fullEvery, 5*Every(want.Peers))
	room := Room(slots)
	moved := (busy >= room) != (t.busy >= room) || max(busy-t.busy, t.busy-busy)*10 > slots
	if !full && !t.news && !moved && !want.Ask && since < max(beatEvery, Every(want.Peers)) {
		return Summary{}, false
	}
	t.n++
	s := Summary{Worker: t.worker, N: t.n, Slots: slots, Busy: busy, Full: full, Ask: want.Ask}
	t.told, t.busy = now, busy
	if full {
		t.full = now
	}
	if !t.news && !full {
		return s, true
	}
	t.news = false
	gone := func(k Key) { s.Gone = append(s.Gone, k) }
	for k, u := range t.keys {
		if !has(u.namespace, u.key) {
			gone(k)
			delete(t.keys, k)
		}
	}
	t.forget(Most(want.Peers), gone)
	s.Keys = make(map[Key]int64)
	for k, u := range t.keys {
		if full || !u.told {
			s.Keys[k], u.told = u.bytes, true
		}
	}
	slices.Sort(s.Gone)
	return s, true
}

// Bye returns the last summary.
func (t *Teller) Bye() Summary {
	t.n++
	return Summary{Worker: t.worker, N: t.n, Leaves: true}
}
