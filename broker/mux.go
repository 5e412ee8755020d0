package broker

import (
	"encoding/json"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// mux routes every reply of the process through one long-lived subscription,
// by the last token of its subject: a subscription for each request would cost
// more than the request. Unlike the client's own request multiplexer it takes
// several replies to one request, and calls back without a goroutine.
//
// It also hears of results: the run of a call made here is named
// <UUID>.<client>.<token>, and the worker's write of its result to the results
// bucket reaches this process as it reaches the stream, without a reply beside it.
//
// Callbacks run on the subscriptions' goroutines: they must not block.
type mux struct {
	nc      *nats.Conn
	prefix  string // "_INBOX.<id>."
	client  string // names this process in the ids of runs started here
	timeout time.Duration
	refuse  func() error      // why nothing can be stored; nil if it can
	explain func(error) error // says more of why something wasn't
	done    chan struct{}
	swept   sync.WaitGroup

	mu      sync.Mutex // guards what follows
	next    uint64
	waiting map[uint64]waiter
	closed  bool
}

// A waiter is told of each reply, and of nil once its time ran out. It says
// whether it awaits more.
type waiter struct {
	fn       func(*nats.Msg) (more bool)
	deadline time.Time // zero: whoever opened it closes it
}

func newMux(nc *nats.Conn, timeout time.Duration, refuse func() error, explain func(error) error) (*mux, error) {
	m := &mux{
		nc: nc, prefix: nats.NewInbox() + ".", client: string(wire.NewRunID()[24:]), timeout: timeout,
		refuse: refuse, explain: explain, done: make(chan struct{}), waiting: make(map[uint64]waiter),
	}
	for _, subject := range []string{m.prefix + "*", bucketSubject(BucketResults, "*."+m.client+".*")} {
		sub, err := nc.Subscribe(subject, m.route)
		if err != nil {
			return nil, err
		}
		// Replies are small and few are open at once; what bounds memory is the
		// number of waiters, so the client's own limits only get in the way.
		if err := sub.SetPendingLimits(-1, -1); err != nil {
			return nil, err
		}
	}
	m.swept.Go(m.sweep)
	return m, nil
}

// open registers fn and returns the reply subject that reaches it. With a zero
// timeout it stays open until closed.
func (m *mux) open(timeout time.Duration, fn func(*nats.Msg) bool) (reply string, id uint64) {
	id = m.register(timeout, fn)
	return m.prefix + token(id), id
}

// openRun registers fn for the result of a run that is about to start, and
// returns the run's id. Until closed, the run's acknowledgement may come to the
// reply subject as well.
func (m *mux) openRun(fn func(*nats.Msg) bool) (run wire.RunID, reply string, id uint64) {
	id = m.register(0, fn)
	last := token(id)
	return wire.NewRunID() + wire.RunID("."+m.client+"."+last), m.prefix + last, id
}

func token(id uint64) string { return strconv.FormatUint(id, 36) }

func (m *mux) register(timeout time.Duration, fn func(*nats.Msg) bool) (id uint64) {
	w := waiter{fn: fn}
	if timeout > 0 {
		w.deadline = time.Now().Add(timeout)
	}
	m.mu.Lock()
	m.next++
	id = m.next
	closed := m.closed
	if !closed {
		m.waiting[id] = w
	}
	m.mu.Unlock()
	if closed {
		fn(nil)
	}
	return id
}

// close forgets a waiter; a reply under way may still reach it.
func (m *mux) close(id uint64) {
	m.mu.Lock()
	delete(m.waiting, id)
	m.mu.Unlock()
}

// stop tells every waiter that nothing will come.
func (m *mux) stop() {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return
	}
	m.closed = true
	left := m.waiting
	m.waiting = make(map[uint64]waiter)
	m.mu.Unlock()
	close(m.done)
	m.swept.Wait()
	for _, w := range left {
		w.fn(nil)
	}
}

func (m *mux) route(msg *nats.Msg) {
	id, err := strconv.ParseUint(msg.Subject[strings.LastIndexByte(msg.Subject, '.')+1:], 36, 64)
	if err != nil {
		return
	}
	m.mu.Lock()
	w, ok := m.waiting[id]
	m.mu.Unlock()
	if ok && !w.fn(msg) {
		m.close(id)
	}
}

// sweep ends the waiters whose time ran out.
func (m *mux) sweep() {
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-m.done:
			return
		case now := <-tick.C:
			var late []waiter
			m.mu.Lock()
			for id, w := range m.waiting {
				if !w.deadline.IsZero() && now.After(w.deadline) {
					late = append(late, w)
					delete(m.waiting, id)
				}
			}
			m.mu.Unlock()
			for _, w := range late {
				w.fn(nil)
			}
		}
	}
}

// publish sends a message to a stream and calls then once, with the stream's
// acknowledgement or the reason why there is none. It does not block.
func (m *mux) publish(msg *nats.Msg, then func(seq uint64, err error)) {
	var told atomic.Bool // an acknowledgement and the end of its time may meet
	once := func(seq uint64, err error) {
		if told.CompareAndSwap(false, true) {
			if err != nil {
				err = m.explain(err)
			}
			then(seq, err)
		}
	}
	if err := m.refuse(); err != nil {
		once(0, err)
		return
	}
	reply, id := m.open(m.timeout, func(ack *nats.Msg) bool {
		seq, _, err := parsePubAck(ack)
		if ack == nil && m.nc.IsClosed() {
			err = ErrClosed
		}
		once(seq, err)
		return false
	})
	msg.Reply = reply
	if err := m.nc.PublishMsg(msg); err != nil {
		m.close(id)
		once(0, err)
	}
}

// parsePubAck reads a stream's acknowledgement; nil is a time-out.
func parsePubAck(msg *nats.Msg) (seq uint64, duplicate bool, err error) {
	if msg == nil {
		return 0, false, nats.ErrTimeout
	}
	if len(msg.Data) == 0 && msg.Header.Get("Status") == "503" {
		return 0, false, nats.ErrNoResponders
	}
	if seq, ok := quickPubAck(msg.Data); ok {
		return seq, false, nil
	}
	var ack struct {
		Seq       uint64              `json:"seq"`
		Duplicate bool                `json:"duplicate"`
		Error     *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(msg.Data, &ack); err != nil {
		return 0, false, &wire.Error{Op: "read acknowledgement", Kind: wire.KindUnavailable, Msg: err.Error(), Err: err}
	}
	if ack.Error != nil {
		return 0, false, ack.Error
	}
	return ack.Seq, ack.Duplicate, nil
}

// quickPubAck reads the plain form, {"stream":"X", "seq":7}, which is nearly
// every acknowledgement, without the price of a JSON decoder.
func quickPubAck(data []byte) (uint64, bool) {
	const key = `"seq":`
	s := string(data)
	if strings.Count(s, ":") != 2 {
		return 0, false
	}
	i := strings.Index(s, key)
	if i < 0 || !strings.HasSuffix(s, "}") {
		return 0, false
	}
	seq, err := strconv.ParseUint(strings.TrimSpace(s[i+len(key):len(s)-1]), 10, 64)
	return seq, err == nil
}
