package broker

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// A caller that hears nothing sends the same call again, which the stream
// drops if it has it already; a caller whose call is stored looks into the
// results now and then, since the reply itself may have been lost.
const (
	resendAfter = 2 * time.Second
	lookAfter   = 5 * time.Second
	lookFirst   = 5 * time.Millisecond
	// askAgain is how long callers that wait anyway go without asking for an
	// acknowledgement after their subject was last heard to be stored. Acknowledging
	// costs up to a quarter of the throughput. Should a call be refused within that time
	// (the backlog became full), its caller hears of it after resendAfter.
	askAgain = 100 * time.Millisecond
	// dedupSafe is how long after the first try the same call may be sent
	// again: well within the streams' duplicate window (Topology.Duplicates).
	dedupSafe = time.Minute
)

// A Pending is a call under way, from the side of its caller. It holds a reply
// inbox until Close.
type Pending struct {
	Run wire.RunID

	b      *Broker
	name   string
	msg    *nats.Msg
	inbox  string
	id     uint64
	digest string // of a call whose id isn't fresh: its fingerprint
	quiet  bool   // no acknowledgement was asked for, so far
	lazy   bool   // waits also while no worker serves the pool
	began  time.Time
	stored atomic.Bool
	repeat chan struct{} // told when the stream had the call already: the result may be there
	absent chan struct{} // told when no stream listened to the call's subject
	first  atomic.Uint64 // its sequence then
	// inProcess says that the stream has refused the call since it stores one of that id.
	inProcess atomic.Bool
	acked     chan struct{} // closed once the stream has the call
	result    chan wire.Result
	failed    chan error
}

// Start publishes a call and returns at once: Stored waits until it is
// durable, Wait for its result, also while no worker serves the call's pool. A call
// without a run id is given one.
func (b *Broker) Start(ctx context.Context, call wire.Call) (*Pending, error) {
	return b.start(ctx, call, false)
}

// start publishes a call; a quiet one goes without an acknowledgement while
// that is safe (see askAgain).
func (b *Broker) start(ctx context.Context, call wire.Call, quiet bool) (*Pending, error) {
	p := &Pending{
		b: b, name: call.Name, began: time.Now(), lazy: call.Patient || !quiet || call.Wait > 0,
		repeat: make(chan struct{}, 1), absent: make(chan struct{}, 1), acked: make(chan struct{}), result: make(chan wire.Result, 1), failed: make(chan error, 1),
	}
	if call.Run == "" {
		call.Run, p.inbox, p.id = b.mux.openRun(p.receive)
		call.Fresh = true
	} else {
		if err := wire.CheckCallerID(call.Run); err != nil {
			return nil, err
		}
		p.inbox, p.id = b.mux.open(0, p.receive)
		call.Reply = p.inbox
	}
	p.Run = call.Run
	var err error
	if p.msg, err = b.callMsg(ctx, &call, string(call.Run)); err != nil {
		p.Close()
		return nil, err
	}
	if call.Wait > 0 {
		if err := b.callable(ctx, call.Name); err != nil { // its stream would say so, but that is for later
			p.Close()
			return nil, err
		}
		if p.msg, err = b.timerOf(ctx, p.msg, &call); err != nil {
			p.Close()
			return nil, err
		}
		if !call.Fresh {
			p.msg.Header[jetstream.ExpectedLastSubjSeqHeader] = []string{"0"} // one that is set stays: see compare
		}
	}
	if !call.Fresh {
		p.digest = fingerprintOf(call.Name, p.msg)
		quiet = false // the answer may be that it is a repeat
		if err := b.taken(ctx, &call, p.digest, p.lazy); err != nil {
			p.Close()
			return nil, err
		}
	}
	if p.quiet = quiet && b.known.heard(p.msg.Subject, askAgain); !p.quiet {
		p.msg.Reply = p.inbox
	}
	if err := b.fullForAll(); err != nil {
		p.Close()
		return nil, apiError("call", call.Name, err)
	}
	if err := b.nc.PublishMsg(p.msg); err != nil {
		p.Close()
		return nil, apiError("call", call.Name, err)
	}
	return p, nil
}

