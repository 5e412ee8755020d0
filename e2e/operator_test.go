package e2e

import (
	"context"
	"fmt"
	"os/exec"
	"sync/atomic"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

// An operator may work on the platform's streams with the nats CLI while it is used.
var _ = Describe("An operator with the nats CLI", Label("operator"), Ordered, func() {
	var addr string
	var calls atomic.Int64 // that had their right result

	nats := func(ctx context.Context, args ...string) string {
		GinkgoHelper()
		out, err := command(ctx, addr, args...)
		Expect(err).NotTo(HaveOccurred(), "nats %v: %s", args, out)
		return out
	}
	cloudburst := func(ctx context.Context, args ...string) (string, error) {
		out, err := exec.CommandContext(ctx, bin.cloudburst, append(args, "--nats", "nats://"+addr)...).CombinedOutput()
		return string(out), err
	}
	// works waits until calls and DAG runs that begin from now on come to their end.
	works := func(ctx context.Context) {
		GinkgoHelper()
		Eventually(ctx, func() string { return try(ctx, addr, "req", "--raw", "cb.fn.compose", "4", "--timeout", "2s") }).Should(Equal("25"))
		before := calls.Load()
		Eventually(ctx, calls.Load).Should(BeNumerically(">", before+2))
	}

	BeforeAll(func(ctx SpecContext) {
		addr = freePort()
		cmd := exec.Command(bin.cloudburst, "server", "--listen", addr, "--store", GinkgoT().TempDir(), "--examples")
		launch(ctx, addr, cmd)
		Eventually(ctx, func() string { return try(ctx, addr, "micro", "ls") }).Should(ContainSubstring("compose"))
		loading, stop := context.WithCancel(context.Background())
		ended := make(chan struct{})
		go func() { // the load, which goes on all the time
			defer close(ended)
			for n := 0; loading.Err() == nil; n++ {
				if try(loading, addr, "req", "--raw", "cb.fn.square", fmt.Sprint(n), "--timeout", "2s") == fmt.Sprint(n*n) {
					calls.Add(1)
				}
			}
		}()
		DeferCleanup(func() { stop(); <-ended })
	}, NodeTimeout(patience))

	AfterEach(func(ctx SpecContext) {
		works(ctx)
		Eventually(ctx, func() error {
			out, err := cloudburst(ctx, "doctor")
			if err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			return nil
		}).WithTimeout(time.Minute).Should(Succeed())
	}, NodeTimeout(patience))

	It("may delete a pool's consumer", func(ctx SpecContext) {
		nats(ctx, "pub", "--jetstream", "cb.call.square", "7", "-H", "Nats-Msg-Id:kept")
		nats(ctx, "consumer", "rm", "CB_CALLS_examples", "workers", "-f")
		Eventually(ctx, func() string { return try(ctx, addr, "kv", "get", "--raw", "cb_results", "kept") }).Should(Equal("49"))
	}, SpecTimeout(patience))

	It("may delete any stream or bucket", func(ctx SpecContext) {
		for _, name := range []string{"CB_CALLS_examples", "CB_RUNS", "CB_DEAD", "CB_TIMERS", "CB_MESSAGES", "KV_cb_results", "KV_cb_workers", "KV_state"} {
			nats(ctx, "stream", "rm", name, "-f")
		}
		Eventually(ctx, func() string { return try(ctx, addr, "stream", "ls", "--all", "--names") }).Should(
			And(ContainSubstring("CB_CALLS_examples"), ContainSubstring("CB_RUNS"), ContainSubstring("CB_TIMERS"), ContainSubstring("KV_cb_results"), ContainSubstring("KV_state")))
	}, SpecTimeout(patience))
})
