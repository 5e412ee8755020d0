package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// A dead letter is the call's own body, so that its arguments can be read and
// published again by hand; who it was and why it died are headers.
const (
	headerNode    = "Cb-Node"    // of a node's call: which node
	headerFailure = "Cb-Failure" // the error as JSON, with its stack

	// failureAtMost bounds headerFailure (bytes): all headers of a message must
	// stay under 64 KiB.
	failureAtMost = 32 << 10
)

// A DeadLetter is a call that was given up.
type DeadLetter struct {
	Seq      uint64      `json:"seq"` // in CB_DEAD
	Run      wire.RunID  `json:"run"`
	Name     string      `json:"name"` // the function or DAG
	DAG      string      `json:"dag,omitempty"`
	Node     string      `json:"node,omitempty"`
	Level    string      `json:"level,omitempty"`
	Attempts int         `json:"attempts"`
	Worker   string      `json:"worker,omitempty"`
	Buried   time.Time   `json:"buried"`
	Err      *wire.Error `json:"failure"`
	Args     wire.Value  `json:"-"` // large ones are left for Broker.Unpack
	Past     string      `json:"-"` // what its run had seen, as the call had it
	Digest   string      `json:"-"` // of the run's call: see wire.Call
	Epoch    int         `json:"-"` // how often its run had begun again
	Depth    int         `json:"-"` // in how many other runs its run is contained
	Item     int         `json:"item,omitempty"`
	Items    int         `json:"items,omitempty"` // of a node that runs once for each item: how many there are
}

// A DeadFilter chooses dead letters. The zero value chooses the newest 50.
type DeadFilter struct {
	Name  string // of the function or DAG; empty for any
	Limit int    // default 50
}

// Bury stores the call, as it was, and its error as a dead letter, and returns
// once that is durable. The call itself is left to be settled by Finish. Buried
// again within the stream's window of duplicates, it is still one letter.
func (d *Delivery) Bury(ctx context.Context, failure *wire.Error) error {
	c := &d.Call
	why, err := encodeFailure(*failure)
	if err != nil {
		return err
	}
	h := nats.Header{
		wire.HeaderRun:      {fmt.Sprintf("%s/%d/%d", c.Stream, c.Seq, c.Stored.UnixNano())},
		wire.HeaderOf:       {string(c.Run)},
		wire.HeaderError:    {strconv.Itoa(int(failure.Kind))},
		wire.HeaderAttempts: {strconv.Itoa(c.Attempt)},
		wire.HeaderWorker:   {d.Worker},
		headerFailure:       {string(why)},
	}
	setHeader(h, wire.HeaderDAG, c.DAG)
	setHeader(h, headerNode, c.Node)
	setHeader(h, wire.HeaderLevel, c.Level)
	setHeader(h, wire.HeaderSession, c.Past)
	setHeader(h, wire.HeaderDigest, c.Digest)
	setNumbers(h, c.Epoch, c.Depth, c.Item, c.Items)
	contentType, chunked := strings.CutPrefix(c.Args.Type, manifestType)
	setHeader(h, wire.HeaderType, contentType)
	if chunked {
		setHeader(h, wire.HeaderChunks, "1")
	}
	body := c.Args.Body
	if !chunked { // with the failure beside it, it may be more than one message holds
		if body, err = d.b.pack(ctx, h, body); err != nil {
			return err
		}
	}
	_, err = d.b.put(ctx, &nats.Msg{Subject: subjectDead + c.Name, Header: h, Data: body})
	return apiError("bury", c.Name, err)
}

// Dead lists dead letters, newest first.
func (b *Broker) Dead(ctx context.Context, filter DeadFilter) ([]DeadLetter, error) {
	if filter.Limit <= 0 {
		filter.Limit = 50
	}
	subject := subjectDead + ">"
	if filter.Name != "" {
		if err := wire.CheckName("function", filter.Name); err != nil {
			return nil, err
		}
		subject = subjectDead + filter.Name
	}
	var list []DeadLetter
	err := b.scanBack(ctx, StreamDead, subject, 1<<62, func(msg *nats.Msg) bool {
		list = append(list, letterOf(msg))
		return len(list) < filter.Limit
	})
	return list, apiError("list dead letters", filter.Name, err)
}

// DeadLetter returns one dead letter; KindUnknown if there is none.
func (b *Broker) DeadLetter(ctx context.Context, seq uint64) (DeadLetter, error) {
	name := strconv.FormatUint(seq, 10)
	msg, err := b.bySeq(ctx, StreamDead, seq)
	if err != nil {
		return DeadLetter{}, apiError("read dead letter", name, err)
	}
	if msg == nil {
		return DeadLetter{}, &wire.Error{Op: "read dead letter", Name: name, Kind: wire.KindUnknown, Msg: "no such dead letter: never buried, replayed, or older than they are kept"}
	}
	return letterOf(msg), nil
}

