package broker

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cloudburst-nats/cloudburst/internal/backoff"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// The state of a run, one message a subject in CB_RUNS. It is there from when the run
// takes a second call, or a call of it fails often, until it ends, however long that is:
//
//	cb.run.<run>.<node>.in.<edge>   an input that awaits the others
//	cb.run.<run>.<node>.claim       the sequence of the call that runs the node
//	cb.run.<run>.<node>.done        when and where the node ran
//	cb.run.<run>.<node>.<item>.claim  likewise of one item of a node that runs once for each
//	cb.run.<run>.<node>.each.in.<item>  its result, which awaits the others
//	cb.run.<run>.<node>.<group>.in.<edge>, .m<level>.<group>.in.<which>   where many meet
//	cb.run.<run>.$start.in.<what>   what the run began with
//	cb.run.<run>.:<epoch>.…         likewise, after the run began again
//	cb.run.<run>.$tries.<call>      how the executions of a call ended, see Begin
//	cb.run.<run>.failed             a call of the run is a dead letter: it may go on
//	cb.run.<run>.cancel             the run was cancelled; it outlives the run
//	cb.run.<run>.id                 which call has the id, if its caller chose it
const (
	runInput  = ".in."
	runClaim  = ".claim"
	runDone   = ".done"
	runCancel = "cancel"
	runFailed = "failed"
	runID     = "id"

	// marksAtMost bounds how many old cancellations a worker reads when it starts.
	marksAtMost = 10_000
	// cancelKept is how long calls of a cancelled run that come up late are known for
	// what they are.
	cancelKept = 7 * 24 * time.Hour
)

// PutInput stores what an edge of a run's DAG carries to a node and returns the
// sequence that Inputs is fenced by. Repeating it overwrites; an input with Once
// that is there already is KindConflict.
func (b *Broker) PutInput(ctx context.Context, run wire.RunID, node, edge string, in wire.Input) (uint64, error) {
	h := make(nats.Header, 3)
	setHeader(h, wire.HeaderType, in.Type)
	if in.Skipped {
		h[wire.HeaderSkipped] = []string{"1"}
	}
	if in.Once {
		h[jetstream.ExpectedLastSubjSeqHeader] = []string{"0"}
	}
	if err := b.setPast(ctx, h, in.Past); err != nil {
		return 0, err
	}
	body, err := b.pack(ctx, h, in.Body)
	if err != nil {
		return 0, err
	}
	seq, err := b.put(ctx, &nats.Msg{Subject: runSubject(run, node+runInput+escapeToken(edge)), Header: h, Data: body})
	if in.Once && isStale(err) {
		return 0, &wire.Error{Op: "store input", Name: node, Kind: wire.KindConflict, Msg: "it is there already", Err: err}
	}
	return seq, apiError("store input", node, err)
}

// Inputs returns the inputs that a node has so far, by edge: one snapshot, not
// older than sequence fence. Of several writers that each store an input and
// then read fenced by its sequence, at least one sees all.
func (b *Broker) Inputs(ctx context.Context, run wire.RunID, node string, fence uint64) (map[string]wire.Input, error) {
	prefix := runSubject(run, node+runInput)
	msgs, err := b.lastMulti(ctx, StreamRuns, []string{prefix + "*"}, fence)
	if err != nil {
		return nil, apiError("read inputs", node, err)
	}
	inputs := make(map[string]wire.Input, len(msgs))
	for _, msg := range msgs {
		h := wire.Header(msg.Header)
		v := wire.Value{Body: msg.Data, Type: wire.First(h, wire.HeaderType)}
		if wire.First(h, wire.HeaderChunks) != "" {
			v.Type = manifestType + v.Type
		}
		if v, err = b.Unpack(ctx, v); err != nil {
			return nil, apiError("read inputs", node, err)
		}
		past, err := b.Past(ctx, wire.First(h, wire.HeaderSession))
		if err != nil {
			return nil, apiError("read inputs", node, err)
		}
		edge := strings.TrimPrefix(wire.First(h, jetstream.SubjectHeader), prefix)
		inputs[unescapeToken(edge)] = wire.Input{Value: v, Past: past, Skipped: wire.First(h, wire.HeaderSkipped) != ""}
	}
	return inputs, nil
}

