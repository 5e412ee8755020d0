package e2e

import (
	"context"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

// The clocks of servers may differ by less than 90 seconds. Within that every level keeps
// its promise, and the writes of calls that follow each other are in order, while leaders
// step down and servers are killed. `make test-clocks` builds the program whose clock is
// off, and runs these specs.
var _ = Describe("Three servers whose clocks disagree", Label("clocks"), func() {
	DescribeTable("keep what is promised while their roles move", func(ctx SpecContext, clocks [nodes]string) {
		s := startSkewed(ctx, clocks, "")
		s.checkClocks(ctx)
		s.call(ctx)
		experiment := make(chan []levelled, 1)
		go func() {
			defer GinkgoRecover()
			defer close(experiment)
			experiment <- kept(ctx, 4*30, []string{
				"consistency", "--nats", s.urls(), "--requests", "30", "--clients", "4", "--workers", "3",
				"--keys", "200", "--dags", "30", "--seed", "1",
			})
		}()
		const least = 12
		for moved, done := 0, false; moved < least || !done; moved++ {
			if moved%5 == 4 {
				s.kill(ctx, rand.IntN(nodes))
			} else {
				s.move(ctx)
			}
			s.goesOn(ctx)
			Expect(s.seen()).To(BeEmpty())
			select {
			case rows := <-experiment:
				done = rows != nil
				Expect(done).To(BeTrue(), "the experiment has ended well")
				experiment = nil
			default:
			}
		}
		s.stop()
		Expect(s.wrong).To(BeEmpty())
		GinkgoWriter.Printf("%d calls were acknowledged\n", s.acked())
	},
		Entry("by 5 ms", [nodes]string{"0s", "5ms", "-5ms"}, SpecTimeout(2*patience)),
		Entry("by a second", [nodes]string{"1s", "-1s", "0s"}, SpecTimeout(2*patience)),
		Entry("by a minute", [nodes]string{"0s", "1m", "30s"}, SpecTimeout(2*patience)),
		Entry("since one goes backwards", [nodes]string{"45s,-1s,2s,-40s", "0s", "0s"}, SpecTimeout(2*patience)),
		Entry("since one is set back", [nodes]string{"0s", "40s,-80s,45s,-40s", "0s"}, SpecTimeout(2*patience)),
	)

	// What keeps the promise within the bound, and nothing beyond it, is seen to be missed.
	DescribeTable("are seen to break the order", func(ctx SpecContext, clocks [nodes]string, fault string) {
		s := startSkewed(ctx, clocks, fault)
		s.call(ctx)
		const atMost = 50 // moves that bring no two calls of a caller to two clocks
		for moved := 0; moved < atMost && len(s.seen()) == 0; moved++ {
			s.move(ctx)
			s.goesOn(ctx)
		}
		s.stop()
		Expect(s.wrong).NotTo(BeEmpty())
		GinkgoWriter.Println(s.wrong[0])
	},
		Entry("by 1 s where workers' own clocks count", [nodes]string{"1s", "-1s", "0s"}, "log", SpecTimeout(2*patience)),
		Entry("by 10 minutes", [nodes]string{"0s", "10m", "-10m"}, "", SpecTimeout(2*patience)),
	)
})

// checkClocks sees that each server's clock is as far off as it was told: it leads a stream,
// and stores a message.
func (s *skewed) checkClocks(ctx context.Context) {
	GinkgoHelper()
	js := s.clients[0].Broker().JetStream()
	for i, clock := range s.clocks {
		s.lead(ctx, "KV_state", i)
		before := time.Now()
		put, err := js.Publish(ctx, "$KV.state.clock", []byte(`"what time is it"`))
		Expect(err).NotTo(HaveOccurred())
		after := time.Now()
		stream, err := js.Stream(ctx, "KV_state")
		Expect(err).NotTo(HaveOccurred())
		Expect(stream.CachedInfo().Cluster.Leader).To(Equal(nodeName(i)))
		var stored *jetstream.RawStreamMsg
		Eventually(ctx, func() error { // a copy may be behind
			stored, err = stream.GetMsg(ctx, put.Sequence)
			return err
		}).Should(Succeed())
		first, rest, steps := strings.Cut(clock, ",")
		most, err := time.ParseDuration(first)
		Expect(err).NotTo(HaveOccurred())
		least := most
		if steps {
			least, err = time.ParseDuration(rest[strings.LastIndex(rest, ",")+1:])
			Expect(err).NotTo(HaveOccurred())
		}
		Expect(stored.Time).To(BeTemporally(">=", before.Add(least)), "a message that %s stored", nodeName(i))
		Expect(stored.Time).To(BeTemporally("<=", after.Add(most)), "a message that %s stored", nodeName(i))
	}
}
