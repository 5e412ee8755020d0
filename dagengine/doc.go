// Package dagengine decides what runs next in a run of a DAG, and has it done.
//
// A Graph is what a user writes: nodes that name functions, edges that carry a
// result into an argument. A Plan is a graph that was found sound, with its
// look-ups made and its version named by its content; it never changes. A run
// is one execution of a plan. The Engine carries a run over the part of it that
// one call pays for, on the worker (the Host) that was handed the call.
//
// Two nodes exist in every plan without being written: $start, whose result is
// the run's argument, and $result, whose argument is the run's result. They
// leave one rule for all that happens, "a node has finished":
//
//	start call ──► $start has finished
//	                    │
//	                    ▼        the only successor, alone to feed it,
//	       ┌──── a node has finished ◄──────────── invoke (fused) ◄─┐
//	       │            │     └───── and its function hosted here ──┘
//	       │            │ any other successor that one node feeds
//	       │            ├─────────────────► dispatch ──► node call ──► claim ──► invoke
//	       │            │                      ▲
//	       │            │ a successor          │ all are there
//	       │            │ that several feed    │
//	       │            └──► deliver ──► read inputs ──► some are missing: nothing
//	       ▼                                   │
//	    finish ◄── claim $result ◄─────────────┘ all sinks of several are there
//
// What runs next is decided by step.go, which is pure. The engine around it
// keeps one order of effects: invoke what is fused, flush the state it wrote
// together with the notes on when it ran, then dispatch and deliver, and only
// then return. Every effect may be repeated: a dispatch is one per run and node,
// an input overwrites itself, and a call that isn't the first to claim its node
// does nothing. So a worker may die anywhere, its call is handed out again, and
// the run comes to the same end. Of two calls that bring the last inputs of a
// join, at least one sees them all, because each reads no older a state than its
// own input; if both do, the dispatch is still one.
//
// A run goes on with the version of the plan that it began with. Workers of one
// pool are taken to host the same functions: a chain that ran fused on one of
// them would be run in parts by another after a crash, its later nodes perhaps
// twice.
//
// The package knows no NATS. Retries, time-outs and the reply are the worker's;
// storage and the window of duplicates are behind Runs and Dispatcher.
package dagengine