// Replay publishes a dead letter's call again, with the same arguments and
// level, and removes the letter. A call of a function or DAG becomes a new run;
// a call of a DAG's node goes on with the run that it stopped, whose other
// inputs may still be waiting. Replaying twice makes one call.
func (b *Broker) Replay(ctx context.Context, seq uint64) (wire.RunID, error) {
	letter, err := b.DeadLetter(ctx, seq)
	if err != nil {
		return "", err
	}
	if err := b.callable(ctx, letter.Name); wire.KindOf(err) == wire.KindUnknown {
		return "", &wire.Error{Op: "replay", Name: strconv.FormatUint(seq, 10), Kind: wire.KindUnknown, Msg: fmt.Sprintf("%q, which it called, isn't there any more: deploy or apply it again first; the letter stays", letter.Name), Err: err}
	} else if err != nil {
		return "", err
	}
	call := wire.Call{Run: letter.Run, Name: letter.Name, DAG: letter.DAG, Node: letter.Node, Level: letter.Level, Past: letter.Past, Digest: letter.Digest, Epoch: letter.Epoch, Depth: letter.Depth, Item: letter.Item, Items: letter.Items}
	// Packing large arguments again gives their chunks a new lease of life.
	if call.Args, err = b.Unpack(ctx, letter.Args); err != nil {
		return "", err
	}
	again := wire.Replayed(letter.Run, seq)
	if call.Node == "" {
		call.Run, call.Epoch, call.Depth = again, 0, 0
	} else if err := b.reopen(ctx, &call); err != nil {
		return "", apiError("replay", letter.Name, err)
	}
	id := string(again)
	if call.Node != "" {
		id = call.MessageID() + ":" + id // not that of the call which failed
	}
	msg, err := b.callMsg(ctx, &call, id)
	if err != nil {
		return "", err
	}
	msg.Header[wire.HeaderOf] = []string{string(call.Run)} // which no caller gave
	if _, err := b.put(ctx, msg); err != nil {
		return "", apiError("replay", letter.Name, err)
	}
	if err := b.api(ctx, "STREAM.MSG.DELETE."+StreamDead, map[string]uint64{"seq": seq}); err != nil && !isGone(err) {
		return call.Run, apiError("remove replayed dead letter", strconv.FormatUint(seq, 10), err)
	}
	return call.Run, nil
}

// reopen takes back what says that the run has ended, and that the node's call and those
// that gathered many results were others. It claims the run's id first, if a caller chose
// that: without a result, the id would be free.
func (b *Broker) reopen(ctx context.Context, call *wire.Call) error {
	if call.Digest != "" {
		if _, err := b.claimID(ctx, call.Run, claim{Digest: call.Digest}); err != nil {
			return err
		}
	}
	state := call.RunState()
	for _, at := range []struct{ stream, subject string }{
		{StreamRuns, runSubject(call.Run, runFailed)},
		{StreamRuns, runSubject(state, call.Step()+runClaim)},
		{StreamRuns, runSubject(state, "$result"+runClaim)}, // the engine's, of a DAG with several sinks
		{StreamRuns, runSubject(state, "$gather.>")},        // likewise, of joins and maps
		{bucketStream(BucketResults), bucketSubject(BucketResults, string(call.Run))},
	} {
		if err := b.purgeThrough(ctx, at.stream, at.subject, 1<<62); err != nil {
			return err
		}
	}
	return nil
}

// encodeFailure clips what is too long, by halves: how long a text gets as JSON
// depends on what is in it.
func encodeFailure(e wire.Error) ([]byte, error) {
	for {
		body, err := json.Marshal(e)
		if err != nil || len(body) <= failureAtMost {
			return body, err
		}
		if len(e.Msg) > len(e.Stack) {
			e.Msg = clipString(e.Msg, len(e.Msg)/2)
		} else {
			e.Stack = clipString(e.Stack, len(e.Stack)/2)
		}
	}
}

func letterOf(msg *nats.Msg) DeadLetter {
	h := wire.Header(msg.Header)
	l := DeadLetter{
		Seq:    sequenceOf(msg),
		Name:   strings.TrimPrefix(wire.First(h, jetstream.SubjectHeader), subjectDead),
		Run:    wire.RunID(wire.First(h, wire.HeaderOf)),
		DAG:    wire.First(h, wire.HeaderDAG),
		Node:   wire.First(h, headerNode),
		Level:  wire.First(h, wire.HeaderLevel),
		Past:   wire.First(h, wire.HeaderSession),
		Digest: wire.First(h, wire.HeaderDigest),
		Epoch:  epochOf(h),
		Depth:  count(wire.First(h, wire.HeaderDepth)),
		Worker: wire.First(h, wire.HeaderWorker),
		Buried: storedAt(msg),
		Args:   wire.Value{Body: msg.Data, Type: wire.First(h, wire.HeaderType)},
		Err:    new(wire.Error),
	}
	l.Item, l.Items = itemOf(h)
	l.Attempts, _ = strconv.Atoi(wire.First(h, wire.HeaderAttempts))
	if wire.First(h, wire.HeaderChunks) != "" {
		l.Args.Type = manifestType + l.Args.Type
	}
	if err := json.Unmarshal([]byte(wire.First(h, headerFailure)), l.Err); err != nil {
		kind, _ := strconv.Atoi(wire.First(h, wire.HeaderError))
		l.Err = &wire.Error{Name: l.Name, Kind: wire.Kind(kind), Msg: "the error can't be read: " + err.Error()}
	}
	return l
}

func setHeader(h nats.Header, key, value string) {
	if value != "" {
		h[key] = []string{value}
	}
}

func clipString(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// isGone says whether a message that was to be deleted isn't there.
func isGone(err error) bool {
	const codeNoSequence, codeNoMessage = 10043, 10037
	var api *jetstream.APIError
	return errors.As(err, &api) && (api.ErrorCode == codeNoSequence || api.ErrorCode == codeNoMessage)
}
