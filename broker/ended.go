package broker

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// A run's state goes when the run has ended: after its result is stored, and before the
// call that ended it is acknowledged. A crash in between has that call handed out again.
// The state of a run that failed at a node stays, marked, as long as the node's dead
// letter does: Replay goes on with it.

// stateOf matches all that is kept of a run but the marks of three tokens.
func stateOf(run wire.RunID) string { return runSubject(run, "*.>") }

// leave removes the state of a run that has ended, or marks it as that of a run which
// failed. It doesn't wait, and calls then once.
func (b *Broker) leave(r *wire.Result, then func(error)) {
	msg := &nats.Msg{Subject: runSubject(r.Run, runFailed), Data: []byte(r.Node)}
	if r.Status != wire.StatusFailed || r.Node == "" {
		msg = &nats.Msg{Subject: "$JS.API.STREAM.PURGE." + StreamRuns, Data: []byte(`{"filter":"` + stateOf(r.Run) + `"}`)}
	}
	b.mux.publish(msg, func(_ uint64, err error) { then(apiError("end run", string(r.Run), err)) })
}

// leftBy removes what a call's run has left that has ended: the worker that ended it may
// have died before it came to that.
func (b *Broker) leftBy(c *wire.Call, r *wire.Result) error {
	if r.Status == wire.StatusFailed && r.By != string(placeOf(c)) || r.Status == wire.StatusOK && c.Node == "" && len(r.Nodes) == 0 {
		return nil // it is marked by the call that failed; or it had no state
	}
	r.Node = c.Node
	done := make(chan error, 1)
	b.leave(r, func(err error) { done <- err })
	return <-done // within the time of a request
}

// forget removes the state of a run, and waits for that.
func (b *Broker) forget(ctx context.Context, run wire.RunID) error {
	for _, subject := range []string{stateOf(run), runSubject(run, runFailed)} {
		if err := b.purgeThrough(ctx, StreamRuns, subject, 1<<62); err != nil {
			return err
		}
	}
	return nil
}

// endRun ends a run that no worker ends.
func (b *Broker) endRun(ctx context.Context, r *wire.Result) error {
	has, claimed, err := b.claimOf(ctx, r.Run)
	if err != nil {
		return err
	}
	r.Digest = has.Digest
	h, body := r.Encode()
	if _, err := b.put(ctx, &nats.Msg{Subject: bucketSubject(BucketResults, string(r.Run)), Header: nats.Header(h), Data: body}); err != nil {
		return err
	}
	b.eventEnded(r)
	if err := b.forget(ctx, r.Run); err != nil {
		return err
	}
	if claimed {
		b.releaseID(r.Run)
	}
	return nil
}

// over says whether a run had ended when one of its nodes was claimed, as message seq: it
// has a result, or lacks what it began with, which goes with its end. A run that failed
// isn't over, since it may be replayed.
func (b *Broker) over(ctx context.Context, state wire.RunID, node string, seq uint64) (bool, error) {
	id, _, _ := strings.Cut(string(state), ":")
	msg, r, err := b.end(ctx, wire.RunID(id))
	switch {
	case err != nil:
		return false, err
	case msg != nil && r.Status != wire.StatusFailed:
		return true, nil
	case node == "$start":
		return false, nil
	}
	pin, err := b.lastMulti(ctx, StreamRuns, []string{runSubject(state, runPinned)}, seq)
	return err == nil && len(pin) == 0, err
}

// WasCancelled says whether somebody has cancelled the run, within the last week.
func (b *Broker) WasCancelled(ctx context.Context, run wire.RunID) (bool, error) {
	msg, err := b.last(ctx, StreamRuns, runSubject(run, runCancel))
	return msg != nil, apiError("look for a cancellation", string(run), err)
}

// ttl is how the header Nats-TTL has a time.
func ttl(d time.Duration) string { return strconv.Itoa(int(max(d, time.Second)/time.Second)) + "s" }

// subjectsOf lists the subjects of a stream that match filter, without their messages.
func (b *Broker) subjectsOf(ctx context.Context, stream, filter string) ([]string, error) {
	var list []string
	for total := 1; len(list) < total; {
		page, all, err := b.subjectsFrom(ctx, stream, filter, len(list))
		if err != nil || len(page) == 0 {
			return list, err
		}
		list, total = append(list, page...), all
	}
	return list, nil
}

// subjectsFrom reads one page of such a list.
func (b *Broker) subjectsFrom(ctx context.Context, stream, filter string, offset int) (page []string, total int, err error) {
	body, err := json.Marshal(map[string]any{"subjects_filter": filter, "offset": offset})
	if err != nil {
		return nil, 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	msg, err := b.nc.RequestWithContext(ctx, "$JS.API.STREAM.INFO."+stream, body)
	if err != nil {
		return nil, 0, err
	}
	if _, _, err := parsePubAck(&nats.Msg{Data: msg.Data}); err != nil {
		return nil, 0, err
	}
	var answer struct {
		Total int `json:"total"`
		State struct {
			Subjects map[string]uint64 `json:"subjects"`
		} `json:"state"`
	}
	err = json.Unmarshal(msg.Data, &answer)
	for subject := range answer.State.Subjects {
		page = append(page, subject)
	}
	return page, answer.Total, err
}
