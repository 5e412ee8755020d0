// Package bench measures calls beside what NATS itself takes for the same
// work: the benchmark behind `cloudburst-bench call`.
//
// Contenders run side by side against one server, each on connections of its
// own, turn and turn about in short rounds, so that whatever else the machine
// does hits all alike. What counts is the ratio of a contender to its floor:
//
//	floor      publish, pull, reply, acknowledge on a bare stream: no code of ours
//	floor+id   the same, deduplicated and with the stream's acknowledgement to the caller
//	call       a call of a function that returns its argument; against floor
//	dag2       a call of a DAG of two nodes; against floor, and against call
//	get        a read of a cached key, inside a function
//	floor-put  publish and acknowledgement on a bare stream made as a bucket's
//	put        a write of a key through a worker's store; against floor-put
//
// A transport says where caller, worker and server are: in one process without
// a socket (inprocess), in one process over loopback (tcp), or each in a process
// of its own (processes), which Role plays.
//
// Whatever fails ends the benchmark with an error, after everything that was
// started has ended and the data was removed.
package bench
