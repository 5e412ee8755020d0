package broker

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// The server sends a heartbeat every pullHeartbeat while it holds a request of
// ours: silence longer than pullSilence needs an explanation.
const (
	pullExpires   = 30 * time.Second
	pullHeartbeat = time.Second
	pullSilence   = 1500 * time.Millisecond
)

// A Puller takes calls from one pool's stream, never more than it has free
// slots for: credit asked of the server plus busy slots never exceed its slots, but for
// calls that take their slots back (Retake).
// It exists because the client's own consumers prefetch past the free slots,
// or, with a small prefetch, can lose their next pull and idle for seconds.
//
// Credit comes back in three ways: a call arrives (its slot is busy until
// Release), a pull request ends unfilled (its status says how much was left),
// or the server goes silent or reconnects (all of it is asked for anew).
type Puller struct {
	b       *Broker
	pool    string
	handle  func(*Delivery)
	resized chan struct{} // more was asked for than there are slots for now
	gone    chan struct{} // the consumer seems not to be there: see revive

	mu       sync.Mutex // guards what follows
	inbox    string     // "_INBOX.<id>"; pulls reply to <inbox>.<generation>
	slots    int
	busy     int
	credit   int
	gen      uint64 // a new one makes statuses of older requests void
	lastSeen time.Time
	probing  bool      // a probe was sent since
	awake    time.Time // when the last probe came back
	draining bool
	room     func(slots int) int // see Reserve
	offered  time.Time           // when a call was last handed over; zero: not lately
	doubt    doubt
}

// NewPuller returns a puller for the pool that hands each call to handle, which
// must not block and must see to it that Release is called once for each.
func (b *Broker) NewPuller(pool string, slots int, handle func(*Delivery)) *Puller {
	p := &Puller{b: b, pool: pool, slots: slots, handle: handle, resized: make(chan struct{}, 1), gone: make(chan struct{}, 1)}
	p.doubt.begin()
	return p
}

// probeSuffix makes the subject of probes of an inbox: no generation is written so.
const probeSuffix = ".-"

// Run pulls until ctx ends, then drains: it asks for no more, hands on what was
// already on its way, and returns.
func (p *Puller) Run(ctx context.Context) error {
	sub, err := p.open()
	if err != nil {
		return apiError("pull", p.pool, err)
	}
	defer p.b.onReconnect(p.lost)()
	p.settleDoubt()
	var reviving sync.WaitGroup
	defer reviving.Wait()
	within, stop := context.WithCancel(ctx)
	defer stop()
	reviving.Go(func() { p.revive(within) })
	tick := time.NewTicker(pullHeartbeat / 2)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			p.update(func() { p.draining = true })
			p.drain(sub)
			return nil
		case <-p.resized:
			// First the old, then the new: else both would be answered for a moment.
			p.drain(sub)
			if sub, err = p.open(); err != nil {
				return apiError("pull", p.pool, err)
			}
		case now := <-tick.C:
			if p.b.nc.IsClosed() {
				return &wire.Error{Op: "pull", Name: p.pool, Kind: wire.KindUnavailable, Msg: "the connection was closed"}
			}
			p.watch(now)
			p.settleDoubt()
		}
	}
}

// open begins to listen on an inbox of its own, and asks anew for what it may.
func (p *Puller) open() (*nats.Subscription, error) {
	inbox := nats.NewInbox()
	sub, err := p.b.nc.Subscribe(inbox+".*", func(msg *nats.Msg) { p.receive(inbox, msg) })
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	p.inbox = inbox
	p.mu.Unlock()
	p.restart()
	return sub, nil
}

// SetSlots changes how many calls it takes at once. Calls in hand above that end
// in their own time. What it asked for above that is taken back, by leaving the
// inbox that it was asked for to: what the server had sent by then is still run.
func (p *Puller) SetSlots(n int) {
	over := false
	p.update(func() {
		p.slots = max(n, 0)
		over = p.credit > 0 && p.busy+p.credit > p.slots
	})
	if over {
		p.takeBack()
	}
}

// takeBack has Run leave the inbox, and with it what was asked for.
func (p *Puller) takeBack() {
	select {
	case p.resized <- struct{}{}:
	default: // it is told already
	}
}

