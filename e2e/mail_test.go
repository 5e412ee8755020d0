package e2e

import (
	"context"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudburst-nats/cloudburst"
)

// Functions that run at the same time talk to each other, whatever they are
// written in and wherever they run.
var _ = Describe("Messages", Label("messages"), func() {
	It("go between Go and Python, by an id that is found in state", func(ctx SpecContext) {
		p := start(ctx, nil)
		p.serve(ctx, func(w *cloudburst.Worker) {
			cloudburst.Handle(w, "pupil", func(ctx context.Context, s *cloudburst.Session, questions []int) ([]int, error) {
				// At once, not when it returns: the teacher is to find it now.
				if err := s.Client().State().Put(ctx, "pupil", s.ID()); err != nil {
					return nil, err
				}
				teacher, ok, err := s.Recv(ctx, time.Minute)
				if err != nil || !ok {
					return nil, err
				}
				answers := make([]int, len(questions))
				for i, q := range questions {
					if err := s.Send(ctx, teacher.From, q); err != nil {
						return nil, err
					}
					answer, _, err := s.Recv(ctx, time.Minute)
					if err != nil {
						return nil, err
					}
					if err := answer.Decode(&answers[i]); err != nil {
						return nil, err
					}
				}
				return answers, s.Send(ctx, teacher.From, nil)
			})
		}, cloudburst.Pool("school"))
		p.serve(ctx, func(*cloudburst.Worker) {}, cloudburst.Deployed(GinkgoT().TempDir()))

		const teacher = `
def handler(cloudburst):
    pupil = None
    while pupil is None:
        pupil = cloudburst.get("pupil")
    cloudburst.send(pupil, "ready")
    answered = 0
    while True:
        for sender, question in cloudburst.recv(timeout=60):
            if question is None:
                return [answered, sender == pupil]
            cloudburst.send(sender, question * question)
            answered += 1
`
		_, err := p.Deploy(ctx, cloudburst.Deployment{Name: "teacher", Image: []byte(teacher)})
		Expect(err).NotTo(HaveOccurred())

		lesson, err := cloudburst.Go[[]any](ctx, p.Client, "teacher")
		Expect(err).NotTo(HaveOccurred())
		Expect(cloudburst.Call[[]int](ctx, p.Client, "pupil", []int{2, 3, 12})).To(Equal([]int{4, 9, 144}))
		Expect(lesson.Wait(ctx)).To(Equal([]any{3.0, true}))
	}, SpecTimeout(patience))

	It("wait for a function that begins later, and come from outside", func(ctx SpecContext) {
		p := start(ctx, func(w *cloudburst.Worker) {
			cloudburst.Handle(w, "listener", func(ctx context.Context, s *cloudburst.Session, n int) (string, error) {
				all := ""
				for range n {
					msg, _, err := s.Recv(ctx, time.Minute)
					if err != nil {
						return "", err
					}
					var text string
					if err := msg.Decode(&text); err != nil {
						return "", err
					}
					all += text
				}
				return all, nil
			})
		})
		Expect(p.Send(ctx, "late", "a")).To(Succeed())
		Expect(p.Broker().Conn().Publish("cb.msg.late.me", []byte(`"b"`))).To(Succeed())
		Expect(cloudburst.Call[string](ctx, p.With(cloudburst.WithRunID("late")), "listener", 2)).To(Equal("ab"))
	}, SpecTimeout(patience))
})
