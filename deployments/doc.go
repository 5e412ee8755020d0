// Package deployments is the roof under which the parts meet: it introduces the
// broker to the lattice store, the DAG engine and the workers, in order, and
// takes them down in reverse. A Node is a platform in one process (an embedded
// server or a connection, the gateway, the janitor); RunWorker is one worker
// of one pool.
//
// Order of ending, and why: the puller first, so that nothing new comes; then
// the worker, which finishes what it has; then the stores, which fold what the
// worker wrote; then the connection and, last, the server that all of them use.
package deployments
