package retwis

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cloudburst-nats/cloudburst"
	"github.com/cloudburst-nats/cloudburst/wire"
)

const (
	// callTimeout bounds how long a caller waits: long enough for a server or
	// worker that is killed and started again.
	callTimeout = 60 * time.Second
	// pageSize is how many posts a timeline read asks for.
	pageSize = 10
)

// A driver calls the clone as its users would, and notes what came back.
type driver struct {
	client  *cloudburst.Client
	level   string // of all calls; empty is the default
	answers bool   // readers look for what replies answer
	graph   *socialGraph
	ops     []op

	// Of each post and reply of ops: its run, set before done is closed, and
	// whether it was acknowledged.
	runs  []string
	acked []bool
	done  []chan struct{}

	mu    sync.Mutex // guards what follows
	tally map[kind]*tally
	first error // of the calls that failed
	ahead int   // posts that a read found listed and could not read yet
	// orphans are replies that a read showed though what they answer wasn't there.
	orphans int
	wrong   []string // what calls returned that can't be
}

// A tally is what is known of the calls of one kind.
type tally struct {
	took    []time.Duration // of those that succeeded
	errors  int
	retries int
}

func newDriver(c *cloudburst.Client, g *socialGraph, ops []op) *driver {
	d := &driver{
		client: c, graph: g, ops: ops,
		runs: make([]string, len(ops)), acked: make([]bool, len(ops)), done: make([]chan struct{}, len(ops)),
		tally: make(map[kind]*tally),
	}
	for i := range d.done {
		d.done[i] = make(chan struct{})
	}
	return d
}

// register adds person u.
func (d *driver) register(ctx context.Context, u int) error {
	_, err := call[Profile](ctx, d, kindRegister, wire.NewRunID(), Profile{User: u, Name: d.graph.names[u]})
	return err
}

// follow has person u follow all whom they follow.
func (d *driver) follow(ctx context.Context, u int) error {
	if len(d.graph.follows[u]) == 0 {
		return nil
	}
	_, err := call[int](ctx, d, kindFollow, wire.NewRunID(), Following{User: u, Whom: d.graph.follows[u]})
	return err
}

// step carries out one op. A call that failed is noted and no error: only ctx
// ends the mix.
func (d *driver) step(ctx context.Context, i int) error {
	defer close(d.done[i])
	var err error
	switch o := d.ops[i]; o.kind {
	case kindTimeline:
		err = d.read(ctx, Query{User: o.user, Limit: pageSize, Answers: d.answers})
	case kindReply:
		// Steps begin in order, so the one that is waited for has begun.
		select {
		case <-d.done[o.parent]:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if !d.acked[o.parent] {
			d.note(o.kind, 0, 0, errors.New("not called: the post that it answers failed"))
			return nil
		}
		err = d.publish(ctx, i, Answer{User: o.user, To: d.runs[o.parent], Text: o.text})
	default:
		err = d.publish(ctx, i, Draft{User: o.user, Text: o.text})
	}
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

func (d *driver) publish(ctx context.Context, i int, arg any) error {
	run := wire.NewRunID()
	d.runs[i] = string(run)
	p, err := call[Published](ctx, d, d.ops[i].kind, run, arg)
	if err == nil && p.ID != string(run) {
		d.strange(fmt.Sprintf("run %s published %q", run, p.ID))
	}
	d.acked[i] = err == nil
	return err
}

func (d *driver) read(ctx context.Context, q Query) error {
	page, err := call[Page](ctx, d, kindTimeline, wire.NewRunID(), q)
	if err != nil {
		return err
	}
	if err := d.graph.judge(q, page); err != nil {
		d.strange(err.Error())
	}
	if page.Ahead > 0 || page.Orphans > 0 {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.ahead += page.Ahead
		d.orphans += page.Orphans
	}
	return nil
}

func (d *driver) strange(what string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.wrong = append(d.wrong, what)
}

// note adds a call to its kind's tally.
func (d *driver) note(k kind, took time.Duration, attempts int, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	t := d.tally[k]
	if t == nil {
		t = &tally{}
		d.tally[k] = t
	}
	t.retries += max(0, attempts-1)
	if err == nil {
		t.took = append(t.took, took)
		return
	}
	t.errors++
	if d.first == nil {
		d.first = fmt.Errorf("%s: %w", k, err)
	}
}

// call calls through the broker, whose results tell of their attempts.
func call[R any](ctx context.Context, d *driver, k kind, run wire.RunID, arg any) (R, error) {
	var out R
	args, err := wire.JSON(arg)
	if err != nil {
		return out, err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	began := time.Now()
	r, err := d.client.Broker().Call(ctx, wire.Call{Run: run, Name: string(k), Level: d.level, Args: args})
	took := time.Since(began)
	switch {
	case err != nil:
	case r.Status == wire.StatusOK:
		err = r.Value.Decode(&out)
	case r.Err != nil:
		err = r.Err
	default:
		err = fmt.Errorf("the run ended %s", r.Status)
	}
	d.note(k, took, r.Attempts, err)
	return out, err
}

// each runs fn for 0 to n-1, begun in that order, a number of them at a time.
// It ends at the first error and returns when all have.
func each(ctx context.Context, n, atOnce int, fn func(ctx context.Context, i int) error) error {
	var next atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for range min(n, atOnce) {
		group.Go(func() error {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				if err := ctx.Err(); err != nil {
					return context.Cause(ctx)
				}
				if err := fn(ctx, i); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}
