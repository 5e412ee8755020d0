// Package kvlattice holds values that merge, and a store of them.
//
// A lattice is a value with a Merge that is associative, commutative and
// idempotent: copies of it may be written anywhere, in any order, any number
// of times, and agree once they have seen the same writes.
//
// A key of a bucket has one base, its compacted value, and any number of
// slots, one for each writer with something that is not in the base yet. What
// the key holds is the join of them all (merge on read). A writer overwrites
// its own slot and nothing else, so it needs no coordination; a base is only
// ever replaced by a value that includes it; a slot is only purged once a base
// includes it. From these three rules every snapshot of every replica contains
// every acknowledged write.
//
// The package knows nothing of NATS: it declares what it needs of a Bucket.
package kvlattice
