package e2e

import (
	"context"
	"errors"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudburst-nats/cloudburst"
	"github.com/cloudburst-nats/cloudburst/autoscaler"
	"github.com/cloudburst-nats/cloudburst/broker"
	"github.com/cloudburst-nats/cloudburst/deployments"
)

// Workers follow the load: more when calls pile up, fewer when they would do, and no
// call pays for it.
var _ = Describe("Autoscaling", Label("autoscale"), func() {
	It("follows the load with the slots of its workers", func(ctx SpecContext) {
		pause := func(w *cloudburst.Worker) {
			cloudburst.Handle(w, "pause", func(ctx context.Context, _ *cloudburst.Session, n int) (int, error) {
				select {
				case <-time.After(50 * time.Millisecond):
					return n, nil
				case <-ctx.Done():
					return 0, context.Cause(ctx)
				}
			})
		}
		p := start(ctx, nil)
		for range 2 {
			p.serve(ctx, pause, cloudburst.Slots(1), cloudburst.SlotsBetween(1, 32))
		}
		scale(ctx, p.Broker(), autoscaler.Policy{Min: 2, Max: 40, Stable: 2 * time.Second, Cooldown: 100 * time.Millisecond})
		slots := func() (n int) {
			for _, w := range members(ctx, p.Broker()) {
				n += w.Slots
			}
			return n
		}
		load := callAll(ctx, p.Client, "pause", 24)
		Eventually(ctx, slots).Should(BeNumerically(">=", 16))
		load.end()
		Eventually(ctx, slots).Should(Equal(2), "the minimum, after the stable window")

		By("another burst, which begins while it shrinks")
		load = callAll(ctx, p.Client, "pause", 24)
		Eventually(ctx, slots).Should(BeNumerically(">=", 16))
		load.end()
	}, SpecTimeout(patience))

	It("follows the load with worker processes, which don't outlive the server", func(ctx SpecContext) {
		dir, addr := GinkgoT().TempDir(), freePort()
		server, _ := launch(ctx, addr, exec.Command(bin.cloudburst, "server", "--listen", addr, "--store", filepath.Join(dir, "store"),
			"--workers", "auto", "--workers-max", "4", "--slots", "2", "--workers-stable", "2s"))
		client, err := cloudburst.Connect(ctx, "nats://"+addr)
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(client.Close)
		_, err = client.Deploy(ctx, cloudburst.Deployment{
			Name: "pause", Image: []byte("import time\ndef handler(cloudburst, x):\n    time.sleep(0.1)\n    return x\n"),
		})
		Expect(err).NotTo(HaveOccurred())
		count := func() int { return len(members(ctx, client.Broker())) }
		Expect(count()).To(Equal(1))

		load := callAll(ctx, client, "pause", 16)
		Eventually(ctx, count).Should(Equal(4))
		pids := make([]int, 0, 4)
		for _, w := range members(ctx, client.Broker()) {
			Expect(w.PID).NotTo(Equal(server.cmd.Process.Pid), "a process of its own")
			pids = append(pids, w.PID)
		}
		load.end()
		Eventually(ctx, count).Should(Equal(1), "the minimum, after the stable window")

		By("killing the server")
		server.kill()
		for _, pid := range pids {
			Eventually(ctx, func() error { return syscall.Kill(pid, 0) }).Should(MatchError(syscall.ESRCH), "worker "+strconv.Itoa(pid))
		}
	}, SpecTimeout(patience))
})

// scale runs an autoscaler of slots until the spec ends.
func scale(ctx context.Context, b *broker.Broker, policy autoscaler.Policy) {
	GinkgoHelper()
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() {
		ended <- deployments.RunAutoscaler(running, b, deployments.ScaleConfig{Pools: map[string]autoscaler.Policy{broker.DefaultPool: policy}})
	}()
	DeferCleanup(func() {
		stop()
		Expect(<-ended).To(Succeed())
	})
}

func members(ctx context.Context, b *broker.Broker) []broker.WorkerInfo {
	GinkgoHelper()
	workers, err := b.Workers(ctx)
	Expect(err).NotTo(HaveOccurred())
	return workers
}

// A burst is callers who call one after another, until end.
type burst struct {
	stop context.CancelFunc
	all  sync.WaitGroup
}

func callAll(ctx context.Context, client *cloudburst.Client, function string, callers int) *burst {
	going, stop := context.WithCancel(ctx)
	b := &burst{stop: stop}
	for range callers {
		b.all.Go(func() {
			defer GinkgoRecover()
			for i := 0; going.Err() == nil; i++ {
				got, err := cloudburst.Call[int](ctx, client, function, i)
				if errors.Is(err, context.Canceled) {
					return // the spec is over
				}
				Expect(err).NotTo(HaveOccurred(), "call %d", i)
				Expect(got).To(Equal(i))
			}
		})
	}
	return b
}

// end waits for the calls that were made: each has its result.
func (b *burst) end() {
	b.stop()
	b.all.Wait()
}
