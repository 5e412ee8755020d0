package broker

import (
	"context"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// A census tells which runs go on: those with a call that isn't settled, with a timer, or
// with what they began with. Streams are read one after another, so a run whose call moves
// from one to the next may be missed, once: what is removed by evidence of a census needs
// the evidence of the one before, too.
type census struct {
	began time.Time
	calls map[string]bool // by a run's subject token: it has a call or a timer
	runs  map[string]bool // it has what it began with
	whole bool            // every backlog was read to its end

	// large are the messages of calls and timers, older than half of Topology.Blobs, that
	// hold manifests. contained are old calls of nodes that may run a DAG.
	large     []*nats.Msg
	contained []wire.RunID
}

// censusCalls bounds how many calls of a pool a census reads. Beyond it nothing is removed.
const censusCalls = 200_000

// census reads which runs go on.
func (b *Broker) census(ctx context.Context) (*census, error) {
	c := &census{began: time.Now(), calls: make(map[string]bool), runs: make(map[string]bool), whole: true}
	pinned, err := b.subjectsOf(ctx, StreamRuns, subjectRun+"*."+runPinned)
	if err != nil {
		return nil, err
	}
	for _, subject := range pinned {
		c.runs[strings.Split(subject, ".")[2]] = true
	}
	for _, filter := range []string{subjectTimer + ">", subjectFire + ">"} {
		timers, err := b.subjectsOf(ctx, StreamTimers, filter)
		if err != nil {
			return nil, err
		}
		for _, subject := range timers {
			c.calls[strings.Split(subject, ".")[2]] = true
		}
	}
	pools, err := b.Pools(ctx)
	if err != nil {
		return nil, err
	}
	for _, pool := range pools {
		if err := b.censusOf(ctx, c, pool); err != nil {
			return nil, err
		}
	}
	old := time.Now().Add(-b.topology().Blobs / 2)
	err = b.scan(ctx, StreamTimers, ">", 0, func(msg *nats.Msg) bool {
		if storedAt(msg).Before(old) && refersToChunks(msg) {
			c.large = append(c.large, msg)
		}
		return storedAt(msg).Before(old)
	})
	return c, err
}

// censusOf reads a pool's calls that aren't settled.
func (b *Broker) censusOf(ctx context.Context, c *census, pool string) error {
	marks, err := b.marks(ctx, pool)
	if err != nil {
		if wire.KindOf(err) == wire.KindUnknown { // its consumer is about to be made: nobody knows what is settled
			c.whole, err = false, nil
		}
		return err
	}
	t := b.topology()
	oldBlob, oldResult := time.Now().Add(-t.Blobs/2), time.Now().Add(-t.Results/2)
	left := censusCalls
	err = b.scan(ctx, CallsStream(pool), ">", marks.floor+1, func(msg *nats.Msg) bool {
		left--
		run, at, h := runOf(msg), storedAt(msg), wire.Header(msg.Header)
		c.calls[runToken(run)] = true
		if at.Before(oldBlob) && refersToChunks(msg) {
			c.large = append(c.large, msg)
		}
		if _, node := parseCallSubject(wire.First(h, jetstream.SubjectHeader)); node != "" && at.Before(oldResult) {
			call := wire.Call{Node: node}
			call.Item, call.Items = itemOf(h)
			c.contained = append(c.contained, wire.Contained(run, epochOf(h), call.Step()))
		}
		return left > 0
	})
	c.whole = c.whole && left > 0
	return err
}

// goesOn says whether a run may go on.
func (c *census) goesOn(token string) bool { return c.calls[token] || c.runs[token] }

// refersToChunks says whether a message stands for more than it holds.
func refersToChunks(msg *nats.Msg) bool {
	h := wire.Header(msg.Header)
	return wire.First(h, wire.HeaderChunks) != "" || strings.HasPrefix(wire.First(h, wire.HeaderSession), sessionBlob)
}
