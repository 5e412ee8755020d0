// Package autoscaler turns measurements of a pool into the number of workers
// it wants. The decision, Scaler.Decide, is a state machine without a clock and
// without I/O; Loop is the shell that measures, decides and acts, twice a second.
//
// Three words. The load is how many slots the arriving calls keep busy: arrivals
// a second times seconds a call. The backlog is what waits on top of it. A pool
// wants slots for its load at Policy.Target, or for its load and its backlog
// within Policy.Drain, whichever is more.
//
//	          wants more than it has
//	steady ───────────────────────────▶ more workers, at once
//	  │ ▲
//	  │ └────────── a stable window since it last wanted Threshold × what it had
//	  ▼
//	panic       wants Threshold × what it has: no fewer workers until it is over
//
// It goes up by the short window and the backlog, at once. It goes down to the
// most that was wanted at any time of the stable window, so that a pause in a burst
// costs nothing; and to none only after Policy.Idle without a call.
//
// What it guarantees: a decision between Min and Max, never fewer workers while
// calls wait that those there are can't take within Drain. What it leaves to
// others: measuring (Meter) and starting and stopping (Actuator). When either
// fails, the loop keeps the workers that there are, and tries again.
package autoscaler
