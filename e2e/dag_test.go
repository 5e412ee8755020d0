package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudburst-nats/cloudburst"
	"github.com/cloudburst-nats/cloudburst/wire"
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
	}, SpecTimeout(patience))

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
	}, SpecTimeout(patience))

	It("has conditions, maps, a DAG inside, a timer and a signal", func(ctx SpecContext) {
		var began atomic.Int64
		p := start(ctx, func(w *cloudburst.Worker) {
			cloudburst.Handle(w, "square", square)
			cloudburst.Handle(w, "items", func(_ context.Context, _ *cloudburst.Session, n int) ([]int, error) {
				began.Store(time.Now().UnixNano())
				return slices.Collect(func(yield func(int) bool) {
					for i := range n {
						if !yield(i) {
							return
						}
					}
				}), nil
			})
			cloudburst.Handle(w, "sum", func(ctx context.Context, s *cloudburst.Session, list []int) (int, error) {
				sum := 0
				for _, v := range list {
					sum += v
				}
				return sum, s.Counter("sums").Add(ctx, 1)
			})
			cloudburst.Handle(w, "report", func(_ context.Context, _ *cloudburst.Session, in struct {
				Total *int   `json:"total"`
				Empty *int   `json:"empty"`
				By    string `json:"by"`
			},
			) (string, error) {
				took := time.Duration(time.Now().UnixNano() - began.Load())
				return fmt.Sprintf("%d %v %s %v", *in.Total, in.Empty, in.By, took >= 400*time.Millisecond), nil
			})
		})
		apply := func(text string) {
			GinkgoHelper()
			g, err := cloudburst.ParseGraph([]byte(text))
			Expect(err).NotTo(HaveOccurred())
			Expect(p.ApplyDAG(ctx, g)).To(Succeed())
		}
		apply(`
name: squares
nodes: [{name: each-square, function: square, each: true}, {name: sum}]
edges: [{from: each-square, to: sum}]
`)
		apply(`
name: all
nodes:
  - {name: items}
  - {name: squares, dag: squares}
  - {name: later, function: sum, wait: 400ms}
  - {name: report, signal: approve, signal_as: by}
edges:
  - {from: items, to: squares}
  - {from: squares, to: later, arg: "0", when: {not: 0}}
  - {from: squares, to: report, arg: empty, when: {is: 0}}
  - {from: later, to: report, arg: total}
`)
		run, err := cloudburst.Go[string](ctx, p.Client, "all", 40)
		Expect(err).NotTo(HaveOccurred())
		defer run.Close()
		err = p.Signal(ctx, run.Run(), "aprove", "eve")
		Expect(err).To(MatchError(cloudburst.ErrUnknown))
		Expect(err.Error()).To(ContainSubstring("approve"))
		Expect(p.Signal(ctx, "nobody", "approve", "eve")).To(MatchError(cloudburst.ErrUnknown))
		Expect(p.Signal(ctx, run.Run(), "approve", "eve")).To(Succeed())
		Expect(p.Signal(ctx, run.Run(), "approve", "adam")).To(MatchError(cloudburst.ErrConflict))
		Expect(run.Wait(ctx)).To(Equal("20540 <nil> eve true"))
		Expect(p.Signal(ctx, run.Run(), "approve", "eve")).To(MatchError(cloudburst.ErrConflict))
		Expect(p.State().Counter("sums").Value(ctx)).To(BeEquivalentTo(2))

		By("waiting for a signal that comes last")
		run, err = cloudburst.Go[string](ctx, p.Client, "all", 3)
		Expect(err).NotTo(HaveOccurred())
		Eventually(ctx, func() ([]wire.NodeTiming, error) {
			state, err := p.Broker().RunState(ctx, run.Run())
			return state.Nodes, err
		}).Should(ContainElement(HaveField("Node", "later")))
		Expect(p.Signal(ctx, run.Run(), "approve", "eve")).To(Succeed())
		Expect(run.Wait(ctx)).To(Equal("5 <nil> eve true"))

		By("cancelling a run that waits")
		run, err = cloudburst.Go[string](ctx, p.Client, "all", 3)
		Expect(err).NotTo(HaveOccurred())
		Eventually(ctx, func() ([]wire.NodeTiming, error) {
			state, err := p.Broker().RunState(ctx, run.Run())
			return state.Nodes, err
		}).Should(ContainElement(HaveField("Node", "squares")))
		Expect(p.Cancel(ctx, run.Run())).To(Succeed())
		_, err = run.Wait(ctx)
		Expect(err).To(MatchError(cloudburst.ErrCancelled))

		By("calling later")
		before := time.Now()
		Expect(cloudburst.Call[int](ctx, p.With(cloudburst.After(300*time.Millisecond)), "square", 5)).To(Equal(25))
		Expect(time.Since(before)).To(BeNumerically(">=", 290*time.Millisecond))
		_, err = cloudburst.Call[int](ctx, p.With(cloudburst.After(time.Second)), "squaer", 5)
		Expect(err).To(MatchError(cloudburst.ErrUnknown))
	}, SpecTimeout(patience))

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
	}, SpecTimeout(patience))
})
