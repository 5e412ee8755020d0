package broker

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// A RunInfo tells how a run stands.
type RunInfo struct {
	Run      wire.RunID        `json:"run"`
	Name     string            `json:"name"`
	Status   wire.Status       `json:"status"`
	Started  time.Time         `json:"started"`        // of its first node; of one that is pending: when it was stored
	Took     time.Duration     `json:"took,omitempty"` // once it has ended: time in the function; of a DAG, from the start of its first node to the end of its last
	Worker   string            `json:"worker,omitempty"`
	Attempts int               `json:"attempts,omitempty"`
	Restarts int               `json:"restarts,omitempty"` // how often it began again
	Nodes    []wire.NodeTiming `json:"nodes,omitempty"`    // of a DAG; one that runs now has taken no time yet
	Error    string            `json:"error,omitempty"`
	Err      *wire.Error       `json:"-"` // the same, whole

	// Waits is what the run waits for, if no call of it waits in a pool or runs.
	Waits []Wait `json:"waits,omitempty"`

	idle bool // no call of it was found
}

func (r *RunInfo) ended() bool {
	return r.Status != wire.StatusPending && r.Status != wire.StatusRunning
}

// A RunFilter chooses runs. The zero value chooses the newest 50.
type RunFilter struct {
	Name   string      // of the function or DAG; empty for any
	Status wire.Status // empty for any
	Limit  int         // default 50
	// Before chooses runs that ended before those of an earlier page: what RunsPage
	// returned as next. 0 begins with the runs that wait or run.
	Before uint64
}

func (f RunFilter) matches(r *RunInfo) bool {
	return (f.Name == "" || f.Name == r.Name) && (f.Status == "" || f.Status == r.Status)
}

const (
	// resultsScanned bounds how many results a list looks through.
	resultsScanned = 20_000
	// callsScanned bounds how many calls of a pool a look-up reads from either
	// end of its backlog.
	callsScanned = 2_000
)

// Runs lists runs, those that wait or run first, then the others, newest first
// in each group. It reads a bounded part of each pool's backlog and of the
// results: in a long backlog, the runs that are next.
func (b *Broker) Runs(ctx context.Context, filter RunFilter) ([]RunInfo, error) {
	list, _, err := b.RunsPage(ctx, filter)
	return list, err
}

// RunsPage is Runs, and says where the next page begins: next is the filter's Before
// of the next page, 0 if this page is the last. Runs that wait or run are on the
// first page only.
func (b *Broker) RunsPage(ctx context.Context, filter RunFilter) (list []RunInfo, next uint64, err error) {
	if filter.Limit <= 0 {
		filter.Limit = 50
	}
	ended := filter.Status != wire.StatusPending && filter.Status != wire.StatusRunning
	if filter.Before == 0 && (!ended || filter.Status == "") {
		if list, err = b.liveRuns(ctx, filter); err != nil {
			return nil, 0, apiError("list runs", "", err)
		}
	}
	if !ended {
		return list, 0, nil
	}
	end := filter.Before
	if end == 0 {
		_, last, err := b.bounds(ctx, bucketStream(BucketResults))
		if err != nil {
			return nil, 0, apiError("list runs", "", err)
		}
		end = last + 1
	}
	if len(list) >= filter.Limit {
		return list, end, nil // those that have ended begin on the next page
	}
	next, err = b.scanBefore(ctx, bucketStream(BucketResults), bucketSubject(BucketResults, ">"), end, resultsScanned, func(msg *nats.Msg) bool {
		if r, ok := resultOf(msg); ok {
			if info := infoOf(&r); filter.matches(&info) {
				list = append(list, info)
			}
		}
		return len(list) < filter.Limit
	})
	return list, next, apiError("list runs", "", err)
}