// Release gives back the slot of one call.
func (p *Puller) Release() { p.update(func() { p.busy-- }) }

// Retake takes a slot for a call that had released its own and runs on. More may be busy
// than there are for a while: then no call is asked for.
func (p *Puller) Retake() { p.update(func() { p.busy++ }) }

// Reserve lets the puller take calls that other workers hand over, up to room of its
// slots. It is called before Run, once. Slots are only kept for them while they come
// (see Accept): until then all free ones are asked for.
func (p *Puller) Reserve(room func(slots int) int) { p.room = room }

// reserveFor is how long slots are kept for calls that other workers may hand over,
// after the last one was.
const reserveFor = 10 * time.Second

// Accept takes a slot for a call that another worker hands over. It returns false,
// and takes none, if the call must run elsewhere: over room of the slots are busy,
// or the server has been asked to fill those that are not. The first time that it
// is called for a while the latter is likely: what was asked for is taken back then.
func (p *Puller) Accept() bool {
	p.mu.Lock()
	first := p.offered.IsZero()
	p.offered = time.Now()
	ok := !p.draining && p.busy < p.roomLocked() && p.busy+p.credit < p.slots
	if ok {
		p.busy++
	}
	over := p.credit > p.slots-p.roomLocked()
	p.mu.Unlock()
	if first && over {
		p.takeBack()
	}
	return ok
}

// roomLocked is how many slots are kept for calls that are handed over.
func (p *Puller) roomLocked() int {
	if p.room == nil || p.offered.IsZero() {
		return 0
	}
	return p.room(p.slots)
}

// Busy returns how many slots are taken.
func (p *Puller) Busy() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.busy
}

// update changes the books and asks for more calls if they now allow it.
func (p *Puller) update(change func()) {
	p.mu.Lock()
	change()
	ask, reply := p.askLocked()
	p.mu.Unlock()
	if ask > 0 {
		p.request(ask, reply)
	}
}

// askLocked decides how many calls to ask for. Returned slots are asked for
// together, a quarter of all at a time, so that a busy worker doesn't send a
// request a call; but never does it wait while the server holds no credit.
func (p *Puller) askLocked() (int, string) {
	if p.draining {
		return 0, ""
	}
	most := p.slots - p.roomLocked()
	free := min(p.slots-p.busy, most) - p.credit
	if free <= 0 || p.credit > 0 && free < most/4 {
		return 0, ""
	}
	p.credit += free
	return free, p.inbox + "." + strconv.FormatUint(p.gen, 36)
}

func (p *Puller) request(n int, reply string) {
	body, err := json.Marshal(struct {
		Batch     int           `json:"batch"`
		Expires   time.Duration `json:"expires"`
		Heartbeat time.Duration `json:"idle_heartbeat"`
	}{n, pullExpires, pullHeartbeat})
	if err != nil {
		panic(err) // three numbers always marshal
	}
	subject := "$JS.API.CONSUMER.MSG.NEXT." + CallsStream(p.pool) + "." + CallsConsumer
	if err := p.b.nc.PublishRequest(subject, reply, body); err != nil {
		p.b.observe.pullFailed(p.pool, err) // watch asks again
	}
}

// restart voids all credit and asks anew.
func (p *Puller) restart() {
	p.update(func() {
		p.gen++
		p.credit = 0
		p.lastSeen = time.Now()
		p.probing = false
	})
}

// lost is told of a reconnect: the server may be another one, or the same started anew.
func (p *Puller) lost() {
	p.lose()
	p.restart()
	p.settleDoubt()
}

// lose puts the calls that come into doubt.
func (p *Puller) lose() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.doubt.begin()
}

// watch looks after a server that went silent though it owes us heartbeats. It
// is sent a probe: a message to our own inbox. A server that sends it back, and
// nothing else for as long again, has forgotten our requests. One that doesn't
// has them yet, and will honour every one of them when it wakes: it is left
// alone until it does, or we reconnect.
func (p *Puller) watch(now time.Time) {
	p.mu.Lock()
	silent := p.credit > 0 && now.Sub(p.lastSeen) > pullSilence
	probe := silent && !p.probing
	forgotten := silent && p.probing && p.awake.After(p.lastSeen) && now.Sub(p.awake) > pullSilence
	p.probing = silent
	if now.Sub(p.offered) > reserveFor {
		p.offered = time.Time{}
	}
	inbox := p.inbox
	p.mu.Unlock()
	switch {
	case forgotten:
		p.lose()
		p.restart()
	case !probe:
		p.update(func() {})
	default:
		if err := p.b.nc.Publish(inbox+probeSuffix, nil); err != nil {
			p.b.observe.pullFailed(p.pool, err) // a closed connection, or one that reconnects
		}
	}
}

