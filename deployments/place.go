package deployments

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloudburst-nats/cloudburst/broker"
	"github.com/cloudburst-nats/cloudburst/wire"
	"github.com/cloudburst-nats/cloudburst/workers"
	"github.com/cloudburst-nats/cloudburst/workers/placement"
)

// A placer carries out where calls with references run: it keeps the worker's view
// of its pool, tells the others of the worker, and hands calls over. Calls without
// references go past it.
type placer struct {
	p *parts
	b *broker.Broker

	hits, misses, handed, taken, refused atomic.Uint64

	mu      sync.Mutex // guards what follows
	view    *placement.View
	teller  *placement.Teller
	asked   bool // another worker wants to hear all
	asks    bool // this one does
	running bool
	offers  sync.WaitGroup // offers under way; added to while running
}

var _ workers.References = (*placer)(nil)

func newPlacer(b *broker.Broker, p *parts) *placer {
	return &placer{p: p, b: b, view: placement.NewView(p.id), teller: placement.NewTeller(p.id), asks: true}
}

// offerWithin is how long another worker may take to answer an offer: it answers
// from memory. It is far below the acknowledgement wait.
const offerWithin = 250 * time.Millisecond

// placeAtMost bounds the arguments that are looked into, in bytes: references are
// short, and other arguments as large as this cost more to move than to look up.
const placeAtMost = 64 << 10

// arrived decides where a call runs that was pulled. It doesn't block.
func (p *placer) arrived(d *broker.Delivery) {
	// A further attempt stays: whatever happened to the first, it ends here.
	if p.p.cfg.WithoutPlacement || d.Call.Again() || len(d.Call.Args.Body) > placeAtMost {
		p.p.take(d)
		return
	}
	refs := p.refs(d.Call.Args)
	if len(refs) == 0 {
		p.p.take(d)
		return
	}
	p.mu.Lock()
	if !p.running {
		p.mu.Unlock()
		p.p.take(d)
		return
	}
	p.offers.Add(1)
	p.mu.Unlock()
	p.offer(d, refs, placement.Tries)
}

func (p *placer) refs(args wire.Value) []placement.Key {
	var keys []placement.Key
	for _, r := range wire.Refs(args) {
		if r.Key == "" {
			continue // a run's result is where its own caller hears of it
		}
		if r.Namespace == "" {
			r.Namespace = p.p.cfg.Namespace
		}
		keys = append(keys, placement.KeyOf(r.Namespace, r.Key))
	}
	return keys
}

// offer asks the worker that the call should run on, and if need be the next, and
// runs it here at last.
func (p *placer) offer(d *broker.Delivery, refs []placement.Key, tries int) {
	to := p.p.id
	if tries > 0 {
		p.mu.Lock()
		to = p.view.Decide(p.p.id, refs)
		p.view.Handed(to)
		p.mu.Unlock()
	}
	if to == p.p.id {
		p.p.take(d)
		p.offers.Done()
		return
	}
	p.b.HandOver(d, to, offerWithin, func(a broker.Answer, busy int) { p.answered(d, refs, tries-1, to, a, busy) })
}

// answered goes on after an offer. It runs on the goroutine that hears the answers.
func (p *placer) answered(d *broker.Delivery, refs []placement.Key, tries int, to string, a broker.Answer, busy int) {
	p.mu.Lock()
	switch a {
	case broker.Busy:
		p.view.Refused(to)
	case broker.Absent, broker.Silent:
		p.view.Gone(to) // until it is heard again
	case broker.Taken:
		p.view.Took(to, busy)
	}
	p.mu.Unlock()
	switch a {
	case broker.Taken:
		p.handed.Add(1)
		p.p.puller.Release()
		p.offers.Done()
	case broker.Silent:
		p.refused.Add(1)
		if err := d.Again(); err != nil && p.p.cfg.Log != nil {
			p.p.cfg.Log.WithError(err).Debug("could not have an offered call handed out again; it is after the acknowledgement wait")
		}
		p.p.puller.Release()
		p.offers.Done()
	case broker.Busy, broker.Absent:
		p.refused.Add(1)
		p.offer(d, refs, tries)
	}
}

// accept takes a call that another worker hands over, if there is room.
func (p *placer) accept(d *broker.Delivery) (taken bool, busy int) {
	if !p.p.puller.Accept() {
		return false, p.p.puller.Busy()
	}
	busy = p.p.puller.Busy() // with this one
	p.taken.Add(1)
	p.p.take(d)
	return true, busy
}

// Cached says whether a key is in memory.
func (p *placer) Cached(namespace, key string) bool {
	st := p.p.stores.opened(namespace)
	return st != nil && st.Holds(key)
}

// Used notes that a reference was resolved here: the key is cached now.
func (p *placer) Used(namespace, key string, cached bool, bytes int) {
	if cached {
		p.hits.Add(1)
	} else {
		p.misses.Add(1)
	}
	if p.p.cfg.WithoutPlacement {
		return
	}
	k := placement.KeyOf(namespace, key)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.teller.Used(k, namespace, key, int64(bytes))
	p.view.Has(p.p.id, k, int64(bytes))
}

func (p *placer) numbers() broker.Placement {
	return broker.Placement{
		RefHits: p.hits.Load(), RefMisses: p.misses.Load(),
		Handed: p.handed.Load(), Taken: p.taken.Load(), Refused: p.refused.Load(),
	}
}

// run tells and hears until ctx ends, then returns once no offer is under way.
func (p *placer) run(ctx context.Context) error {
	p.mu.Lock()
	p.running = true
	p.mu.Unlock()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var parts sync.WaitGroup
	start := func(part func() error) {
		parts.Go(func() {
			if err := part(); err != nil {
				cancel(err)
			}
		})
	}
	start(func() error { return p.b.ServeHandovers(ctx, p.p.id, p.p.cfg.Pool, p.accept) })
	start(func() error { return p.b.FollowPlacement(ctx, p.p.cfg.Pool, p.hear) })
	p.talk(ctx)
	parts.Wait()
	p.mu.Lock()
	p.running = false
	bye := p.teller.Bye()
	p.mu.Unlock()
	p.publish(bye)
	p.offers.Wait()
	return context.Cause(ctx)
}

// talk tells the others of this worker whenever it is time.
func (p *placer) talk(ctx context.Context) {
	tick := time.NewTicker(placement.Every(0) / 2)
	defer tick.Stop()
	for {
		now := time.Now()
		p.mu.Lock()
		peers := p.view.Peers()
		p.view.Expire(now.Add(-placement.Silence(peers)))
		want := placement.Wants{Peers: peers, Asked: p.asked, Ask: p.asks}
		s, due := p.teller.Tell(now, int(p.p.slots.Load()), p.p.puller.Busy(), want, p.Cached)
		if due {
			p.asked, p.asks = false, false
			p.view.Hear(now, s)
		}
		p.mu.Unlock()
		if due {
			p.publish(s)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (p *placer) publish(s placement.Summary) {
	if err := p.b.PublishPlacement(p.p.cfg.Pool, s); err != nil && p.p.cfg.Log != nil {
		p.p.cfg.Log.WithError(err).Debug("could not tell other workers what is cached here")
	}
}

// hear takes in what another worker tells.
func (p *placer) hear(decode func(any) error) {
	var s placement.Summary
	if err := decode(&s); err != nil || s.Worker == "" || s.Worker == p.p.id {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.view.Hear(time.Now(), s) {
		p.asks = true
	}
	p.asked = p.asked || s.Ask
}
