package e2e

import (
	"context"
	"fmt"
	"slices"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudburst-nats/cloudburst"
	"github.com/cloudburst-nats/cloudburst/broker"
)

// Calls with references go where the keys are, so that workers share the keys
// instead of each reading all.
var _ = Describe("Placement", Label("placement"), func() {
	const keys, rounds, workers = 60, 8, 3
	// measure reads each key a few times, and returns what the workers tell, and how
	// many calls with keys of their own went before those.
	measure := func(ctx context.Context, ready func([]broker.WorkerInfo) bool, opts ...cloudburst.WorkerOption) (sum broker.Placement, before int) {
		p := start(ctx, nil)
		for range workers {
			p.serve(ctx, func(w *cloudburst.Worker) {
				cloudburst.Handle(w, "length", func(_ context.Context, _ *cloudburst.Session, values []cloudburst.Value) (int, error) {
					n := 0
					for _, v := range values {
						n += len(v.Body)
					}
					return n, nil
				})
			}, opts...)
		}
		body := make([]byte, 10_000)
		for k := range keys {
			Expect(p.State().Put(ctx, fmt.Sprint("k", k), cloudburst.Value{Body: body, Type: "application/octet-stream"})).To(Succeed())
		}
		told := func() (sum broker.Placement) {
			for _, w := range members(ctx, p.Broker()) {
				sum.RefHits += w.RefHits
				sum.RefMisses += w.RefMisses
				sum.Handed += w.Handed
				sum.Taken += w.Taken
			}
			return sum
		}
		call := func(key string) {
			GinkgoHelper()
			Expect(cloudburst.Call[int](ctx, p.Client, "length", cloudburst.Ref(key))).To(Equal(len(body)))
		}
		Eventually(ctx, func() bool {
			before++
			key := fmt.Sprint("early", before)
			Expect(p.State().Put(ctx, key, cloudburst.Value{Body: body, Type: "application/octet-stream"})).To(Succeed())
			call(key)
			return ready(members(ctx, p.Broker()))
		}).Should(BeTrue())
		for range rounds {
			for k := range keys {
				call(fmt.Sprint("k", k))
			}
		}
		Eventually(ctx, func() uint64 { s := told(); return s.RefHits + s.RefMisses }).Should(BeNumerically("==", before+keys*rounds))
		return told(), before
	}

	It("finds references in the cache, since a key has one home", func(ctx SpecContext) {
		// Workers must have met, and keep room for each other's calls.
		met := func(all []broker.WorkerInfo) bool {
			return !slices.ContainsFunc(all, func(w broker.WorkerInfo) bool { return w.Taken == 0 })
		}
		sum, before := measure(ctx, met)
		Expect(sum.Handed).To(Equal(sum.Taken))
		Expect(sum.RefMisses).To(BeNumerically("<=", before+keys+keys/10), "a key is read once; %d calls were with keys of their own", before)
	}, SpecTimeout(patience))

	It("reads every key on every worker when it is off", func(ctx SpecContext) {
		sum, before := measure(ctx, func([]broker.WorkerInfo) bool { return true }, cloudburst.WithoutPlacement())
		Expect(sum.Handed).To(BeZero())
		Expect(sum.RefMisses).To(BeNumerically(">", before+2*keys), "%d workers read each of %d keys", workers, keys)
	}, SpecTimeout(patience))
})
