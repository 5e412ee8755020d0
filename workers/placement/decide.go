package placement

// Decide returns the worker that should run a call with these references, which
// the worker at has pulled and can run itself: at, or one with room. That is the
// one with most bytes of them; if none with room has any, the references' home.
// Of workers that have the same, the first in the rendezvous order of the first
// reference is taken: a hot key spreads along that order as workers fill up, and no
// further.
//
// Where there is one worker, or no reference, it is at, for nothing.
func (v *View) Decide(at string, refs []Key) string {
	if len(v.order) < 2 || len(refs) == 0 {
		return at
	}
	if v.hasAll(at, refs) {
		return at
	}
	v.round++
	var best *peer
	for i, k := range refs {
		if repeated(refs, i) {
			continue
		}
		for _, p := range v.holders[k] {
			best = v.weigh(best, p, at, max(p.keys[k], 1), refs[0])
		}
	}
	if best != nil {
		return best.name
	}
	// Each reference has a say, and where they differ all workers agree.
	for i, k := range refs {
		if repeated(refs, i) {
			continue
		}
		if home := v.home(k, at); home != nil {
			best = v.weigh(best, home, at, 1, refs[0])
		}
	}
	if best != nil {
		return best.name
	}
	return at
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

// repeated says whether a reference stands before in the list, which is short.
func repeated(refs []Key, i int) bool {
	for _, k := range refs[:i] {
		if k == refs[i] {
			return true
		}
	}
	return false
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
