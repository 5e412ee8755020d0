package kvlattice

import (
	"time"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// Kind names a lattice type. It travels as the header Cb-Kind.
type Kind string

// The kinds.
const (
	KindLWW     Kind = "lww"     // last-writer-wins register
	KindCounter Kind = "counter" // up/down counter
	KindCausal  Kind = "causal"  // register that keeps concurrent writes
	KindSet     Kind = "set"     // grow-only set of JSON values

	KindMax        Kind = "max"      // the greatest number or string
	KindMin        Kind = "min"      // the least number or string
	KindGrow       Kind = "gcounter" // counter that only counts up
	KindORSet      Kind = "orset"    // set of JSON values with removal, where adding wins
	KindOrderedSet Kind = "zset"     // members sorted by score
	KindMap        Kind = "map"      // fields that are lattices themselves
	KindPriority   Kind = "priority" // the value with the lowest number
)

// A Lattice is a value that merges with others of its kind. Nothing may run
// beside what changes a Lattice (Merge and each kind's own adding methods); all
// other methods only read, and may run concurrently.
type Lattice interface {
	// Kind says which lattice this is; only the same kind merges.
	Kind() Kind
	// Merge joins other into the receiver and says whether that changed it. It
	// never writes to other, and may share immutable parts with it. Merging
	// another kind returns an error of wire.KindLattice and changes nothing.
	Merge(other Lattice) (changed bool, err error)
	// Clone returns a copy that can be merged into without changing this one.
	Clone() Lattice
	// Value is what the user sees: plain JSON, or the user's own bytes.
	Value() wire.Value
	// Encode returns the headers and body that Decode turns into an equal
	// lattice. The body is Value's wherever possible, so that the plain nats
	// CLI shows it.
	Encode() (wire.Header, []byte)
	// Size is roughly how many bytes of memory the lattice takes.
	Size() int
}

// An Entry is one stored element of a key: its base, or one writer's slot.
type Entry struct {
	Writer string // whose slot; empty for the base
	Header wire.Header
	Body   []byte
	Rev    uint64    // its revision: grows with every write to the bucket
	At     time.Time // when the storage received it
}