// Call runs a function or DAG and waits for its result. It is an error of
// wire.KindNoWorker if no worker serves the pool for two seconds and the call is stored,
// unless it is Patient.
func (b *Broker) Call(ctx context.Context, call wire.Call) (wire.Result, error) {
	p, err := b.start(ctx, call, true)
	if err != nil {
		return wire.Result{}, err
	}
	defer p.Close()
	return p.Wait(ctx)
}

// Close gives up the reply inbox. The run goes on.
func (p *Pending) Close() { p.b.mux.close(p.id) }

// Stored returns once the stream has acknowledged the call: from then on it
// will run, whatever happens to the caller.
func (p *Pending) Stored(ctx context.Context) error {
	_, err := p.wait(ctx, p.acked)
	return err
}

// Wait returns the run's result. An error says that there is none yet or none
// to be had; a function's own failure is a Result.
func (p *Pending) Wait(ctx context.Context) (wire.Result, error) {
	return p.wait(ctx, nil)
}

func (p *Pending) wait(ctx context.Context, enough <-chan struct{}) (wire.Result, error) {
	timer := time.NewTimer(loneAfter)
	defer timer.Stop()
	look := lookAfter
	alone := solitude{copies: p.b.replicated()}
	for {
		back := p.b.epoch()
		select {
		case <-enough:
			return wire.Result{}, nil
		case r := <-p.result:
			select {
			case p.result <- r: // for the next who waits
			default:
			}
			return p.b.unpackResult(ctx, r)
		case err := <-p.failed:
			p.fail(err)
			return wire.Result{}, err
		case <-ctx.Done():
			return wire.Result{}, p.gaveUp(ctx, alone.err)
		case <-alone.due:
			alone.ask(ctx, p)
			continue
		case nobody := <-alone.heard:
			if alone.look(time.Now(), nobody) && !p.lazy && p.stored.Load() {
				return wire.Result{}, storedFor(nobody, p.Run)
			}
			if nobody != nil && !p.stored.Load() {
				timer.Reset(0) // whether it is stored must be known
			}
			continue
		case <-timer.C:
			if alone.heard == nil && enough == nil {
				alone.ask(ctx, p)
				timer.Reset(resendAfter - loneAfter)
				continue
			}
		case <-back:
		case <-p.absent:
			if err := p.absentFor(ctx); err != nil {
				p.fail(err)
			}
			continue // the timer sends the call again
		case <-p.repeat: // the result goes to whoever called first: look for it, soon and then less often
			look = lookFirst
		}
		if p.stored.Load() {
			timer.Reset(look)
			look = min(2*look, lookAfter)
		} else {
			timer.Reset(resendAfter)
		}
		if err := p.compare(ctx); err != nil {
			p.fail(err)
			continue
		}
		if r, ok := p.again(ctx); ok {
			if conflicts(r.Digest, p.digest) {
				p.fail(errConflict(p.Run, p.name, r.Name))
				continue
			}
			return p.b.unpackResult(ctx, r)
		}
		if full := p.b.Full(); full != nil && !p.stored.Load() && time.Since(p.began) >= resendAfter {
			return wire.Result{}, p.full(full)
		}
		if !p.stored.Load() && time.Since(p.began) > dedupSafe+p.b.timeout {
			if wire.KindOf(p.b.callable(ctx, p.name)) == wire.KindUnknown {
				p.b.known.forget(p.msg.Subject) // the next call is told at once
			}
			return wire.Result{}, p.unstored()
		}
	}
}

// unstored is the error of a call that no answer says is stored.
func (p *Pending) unstored() error {
	why := ""
	if p.inProcess.Load() {
		why = " (the last answer: one of the same id is being stored)"
	}
	return &wire.Error{Op: "call", Name: p.name, Kind: wire.KindUnavailable, Msg: "not acknowledged within " + dedupSafe.String() + why + "; it may run yet, as " + string(p.Run)}
}

