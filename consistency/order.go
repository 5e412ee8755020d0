package consistency

import "github.com/cloudburst-nats/cloudburst/kvlattice"

// A part is what a run wrote to a key without writing to another key in between. At the
// levels that keep the order of writes each part is flushed by itself: a run that writes
// a photo, a comment and the photo again must show nobody the comment without a photo,
// nor the second photo without the comment.
type part struct {
	delta kvlattice.Lattice
	last  int // Session.puts at the last write in it: its place in the order
}

// ordered says whether nobody may be shown a write of a run without its earlier ones.
func (l Level) ordered() bool { return l == Causal || l == SessionCausal }

// touchLocked notes that delta was written to a key, which belongs to it from then on.
func (s *Session) touchLocked(w *write, delta kvlattice.Lattice) error {
	before := s.puts
	s.puts++
	w.last = s.puts
	if !s.cfg.Level.ordered() {
		return nil
	}
	if n := len(w.parts); n > 0 && w.parts[n-1].last == before && before > s.sealed {
		w.parts[n-1].last = s.puts
		_, err := w.parts[n-1].delta.Merge(delta)
		return err
	}
	if len(w.parts) == 0 {
		delta = delta.Clone() // it is w.delta too
	}
	w.parts = append(w.parts, part{delta, s.puts})
	w.begun++
	return nil
}

// lattices returns all that a write to a counter must be noted in: the whole of what the
// run wrote to the key, and the part that it belongs to.
func (w *write) lattices() []kvlattice.Lattice {
	if n := len(w.parts); n > 0 {
		return []kvlattice.Lattice{w.delta, w.parts[n-1].delta}
	}
	return []kvlattice.Lattice{w.delta}
}

// stored drops what was flushed, and says whether nothing is left.
func (w *write) stored(f flushing) (done bool) {
	if f.whole {
		return w.last == f.last
	}
	for i := range w.parts {
		if w.parts[i].last == f.last {
			w.parts = append(w.parts[:i:i], w.parts[i+1:]...)
			break
		}
	}
	return len(w.parts) == 0
}

// attemptLocked numbers what an attempt counts in a part of its writes: what a later part says
// of an operation replaces what an earlier one said, and a later attempt replaces both.
func (s *Session) attemptLocked(w *write) int {
	if !s.cfg.Level.ordered() {
		return s.id.Attempt
	}
	return s.id.Attempt<<16 + min(w.begun-1, 1<<16-1)
}
