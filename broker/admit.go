package broker

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cloudburst-nats/cloudburst/internal/backoff"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// Before a call runs that may be a repeat, it is admitted: a run that has a result is
// not run again.
//
//	fresh, handed out once            run it: nothing is looked up
//	handed out before, or in doubt    look up the run's result
//	under an id that its caller chose claim the id, then look up the result
//
// The claim of an id is a message under the run's state that names the call which has
// the id, and its fingerprint. It is there from that call's first execution until the
// result is stored, so of a claim and a result one is always there. The result bears
// the fingerprint on. A call of the same id with another fingerprint is a conflict.

// attachAtMost is how often a call is looked at while another one of its run is under
// way: about a minute and a half. Then it is acknowledged, and its caller looks for
// the result.
const attachAtMost = 20

// A claim says which call has a run's id.
type claim struct {
	Call   string `json:"call,omitempty"` // <stream>-<sequence>/<when it was stored>; empty: it was settled
	Digest string `json:"digest"`

	seq uint64 // of the claim itself
}

func claimSubject(run wire.RunID) string { return runSubject(run, runID) }

// Admit says whether a call that was handed out is to be run. If it is a repeat, it
// tells the caller at its reply inbox what the run came to; if its id belongs to
// another call, that it is a conflict. It sets the Digest of a call that is Named.
func (b *Broker) Admit(ctx context.Context, c *wire.Call) (wire.Verdict, error) {
	if faulty("repeat") {
		return wire.RunIt, nil
	}
	if c.Named() {
		c.Digest = wire.Fingerprint(c.Name, c.Args)
		v, err := b.admitNamed(ctx, c)
		return v, apiError("admit", c.Name, err)
	}
	if !c.Again() && (c.Node != "" || !wire.IsContained(c.Run)) {
		return wire.RunIt, nil
	}
	msg, r, err := b.end(ctx, c.Run)
	if err != nil || msg == nil || !ends(&r, storedAt(msg), c) {
		return wire.RunIt, apiError("admit", c.Name, err)
	}
	if err := b.leftBy(c, &r); err != nil {
		return wire.LookUp, apiError("admit", c.Name, err)
	}
	b.tell(c, maps.Clone(wire.Header(msg.Header)), msg.Data)
	return wire.Ended, nil
}

// clocksApart is more than the clocks of two servers may differ: each stamps the
// messages of the streams that it leads.
const clocksApart = 90 * time.Second

// ends says whether a result leaves nothing to do for a call of its run.
func ends(r *wire.Result, stored time.Time, c *wire.Call) bool {
	switch {
	case c.Node != "" && r.Status == wire.StatusFailed:
		return r.By == string(placeOf(c)) // the others are needed if the dead letter is replayed
	case c.Run == placeOf(c):
		// A stream that was made anew gives the ids of the old one's calls again.
		return !stored.Before(c.Stored.Add(-clocksApart))
	}
	return true
}

// admitNamed admits a call under an id that its caller chose.
func (b *Broker) admitNamed(ctx context.Context, c *wire.Call) (wire.Verdict, error) {
	mine := claim{Call: string(placeOf(c)) + "/" + strconv.FormatInt(c.Stored.UnixNano(), 10), Digest: c.Digest}
	has, err := b.claimID(ctx, c.Run, mine)
	if err != nil {
		return wire.RunIt, err
	}
	// After the claim: a call that ended before it has left its result.
	msg, r, err := b.end(ctx, c.Run)
	switch {
	case err != nil:
		return wire.RunIt, err
	case msg != nil:
		if err := b.leftBy(c, &r); err != nil {
			return wire.LookUp, err
		}
		if has.Call == mine.Call {
			b.releaseID(c.Run)
		}
		if conflicts(r.Digest, c.Digest) {
			b.refuse(c, r.Name)
			return wire.Ended, nil
		}
		b.tell(c, maps.Clone(wire.Header(msg.Header)), msg.Data)
		return wire.Ended, nil
	case has.Call == mine.Call:
		return wire.RunIt, nil
	case conflicts(has.Digest, c.Digest):
		b.refuse(c, "")
		return wire.Ended, nil
	}
	live, err := b.underWay(ctx, c.Run, has)
	switch {
	case err != nil:
		return wire.RunIt, err
	case !live:
		err := b.writeClaim(ctx, c.Run, mine, has.seq)
		if isStale(err) {
			return wire.LookUp, nil // by another repeat
		}
		return wire.RunIt, err
	case c.Attempt >= attachAtMost:
		return wire.Ended, nil
	}
	return wire.LookUp, nil
}

// conflicts says whether two fingerprints are of different calls; one that isn't known
// is of any.
func conflicts(a, b string) bool { return a != "" && b != "" && a != b }