// RunState tells how one run stands. KindUnknown: there is no such run, its
// result is no longer kept, or it waits deep in a long backlog.
func (b *Broker) RunState(ctx context.Context, run wire.RunID) (RunInfo, error) {
	r, err := b.storedResult(ctx, run)
	if err == nil && r.Status != wire.StatusFailed {
		return infoOf(&r), nil
	}
	if err != nil && wire.KindOf(err) != wire.KindUnknown {
		return RunInfo{}, err
	}
	nodes, err := b.lastMulti(ctx, StreamRuns, []string{runSubject(run, "*"+runDone), runSubject(run, "*"+runClaim)}, 0)
	if err != nil {
		return RunInfo{}, apiError("read run", string(run), err)
	}
	if r.Status == wire.StatusFailed {
		r.Nodes = withNodes(r.Nodes, timings(nodes))
		return infoOf(&r), nil
	}
	info, found, err := b.findCall(ctx, run)
	switch {
	case err != nil:
		return RunInfo{}, apiError("read run", string(run), err)
	case !found:
		if info, found, err = b.findWaiting(ctx, run); err != nil {
			return RunInfo{}, apiError("read run", string(run), err)
		}
	}
	if !found && len(nodes) == 0 {
		return RunInfo{}, &wire.Error{Op: "read run", Name: string(run), Kind: wire.KindUnknown, Msg: "no such run; or its result is no longer kept, or it waits deep in a long backlog"}
	}
	info.Run, info.Nodes = run, timings(nodes)
	if info.idle {
		if info.Waits, err = b.waitsOf(ctx, run); err != nil {
			return RunInfo{}, apiError("read run", string(run), err)
		}
	}
	if len(nodes) > 0 {
		info.Status = wire.StatusRunning
		if first := info.Nodes; len(first) > 0 && (info.Started.IsZero() || first[0].Started.Before(info.Started)) {
			info.Started = first[0].Started
		}
	}
	return info, nil
}

// findWaiting looks for a run that has no call at the moment, by what it began
// with or by its timers.
func (b *Broker) findWaiting(ctx context.Context, run wire.RunID) (RunInfo, bool, error) {
	pin, err := b.last(ctx, StreamRuns, runSubject(run, runPinned))
	if err != nil {
		return RunInfo{}, false, err
	}
	if pin != nil {
		name, _, _ := strings.Cut(strings.Trim(string(pin.Data), `"`), "@")
		return RunInfo{Name: name, Status: wire.StatusRunning, Started: storedAt(pin), idle: true}, true, nil
	}
	timer, err := b.last(ctx, StreamTimers, timerSubject(&wire.Call{Run: run}))
	if err != nil || timer == nil {
		return RunInfo{}, false, err
	}
	name, _ := parseCallSubject(timer.Header.Get(headerTo))
	return RunInfo{Name: name, Status: wire.StatusPending, Started: storedAt(timer), idle: true}, true, nil
}

// runPinned is where the DAG engine keeps the version of the DAG that a run began with.
const runPinned = "$start" + runInput + "version"

// infoOf tells of a run that has ended.
func infoOf(r *wire.Result) RunInfo {
	info := RunInfo{
		Run: r.Run, Name: r.Name, Status: r.Status, Started: r.Started,
		Took: r.Took, Worker: r.Worker, Attempts: r.Attempts, Restarts: r.Restarts, Nodes: r.Nodes,
	}
	if r.Err != nil {
		info.Error, info.Err = r.Err.Error(), r.Err
	}
	if len(r.Nodes) == 0 {
		return info
	}
	// The result tells of the call that ended the run.
	began, ended := r.Nodes[0].Started, r.Nodes[0].Started
	for _, n := range r.Nodes {
		if n.Started.Before(began) {
			began = n.Started
		}
		if end := n.Started.Add(n.Took); end.After(ended) {
			ended = end
		}
	}
	info.Started, info.Took = began, ended.Sub(began)
	return info
}

// withNodes adds to what the call that failed tells of nodes what the run's state tells
// of the others.
func withNodes(own, others []wire.NodeTiming) []wire.NodeTiming {
	for _, n := range others {
		if !slices.ContainsFunc(own, func(o wire.NodeTiming) bool { return o.Node == n.Node }) {
			own = append(own, n)
		}
	}
	slices.SortFunc(own, func(a, b wire.NodeTiming) int { return a.Started.Compare(b.Started) })
	return own
}

// liveRuns lists runs that have no result: those with calls above their pools' ack
// floors, and those that wait for something else.
func (b *Broker) liveRuns(ctx context.Context, filter RunFilter) ([]RunInfo, error) {
	pools, err := b.Pools(ctx)
	if err != nil {
		return nil, err
	}
	seen := make(map[wire.RunID]bool)
	var list []RunInfo
	for _, pool := range pools {
		marks, err := b.marks(ctx, pool)
		if wire.KindOf(err) == wire.KindUnknown {
			continue // its consumer is about to be made
		}
		if err != nil {
			return nil, err
		}
		// More than the limit: some of them have ended in the meantime.
		msgs, _, err := b.page(ctx, CallsStream(pool), ">", marks.floor+1, 2*filter.Limit+callsScanned/10)
		if err != nil {
			return nil, err
		}
		for _, msg := range msgs {
			if info := marks.infoOf(msg); !seen[info.Run] {
				seen[info.Run] = true
				list = append(list, info)
			}
		}
	}
	if list, err = b.withoutEnded(ctx, list); err != nil {
		return nil, err
	}
	list = slices.DeleteFunc(list, func(r RunInfo) bool { return !filter.matches(&r) })
	slices.SortStableFunc(list, func(x, y RunInfo) int {
		if x.Status != y.Status {
			return -strings.Compare(string(x.Status), string(y.Status)) // "running" before "pending"
		}
		return y.Started.Compare(x.Started)
	})
	idle, err := b.waiting(ctx, filter, seen)
	list = append(list, idle...)
	return list[:min(len(list), filter.Limit)], err
}

