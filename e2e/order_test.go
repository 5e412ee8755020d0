package e2e

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudburst-nats/cloudburst"
)

// Writes are ordered by the log that holds their calls, and within a run as the run made
// them. That the checks would see another order is shown by switching each protocol off.
var _ = Describe("The order of writes", func() {
	var addr string
	var client *cloudburst.Client

	BeforeEach(func(ctx SpecContext) {
		addr = freePort()
		launch(ctx, "ready", as("server", addr, GinkgoT().TempDir()))
		var err error
		client, err = cloudburst.Connect(ctx, "nats://"+addr)
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(client.Close)
	}, NodeTimeout(patience))

	worker := func(ctx context.Context, fault string) *process {
		GinkgoHelper()
		cmd := exec.Command(bin.faultyTests)
		cmd.Env = append(os.Environ(), roleEnv+"=order", urlEnv+"="+addr, "CLOUDBURST_FAULTS="+fault)
		w, _ := launch(ctx, "ready", cmd)
		return w
	}

	// A call waits for a worker while a program writes the same register.
	DescribeTable("is that of the calls, not of their execution", func(ctx SpecContext, fault, want string) {
		worker(ctx, "").kill() // from now on the function is known, and nobody runs it
		call, err := cloudburst.Go[string](ctx, client, "write", "the call's")
		Expect(err).NotTo(HaveOccurred())
		defer call.Close()
		state := client.State().In("order")
		Expect(state.Put(ctx, "register", "the program's")).To(Succeed())
		worker(ctx, fault)
		Expect(call.Wait(ctx)).To(Equal("the call's"))
		Expect(cloudburst.Get[string](ctx, state, "register")).To(Equal(want))
	},
		Entry("as the log has them", "", "the program's", SpecTimeout(patience)),
		Entry("which is seen by the worker's own clock", "log", "the call's", SpecTimeout(patience)),
	)

	// Each write is published again in the order in which it was stored.
	DescribeTable("of a run is that in which the run makes them", func(ctx SpecContext, fault string, want ...string) {
		worker(ctx, fault)
		updates, err := client.Broker().Conn().SubscribeSync("cb.upd.order.>")
		Expect(err).NotTo(HaveOccurred())
		_, err = cloudburst.Call[string](ctx, client.With(cloudburst.WithLevel(cloudburst.SessionCausal)), "album", "summer")
		Expect(err).NotTo(HaveOccurred())
		for _, key := range want {
			update, err := updates.NextMsg(time.Minute)
			Expect(err).NotTo(HaveOccurred())
			Expect(strings.Split(update.Subject, ".")[3]).To(Equal(key), "key of %s", update.Subject)
		}
	},
		Entry("a photo, a comment, and the photo again", "", "photo", "comment", "photo", SpecTimeout(patience)),
		Entry("which is seen where the photos are stored as one", "order", "comment", "photo", SpecTimeout(patience)),
	)
})

func playOrder(ctx context.Context) error {
	return playPool(ctx, "order", func(w *cloudburst.Worker) {
		cloudburst.Handle(w, "write", func(ctx context.Context, s *cloudburst.Session, text string) (string, error) {
			return text, s.Put(ctx, "register", text)
		})
		cloudburst.Handle(w, "album", func(ctx context.Context, s *cloudburst.Session, of string) (string, error) {
			return of, errors.Join(s.Put(ctx, "photo", of), s.Put(ctx, "comment", "on "+of), s.Put(ctx, "photo", of+", cut"))
		})
	})
}
