package broker

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cloudburst-nats/cloudburst/wire"
)

const (
	// loneAfter is how long a call is silent before its caller asks whether a worker serves
	// its pool, and for how long nobody may be seen before that counts.
	loneAfter = time.Second
	// loneLater is how far apart later looks are while somebody is there. If a worker was
	// seen before, nobody may be seen for MemberTTL: a worker that is restarted comes back.
	// The same holds on several servers. A leader may have died just now, and a server whose
	// clock is ahead forgets announcements early.
	loneLater = 5 * time.Second
	// servedFor is for how long a pool that was seen to be served isn't looked at again.
	servedFor = 2 * time.Second
	// loneWithin is how long a look may take: what can't be told by then isn't told.
	loneWithin = 2 * time.Second
	// loneSubject is where an autoscaler says that it starts the workers of a pool. It has
	// two tokens, as locks have, and so isn't taken for a worker.
	loneSubject = "starts."
)

// attendance is what a broker knows of who serves which pool. One look serves everybody who
// asks at the same time.
type attendance struct {
	look chan struct{} // a token for who looks

	mu     sync.Mutex // guards what follows
	served map[string]seen
}

// seen is what a look found. There is one for each pool whose calls were silent, and for
// each function and DAG: as many as are registered.
type seen struct {
	at   time.Time
	lone bool // nobody serves it
}

func newAttendance() attendance {
	return attendance{look: make(chan struct{}, 1), served: make(map[string]seen)}
}

// known says what is known of a pool: of one that is served for longer than of one that isn't.
func (a *attendance) known(pool string) (lone, fresh bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	last, ok := a.served[pool]
	age := time.Since(last.at)
	return last.lone, ok && (age < servedFor && !last.lone || age < loneAfter/2)
}

func (a *attendance) note(pool string, lone bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.served[pool] = seen{time.Now(), lone}
}

// NoWorker is an error of wire.KindNoWorker if no worker serves the pool of a function or
// DAG, and nothing that we know of will start one. It is nil also where that can't be told.
// An answer of a moment ago is used again.
func (b *Broker) NoWorker(ctx context.Context, name string) error {
	if none := b.noWorker(ctx, name, ""); none != nil {
		return none
	}
	return nil
}

// noWorker is NoWorker for a caller whose run may have begun: its calls may wait in another
// pool than its first.
func (b *Broker) noWorker(ctx context.Context, name string, run wire.RunID) *wire.Error {
	called := "call " + name // no pool has such a name
	if lone, fresh := b.attendance.known(called); fresh && !lone {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, loneWithin)
	defer cancel()
	var rec *DAGRecord
	f, err := b.Function(ctx, name)
	pool := f.Pool
	if wire.KindOf(err) == wire.KindUnknown {
		rec = new(DAGRecord)
		*rec, err = b.DAG(ctx, name)
		pool = rec.Pool
	}
	if err != nil {
		return nil // it can't be told
	}
	pools := poolsOf(pool, rec)
	lone := b.anyLone(ctx, pools)
	b.attendance.note(called, lone)
	if !lone {
		return nil
	}
	return b.nobodyFor(ctx, name, pool, rec, run)
}

// poolsOf are the pools of a function or DAG: its own first, then those of a DAG's nodes.
func poolsOf(pool string, rec *DAGRecord) []string {
	pools := []string{pool}
	if rec != nil {
		for _, other := range slices.Sorted(maps.Keys(rec.Subjects)) {
			if other != pool {
				pools = append(pools, other)
			}
		}
	}
	return pools
}

func (b *Broker) anyLone(ctx context.Context, pools []string) bool {
	return slices.ContainsFunc(pools, func(pool string) bool { return b.lone(ctx, pool) })
}

// nobodyFor is the error of a run if nobody serves its function's or DAG's own pool, or the
// pool in which a call of one of its DAG's nodes waits.
func (b *Broker) nobodyFor(ctx context.Context, name, pool string, rec *DAGRecord, run wire.RunID) *wire.Error {
	if b.lone(ctx, pool) {
		return noWorker(name, pool)
	}
	if rec == nil || run == "" {
		return nil
	}
	for _, other := range poolsOf(pool, rec)[1:] {
		if !b.lone(ctx, other) {
			continue
		}
		if node := b.waitingNode(ctx, other, rec.Name, run); node != "" {
			return &wire.Error{
				Op: "call", Name: name, Kind: wire.KindNoWorker,
				Msg: fmt.Sprintf("none serves pool %q, which runs %s of node %q: %s", other, rec.runs(node), node, startWorker(other)),
			}
		}
	}
	return nil
}

// waitingAmong is how many calls of a DAG that wait in a pool are looked through for a run's.
const waitingAmong = 1000

