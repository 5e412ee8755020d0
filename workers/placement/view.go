package placement

import (
	"hash/fnv"
	"slices"
	"time"
)

// A Key is a key of the state as summaries name it: a hash of it and its
// namespace. Two keys of one hash are taken for one, which may cost a miss.
type Key uint64

// KeyOf returns a key's hash. It is the same on all workers.
func KeyOf(namespace, key string) Key {
	h := fnv.New64a()
	_, _ = h.Write([]byte(namespace)) // never fails
	_, _ = h.Write([]byte{'.'})
	_, _ = h.Write([]byte(key))
	return Key(h.Sum64())
}

// Room is how many of its slots a worker has for calls that others hand to it: a
// worker over 70 % busy takes none, and the rest of its slots are for calls that it
// pulls itself. A worker of one slot has no room.
func Room(slots int) int { return slots * 7 / 10 }

// Tries is how many workers are asked to take a call, before the one that pulled it
// runs it: a hot key's workers may all have filled up since they last told.
const Tries = 3

// A Summary is what a worker tells the others. Unless it is full, it tells of
// changes since the one before it.
type Summary struct {
	Worker string `json:"worker"`
	N      uint64 `json:"n"` // counts the worker's summaries from 1: a gap is a loss
	Slots  int    `json:"slots"`
	Busy   int    `json:"busy"`
	// Keys are what it has now and hadn't before, with their bytes; Gone what it has
	// no more.
	Keys map[Key]int64 `json:"keys,omitempty"`
	Gone []Key         `json:"gone,omitempty"`
	Full bool          `json:"full,omitempty"` // Keys are all that it has
	Ask  bool          `json:"ask,omitempty"`  // it wants to hear full ones
	// Leaves says that it takes no more calls.
	Leaves bool `json:"leaves,omitempty"`
}

// A View is what a worker knows of its pool, itself included. It is not safe for
// concurrent use.
type View struct {
	self    string
	peers   map[string]*peer
	order   []*peer  // the same, to go through
	seeds   []uint64 // of order, side by side for speed
	holders map[Key][]*peer
	round   uint64 // of weighing: see peer.score
}

type peer struct {
	name    string
	seed    uint64 // in rendezvous
	n       uint64 // of the last summary
	slots   int
	busy    int
	handed  int  // offers to it since the last summary that it hasn't answered
	refused bool // since the last summary
	heard   time.Time
	keys    map[Key]int64
	round   uint64 // that score is of
	score   int64
}

// NewView returns what a worker knows at first: itself.
func NewView(self string) *View {
	v := &View{self: self, peers: make(map[string]*peer), holders: make(map[Key][]*peer)}
	v.add(self)
	return v
}

func (v *View) add(name string) *peer {
	p := &peer{name: name, seed: uint64(KeyOf("", name)), keys: make(map[Key]int64)}
	v.peers[name] = p
	v.order = append(v.order, p)
	v.seeds = append(v.seeds, p.seed)
	return p
}

// Peers returns how many other workers it knows of.
func (v *View) Peers() int { return len(v.order) - 1 }

// Hear takes in a summary that came at now. False says that it missed an earlier
// one, and should ask: what it knows of the worker's keys may be wrong until then.
func (v *View) Hear(now time.Time, s Summary) bool {
	if s.Leaves {
		v.Gone(s.Worker)
		return true
	}
	p := v.peers[s.Worker]
	if p == nil {
		p = v.add(s.Worker)
	}
	whole := s.Full || s.N == p.n+1
	p.n, p.heard = s.N, now
	p.slots, p.busy, p.handed, p.refused = s.Slots, s.Busy, 0, false
	if s.Full {
		for k := range p.keys {
			if _, still := s.Keys[k]; !still {
				v.drop(p, k)
			}
		}
	}
	for k, bytes := range s.Keys {
		v.Has(s.Worker, k, bytes)
	}
	for _, k := range s.Gone {
		v.drop(p, k)
	}
	return whole
}

// Has notes that a worker that it knows of has a key.
func (v *View) Has(worker string, k Key, bytes int64) {
	p := v.peers[worker]
	if p == nil {
		return
	}
	if _, known := p.keys[k]; !known {
		v.holders[k] = append(v.holders[k], p)
	}
	p.keys[k] = bytes
}

// Lacks notes that a worker has a key no more.
func (v *View) Lacks(worker string, k Key) {
	if p := v.peers[worker]; p != nil {
		v.drop(p, k)
	}
}

func (v *View) drop(p *peer, k Key) {
	if _, known := p.keys[k]; !known {
		return
	}
	delete(p.keys, k)
	left := slices.DeleteFunc(v.holders[k], func(h *peer) bool { return h == p })
	if len(left) == 0 {
		delete(v.holders, k)
		return
	}
	v.holders[k] = left
}

// Gone forgets a worker, until it is heard again.
func (v *View) Gone(worker string) {
	p := v.peers[worker]
	if p == nil || worker == v.self {
		return
	}
	for k := range p.keys {
		v.drop(p, k)
	}
	delete(v.peers, worker)
	i := slices.Index(v.order, p)
	v.order, v.seeds = slices.Delete(v.order, i, i+1), slices.Delete(v.seeds, i, i+1)
}

// Expire forgets the workers that were not heard since a time.
func (v *View) Expire(since time.Time) {
	for _, p := range slices.Clone(v.order) {
		if p.heard.Before(since) {
			v.Gone(p.name)
		}
	}
}

// Handed notes that a call is offered to a worker: until it says otherwise it is
// busier by that.
func (v *View) Handed(worker string) {
	if p := v.peers[worker]; p != nil {
		p.handed++
	}
}

// Took notes that a worker took a call that was offered, and how many of its slots
// are busy with it.
func (v *View) Took(worker string, busy int) {
	if p := v.peers[worker]; p != nil {
		p.busy, p.handed = busy, max(p.handed-1, 0)
	}
}

// Refused notes that a worker has no room: it is asked for nothing until its next
// summary.
func (v *View) Refused(worker string) {
	if p := v.peers[worker]; p != nil {
		p.refused = true
	}
}

// Pardon ends what Refused began, before the worker's next summary.
func (v *View) Pardon(worker string) {
	if p := v.peers[worker]; p != nil {
		p.refused = false
	}
}

func (p *peer) full() bool { return p.refused || p.busy+p.handed >= Room(p.slots) }
