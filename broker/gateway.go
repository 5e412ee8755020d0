package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/cloudburst-nats/cloudburst/internal/backoff"
	"github.com/cloudburst-nats/cloudburst/wire"
)

const (
	// gatewayGroup is the queue group of all gateways: one of them answers.
	gatewayGroup = "cloudburst"
	// unknownAtMost bounds the requests for unknown names that wait for a look
	// into the registry; more are refused at once.
	unknownAtMost = 256
	// repeatsAtMost bounds the repeated requests that wait for the result of
	// the first, repeatFor how long they do.
	repeatsAtMost = 256
	repeatFor     = time.Minute
	// packsAtMost bounds the calls that are cut into chunks at a time.
	packsAtMost = 32
	// loneAtMost bounds the requests that are looked after because no worker may serve
	// their pool.
	loneAtMost = 256
)

// A Gateway answers requests: `nats req cb.fn.square 5` becomes a call in the
// stream of the pool that hosts square, and the worker sends the result straight
// to the requester. The gateway itself answers only what never becomes a call:
// an unknown name, a body that isn't JSON, a backlog that is full; and repeated
// requests (the same Nats-Msg-Id), which get the result of the first.
//
// It also speaks the NATS micro protocol for every function and DAG; see
// discover.go. Any number of gateways share the work, and each follows its
// catalogue: functions may come and go while Run runs.
type Gateway struct {
	b         *Broker
	catalogue *Catalogue
	discovery *discovery

	ready   chan struct{}
	unknown chan *nats.Msg // for Run, which may block
	repeats chan struct{}  // a token for each repeat that waits
	packs   chan struct{}  // a token for each call that is cut into chunks
	lone    chan struct{}  // a token for each call whose pool may have no worker
	wg      sync.WaitGroup // of the repeats, the packs and the lone
}

// NewGateway returns a gateway for what the catalogue lists. The catalogue is
// run by the caller.
func (b *Broker) NewGateway(c *Catalogue) *Gateway {
	return &Gateway{
		b: b, catalogue: c, discovery: newDiscovery(b, c, time.Now()),
		ready:   make(chan struct{}),
		unknown: make(chan *nats.Msg, unknownAtMost),
		repeats: make(chan struct{}, repeatsAtMost),
		packs:   make(chan struct{}, packsAtMost),
		lone:    make(chan struct{}, loneAtMost),
	}
}

// Ready returns a channel that is closed once requests are answered.
func (g *Gateway) Ready() <-chan struct{} { return g.ready }