// Claim returns the sequence of the call that runs the node: the first to claim
// it is, as often as it asks. It keeps a join that was dispatched twice, outside
// the streams' window of duplicates, from running twice. A late claim, which may come
// when the run has ended and its claims are gone, is taken back then: the owner is 0.
func (b *Broker) Claim(ctx context.Context, run wire.RunID, node string, call uint64, late bool) (uint64, error) {
	subject := runSubject(run, node+runClaim)
	mine := strconv.FormatUint(call, 10)
	began := time.Now()
	for range backoff.Tries(ctx, time.Millisecond, lockWait) {
		h := nats.Header{jetstream.ExpectedLastSubjSeqHeader: {"0"}}
		seq, err := b.put(ctx, &nats.Msg{Subject: subject, Header: h, Data: []byte(mine)})
		if err == nil && late {
			over, err := b.over(ctx, run, node, seq)
			if err == nil && over {
				call, err = 0, b.purgeThrough(ctx, StreamRuns, subject, seq)
			}
			return call, apiError("claim", node, err)
		}
		if !isStale(err) {
			return call, apiError("claim", node, err)
		}
		msg, err := b.last(ctx, StreamRuns, subject)
		if err != nil {
			return 0, apiError("claim", node, err)
		}
		if msg != nil {
			owner, err := strconv.ParseUint(string(msg.Data), 10, 64)
			if err != nil {
				err = &wire.Error{Op: "claim", Name: node, Kind: wire.KindInvalid, Msg: "the claim isn't the sequence of a call: " + string(msg.Data)}
			}
			return owner, err
		}
		// A replica that lags, or a claim that has just gone with its run: ask again.
		if time.Since(began) > b.timeout {
			return 0, unreadableClaim(node)
		}
	}
	return 0, context.Cause(ctx)
}

// unreadableClaim is the error of a claim that is refused as taken, and can't be read.
func unreadableClaim(name string) error {
	return &wire.Error{Op: "claim", Name: name, Kind: wire.KindUnavailable, Msg: "the server says that it is taken, and doesn't show it; try again"}
}

// Done stores when and where a node of a run ran.
func (b *Broker) Done(ctx context.Context, run wire.RunID, t wire.NodeTiming) error {
	body, err := json.Marshal(t)
	if err != nil {
		return err
	}
	_, err = b.put(ctx, &nats.Msg{Subject: runSubject(run, t.Node+runDone), Data: body})
	return apiError("store timing", t.Node, err)
}

// Timings returns when and where the nodes of a run ran so far, in the order
// of their starts.
func (b *Broker) Timings(ctx context.Context, run wire.RunID) ([]wire.NodeTiming, error) {
	msgs, err := b.lastMulti(ctx, StreamRuns, []string{runSubject(run, "*"+runDone)}, 0)
	if err != nil {
		return nil, apiError("read timings", string(run), err)
	}
	return timings(msgs), nil
}

// timings reads the .done and .claim messages of one run; a node that was
// claimed and isn't done has run for no time yet.
func timings(msgs []*nats.Msg) []wire.NodeTiming {
	done := make(map[string]wire.NodeTiming)
	for _, msg := range msgs {
		tokens := strings.Split(msg.Header.Get(jetstream.SubjectHeader), ".")
		if len(tokens) != 5 || strings.HasPrefix(tokens[3], "$") { // the engine's own
			continue
		}
		t := wire.NodeTiming{Node: tokens[3], Started: storedAt(msg)}
		if _, known := done[t.Node]; "."+tokens[4] == runClaim && known {
			continue
		}
		if "."+tokens[4] == runDone && json.Unmarshal(msg.Data, &t) != nil {
			continue // not ours: timings are advice
		}
		done[t.Node] = t
	}
	list := make([]wire.NodeTiming, 0, len(done))
	for _, t := range done {
		list = append(list, t)
	}
	slices.SortFunc(list, func(a, b wire.NodeTiming) int { return a.Started.Compare(b.Started) })
	return list
}

