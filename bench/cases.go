package bench

import (
	"context"
	"fmt"
	"strconv"

	"github.com/cloudburst-nats/cloudburst"
	"github.com/cloudburst-nats/cloudburst/broker"
	"github.com/cloudburst-nats/cloudburst/examples/basic"
	"github.com/cloudburst-nats/cloudburst/kvlattice"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// The contenders, by the names that rows have.
const (
	caseFloor    = "floor"
	caseFloorID  = "floor+id"
	caseCall     = "call"
	caseDAG      = "dag2"
	caseGet      = "get"
	caseFloorPut = "floor-put"
	casePut      = "put"
)

const (
	pool      = "bench"
	namespace = "bench"
	// cachedKey is what get reads.
	cachedKey = "cached"
	// readsPerSample makes a sample of get some 100 µs long; readsPerCall makes
	// the call around them, while throughput is measured, a hundredth of it.
	readsPerSample = 1000
	readsPerCall   = 20 * readsPerSample

	fnReads      = "bench-reads"
	fnTimedReads = "bench-timed-reads"
)

// serveWorker serves the functions that are called until ctx ends.
func serveWorker(ctx context.Context, b *broker.Broker, ready func()) error {
	w := cloudburst.NewWorker(cloudburst.NewClient(b, nil), cloudburst.Pool(pool), cloudburst.Namespace(namespace))
	basic.Register(w)
	cloudburst.Handle(w, fnReads, func(ctx context.Context, s *cloudburst.Session, count int) (int, error) {
		for range count {
			if err := read(ctx, s); err != nil {
				return 0, err
			}
		}
		return count, nil
	})
	cloudburst.Handle(w, fnTimedReads, func(ctx context.Context, s *cloudburst.Session, count int) (samples, error) {
		return timed(count, readsPerSample, func() error { return read(ctx, s) })
	})
	served := make(chan error, 1)
	go func() { served <- w.Serve(ctx) }()
	select {
	case <-w.Ready():
		ready()
		return <-served
	case err := <-served:
		return err
	}
}

func read(ctx context.Context, s *cloudburst.Session) error {
	_, found, err := s.Get(ctx, cachedKey)
	if err == nil && !found {
		err = fmt.Errorf("key %q is not there", cachedKey)
	}
	return err
}

// contenders returns all contenders on connections of their own, which end
// with the site.
func (s *site) contenders(ctx context.Context, inFlight int) ([]*contender, error) {
	raw, err := s.connect(ctx, "bench floor")
	if err != nil {
		return nil, err
	}
	var boxes [3]*inbox
	for i := range boxes {
		if boxes[i], err = openInbox(raw.Conn(), inFlight); err != nil {
			return nil, fmt.Errorf("open inbox: %w", err)
		}
	}
	writes, err := floorPut(ctx, raw.Conn(), boxes[2])
	if err != nil {
		return nil, err
	}
	caller, err := s.connect(ctx, "bench caller")
	if err != nil {
		return nil, err
	}
	client := cloudburst.NewClient(caller, nil)
	if err := client.ApplyDAG(ctx, basic.Compose()); err != nil {
		return nil, err
	}
	if err := client.State().In(namespace).Put(ctx, cachedKey, "the value of a cached key"); err != nil {
		return nil, err
	}
	put, err := s.put(ctx, inFlight)
	if err != nil {
		return nil, err
	}
	return []*contender{
		floor(raw.Conn(), boxes[0]), floorID(raw.Conn(), boxes[1]),
		call(client), dag(client), get(client), writes, put,
	}, nil
}

// call calls a function that returns its argument.
func call(client *cloudburst.Client) *contender {
	return &contender{name: caseCall, against: caseFloor, op: func(ctx context.Context, _ int, n uint64) error {
		return expect(ctx, client, "echo", n, n)
	}}
}

// dag calls a DAG of two nodes: the square of the increment.
func dag(client *cloudburst.Client) *contender {
	return &contender{name: caseDAG, against: caseFloor, op: func(ctx context.Context, _ int, n uint64) error {
		return expect(ctx, client, basic.Compose().Name, n, (n+1)*(n+1))
	}}
}

func expect(ctx context.Context, client *cloudburst.Client, name string, arg, want uint64) error {
	got, err := cloudburst.Call[uint64](ctx, client, name, arg)
	if err == nil && got != want {
		err = fmt.Errorf("%s(%d) = %d, want %d", name, arg, got, want)
	}
	return err
}

// get reads a key that is in the worker's cache, again and again within a
// function: the calls around the reads are not what is measured.
func get(client *cloudburst.Client) *contender {
	return &contender{
		name: caseGet, uses: readsPerCall,
		op: func(ctx context.Context, _ int, _ uint64) error {
			_, err := cloudburst.Call[int](ctx, client, fnReads, readsPerCall)
			return err
		},
		inside: func(ctx context.Context, count int) (samples, error) {
			return cloudburst.Call[samples](ctx, client, fnTimedReads, max(count/10, 10))
		},
	}
}

// put writes a key through a store such as a worker has, and each slot its own.
func (s *site) put(ctx context.Context, inFlight int) (*contender, error) {
	b, err := s.connect(ctx, "bench put")
	if err != nil {
		return nil, err
	}
	bucket, err := b.OpenBucket(ctx, namespace)
	if err != nil {
		return nil, err
	}
	store := kvlattice.New(kvlattice.Config{Writer: "bench"}, bucket, bucket)
	err = s.start(ctx, func(ctx context.Context, ready func()) error {
		ready()
		return store.Run(ctx)
	})
	if err != nil {
		return nil, err
	}
	keys := make([]string, inFlight)
	for i := range keys {
		keys[i] = "put-" + strconv.Itoa(i)
	}
	return &contender{name: casePut, against: caseFloorPut, op: func(ctx context.Context, slot int, n uint64) error {
		return store.Put(ctx, keys[slot], wire.Value{Body: strconv.AppendUint(nil, n, 10)})
	}}, nil
}