// Run answers until ctx ends, and then what was asked before.
func (g *Gateway) Run(ctx context.Context) error {
	select {
	case <-g.catalogue.Ready():
	case <-ctx.Done():
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer g.wg.Wait()
	defer cancel()
	stop, err := g.discovery.start()
	if err != nil {
		return apiError("open gateway", "", err)
	}
	defer stop()
	sub, err := g.b.nc.QueueSubscribe(subjectFn+"*", gatewayGroup, func(msg *nats.Msg) { g.request(ctx, msg) })
	if err != nil {
		return apiError("open gateway", "", err)
	}
	if err := g.b.nc.FlushTimeout(g.b.timeout); err != nil {
		return apiError("open gateway", "", err)
	}
	close(g.ready)
	for {
		select {
		case <-ctx.Done():
			g.drain(sub)
			return nil
		case msg := <-g.unknown:
			g.lookAgain(ctx, msg)
		}
	}
}

// drain gives up the subscription and answers what was delivered already.
func (g *Gateway) drain(sub *nats.Subscription) {
	closed := sub.StatusChanged(nats.SubscriptionClosed)
	if err := sub.Drain(); err != nil {
		return // the connection is gone, and the subscription with it
	}
	limit := time.NewTimer(g.b.timeout)
	defer limit.Stop()
	for {
		select {
		case msg := <-g.unknown:
			g.refuse(msg, g.noSuch(requested(msg)))
		case <-closed:
			return
		case <-limit.C:
			return
		}
	}
}

func requested(msg *nats.Msg) string { return strings.TrimPrefix(msg.Subject, subjectFn) }

// request runs on the subscription's goroutine: it must not block.
func (g *Gateway) request(ctx context.Context, msg *nats.Msg) {
	entry, ok := g.catalogue.Lookup(requested(msg))
	if ok {
		g.forward(ctx, entry, msg)
		return
	}
	select {
	case g.unknown <- msg:
	default:
		g.refuse(msg, g.noSuch(requested(msg)))
	}
}

// lookAgain answers a request for a name that the catalogue doesn't list: it
// may have been registered a moment ago.
func (g *Gateway) lookAgain(ctx context.Context, msg *nats.Msg) {
	within, cancel := context.WithTimeout(ctx, g.b.timeout)
	defer cancel()
	if err := g.catalogue.Refresh(within); err != nil && ctx.Err() == nil {
		g.refuse(msg, &wire.Error{Op: "call", Name: requested(msg), Kind: wire.KindUnavailable, Msg: "not known here, and the registry can't be read now", Err: err})
		return
	}
	// Others that wait may be served by the same look.
	for waiting := len(g.unknown); ; waiting-- {
		if entry, ok := g.catalogue.Lookup(requested(msg)); ok {
			g.forward(ctx, entry, msg)
		} else {
			g.refuse(msg, g.noSuch(requested(msg)))
		}
		if waiting == 0 {
			return
		}
		msg = <-g.unknown
	}
}

func (g *Gateway) noSuch(name string) *wire.Error {
	e := &wire.Error{Op: "call", Name: name, Kind: wire.KindUnknown, Msg: "no such function or DAG; `cloudburst fn ls` and `cloudburst dag ls` show what there is"}
	if near := g.catalogue.Near(name); len(near) > 0 {
		e.Msg = fmt.Sprintf("no such function or DAG; did you mean %s?", strings.Join(near, " or "))
	}
	return e
}

// forward stores the call. The stream's acknowledgement, if it isn't simply
// "stored", is answered by stored.
func (g *Gateway) forward(ctx context.Context, entry Entry, msg *nats.Msg) {
	call, run, err := g.call(entry, msg)
	switch {
	case err != nil:
		g.refuse(msg, err)
	case g.b.fits(call.Header, call.Data, headerRoom):
		g.send(ctx, entry, run, call, msg)
	default: // with the headers that it has got it is too large for one message
		g.pack(ctx, entry, run, call, msg)
	}
}

// pack has a call travel as chunks. It doesn't block.
func (g *Gateway) pack(ctx context.Context, entry Entry, run wire.RunID, call, msg *nats.Msg) {
	select {
	case g.packs <- struct{}{}:
	default:
		g.refuse(msg, &wire.Error{Op: "call", Name: entry.Name, Kind: wire.KindBusy, Msg: fmt.Sprintf("%d calls as large as this are being stored, which is the most: try again", packsAtMost)})
		return
	}
	g.wg.Go(func() {
		defer func() { <-g.packs }()
		within, cancel := context.WithTimeout(ctx, g.b.timeout)
		defer cancel()
		body, err := g.b.chunked(within, call.Header, call.Data)
		if err != nil {
			g.refuse(msg, apiError("call", entry.Name, err))
			return
		}
		call.Data = body
		g.send(ctx, entry, run, call, msg)
	})
}

func (g *Gateway) send(ctx context.Context, entry Entry, run wire.RunID, call, msg *nats.Msg) {
	if err := g.b.fullForAll(); err != nil {
		g.refuse(msg, apiError("call", entry.Name, err))
		return
	}
	reply, id := g.b.mux.open(g.b.timeout, func(ack *nats.Msg) bool {
		g.stored(ctx, entry, run, call, msg, ack)
		return false
	})
	call.Reply = reply
	if err := g.b.nc.PublishMsg(call); err != nil {
		g.b.mux.close(id)
		g.refuse(msg, apiError("call", entry.Name, err))
	}
}

// call makes a call of a request.
func (g *Gateway) call(entry Entry, msg *nats.Msg) (*nats.Msg, wire.RunID, error) {
	bad := func(format string, args ...any) (*nats.Msg, wire.RunID, error) {
		return nil, "", &wire.Error{Op: "call", Name: entry.Name, Kind: wire.KindBadArgument, Msg: fmt.Sprintf(format, args...)}
	}
	h := wire.Header(msg.Header)
	run, fresh := wire.RunID(wire.First(h, wire.HeaderRun)), wire.First(h, wire.HeaderFresh)
	if run == "" {
		run, fresh = wire.NewRunID(), freshly[0]
	} else if err := wire.CheckCallerID(run); err != nil {
		return nil, "", err
	}
	if msg.Reply != "" && !strings.HasPrefix(msg.Reply, inboxPrefix) {
		return bad("the reply subject %q is not an inbox: it must begin with %q, or the worker would not send the result there", msg.Reply, inboxPrefix)
	}
	args := wire.Value{Body: msg.Data, Type: wire.First(h, wire.HeaderType)}
	chunks := wire.First(h, wire.HeaderChunks)
	if len(args.Body) > 0 && chunks == "" && args.IsJSON() && !json.Valid(args.Body) {
		return bad("the argument is not valid JSON (a string needs its quotes); name another Content-Type if it isn't meant to be")
	}
	out := make(nats.Header, 5)
	out[wire.HeaderRun] = []string{string(run)}
	setHeader(out, wire.HeaderFresh, fresh)
	setHeader(out, wire.HeaderReply, msg.Reply)
	setHeader(out, wire.HeaderType, args.Type)
	setHeader(out, wire.HeaderLevel, wire.First(h, wire.HeaderLevel))
	setHeader(out, wire.HeaderSession, wire.First(h, wire.HeaderSession))
	setHeader(out, wire.HeaderChunks, chunks)
	return &nats.Msg{Subject: CallSubject(entry.Name), Header: out, Data: msg.Data}, run, nil
}

// stored runs on the mux's goroutine, with the stream's answer to a call.
func (g *Gateway) stored(ctx context.Context, entry Entry, run wire.RunID, call, msg, ack *nats.Msg) {
	first, duplicate, err := parsePubAck(ack)
	if isInProcess(err) { // the first is being stored
		first, duplicate, err = anySequence, true, nil
	}
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		g.refuse(msg, &wire.Error{Op: "call", Name: entry.Name, Kind: wire.KindUnavailable, Msg: "its stream " + CallsStream(entry.Pool) + " doesn't answer now; try again", Err: err})
	case err != nil:
		g.refuse(msg, apiError("call", entry.Name, err))
	case duplicate && msg.Reply != "":
		select {
		case g.repeats <- struct{}{}:
			g.wg.Go(func() {
				defer func() { <-g.repeats }()
				g.repeat(ctx, entry, run, msg, repeated{fingerprintOf(entry.Name, call), call.Subject, first})
			})
		default:
			g.refuse(msg, &wire.Error{Op: "call", Name: entry.Name, Kind: wire.KindBusy, Msg: "run " + string(run) + " was called before, and too many wait for such already: look for its result later"})
		}
	case !duplicate && msg.Reply != "" && wire.First(wire.Header(msg.Header), wire.HeaderPatient) == "":
		g.attend(ctx, entry, run, msg)
	}
}