// again looks for a result that was stored, and sends the call again if it may
// not have been.
func (p *Pending) again(ctx context.Context) (wire.Result, bool) {
	if r, err := p.b.storedResult(ctx, p.Run); err == nil {
		return r, true
	}
	// Not while disconnected: the client would keep it, and send it when the
	// stream may have forgotten the first. The reconnect comes back here.
	if !p.stored.Load() && time.Since(p.began) < dedupSafe && p.b.nc.IsConnected() {
		p.quiet, p.msg.Reply = false, p.inbox
		delete(p.msg.Header, wire.HeaderFresh) // the first may have been stored, and run, after all
		if err := p.b.nc.PublishMsg(p.msg); err != nil {
			p.b.observe.resendFailed(p.msg.Subject, err)
		}
	}
	return wire.Result{}, false
}

// full is the error of a call that a full disk kept from being acknowledged.
func (p *Pending) full(cause error) error {
	return &wire.Error{Op: "call", Name: p.name, Kind: wire.KindBusy, Msg: cause.Error() + "; it may run yet, as " + string(p.Run), Err: cause}
}

func (p *Pending) gaveUp(ctx context.Context, nobody *wire.Error) error {
	e := &wire.Error{Op: "call", Name: p.name, Kind: wire.KindTimeout, Err: context.Cause(ctx)}
	switch {
	case p.stored.Load():
		e.Msg = "no result yet; the run goes on: look for it later as " + string(p.Run)
		if nobody != nil {
			e.Msg = "no result yet, and no worker: " + nobody.Msg + "; the run goes on once one does: look for it later as " + string(p.Run)
		}
	case p.quiet:
		e.Msg = "no result yet; the run may go on: look for it later as " + string(p.Run)
	case p.b.Full() != nil:
		return p.full(p.b.Full())
	default:
		e.Kind, e.Msg = wire.KindUnavailable, "the server did not acknowledge the call in time; it may run yet, as "+string(p.Run)
	}
	return e
}

// receive runs on the mux's goroutine: the stream's acknowledgement and the
// result come to the same inbox, in either order.
func (p *Pending) receive(msg *nats.Msg) bool {
	if msg == nil {
		p.fail(apiError("call", p.name, ErrClosed))
		return false
	}
	if r, ok := resultOf(msg); ok {
		p.markStored()
		select {
		case p.result <- r:
		default: // a repeated reply
		}
		return false
	}
	seq, duplicate, err := parsePubAck(msg)
	switch {
	case err == nil && duplicate && p.digest != "": // it is stored, if it is the same: see compare
		p.first.Store(seq)
		p.lookAgain()
	case err == nil:
		p.markStored()
		if strings.HasPrefix(p.msg.Subject, subjectCall) { // a timer's subject is its own
			p.b.known.add(p.msg.Subject)
		}
		if duplicate {
			p.lookAgain()
		}
	case isStale(err): // a timer is set for this run
		p.first.Store(anySequence)
		p.lookAgain()
	case isInProcess(err): // the first try may yet be lost: again finds out
		p.inProcess.Store(true)
		time.AfterFunc(inProcessWait, p.lookAgain)
	case errors.Is(err, nats.ErrNoResponders):
		if p.b.knows(p.msg.Subject) {
			return true // JetStream is on its way back up: again sends it anew
		}
		nudge(p.absent) // the registry knows why, and asking it takes a while
	default:
		p.b.known.refused(p.msg.Subject)
		p.fail(apiError("call", p.name, err))
	}
	return true
}

// lookAgain has who waits look for the result now.
func (p *Pending) lookAgain() { nudge(p.repeat) }

// nudge has who waits at the channel go on; it holds one element.
func nudge(who chan<- struct{}) {
	select {
	case who <- struct{}{}:
	default:
	}
}

// absentFor says why no stream listened to the call's subject, if that is for good: there
// is no such function. It returns nil while the function's stream is being made anew, or
// JetStream is on its way back. The call is sent again then.
func (p *Pending) absentFor(ctx context.Context) error {
	err := p.b.callable(ctx, p.name)
	switch kind := wire.KindOf(err); {
	case kind == wire.KindUnavailable && time.Since(p.began) > bareAfter && p.b.bare(ctx):
		return err
	case err == nil, ctx.Err() != nil, kind == wire.KindUnavailable, kind == wire.KindTimeout:
		return nil //nolint:nilerr // said above
	case kind == wire.KindUnknown:
		return err
	}
	return notCallable(p.name, err) // nobody takes up such a name, or such an entry
}

