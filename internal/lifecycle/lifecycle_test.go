package lifecycle_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cloudburst-nats/cloudburst/internal/lifecycle"
)

// ends returns a member that notes its end.
func ends(name string, mu *sync.Mutex, order *[]string) func(context.Context) error {
	return func(ctx context.Context) error {
		<-ctx.Done()
		mu.Lock()
		defer mu.Unlock()
		*order = append(*order, name)
		return ctx.Err()
	}
}

func TestFloorsEndFromAbove(t *testing.T) {
	for range 100 {
		var mu sync.Mutex
		var order []string
		group := lifecycle.New(t.Context())
		ground, middle, roof := group.Floor(), group.Floor(), group.Floor()
		ground.Start(ends("ground", &mu, &order))
		roof.Start(ends("roof", &mu, &order))
		middle.Start(ends("middle", &mu, &order))
		ground.Start(ends("ground", &mu, &order))
		if err := group.Stop(); err != nil {
			t.Fatal(err)
		}
		if want := []string{"roof", "middle", "ground", "ground"}; !slices.Equal(order, want) {
			t.Fatalf("they ended in the order %v, want %v", order, want)
		}
	}
}

func TestMembersOutliveTheContextOfTheirStart(t *testing.T) {
	ctx, cancel := context.WithCancel(context.WithValue(t.Context(), key{}, "value"))
	group := lifecycle.New(ctx)
	cancel()
	seen := make(chan any, 1)
	group.Floor().Start(func(ctx context.Context) error {
		seen <- ctx.Value(key{})
		<-ctx.Done()
		return nil
	})
	if got := <-seen; got != "value" {
		t.Errorf("the member was given %v, want the context's values", got)
	}
	if err := group.Stop(); err != nil {
		t.Error(err)
	}
}

type key struct{}

func TestFailuresAreTold(t *testing.T) {
	group := lifecycle.New(t.Context())
	floor := group.Floor()
	running := make(chan struct{})
	floor.Start(func(ctx context.Context) error {
		close(running)
		<-ctx.Done()
		return errors.New("late")
	})
	<-running
	select {
	case <-group.Failed():
		t.Fatal("it is said to have failed before anything has")
	default:
	}
	floor.Start(func(context.Context) error { return errors.New("early") })
	<-group.Failed()
	err := group.Stop()
	if err == nil || !strings.Contains(err.Error(), "early") || !strings.Contains(err.Error(), "late") {
		t.Errorf("Stop() = %v, want both failures", err)
	}
	if again := group.Stop(); again == nil || again.Error() != err.Error() {
		t.Errorf("the second Stop() = %v, want the same", again)
	}
}

func TestNothingStartsOnAFloorThatHasEnded(t *testing.T) {
	group := lifecycle.New(t.Context())
	before := group.Floor()
	if err := group.Stop(); err != nil {
		t.Fatal(err)
	}
	var started atomic.Bool
	for _, floor := range []*lifecycle.Floor{before, group.Floor()} {
		floor.Start(func(context.Context) error { started.Store(true); return nil })
	}
	if err := group.Stop(); err != nil || started.Load() {
		t.Errorf("Stop() = %v, started is %v", err, started.Load())
	}
}

// Members start, fail and end while several stop the group. No member is left, no member
// ends before the members above it, and every failure is told.
func TestStopWhileStarting(t *testing.T) {
	for range 300 {
		group := lifecycle.New(t.Context())
		floors := []*lifecycle.Floor{group.Floor(), group.Floor(), group.Floor()}
		running := make([]atomic.Int64, len(floors))
		var failed, early atomic.Int64
		var all sync.WaitGroup
		for i, floor := range floors {
			fails := rand.IntN(8) == 0
			for range 4 {
				all.Go(func() {
					floor.Start(func(ctx context.Context) error {
						running[i].Add(1)
						defer running[i].Add(-1)
						if fails {
							failed.Add(1)
							return errors.New("it fails")
						}
						<-ctx.Done()
						for above := i + 1; above < len(floors); above++ {
							early.Add(running[above].Load())
						}
						return nil
					})
				})
			}
		}
		errs := make([]error, 3)
		for i := range errs {
			all.Go(func() { errs[i] = group.Stop() })
		}
		all.Wait()
		for i := range running {
			if n := running[i].Load(); n != 0 {
				t.Fatalf("%d members of floor %d are left", n, i)
			}
		}
		if n := early.Load(); n != 0 {
			t.Fatalf("members ended while %d above them ran", n)
		}
		for _, err := range errs {
			told := int64(0)
			if err != nil {
				told = int64(strings.Count(err.Error(), "it fails"))
			}
			if told != failed.Load() {
				t.Fatalf("%d failures were told, want %d", told, failed.Load())
			}
		}
	}
}
