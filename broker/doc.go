// Package broker is the only code that knows NATS: subjects, streams,
// consumers, buckets, chunks, the gateway and the embedded server.
//
// A *Broker is one process's connection to one JetStream account. Its methods
// speak the words of package wire; the parts above it (the lattice store, the
// DAG engine, the workers) declare the few methods they need, and the
// broker's structs happen to have them.
//
// What it promises: a method that writes returns once the stream has
// acknowledged, or with an error that says whether a retry may help; a
// delivery is handed out again until it is acknowledged; nothing is created
// with another configuration than topology.go says, and nothing that exists is
// silently changed. What it leaves to others: when to write, and what it means.
package broker
