// Package placement decides on which worker of a pool a call with references
// runs: where the keys are in the cache already.
//
// A Summary is what a worker tells the others: which keys it has, how many of its
// slots are busy, that it is there. A View is what one worker knows of the pool by
// them. A Teller makes the summaries of what a worker has. A key that nobody has
// belongs to its home, the worker that wins its rendezvous: who reads it first is
// then who is asked for it later.
//
// Everything here is a function of what it is told: no clock, no I/O, no lock. A
// view may be wrong, since summaries come late or never; whoever follows a decision
// asks the worker that it names, which may refuse. So a wrong view costs time and
// nothing else.
package placement
