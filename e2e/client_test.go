package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudburst-nats/cloudburst"
)

func square(_ context.Context, _ *cloudburst.Session, x int) (int, error) { return x * x, nil }

// A Go program calls, waits, composes, and is told what is wrong.
var _ = Describe("A Go client", Label("client"), func() {
	basics := func(w *cloudburst.Worker) {
		cloudburst.Handle(w, "square", square)
		cloudburst.Handle(w, "echo", func(_ context.Context, _ *cloudburst.Session, v cloudburst.Value) (cloudburst.Value, error) {
			return v, nil
		})
		cloudburst.Handle(w, "fail", func(_ context.Context, s *cloudburst.Session, text string) (int, error) {
			return 0, fmt.Errorf("%s at attempt %d", text, s.Attempt())
		}, cloudburst.Attempts(2), cloudburst.Backoff(time.Millisecond))
		cloudburst.Handle(w, "panic", func(context.Context, *cloudburst.Session, struct{}) (int, error) { panic("argh") }, cloudburst.Attempts(1))
		cloudburst.Handle(w, "slow", func(ctx context.Context, _ *cloudburst.Session, _ struct{}) (int, error) {
			<-ctx.Done()
			return 0, context.Cause(ctx)
		}, cloudburst.Timeout(20*time.Millisecond), cloudburst.Attempts(1))
	}

	It("calls, and holds futures that are arguments", func(ctx SpecContext) {
		p := start(ctx, basics)
		Expect(cloudburst.Call[int](ctx, p.Client, "square", 5)).To(Equal(25))
		f, err := cloudburst.Go[int](ctx, p.Client, "square", 3)
		Expect(err).NotTo(HaveOccurred())
		defer f.Close()
		Expect(cloudburst.Call[int](ctx, p.Client, "square", f)).To(Equal(81))
		Expect(f.Wait(ctx)).To(Equal(9))
		Expect(cloudburst.Attach[int](p.Client, f.Run()).Wait(ctx)).To(Equal(9))
	}, SpecTimeout(patience))

	It("is told what its function did wrong", func(ctx SpecContext) {
		p := start(ctx, basics)
		_, err := cloudburst.Call[int](ctx, p.Client, "fail", "boom")
		Expect(err).To(MatchError(cloudburst.ErrFunction))
		Expect(err.Error()).To(ContainSubstring("boom at attempt 2"))
		_, err = cloudburst.Call[int](ctx, p.Client, "panic")
		Expect(err).To(MatchError(cloudburst.ErrPanic))
		var e *cloudburst.Error
		Expect(errors.As(err, &e)).To(BeTrue())
		Expect(e.Stack).To(ContainSubstring("client_test.go"))
		_, err = cloudburst.Call[int](ctx, p.Client, "slow")
		Expect(err).To(MatchError(cloudburst.ErrTimeout))
	}, SpecTimeout(patience))

	It("is told what it did wrong itself", func(ctx SpecContext) {
		p := start(ctx, basics)
		_, err := cloudburst.Call[int](ctx, p.Client, "nosuch", 5)
		Expect(err).To(MatchError(cloudburst.ErrUnknown))
		_, err = cloudburst.Call[int](ctx, p.Client, "square", "five")
		Expect(err).To(MatchError(cloudburst.ErrBadArgument))
		_, err = cloudburst.Call[string](ctx, p.Client, "echo", cloudburst.Value{Body: make([]byte, 65<<20), Type: "application/octet-stream"})
		Expect(err).To(MatchError(cloudburst.ErrTooLarge))
		Expect(err.Error()).To(ContainSubstring("64"))
	}, SpecTimeout(patience))

	It("passes values of any size", func(ctx SpecContext) {
		p := start(ctx, basics)
		for _, size := range []int{0, 1, 100 << 10, 257 << 10, 5 << 20} {
			text := strings.Repeat("0123456789abcdef", size/16)
			got, err := cloudburst.Call[string](ctx, p.Client, "echo", text)
			Expect(err).NotTo(HaveOccurred())
			Expect(got).To(Equal(text), "%d bytes came back changed", size)
			Expect(p.State().Put(ctx, "large", text)).To(Succeed())
			back, err := cloudburst.Get[string](ctx, p.State(), "large")
			Expect(err).NotTo(HaveOccurred())
			Expect(back).To(Equal(text), "%d bytes of state came back changed", size)
		}
	}, SpecTimeout(patience))

	It("can't serve what belongs to another pool, nor half a pool", func(ctx SpecContext) {
		p := start(ctx, basics)
		other := cloudburst.NewWorker(p.Client, cloudburst.Pool("other"))
		cloudburst.Handle(other, "square", square)
		Expect(other.Serve(ctx)).To(MatchError(cloudburst.ErrConflict))
		half := cloudburst.NewWorker(p.Client)
		cloudburst.Handle(half, "square", square)
		Expect(half.Serve(ctx)).To(MatchError(ContainSubstring("echo")))
	}, SpecTimeout(patience))

	It("cancels a run", func(ctx SpecContext) {
		entered := make(chan struct{}, 1)
		p := start(ctx, func(w *cloudburst.Worker) {
			cloudburst.Handle(w, "hang", func(ctx context.Context, _ *cloudburst.Session, _ struct{}) (int, error) {
				entered <- struct{}{}
				<-ctx.Done()
				return 0, ctx.Err()
			})
		})
		f, err := cloudburst.Go[int](ctx, p.Client, "hang")
		Expect(err).NotTo(HaveOccurred())
		Eventually(ctx, entered).Should(Receive())
		Expect(p.Cancel(ctx, f.Run())).To(Succeed())
		_, err = f.Wait(ctx)
		Expect(err).To(MatchError(cloudburst.ErrCancelled))
	}, SpecTimeout(patience))
})