// withoutEnded drops the runs that have a result.
func (b *Broker) withoutEnded(ctx context.Context, list []RunInfo) ([]RunInfo, error) {
	ended := make(map[wire.RunID]bool)
	for part := range slices.Chunk(list, 500) { // a multi-get matches 1024 at most
		subjects := make([]string, len(part))
		for i, r := range part {
			subjects[i] = bucketSubject(BucketResults, string(r.Run))
		}
		msgs, err := b.lastMulti(ctx, bucketStream(BucketResults), subjects, 0)
		if err != nil {
			return nil, err
		}
		for _, msg := range msgs {
			ended[wire.RunID(strings.TrimPrefix(msg.Header.Get(jetstream.SubjectHeader), bucketSubject(BucketResults, "")))] = true
		}
	}
	return slices.DeleteFunc(list, func(r RunInfo) bool { return ended[r.Run] }), nil
}

// findCall looks for a call of the run that isn't settled: the one that its id
// points at, else in the first and last part of every pool's backlog.
func (b *Broker) findCall(ctx context.Context, run wire.RunID) (RunInfo, bool, error) {
	pools, err := b.Pools(ctx)
	if err != nil {
		return RunInfo{}, false, err
	}
	for _, pool := range pools {
		stream := CallsStream(pool)
		marks, err := b.marks(ctx, pool)
		if wire.KindOf(err) == wire.KindUnknown {
			continue
		}
		if err != nil {
			return RunInfo{}, false, err
		}
		if tail, ok := strings.CutPrefix(string(run), stream+"-"); ok {
			if seq, err := strconv.ParseUint(tail, 10, 64); err == nil && seq > marks.floor {
				msg, err := b.bySeq(ctx, stream, seq)
				if err != nil || msg != nil {
					return marks.foundOf(msg), msg != nil, err
				}
			}
		}
		var found *nats.Msg
		left := callsScanned
		look := func(msg *nats.Msg) bool {
			if left--; runOf(msg) == run && sequenceOf(msg) > marks.floor {
				found = msg
			}
			return found == nil && left > 0
		}
		if err := b.scan(ctx, stream, ">", marks.floor+1, look); err != nil {
			return RunInfo{}, false, err
		}
		if found == nil && left <= 0 {
			left = callsScanned
			if err := b.scanBack(ctx, stream, ">", callsScanned, look); err != nil {
				return RunInfo{}, false, err
			}
		}
		if found != nil {
			return marks.infoOf(found), true, nil
		}
	}
	return RunInfo{}, false, nil
}

// marks are how far a pool's consumer has come in its stream: every call up to
// floor is settled, none after delivered was handed out yet.
type marks struct{ floor, delivered uint64 }

func (b *Broker) marks(ctx context.Context, pool string) (marks, error) {
	info, err := b.consumerInfo(ctx, pool)
	if err != nil {
		return marks{}, err
	}
	return marks{info.AckFloor.Stream, info.Delivered.Stream}, nil
}

// infoOf tells of a run by one of its calls that is not settled.
func (m marks) infoOf(msg *nats.Msg) RunInfo {
	name, _ := parseCallSubject(msg.Header.Get(jetstream.SubjectHeader))
	info := RunInfo{Run: runOf(msg), Name: name, Status: wire.StatusPending, Started: storedAt(msg)}
	if sequenceOf(msg) <= m.delivered {
		info.Status = wire.StatusRunning
	}
	return info
}

func (m marks) foundOf(msg *nats.Msg) RunInfo {
	if msg == nil {
		return RunInfo{}
	}
	return m.infoOf(msg)
}

// runOf returns the run that a directly got call belongs to.
func runOf(msg *nats.Msg) wire.RunID {
	h := wire.Header(msg.Header)
	_, node := parseCallSubject(wire.First(h, jetstream.SubjectHeader))
	return runOfCall(h, &wire.Call{Node: node, Stream: wire.First(h, jetstream.StreamHeader), Seq: sequenceOf(msg)})
}
