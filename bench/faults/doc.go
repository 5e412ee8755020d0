// Package faults breaks a platform of three servers, again and again, while it is
// used, and checks that nothing was lost: the promises of ARCHITECTURE.md, "When a
// part dies", with the time that each fault costs.
//
// A site is the platform: three servers, each with its gateway, and workers, all
// processes of their own, that reach each other through links, which are TCP
// proxies that can be cut. A fault is one thing that goes wrong with one of them:
// killed, stopped for a while, cut off, restarted, slow, with a wrong clock, or with
// a full disk. They come one at a time; the next one when all are well again.
//
// Meanwhile the load calls functions and DAGs, and writes state, and keeps account
// of what was acknowledged. A probe calls a function that does nothing, over and
// over: the longest that one of its calls takes is what the fault under way costs a
// caller. In the end the audit reads everything: each call has counted once, each
// DAG's nodes too, each acknowledged write is there. Beside it the consistency
// experiment (package anomalies) checks what the levels promise.
package faults
