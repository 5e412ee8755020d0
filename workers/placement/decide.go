package placement

import (
	"math/bits"
	"slices"
)

// Decide returns the worker that should run a call with these references, which
// the worker at has pulled and can run itself: at, or one with room. That is the
// one with most bytes of them, roughly. A reference that nobody has counts a little
// for its home, and so does the one that fewest have for those: hot keys are in many
// caches, or soon will be, and it is the others that should not be read twice.
// Of workers that are alike, at is taken, and else the first in that reference's
// rendezvous order: a hot key spreads along it as workers fill up, and no further.
//
// Where there is one worker, or no reference, it is at, for nothing.
func (v *View) Decide(at string, refs []Key) string {
	if len(v.order) < 2 || len(refs) == 0 || v.hasAll(at, refs) {
		return at
	}
	lead := refs[0]
	for _, k := range refs[1:] {
		if len(v.holders[k]) < len(v.holders[lead]) {
			lead = k
		}
	}
	v.round++
	var best *peer
	for i, k := range refs {
		if slices.Contains(refs[:i], k) { // named twice
			continue
		}
		holders := v.holders[k]
		for _, p := range holders {
			weight := int64(2) << min(bits.Len64(uint64(p.keys[k])), 40)
			if k == lead {
				weight++
			}
			best = v.weigh(best, p, at, weight, lead)
		}
		if len(holders) > 0 {
			continue
		}
		if home := v.home(k, at); home != nil {
			best = v.weigh(best, home, at, 1, lead)
		}
	}
	if best == nil {
		return at
	}
	return best.name
}

// hasAll says whether a worker has every reference: none has more.
func (v *View) hasAll(worker string, refs []Key) bool {
	p := v.peers[worker]
	if p == nil {
		return false
	}
	for _, k := range refs {
		if _, ok := p.keys[k]; !ok {
			return false
		}
	}
	return true
}

// weigh adds to a worker's score and returns the best one so far.
func (v *View) weigh(best, p *peer, at string, weight int64, lead Key) *peer {
	if p.name != at && p.full() {
		return best
	}
	if p.round != v.round {
		p.round, p.score = v.round, 0
	}
	p.score += weight
	switch {
	case best == nil || best == p || p.score > best.score:
		return p
	case p.score < best.score || best.name == at:
		return best
	case p.name == at || rank(p.seed, lead) > rank(best.seed, lead):
		return p // staying saves a hop
	}
	return best
}

// home returns the first worker in a key's rendezvous order that has room, or is at.
func (v *View) home(k Key, at string) *peer {
	var home *peer
	var most uint64
	for i, seed := range v.seeds {
		rank := rank(seed, k)
		if home != nil && rank <= most {
			continue
		}
		if p := v.order[i]; !p.full() || p.name == at {
			home, most = p, rank
		}
	}
	return home
}

// rank is a worker's bid for a key: the highest one wins. It is a mix of both
// (the finalizer of MurmurHash3), so that each key has an order of its own, in which
// a worker that comes or goes moves no other.
func rank(seed uint64, k Key) uint64 {
	x := seed ^ uint64(k)
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}
