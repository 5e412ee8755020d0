// Package lifecycle runs the members of a process. A member is a goroutine. Members start
// in an order and end in the reverse order, and a failure of a member is told.
//
// A Group has floors, from the ground up. The members of a floor end together, once
// the members of all floors above have ended. So a member may use the floors below
// until its own end.
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

// A Group runs its members until Stop. All methods may be called at any time, from any
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

// Start runs a member in a goroutine of its own. The floor's end cancels the member's
// context. An error of the member is a failure of the group, but for context.Canceled.
// Start does nothing on a floor that has ended.
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

// Stop ends the floors, the uppermost first, and waits for their members. It returns the
// errors of members that failed. A second call waits for the same end.
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