// Cancel asks for a run to be stopped: workers are told at once, and those that
// start later find the mark. A run that has ended is KindConflict, one that
// nobody knows is KindUnknown.
func (b *Broker) Cancel(ctx context.Context, run wire.RunID) error {
	info, err := b.RunState(ctx, run)
	if err != nil {
		return err
	}
	if info.ended() {
		return &wire.Error{Op: "cancel", Name: string(run), Kind: wire.KindConflict, Msg: "the run has ended already: " + string(info.Status)}
	}
	mark := &nats.Msg{Subject: runSubject(run, runCancel), Header: nats.Header{headerTTL: {ttl(cancelKept)}}}
	if _, err := b.put(ctx, mark); err != nil {
		return apiError("cancel", string(run), err)
	}
	if err := b.nc.Publish(subjectCancel+runToken(run), nil); err != nil || !info.idle {
		return apiError("cancel", string(run), err)
	}
	// No call is there to end it: it waits for a timer or a signal.
	if err := b.dropTimers(ctx, run); err != nil {
		return apiError("cancel", string(run), err)
	}
	return apiError("cancel", string(run), b.endRun(ctx, &wire.Result{
		Run: run, Name: info.Name, Status: wire.StatusCancelled, Started: info.Started, Nodes: info.Nodes,
		Err: &wire.Error{Op: "run", Name: info.Name, Kind: wire.KindCancelled, Msg: "the run was cancelled"},
	}))
}

// Cancelled tells fn of every cancelled run until ctx ends: at once of those
// that are cancelled from now on, and of those that were cancelled before, or
// while the connection was lost. fn must not block; it may be told twice, and
// from two goroutines.
func (b *Broker) Cancelled(ctx context.Context, fn func(wire.RunID)) error {
	sub, err := b.nc.Subscribe(subjectCancel+"*", func(msg *nats.Msg) {
		fn(wire.RunID(unescapeToken(strings.TrimPrefix(msg.Subject, subjectCancel))))
	})
	if err != nil {
		return apiError("listen for cancellations", "", err)
	}
	defer b.unsubscribe(sub)
	for {
		back := b.epoch()
		var again <-chan time.Time
		if err := b.cancelMarks(ctx, fn); err != nil {
			b.observe.catchUpFailed("cancellations", err)
			again = time.After(time.Second)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-back:
		case <-again:
		}
	}
}

func (b *Broker) cancelMarks(ctx context.Context, fn func(wire.RunID)) error {
	left := marksAtMost
	return b.scan(ctx, StreamRuns, subjectRun+"*."+runCancel, 0, func(msg *nats.Msg) bool {
		token := strings.TrimSuffix(strings.TrimPrefix(msg.Header.Get(jetstream.SubjectHeader), subjectRun), "."+runCancel)
		fn(wire.RunID(unescapeToken(token)))
		left--
		return left > 0
	})
}

func (b *Broker) unsubscribe(sub *nats.Subscription) {
	if err := sub.Unsubscribe(); err != nil && b.nc.IsConnected() {
		b.observe.asyncError(sub, err)
	}
}

// escapeToken makes one subject token of any string: what a token of ours
// doesn't hold becomes =XX, the empty string becomes "=".
func escapeToken(s string) string {
	const hex = "0123456789ABCDEF"
	if s == "" {
		return "="
	}
	out := make([]byte, 0, len(s))
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_':
			out = append(out, c)
		default:
			out = append(out, '=', hex[c>>4], hex[c&15])
		}
	}
	return string(out)
}

// unescapeToken is the inverse of escapeToken and of runToken.
func unescapeToken(s string) string {
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '=' {
			out = append(out, s[i])
			continue
		}
		if i+2 < len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				out = append(out, byte(c))
				i += 2
			}
		}
	}
	return string(out)
}