// drain takes away the interest in more calls, upon which the server forgets
// our requests, and waits until what it sent before was handed on. A call that
// it was sending in that very moment is handed out again after AckWait.
func (p *Puller) drain(sub *nats.Subscription) {
	closed := sub.StatusChanged(nats.SubscriptionClosed)
	if err := sub.Drain(); err != nil {
		return // the connection is gone, and the subscription with it
	}
	limit := time.NewTimer(p.b.timeout)
	defer limit.Stop()
	select {
	case <-closed:
	case <-limit.C:
	}
}

// receive runs on the goroutine of its inbox's subscription.
func (p *Puller) receive(inbox string, msg *nats.Msg) {
	// A call keeps its stream's subject; a status has the pull's reply subject,
	// and a probe a subject of its own.
	if msg.Subject == inbox+probeSuffix {
		p.update(func() { p.awake = time.Now() })
		return
	}
	status := msg.Header.Get("Status")
	if status == "" || strings.HasPrefix(msg.Reply, "$JS.ACK.") {
		p.arrived(inbox, msg)
		return
	}
	if isGoneStatus(status, msg) {
		p.Missed()
	}
	gen := strings.TrimPrefix(msg.Subject, inbox+".")
	left := 0
	switch status {
	case "100": // heartbeat
	case "503": // no such consumer, or JetStream is not up (yet): watch asks again
		p.lose()
		return
	default: // 404, 408, 409: the request ended
		left, _ = strconv.Atoi(msg.Header.Get("Nats-Pending-Messages"))
		if status == "409" && left == 0 {
			p.lose()
			return // consumer deleted or leader gone: watch finds the silence
		}
	}
	p.update(func() {
		p.lastSeen = time.Now()
		if inbox == p.inbox && gen == strconv.FormatUint(p.gen, 36) {
			p.credit = max(p.credit-left, 0)
		}
	})
}

// arrived takes a call off the credit. After a restart it may be one of the
// requests that were given up, or come to an inbox that was left: then a slot is
// oversubscribed for once.
func (p *Puller) arrived(inbox string, msg *nats.Msg) {
	d, err := p.b.delivery(msg)
	p.update(func() {
		p.lastSeen = time.Now()
		if inbox == p.inbox {
			p.credit = max(p.credit-1, 0)
		}
		if err == nil {
			p.busy++
			d.Call.Doubtful = d.Call.Attempt == 1 && p.doubt.of(d.Call.Seq)
		}
	})
	if err != nil {
		p.b.unreadable(msg, err)
		return
	}
	p.handle(d)
}

// A Delivery is one handing-out of a call. Exactly one of Ack, Nak and
// Finish ends it; until then InProgress keeps it from being handed
// out to another worker.
type Delivery struct {
	Call   wire.Call
	Worker string // who took it, for a dead letter; set by the taker

	b   *Broker
	msg *nats.Msg // as it was stored; its reply subject acknowledges it
}

// Ack settles the call: it will not be handed out again.
func (d *Delivery) Ack() error { return d.b.nc.Publish(d.msg.Reply, []byte("+ACK")) }

// Nak has the call handed out again after the given wait.
func (d *Delivery) Nak(wait time.Duration) error {
	return d.b.nc.Publish(d.msg.Reply, []byte(`-NAK {"delay":`+strconv.FormatInt(int64(wait), 10)+`}`))
}

// InProgress tells the server that the call is still being worked on.
func (d *Delivery) InProgress() error { return d.b.nc.Publish(d.msg.Reply, []byte("+WPI")) }

