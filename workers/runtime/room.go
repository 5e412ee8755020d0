package runtime

import (
	"context"
	"slices"
	"sync"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// A Room bounds the calls of one program. A number of them run at once; some more are
// blocked, which wait for calls of their own and keep their instances. Both are held.
// Further calls wait outside: the deepest comes in first, then the one that came first.
//
//	outside ── Enter ──► running ⇄ blocked (Block)
//	  ⇅                     │
//	away                    ▼ Leave
//
// While too many calls are held, calls go away from outside: they give up their slots, so
// that the worker takes the calls that the held ones wait for. A call takes its slot back
// before it comes in. So whoever runs has a slot, and nobody waits for a slot inside.
type Room struct {
	most, held int

	mu      sync.Mutex // guards what follows
	running int
	blocked int
	back    []*guest // blocked calls that want to run on
	outside []*guest // the next one first
	away    []*guest // likewise
	closed  error
}

// A guest waits for its turn.
type guest struct {
	depth   int
	turn    chan error    // nil: it runs; else why it can't come in; holds one
	crowded chan struct{} // closed when it goes away
	again   chan struct{} // closed when it comes back
}

// NewRoom returns a room for most calls that run, and for blocked others. A blocked below
// wire.MaxDepth is raised to that: a chain of calls must fit.
func NewRoom(most, blocked int) *Room {
	return &Room{most: most, held: most + max(blocked, wire.MaxDepth)}
}

// Held returns how many calls the room holds at most, hence how many instances they need.
func (r *Room) Held() int { return r.held }

// Blocked returns how many calls wait for others now.
func (r *Room) Blocked() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.blocked
}

// Waiting returns how many calls wait to come in.
func (r *Room) Waiting() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.outside) + len(r.away)
}

// Enter returns when the call of ctx may run. Then it must Leave.
func (r *Room) Enter(ctx context.Context) error {
	for {
		g := &guest{depth: Depth(ctx), turn: make(chan error, 1), crowded: make(chan struct{}), again: make(chan struct{})}
		r.mu.Lock()
		if r.closed != nil {
			defer r.mu.Unlock()
			return r.closed
		}
		r.outside = enlist(r.outside, g)
		r.nextLocked()
		r.mu.Unlock()
		select {
		case err := <-g.turn:
			return err
		case <-ctx.Done():
			return r.gone(ctx, g)
		case <-g.crowded:
		}
		err := Block(ctx, func() error {
			select {
			case err := <-g.turn:
				return err
			case <-g.again:
				return nil
			case <-ctx.Done():
				return r.gone(ctx, g)
			}
		})
		if err != nil {
			return err
		}
	}
}

// enlist adds a guest behind those that are as deep or deeper.
func enlist(list []*guest, g *guest) []*guest {
	at := slices.IndexFunc(list, func(o *guest) bool { return o.depth < g.depth })
	if at < 0 {
		at = len(list)
	}
	return slices.Insert(list, at, g)
}

// gone takes out a guest whose time is up, and calls another if it was called just now.
func (r *Room) gone(ctx context.Context, g *guest) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	is := func(o *guest) bool { return o == g }
	r.outside, r.away = slices.DeleteFunc(r.outside, is), slices.DeleteFunc(r.away, is)
	select {
	case err := <-g.turn:
		if err == nil {
			r.running--
		}
	default:
	}
	r.nextLocked()
	return context.Cause(ctx)
}

// Leave ends a call that was let in.
func (r *Room) Leave() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.running--
	r.nextLocked()
}

// Block runs wait while others run, and returns when the call may run on.
func (r *Room) Block(ctx context.Context, wait func() error) error {
	r.mu.Lock()
	r.running--
	r.blocked++
	r.nextLocked()
	r.mu.Unlock()
	err := wait()
	g := &guest{again: make(chan struct{})}
	r.mu.Lock()
	r.back = append(r.back, g)
	r.nextLocked()
	r.mu.Unlock()
	select {
	case <-g.again:
	case <-ctx.Done():
		r.mu.Lock()
		defer r.mu.Unlock()
		if i := slices.Index(r.back, g); i >= 0 { // it runs on to its end only
			r.back = slices.Delete(r.back, i, i+1)
			r.blocked--
			r.running++
		}
	}
	return err
}

// Close has all that wait for their turn, and whoever comes, told why there is none.
func (r *Room) Close(why error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = why
	for _, g := range append(r.outside, r.away...) {
		g.turn <- why
	}
	r.outside, r.away = nil, nil
}

// nextLocked has calls run as far as there is room.
func (r *Room) nextLocked() {
	for len(r.back) > 0 && r.running < r.most {
		close(r.back[0].again)
		r.back = slices.Delete(r.back, 0, 1)
		r.blocked--
		r.running++
	}
	for len(r.outside) > 0 && r.running < r.most && r.admitsLocked(r.outside[0]) {
		r.outside[0].turn <- nil
		r.outside = slices.Delete(r.outside, 0, 1)
		r.running++
	}
	for len(r.outside) > 0 && !r.admitsLocked(r.outside[len(r.outside)-1]) {
		last := r.outside[len(r.outside)-1]
		close(last.crowded)
		r.outside, r.away = r.outside[:len(r.outside)-1], enlistFirst(r.away, last)
	}
	// One at a time: when it has come back, the next is called.
	if len(r.outside) == 0 && len(r.away) > 0 && r.running < r.most && r.admitsLocked(r.away[0]) {
		close(r.away[0].again)
		r.away = slices.Delete(r.away, 0, 1)
	}
}

// enlistFirst adds a guest before those that are no deeper: it came before them.
func enlistFirst(list []*guest, g *guest) []*guest {
	at := slices.IndexFunc(list, func(o *guest) bool { return o.depth <= g.depth })
	if at < 0 {
		at = len(list)
	}
	return slices.Insert(list, at, g)
}

func (r *Room) admitsLocked(g *guest) bool { return Admits(r.running+r.blocked, r.held, g.depth) }
