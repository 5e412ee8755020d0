// Package lifecycle runs the members of a process: goroutines that are started in an
// order, watched for the first that fails, and ended in the reverse order.
//
// A Group has floors, from the ground up. The members of a floor end together, once
// those of all floors above have ended. So a member may use what runs below it until
// its own end.
//
//	group := lifecycle.New(ctx)
//	ground, roof := group.Floor(), group.Floor()
//	ground.Start(store.Run)
//	roof.Start(server.Run)
//	select {
//	case <-ctx.Done():
//	case <-group.Failed():
//	}
//	return group.Stop()
package lifecycle

import (
	"context"
	"errors"
	"sync"
)

// A Group is what runs until Stop. All methods may be called at any time, from any
// goroutine.
type Group struct {
	ctx    context.Context //nolint:containedctx // of the goroutines that the group owns
	failed chan struct{}   // closed by the first member that fails
	stop   sync.Once

	mu      sync.Mutex // guards what follows
	floors  []*Floor
	stopped bool
	errs    []error
}

// A Floor is the members of a group that end together.
type Floor struct {
	group *Group
	ctx   context.Context //nolint:containedctx // of the goroutines that the floor owns
	end   context.CancelFunc
	all   sync.WaitGroup
}

// New returns a group without members. They are given ctx's values and outlive it.
func New(ctx context.Context) *Group {
	return &Group{ctx: context.WithoutCancel(ctx), failed: make(chan struct{})}
}

// Floor opens a floor above those that there are.
func (g *Group) Floor() *Floor {
	f := &Floor{group: g}
	f.ctx, f.end = context.WithCancel(g.ctx)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.floors = append(g.floors, f); g.stopped {
		f.end()
	}
	return f
}

// Start runs a member in a goroutine of its own until it returns; the floor's end
// cancels its context. An error that it returns, but for context.Canceled, is a
// failure of the group. On a floor that has ended, nothing is started.
func (f *Floor) Start(member func(context.Context) error) {
	f.group.mu.Lock()
	defer f.group.mu.Unlock()
	if f.ctx.Err() != nil {
		return
	}
	f.all.Go(func() {
		if err := member(f.ctx); err != nil && !errors.Is(err, context.Canceled) {
			f.group.fail(err)
		}
	})
}

func (g *Group) fail(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.errs = append(g.errs, err); len(g.errs) == 1 {
		close(g.failed)
	}
}

// Failed is closed once a member has failed. The others run on, until Stop.
func (g *Group) Failed() <-chan struct{} { return g.failed }

// HasFailed says whether a member has failed.
func (g *Group) HasFailed() bool {
	select {
	case <-g.failed:
		return true
	default:
		return false
	}
}

// Stop ends the floors, the uppermost first, waits for their members, and returns
// what members have failed with. Whoever calls it again waits for the same end.
func (g *Group) Stop() error {
	g.stop.Do(func() {
		g.mu.Lock()
		g.stopped = true
		floors := g.floors
		g.mu.Unlock()
		for i := range floors {
			floor := floors[len(floors)-1-i]
			g.mu.Lock()
			floor.end()
			g.mu.Unlock()
			floor.all.Wait()
		}
	})
	g.mu.Lock()
	defer g.mu.Unlock()
	return errors.Join(g.errs...)
}