// delivery reads a message of a calls stream. Arguments that travel as chunks
// are left for Broker.Args.
func (b *Broker) delivery(msg *nats.Msg) (*Delivery, error) {
	d := &Delivery{b: b, msg: msg}
	c := &d.Call
	if err := parseAck(msg.Reply, c); err != nil {
		return nil, err
	}
	h := wire.Header(msg.Header)
	c.Name, c.Node = parseCallSubject(msg.Subject)
	c.Args = wire.Value{Body: msg.Data, Type: wire.First(h, wire.HeaderType)}
	c.DAG = wire.First(h, wire.HeaderDAG)
	c.Level = wire.First(h, wire.HeaderLevel)
	c.Past = wire.First(h, wire.HeaderSession)
	c.Epoch, c.Depth = epochOf(h), count(wire.First(h, wire.HeaderDepth))
	c.Item, c.Items = itemOf(h)
	if ms := count(wire.First(h, wire.HeaderBegan)); ms > 0 {
		c.Began = time.UnixMilli(int64(ms))
	}
	if reply := wire.First(h, wire.HeaderReply); strings.HasPrefix(reply, inboxPrefix) {
		c.Reply = reply // anything else could be used to write where the caller may not
	}
	if wire.First(h, wire.HeaderChunks) != "" {
		c.Args.Type = manifestType + c.Args.Type
	}
	c.Run = runOfCall(h, c)
	c.Fresh = wire.First(h, wire.HeaderFresh) != "" || c.Run == placeOf(c)
	if c.Node != "" || c.Epoch > 0 {
		c.Digest = wire.First(h, wire.HeaderDigest)
	}
	return d, nil
}

// runOfCall returns the run that a stored call belongs to. A run that the platform
// began of its own accord has its id in Cb-Run, too, or is inside of another one; a
// caller's own id that looks like one of those is none.
func runOfCall(h wire.Header, c *wire.Call) wire.RunID {
	id, of := wire.RunID(wire.First(h, wire.HeaderRun)), wire.RunID(wire.First(h, wire.HeaderOf))
	switch {
	case (c.Node != "" || epochOf(h) > 0 || id == of) && wire.CheckRunID(of) == nil, replacesPurged(id, of):
		return of
	case wire.CheckCallerID(id) == nil, count(wire.First(h, wire.HeaderDepth)) > 0 && wire.CheckRunID(id) == nil:
		return id
	}
	return placeOf(c)
}

// placeOf is the id of a run whose caller gave none: where its call is stored.
func placeOf(c *wire.Call) wire.RunID {
	return wire.RunID(c.Stream + "-" + strconv.FormatUint(c.Seq, 10))
}

// epochOf reads how often a run has begun again.
func epochOf(h wire.Header) int {
	return count(wire.First(h, wire.HeaderEpoch))
}

// itemOf reads which of many calls of a node one is.
func itemOf(h wire.Header) (item, items int) {
	which, of, _ := strings.Cut(wire.First(h, wire.HeaderItem), "/")
	if item, items = count(which), count(of); item >= items {
		return 0, 0
	}
	return item, items
}

// count reads a number of ours; what can't be read is 0.
func count(text string) int {
	if text == "" {
		return 0 // as most are: parsing would make an error of each
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return 0
	}
	return n
}

// parseAck reads $JS.ACK.<stream>.<consumer>.<delivered>.<sseq>.<cseq>.<time>.<pending>,
// or the longer form with domain and account hash before the stream.
func parseAck(reply string, c *wire.Call) error {
	tokens := strings.Split(reply, ".")
	switch {
	case len(tokens) == 9:
		tokens = tokens[2:]
	case len(tokens) >= 11:
		tokens = tokens[4:]
	default:
		return &wire.Error{Op: "read delivery", Kind: wire.KindUnavailable, Msg: "not an acknowledgement subject: " + reply}
	}
	c.Stream = tokens[0]
	c.Attempt, _ = strconv.Atoi(tokens[2])
	c.Seq, _ = strconv.ParseUint(tokens[3], 10, 64)
	ns, _ := strconv.ParseInt(tokens[5], 10, 64)
	c.Stored = time.Unix(0, ns)
	if c.Seq == 0 || c.Attempt == 0 {
		return &wire.Error{Op: "read delivery", Kind: wire.KindUnavailable, Msg: "not an acknowledgement subject: " + reply}
	}
	return nil
}