// errConflict is the error of a call whose id is another call's.
func errConflict(run wire.RunID, name, other string) *wire.Error {
	what := "with another argument, or of another function"
	if other != "" && other != name {
		what = "of the function or DAG " + strconv.Quote(other)
	}
	return &wire.Error{
		Op: "call", Name: name, Kind: wire.KindConflict,
		Msg: fmt.Sprintf("the run id %q belongs to a call %s; choose another id, or look for its result", run, what),
	}
}

// refuse tells a caller that its id is another call's.
func (b *Broker) refuse(c *wire.Call, other string) {
	r := wire.Result{Run: c.Run, Name: c.Name, Status: wire.StatusFailed, Started: time.Now(), Attempts: c.Attempt, Err: errConflict(c.Run, c.Name, other)}
	h, body := r.Encode()
	b.tell(c, h, body)
	b.eventEnded(&r)
}

// tell sends a result to the call's reply inbox.
func (b *Broker) tell(c *wire.Call, h wire.Header, body []byte) {
	if c.Reply == "" {
		return
	}
	if err := b.nc.PublishMsg(&nats.Msg{Subject: c.Reply, Header: nats.Header(h), Data: body}); err != nil {
		b.observe.replyFailed(c.Name, err) // the caller looks for the result
	}
}

// end returns a run's result and its message; nil if there is none.
func (b *Broker) end(ctx context.Context, run wire.RunID) (*nats.Msg, wire.Result, error) {
	msg, err := b.newest(ctx, bucketStream(BucketResults), bucketSubject(BucketResults, string(run)))
	if err != nil || msg == nil {
		return nil, wire.Result{}, err
	}
	r, ok := resultOf(msg)
	if !ok { // a mark that it was removed
		return nil, wire.Result{}, nil
	}
	return msg, r, nil
}

// claimID returns the claim of a run's id: the given one, unless there is one already.
func (b *Broker) claimID(ctx context.Context, run wire.RunID, mine claim) (claim, error) {
	began := time.Now()
	for range backoff.Tries(ctx, time.Millisecond, lockWait) {
		err := b.writeClaim(ctx, run, mine, 0)
		if !isStale(err) {
			return mine, err
		}
		has, found, err := b.claimOf(ctx, run)
		if err != nil || found {
			return has, err
		}
		if time.Since(began) > b.timeout {
			return claim{}, unreadableClaim(string(run))
		}
		// The claim was released just now: another try takes it.
	}
	return claim{}, context.Cause(ctx)
}

// writeClaim writes a claim in place of the one of a sequence, 0 for none.
func (b *Broker) writeClaim(ctx context.Context, run wire.RunID, c claim, over uint64) error {
	body, err := json.Marshal(c)
	if err != nil {
		return err
	}
	h := nats.Header{jetstream.ExpectedLastSubjSeqHeader: {strconv.FormatUint(over, 10)}}
	_, err = b.put(ctx, &nats.Msg{Subject: claimSubject(run), Header: h, Data: body})
	return err
}

// claimOf reads the claim of a run's id.
func (b *Broker) claimOf(ctx context.Context, run wire.RunID) (c claim, found bool, err error) {
	msg, err := b.newest(ctx, StreamRuns, claimSubject(run))
	if err != nil || msg == nil {
		return claim{}, false, err
	}
	if json.Unmarshal(msg.Data, &c) != nil {
		c = claim{} // not ours: it is somebody's
	}
	c.seq = sequenceOf(msg)
	return c, true, nil
}

// releaseID removes the claim of an id whose run has a result. It doesn't wait: a
// claim that stays is found out by underWay.
func (b *Broker) releaseID(run wire.RunID) {
	reply, id := b.mux.open(b.timeout, func(*nats.Msg) bool { return false })
	body := `{"filter":"` + claimSubject(run) + `"}`
	if err := b.nc.PublishRequest("$JS.API.STREAM.PURGE."+StreamRuns, reply, []byte(body)); err != nil {
		b.mux.close(id)
	}
}

// underWay says whether the run of a claim goes on: its call isn't acknowledged yet, or
// the run has left state. One that has ended leaves a claim if its worker died between
// the result and the claim's release, and its result may be gone by now.
func (b *Broker) underWay(ctx context.Context, run wire.RunID, has claim) (bool, error) {
	place, _, _ := strings.Cut(has.Call, "/")
	if at := strings.LastIndexByte(place, '-'); at > 0 {
		seq, _ := strconv.ParseUint(place[at+1:], 10, 64)
		info, err := b.consumerInfo(ctx, strings.TrimPrefix(place[:at], callsPrefix))
		if err == nil && seq > info.AckFloor.Stream {
			return true, nil
		}
		if err != nil && wire.KindOf(err) != wire.KindUnknown {
			return false, err
		}
	}
	state, err := b.lastMulti(ctx, StreamRuns, []string{runSubject(run, "*.>")}, has.seq)
	return slices.ContainsFunc(state, func(msg *nats.Msg) bool { return !isTrials(msg) }), err
}
