package anomalies

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"

	"github.com/cloudburst-nats/cloudburst/broker"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// Where runs go from node to node, and workers tell their numbers: see the wire
// contract.
const (
	nodeCalls   = "cb.dag.>"
	runStates   = "cb.run.>"
	inputOf     = ".in."
	beginning   = ".$start" + inputOf
	workersKeys = "$KV." + broker.BucketWorkers + ".*"
)

// traffic listens to what passes between workers: what runs carry along their
// edges, and what workers say of themselves.
type traffic struct {
	subs   []*nats.Subscription
	closed []chan struct{}

	mu    sync.Mutex       // guards what follows
	bytes map[string][]int // of session metadata, by level, a message each
	pins  map[int]int64    // bytes that a worker keeps for runs, by process
	news  chan struct{}    // closed at the next announcement
}

func listen(nc *nats.Conn) (*traffic, error) {
	t := &traffic{bytes: make(map[string][]int), pins: make(map[int]int64), news: make(chan struct{})}
	for subject, hear := range map[string]nats.MsgHandler{nodeCalls: t.call, runStates: t.input, workersKeys: t.announced} {
		sub, err := nc.Subscribe(subject, hear)
		if err != nil {
			return nil, fmt.Errorf("listen to %s: %w", subject, errors.Join(err, t.close()))
		}
		closed := make(chan struct{})
		sub.SetClosedHandler(func(string) { close(closed) })
		t.subs, t.closed = append(t.subs, sub), append(t.closed, closed)
	}
	return t, nc.Flush()
}

// call hears a call of a node.
func (t *traffic) call(msg *nats.Msg) { t.edge(msg.Header.Get(wire.HeaderOf), msg) }

// input hears what an edge brings to a node that waits for more.
func (t *traffic) input(msg *nats.Msg) {
	if !strings.Contains(msg.Subject, inputOf) || strings.Contains(msg.Subject, beginning) {
		return
	}
	t.edge(strings.Split(msg.Subject, ".")[2], msg)
}

func (t *traffic) edge(run string, msg *nats.Msg) {
	level, _, _ := strings.Cut(run, "/")
	t.mu.Lock()
	defer t.mu.Unlock()
	t.bytes[level] = append(t.bytes[level], len(msg.Header.Get(wire.HeaderSession)))
}

func (t *traffic) announced(msg *nats.Msg) {
	var w broker.WorkerInfo
	if json.Unmarshal(msg.Data, &w) != nil {
		return // the end of one
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pins[w.PID] = w.Pinned
	close(t.news)
	t.news = make(chan struct{})
}

// forget has only what workers say from now on count, and returns what is closed
// when one does.
func (t *traffic) forget() (news <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.pins)
	return t.news
}

// pinned returns how many bytes the processes keep for runs; heard is false until
// all of them have said it since forget.
func (t *traffic) pinned(pids map[int]bool) (bytes int64, heard bool, news <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	heard = true
	for pid := range pids {
		n, ok := t.pins[pid]
		bytes += n
		heard = heard && ok
	}
	return bytes, heard, t.news
}

// edges returns the bytes of session metadata that each message of a level's
// runs carried from node to node.
func (t *traffic) edges() map[string][]int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.bytes)
}

// close hears out what is on its way, and ends.
func (t *traffic) close() error {
	var errs []error
	for i, sub := range slices.All(t.subs) {
		if err := sub.Drain(); err != nil {
			errs = append(errs, err)
			continue
		}
		<-t.closed[i]
	}
	t.subs = nil
	return errors.Join(errs...)
}
