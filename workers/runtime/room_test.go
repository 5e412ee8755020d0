package runtime

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// slots is a worker's, as a Nest: as many calls as it holds are in it at once.
type slots chan struct{}

func (s slots) Block(ctx context.Context, wait func() error) error {
	<-s
	err := wait()
	select {
	case s <- struct{}{}:
	case <-ctx.Done():
		s <- struct{}{} // the test's calls always give theirs back
	}
	return err
}

// A chain of calls, each of which waits for the next, gets through as deep as calls go, with
// one slot and a room for one call: beside many others that do the same.
func TestChainsGetThroughARoom(t *testing.T) {
	for _, many := range []int{1, 4, 200} {
		synctest.Test(t, func(t *testing.T) {
			room, slot := NewRoom(1, 0), make(slots, 1)
			var running, ended atomic.Int32
			var call func(ctx context.Context, depth int)
			call = func(ctx context.Context, depth int) {
				slot <- struct{}{}
				defer func() { <-slot }()
				ctx = Within(ctx, depth, slot)
				if err := room.Enter(ctx); err != nil {
					t.Errorf("depth %d: %v", depth, err)
					return
				}
				defer room.Leave()
				ctx = Within(ctx, depth, room)
				if n := running.Add(1); n > 1 {
					t.Errorf("%d calls run at once in a room for one", n)
				}
				defer running.Add(-1)
				if next, err := Nested(ctx, "f"); err == nil {
					running.Add(-1)
					_ = Block(ctx, func() error { call(t.Context(), next); return nil })
					if n := running.Add(1); n > 1 {
						t.Errorf("%d calls run at once in a room for one", n)
					}
				} else if depth != wire.MaxDepth-1 || wire.KindOf(err) != wire.KindPermanent {
					t.Errorf("depth %d: %v", depth, err)
				}
				ended.Add(1)
			}
			var all sync.WaitGroup
			for range many {
				all.Go(func() { call(t.Context(), 0) })
			}
			all.Wait()
			if n := int(ended.Load()); n != many*wire.MaxDepth {
				t.Errorf("%d calls ended, want %d", n, many*wire.MaxDepth)
			}
			if room.running != 0 || room.blocked != 0 || room.Waiting() != 0 {
				t.Errorf("left in the room: %d running, %d blocked, %d waiting", room.running, room.blocked, room.Waiting())
			}
		})
	}
}

// Without places that the depths above can't take, calls that wait hold all of them.
func TestAdmits(t *testing.T) {
	const most = 100
	held := 0
	for Admits(held, most, 0) {
		held++
	}
	if held != most-wire.MaxDepth+1 {
		t.Errorf("%d calls of depth 0 are held, of %d", held, most)
	}
	for depth := 1; depth < wire.MaxDepth; depth++ {
		if !Admits(held, most, depth) {
			t.Fatalf("no place for depth %d with %d held", depth, held)
		}
		held++
		if Admits(held, most, depth) {
			t.Fatalf("depth %d takes the place of the next", depth)
		}
	}
	if held != most {
		t.Errorf("%d held at last, want %d", held, most)
	}
	if !Admits(0, 1, 0) {
		t.Error("a bound of one admits nothing")
	}
}

// Calls that give up at any moment leave nothing behind, and the others get through.
func TestGuestsThatLeaveARoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		room, slot := NewRoom(2, 0), make(slots, 3)
		errGone := errors.New("gone")
		var all sync.WaitGroup
		for i := range 300 {
			all.Go(func() {
				random := rand.New(rand.NewPCG(7, uint64(i)))
				slot <- struct{}{}
				defer func() { <-slot }()
				ctx, cancel := context.WithTimeoutCause(t.Context(), time.Duration(1+random.IntN(200))*time.Millisecond, errGone)
				defer cancel()
				depth := random.IntN(3)
				ctx = Within(ctx, depth, slot)
				if err := room.Enter(ctx); err != nil {
					if !errors.Is(err, errGone) {
						t.Error(err)
					}
					return
				}
				defer room.Leave()
				_ = Block(Within(ctx, depth, room), func() error {
					select {
					case <-time.After(time.Duration(random.IntN(300)) * time.Millisecond):
					case <-ctx.Done():
					}
					return nil
				})
			})
		}
		all.Wait()
		if room.running != 0 || room.blocked != 0 || len(room.back) != 0 || room.Waiting() != 0 {
			t.Errorf("left: %d running, %d blocked, %d back, %d waiting", room.running, room.blocked, len(room.back), room.Waiting())
		}
	})
}

func TestClosedRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		room, why := NewRoom(1, 0), errors.New("closed")
		if err := room.Enter(t.Context()); err != nil {
			t.Fatal(err)
		}
		waits := make(chan error, 1)
		go func() { waits <- room.Enter(t.Context()) }()
		synctest.Wait()
		room.Close(why)
		if err := <-waits; !errors.Is(err, why) {
			t.Errorf("who waited got %v", err)
		}
		if err := room.Enter(t.Context()); !errors.Is(err, why) {
			t.Errorf("who came later got %v", err)
		}
	})
}
