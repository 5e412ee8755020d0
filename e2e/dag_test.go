package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudburst-nats/cloudburst"
)

// A DAG runs each node once, joins fire once, and a graph that doesn't hold
// together is refused with everything that is wrong with it.
var _ = Describe("A DAG", Label("dag"), func() {
	It("fires a fan-in of 16 exactly once a run, 500 runs", func(ctx SpecContext) {
		const width, runs = 16, 500
		handle := func(w *cloudburst.Worker) {
			cloudburst.Handle(w, "seed", func(_ context.Context, _ *cloudburst.Session, x int) (int, error) { return x, nil })
			cloudburst.Handle(w, "branch", func(ctx context.Context, s *cloudburst.Session, in struct{ X, I int }) (int, error) {
				return in.X * in.I, s.Counter("branches").Add(ctx, 1)
			})
			cloudburst.Handle(w, "join", func(ctx context.Context, s *cloudburst.Session, parts []int) (int, error) {
				sum := 0
				for _, p := range parts {
					sum += p
				}
				return sum, s.Counter("joins").Add(ctx, 1)
			})
		}
		p := start(ctx, handle)
		p.serve(ctx, handle) // two workers share the runs
		g := &cloudburst.Graph{Name: "fan", Nodes: []cloudburst.Node{{Name: "seed"}, {Name: "join"}}}
		for i := range width {
			branch := fmt.Sprintf("b%d", i)
			g.Nodes = append(g.Nodes, cloudburst.Node{Name: branch, Function: "branch", With: map[string]json.RawMessage{"I": json.RawMessage(fmt.Sprint(i))}})
			g.Edges = append(g.Edges, cloudburst.Edge{From: "seed", To: branch, Arg: "X"}, cloudburst.Edge{From: branch, To: "join", Arg: fmt.Sprint(i)})
		}
		Expect(p.ApplyDAG(ctx, g)).To(Succeed())
		Eventually(ctx, func() error { // the workers hear of it
			_, err := cloudburst.Call[int](ctx, p.Client, "fan", 0)
			return err
		}).Should(Succeed())
		before, err := p.State().Counter("joins").Value(ctx)
		Expect(err).NotTo(HaveOccurred())

		var callers sync.WaitGroup
		for c := range 10 {
			callers.Go(func() {
				defer GinkgoRecover()
				for i := c; i < runs; i += 10 {
					Expect(cloudburst.Call[int](ctx, p.Client, "fan", i)).To(Equal(i * width * (width - 1) / 2))
				}
			})
		}
		callers.Wait()
		Expect(p.State().Counter("joins").Value(ctx)).To(BeEquivalentTo(before + runs))
		Expect(p.State().Counter("branches").Value(ctx)).To(BeEquivalentTo((before + runs) * width))
	}, SpecTimeout(3*time.Minute))

	It("crosses pools, takes named arguments, and has several sinks", func(ctx SpecContext) {
		p := start(ctx, func(w *cloudburst.Worker) { cloudburst.Handle(w, "square", square) })
		p.serve(ctx, func(w *cloudburst.Worker) {
			cloudburst.Handle(w, "sub", func(_ context.Context, _ *cloudburst.Session, in struct{ From, Take int }) (int, error) {
				return in.From - in.Take, nil
			})
		}, cloudburst.Pool("other"))
		g, err := cloudburst.ParseGraph([]byte(`
name: mixed
nodes:
  - {name: left, function: square, input: l}
  - {name: right, function: square, input: r}
  - {name: diff, function: sub}
  - {name: again, function: square}
edges:
  - {from: left, to: diff, arg: From}
  - {from: right, to: diff, arg: Take}
  - {from: right, to: again}
`))
		Expect(err).NotTo(HaveOccurred())
		Expect(p.ApplyDAG(ctx, g)).To(Succeed())
		Eventually(ctx, func(g Gomega) {
			got, err := cloudburst.Call[map[string]int](ctx, p.Client, "mixed", map[string]int{"l": 5, "r": 3})
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(got).To(Equal(map[string]int{"diff": 16, "again": 81}))
		}).Should(Succeed())
	}, SpecTimeout(time.Minute))

	It("with a cycle or unknown functions is refused, all problems at once", func(ctx SpecContext) {
		p := start(ctx, func(w *cloudburst.Worker) { cloudburst.Handle(w, "square", square) })
		err := p.ApplyDAG(ctx, &cloudburst.Graph{
			Name:  "bad",
			Nodes: []cloudburst.Node{{Name: "a", Function: "square"}, {Name: "b", Function: "square"}},
			Edges: []cloudburst.Edge{{From: "a", To: "b"}, {From: "b", To: "a"}, {From: "b", To: "ghost"}},
		})
		Expect(err).To(MatchError(cloudburst.ErrInvalid))
		Expect(err.Error()).To(And(ContainSubstring("a -> b -> a"), ContainSubstring("ghost")))
		err = p.ApplyDAG(ctx, &cloudburst.Graph{Name: "bad", Nodes: []cloudburst.Node{{Name: "a", Function: "squaer"}}})
		Expect(err.Error()).To(And(ContainSubstring("squaer"), ContainSubstring("square")))
		_, err = cloudburst.Call[int](ctx, p.Client, "bad", 1)
		Expect(err).To(MatchError(cloudburst.ErrUnknown))
	}, SpecTimeout(time.Minute))
})
