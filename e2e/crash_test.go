package e2e

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudburst-nats/cloudburst"
)

// What was acknowledged survives kill -9 of workers and of the server, again
// and again, under load; and every call counts exactly once.
var _ = Describe("Crashes", Label("crash"), func() {
	const (
		calls   = 12_000
		callers = 64
		kills   = 12 // every third one is of the server
	)

	It("lose no acknowledged call and count none twice", func(ctx SpecContext) {
		addr, store := freePort(), GinkgoT().TempDir()
		server, _ := launch(ctx, "ready", as("server", addr, store))
		workers := make([]*process, 2)
		for i := range workers {
			workers[i], _ = launch(ctx, "ready", as("worker", addr, ""))
		}
		client, err := cloudburst.Connect(ctx, "nats://"+addr)
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(client.Close)

		var done atomic.Int64
		progress := make(chan struct{}, calls)
		load := startCalls(ctx, client, "tally", calls, callers, func() {
			done.Add(1)
			progress <- struct{}{}
		})
		for kill := range kills {
			await(ctx, progress, calls/(kills+1)) // some calls between kills; others are under way
			switch kill % 3 {
			case 2:
				server.kill()
				server, _ = launch(ctx, "ready", as("server", addr, store))
			default:
				i := kill % len(workers)
				workers[i].kill()
				workers[i], _ = launch(ctx, "ready", as("worker", addr, ""))
			}
		}
		load.Wait()
		Expect(done.Load()).To(BeEquivalentTo(calls), "every acknowledged call completes")

		state := client.State().In("crash")
		Expect(state.Counter("tallied").Value(ctx)).To(BeEquivalentTo(calls), "every call counts once")
		for i := range calls {
			Expect(cloudburst.Get[int](ctx, state, fmt.Sprintf("order:%d", i))).To(Equal(i), "every acknowledged write is there")
		}
		GinkgoWriter.Printf("%d calls, %d kills: none lost, none counted twice\n", calls, kills)
	}, SpecTimeout(2*patience))
})

// startCalls calls a function that returns its argument, from many callers at
// once. A caller publishes each call until the stream acknowledges it, then waits
// for its result.
func startCalls(ctx context.Context, client *cloudburst.Client, function string, calls, callers int, completed func()) *sync.WaitGroup {
	var next atomic.Int64
	load := new(sync.WaitGroup)
	for range callers {
		load.Go(func() {
			defer GinkgoRecover()
			for i := int(next.Add(1) - 1); i < calls; i = int(next.Add(1) - 1) {
				named := client.With(cloudburst.WithRunID(cloudburst.RunID(fmt.Sprintf("order-%d", i))))
				got, err := cloudburst.Call[int](ctx, named, function, i)
				Expect(err).NotTo(HaveOccurred(), "call %d", i)
				Expect(got).To(Equal(i))
				completed()
			}
		})
	}
	return load
}

// await takes n events.
func await(ctx context.Context, events <-chan struct{}, n int) {
	GinkgoHelper()
	for i := range n {
		select {
		case <-events:
		case <-ctx.Done():
			Fail(fmt.Sprintf("%d of %d calls completed in time", i, n))
		}
	}
}