// waitingNode names a node of a DAG that a run has a call of, which waits in a pool.
func (b *Broker) waitingNode(ctx context.Context, pool, dag string, run wire.RunID) (node string) {
	marks, err := b.marks(ctx, pool)
	if err != nil {
		return ""
	}
	left := waitingAmong
	if err := b.scan(ctx, CallsStream(pool), NodeSubject(dag, "*"), marks.floor+1, func(msg *nats.Msg) bool {
		if runOf(msg) == run {
			_, node = parseCallSubject(msg.Header.Get(jetstream.SubjectHeader))
		}
		left--
		return node == "" && left > 0
	}); err != nil {
		return ""
	}
	return node
}

// runs says what a node of the DAG runs.
func (r *DAGRecord) runs(node string) string {
	var graph struct {
		Nodes []struct{ Name, Function, DAG string }
	}
	if json.Unmarshal(r.Spec, &graph) == nil {
		for _, n := range graph.Nodes {
			switch {
			case n.Name != node:
			case n.DAG != "":
				return "DAG " + strconv.Quote(n.DAG)
			case n.Function != "":
				return "function " + strconv.Quote(n.Function)
			}
		}
	}
	return "function " + strconv.Quote(node)
}

func noWorker(name, pool string) *wire.Error {
	return &wire.Error{Op: "call", Name: name, Kind: wire.KindNoWorker, Msg: fmt.Sprintf("none serves pool %q: %s", pool, startWorker(pool))}
}

// startWorker says how a worker of a pool is started.
func startWorker(pool string) string {
	if pool == DeployedPool {
		return "`cloudburst worker run` starts one, and `cloudburst server` has one inside"
	}
	return fmt.Sprintf("start the program that serves it, or `cloudburst worker run --pool %s` if its functions are deployed", pool)
}

// lone says whether nobody serves a pool; false where that can't be told.
func (b *Broker) lone(ctx context.Context, pool string) bool {
	if lone, fresh := b.attendance.known(pool); fresh {
		return lone
	}
	select {
	case b.attendance.look <- struct{}{}:
	case <-ctx.Done():
		return false
	}
	defer func() { <-b.attendance.look }()
	if lone, fresh := b.attendance.known(pool); fresh { // somebody looked while we waited
		return lone
	}
	lone, err := b.nobody(ctx, pool)
	if err != nil {
		return false
	}
	b.attendance.note(pool, lone)
	return lone
}

// nobody asks whether a pool has no worker: none says that it is there, none asks for calls,
// and no autoscaler starts one.
func (b *Broker) nobody(ctx context.Context, pool string) (bool, error) {
	workers, err := b.Workers(ctx)
	if err != nil {
		return false, err
	}
	for i := range workers {
		if workers[i].Pool == pool {
			return false, nil
		}
	}
	lag, err := b.Lag(ctx, pool)
	if err != nil || lag.Waiting > 0 {
		return false, err
	}
	starts, err := b.last(ctx, bucketStream(BucketWorkers), bucketSubject(BucketWorkers, loneSubject+pool))
	return starts == nil || isMarker(starts), err
}

// StartsWorkers says that somebody starts workers of a pool when there are calls of it, for
// MemberTTL: until then callers wait, though the pool may have no worker at the moment.
func (b *Broker) StartsWorkers(ctx context.Context, pool string) error {
	if err := wire.CheckName("pool", pool); err != nil {
		return err
	}
	h := nats.Header{jetstream.MsgTTLHeader: {MemberTTL.String()}}
	_, err := b.put(ctx, &nats.Msg{Subject: bucketSubject(BucketWorkers, loneSubject+pool), Header: h, Data: []byte("{}")})
	return apiError("announce autoscaler", pool, err)
}

// storedFor adds to the error of NoWorker that the call is stored.
func storedFor(none *wire.Error, run wire.RunID) *wire.Error {
	more := *none
	more.Msg += "; the call is stored, and runs as " + string(run) + " once one does"
	return &more
}

// solitude is what a caller who waits knows of the workers of its call's pool. It costs
// nothing before the first look.
type solitude struct {
	due   <-chan time.Time // when to look again
	heard chan *wire.Error // what the look under way finds; nil: nobody has looked yet

	since  time.Time   // since when nobody was seen; zero: somebody was
	served bool        // a worker was seen while the call waited
	copies bool        // what a look finds is of one of several copies
	err    *wire.Error // that nobody is there
}

// ask has somebody look, one at a time.
func (l *solitude) ask(ctx context.Context, p *Pending) {
	if l.heard == nil {
		l.heard = make(chan *wire.Error, 1)
	}
	l.due = nil
	go func() { l.heard <- p.b.noWorker(ctx, p.name, p.Run) }()
}

// look takes in what a look found, and says whether nobody was there for long enough.
func (l *solitude) look(now time.Time, nobody *wire.Error) (enough bool) {
	if l.err = nobody; nobody == nil {
		l.since, l.served, l.due = time.Time{}, true, time.After(loneLater)
		return false
	}
	if l.since.IsZero() {
		l.since = now
	}
	limit := loneAfter
	if l.served || l.copies {
		limit = MemberTTL
	}
	l.due = time.After(loneAfter)
	return now.Sub(l.since) >= limit
}
