package e2e

import (
	"context"
	"fmt"
	"os"
	"strconv"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudburst-nats/cloudburst"
)

// A transactional function takes effect once, all or nothing, also when its
// worker or the server is killed in mid-commit.
var _ = Describe("Transactions", Label("transaction"), func() {
	const (
		most    = 10_000 // reads
		callers = 64
		kills   = 6 // every third one is of the server
	)
	// A commit is some milliseconds: CLOUDBURST_E2E_TRANSFERS asks for more of them.
	transfers := 2000
	if n, err := strconv.Atoi(os.Getenv("CLOUDBURST_E2E_TRANSFERS")); err == nil {
		transfers = n
	}

	It("commit once, and are seen whole", func(ctx SpecContext) {
		addr, store := freePort(), GinkgoT().TempDir()
		server, _ := launch(ctx, "ready", as("server", addr, store))
		workers := make([]*process, 2)
		for i := range workers {
			workers[i], _ = launch(ctx, "ready", as("bank", addr, ""))
		}
		client, err := cloudburst.Connect(ctx, "nats://"+addr)
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(client.Close)

		var reads int
		read := make(chan struct{})
		go func() {
			defer GinkgoRecover()
			defer close(read)
			for reads < most {
				v, found, err := client.State().In("bank").GetAll(ctx, "left", "right")
				if err != nil {
					Expect(ctx.Err()).NotTo(HaveOccurred())
					continue // the server is on its way back up
				}
				Expect(found[0]).To(Equal(found[1]))
				Expect(string(v[0].Body)).To(Equal(string(v[1].Body)), "read %d", reads)
				reads++
			}
		}()
		progress := make(chan struct{}, transfers)
		load := startCalls(ctx, client, "transfer", transfers, callers, func() { progress <- struct{}{} })
		for kill := range kills {
			await(ctx, progress, transfers/(kills+1))
			switch kill % 3 {
			case 2:
				server.kill()
				server, _ = launch(ctx, "ready", as("server", addr, store))
			default:
				i := kill % len(workers)
				workers[i].kill()
				workers[i], _ = launch(ctx, "ready", as("bank", addr, ""))
			}
		}
		load.Wait()
		Eventually(ctx, read).Should(BeClosed())
		state := client.State().In("bank")
		Expect(state.Counter("transfers").Value(ctx)).To(BeEquivalentTo(transfers), "each takes effect once")
		for i := range transfers {
			Expect(cloudburst.Get[int](ctx, state, fmt.Sprintf("order:%d", i))).To(Equal(i), "every acknowledged write is there")
		}
		GinkgoWriter.Printf("%d transfers, %d kills: each once; %d reads, none torn\n", transfers, kills, reads)
	}, SpecTimeout(2*patience))
})

// transfer writes four keys that belong together.
func transfer(ctx context.Context, s *cloudburst.Session, order int) (int, error) {
	for _, key := range []string{"left", "right"} {
		if err := s.Put(ctx, key, fmt.Sprint(s.Run(), " ", s.Attempt())); err != nil {
			return 0, err
		}
	}
	if err := s.Put(ctx, fmt.Sprintf("order:%d", order), order); err != nil {
		return 0, err
	}
	return order, s.Counter("transfers").Add(ctx, 1)
}
