// Package workers runs calls well: one call in one slot, its effects stored
// before anyone is told, its failure retried or buried, nothing in hand
// dropped.
//
// A Worker belongs to one pool and hosts that pool's functions. It is handed
// deliveries by a puller (package broker) and takes each through its life:
//
//	taken ── resolve references ── invoke ── flush writes ── publish edges ── store result, reply ── acknowledge
//	   │                              │            │               │                    │
//	   │ cancelled                    │ fails      └── storage fails: handed out again ──┘
//	   └──────► result "cancelled"    ├── attempts left: handed out again after a backoff
//	                                  └── none left: dead letter ── result "failed" ── acknowledge
//
// A crash at any arrow leaves the delivery unacknowledged, so that it is handed
// out again; every effect is idempotent for its run and node. The package knows
// nothing of NATS and nothing of graphs: it declares what it needs of both.
package workers