// attend answers a request whose call is stored in a pool that no worker serves. It doesn't
// block, and costs nothing where a worker was seen a moment ago.
func (g *Gateway) attend(ctx context.Context, entry Entry, run wire.RunID, msg *nats.Msg) {
	pools := poolsOf(entry.Pool, entry.DAG)
	if !slices.ContainsFunc(pools, func(pool string) bool {
		lone, fresh := g.b.attendance.known(pool)
		return lone || !fresh
	}) {
		return
	}
	select {
	case g.lone <- struct{}{}:
	default:
		return // so many are looked after that the requester hears by its own time-out
	}
	g.wg.Go(func() {
		defer func() { <-g.lone }()
		for range 2 {
			if !g.b.anyLone(ctx, pools) {
				return
			}
			select {
			case <-time.After(loneAfter):
			case <-ctx.Done():
				return
			}
		}
		if none := g.b.nobodyFor(ctx, entry.Name, entry.Pool, entry.DAG, run); none != nil {
			none = storedFor(none, run)
			none.Msg += "; a request with the header " + wire.HeaderPatient + ": 1 waits for one"
			g.refuse(msg, none)
		}
	})
}

// repeated is a call that its stream has dropped, since it has one under the same id.
type repeated struct {
	digest  string
	subject string
	first   uint64 // the sequence of the other
}

// repeat answers a request whose call is stored already with the result of that; of
// another call with the same id it is a conflict.
func (g *Gateway) repeat(ctx context.Context, entry Entry, run wire.RunID, msg *nats.Msg, call repeated) {
	ctx, cancel := context.WithTimeout(ctx, repeatFor)
	defer cancel()
	if first, err := g.b.fingerprint(ctx, run, call.subject, call.first); err == nil && conflicts(first, call.digest) {
		g.refuse(msg, errConflict(run, entry.Name, ""))
		return
	}
	for range backoff.Tries(ctx, 2*time.Millisecond, 250*time.Millisecond) {
		stored, r, err := g.b.end(ctx, run)
		switch {
		case err != nil || stored == nil:
		case conflicts(r.Digest, call.digest):
			g.refuse(msg, errConflict(run, entry.Name, r.Name))
			return
		default:
			h, body := g.b.copyFor(ctx, maps.Clone(stored.Header), stored.Data)
			g.reply(msg, entry.Name, h, body)
			return
		}
	}
	g.refuse(msg, &wire.Error{Op: "call", Name: entry.Name, Kind: wire.KindTimeout, Msg: "run " + string(run) + " was called before and has no result yet: look for it later", Err: context.Cause(ctx)})
}

// refuse answers a request with an error: as JSON, and in the headers that the
// micro protocol has for it.
func (g *Gateway) refuse(msg *nats.Msg, err error) {
	name := requested(msg)
	var e *wire.Error
	if !errors.As(err, &e) {
		e = &wire.Error{Op: "call", Name: name, Kind: wire.KindUnavailable, Msg: err.Error()}
	}
	g.discovery.refused(name, e)
	r := wire.Result{Run: wire.RunID(msg.Header.Get(wire.HeaderRun)), Name: name, Status: wire.StatusFailed, Started: time.Now(), Err: e}
	h, body := r.Encode()
	g.reply(msg, name, nats.Header(h), body)
}

func (g *Gateway) reply(msg *nats.Msg, name string, h nats.Header, body []byte) {
	if msg.Reply == "" {
		return // published, not requested: nobody listens
	}
	if err := g.b.nc.PublishMsg(&nats.Msg{Subject: msg.Reply, Header: h, Data: body}); err != nil {
		g.b.observe.replyFailed(name, err)
	}
}