// bareAfter is how long a call waits for a registry that isn't there. A node makes a
// deleted registry anew within seconds; on a NATS server without a node nobody does.
const bareAfter = 5 * time.Second

// bare says whether the NATS servers have JetStream and no registry.
func (b *Broker) bare(ctx context.Context) bool {
	_, err := b.streamConfig(ctx, bucketStream(BucketFunctions))
	return errors.Is(err, jetstream.ErrStreamNotFound)
}

func notCallable(name string, cause error) error {
	return &wire.Error{Op: "call", Name: name, Kind: wire.KindUnknown, Msg: "no such function or DAG; `cloudburst fn ls` and `cloudburst dag ls` show what there is", Err: cause}
}

// callable says whether there is a function or DAG of this name.
func (b *Broker) callable(ctx context.Context, name string) error {
	_, err := b.Function(ctx, name)
	if wire.KindOf(err) == wire.KindUnknown {
		_, err = b.DAG(ctx, name)
	}
	if wire.KindOf(err) == wire.KindUnknown {
		return notCallable(name, err)
	}
	return err
}

func (p *Pending) markStored() {
	if p.stored.CompareAndSwap(false, true) {
		close(p.acked)
	}
}

func (p *Pending) fail(err error) {
	select {
	case p.failed <- err:
	default:
	}
}

// Dispatch publishes a call, or sets the timer of one that has a Wait, and returns
// once that is stored. The stream drops it when it has one for the same run and
// node already.
func (b *Broker) Dispatch(ctx context.Context, call wire.Call) error {
	msg, err := b.callMsg(ctx, &call, call.MessageID())
	if err != nil {
		return err
	}
	if call.Wait > 0 {
		if msg, err = b.timerOf(ctx, msg, &call); err != nil {
			return err
		}
		msg.Header[jetstream.ExpectedLastSubjSeqHeader] = []string{"0"} // one that runs isn't set again
	}
	if _, err = b.put(ctx, msg); call.Wait > 0 && isStale(err) {
		return nil
	}
	return apiError("dispatch", call.Name, err)
}

// callMsg builds the message of a call; its reply inbox goes into a header,
// since a stream doesn't keep the reply subject.
func (b *Broker) callMsg(ctx context.Context, call *wire.Call, id string) (*nats.Msg, error) {
	h := make(nats.Header, 6)
	h[wire.HeaderRun] = []string{id}
	if call.Reply != "" {
		h[wire.HeaderReply] = []string{call.Reply}
	}
	if call.Node != "" || call.Epoch > 0 {
		h[wire.HeaderOf] = []string{string(call.Run)}
		h[wire.HeaderDAG] = []string{call.DAG}
		setHeader(h, wire.HeaderDigest, call.Digest)
	}
	if call.Fresh {
		h[wire.HeaderFresh] = freshly
	}
	setNumbers(h, call.Epoch, call.Depth, call.Item, call.Items)
	if !call.Began.IsZero() {
		h[wire.HeaderBegan] = []string{strconv.FormatInt(call.Began.UnixMilli(), 10)}
	}
	if err := b.setPast(ctx, h, call.Past); err != nil {
		return nil, err
	}
	if call.Level != "" {
		h[wire.HeaderLevel] = []string{call.Level}
	}
	if call.Args.Type != "" {
		h[wire.HeaderType] = []string{call.Args.Type}
	}
	body, err := b.pack(ctx, h, call.Args.Body)
	if err != nil {
		return nil, err
	}
	return &nats.Msg{Subject: callSubject(call), Header: h, Data: body}, nil
}

// freshly is the value of the header of calls whose ids are fresh.
var freshly = []string{"1"}

// setNumbers sets the headers of a call that say what is special about it.
func setNumbers(h nats.Header, epoch, depth, item, items int) {
	if epoch > 0 {
		h[wire.HeaderEpoch] = []string{strconv.Itoa(epoch)}
	}
	if depth > 0 {
		h[wire.HeaderDepth] = []string{strconv.Itoa(depth)}
	}
	if items > 0 {
		h[wire.HeaderItem] = []string{strconv.Itoa(item) + "/" + strconv.Itoa(items)}
	}
}
