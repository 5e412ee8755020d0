package e2e

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudburst-nats/cloudburst"
)

// A cluster is one command, and outlives each of its servers: one by one they are told
// to end, as for an upgrade, and one is killed, while somebody calls all the time.
var _ = Describe("A cluster on one machine", Label("cluster"), func() {
	It("answers every call while its servers are restarted one by one", func(ctx SpecContext) {
		cmd := exec.Command(bin.cloudburst, "cluster", "--listen", "127.0.0.1:0", "--store", GinkgoT().TempDir(), "--examples")
		cluster, line := launch(ctx, "cloudburst call --nats", cmd)
		urls := regexp.MustCompile(`nats://\S+`).FindString(line)
		Expect(strings.Split(urls, ",")).To(HaveLen(3))
		client, err := cloudburst.Connect(ctx, urls)
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(client.Close)

		calling, stop := context.WithCancel(ctx)
		var calls atomic.Int64
		var callers sync.WaitGroup
		failed := make(chan error, 8)
		defer callers.Wait()
		defer stop()
		for caller := range 4 {
			callers.Go(func() {
				for n := caller; calling.Err() == nil; n += 4 {
					got, err := cloudburst.Call[int](calling, client, "compose", n)
					if calling.Err() != nil {
						return
					}
					if err == nil && got != (n+1)*(n+1) {
						err = fmt.Errorf("compose(%d) is %d", n, got)
					}
					if err != nil {
						failed <- err
						return
					}
					calls.Add(1)
				}
			})
		}
		// Each server runs workers, which say what its process is.
		pids := func() map[int]bool {
			workers, err := client.Broker().Workers(ctx)
			if err != nil {
				return nil // there is no leader yet
			}
			all := make(map[int]bool)
			for _, w := range workers {
				all[w.PID] = true
			}
			return all
		}
		victims := pids()
		Expect(victims).To(HaveLen(3))
		signals := []syscall.Signal{syscall.SIGTERM, syscall.SIGTERM, syscall.SIGKILL}
		for pid := range victims {
			sig := signals[0]
			signals = signals[1:]
			By(fmt.Sprint("sending ", sig, " to a server"))
			Expect(syscall.Kill(pid, sig)).To(Succeed())
			Eventually(ctx, func() bool {
				now := pids()
				return len(now) == 3 && !now[pid]
			}).Should(BeTrue(), "another is in its place")
			Eventually(ctx, func() string { return behind(ctx, urls) }).Should(BeEmpty())
			Expect(failed).To(BeEmpty())
		}
		made := calls.Load()
		Eventually(ctx, calls.Load).Should(BeNumerically(">", made))
		stop()
		callers.Wait()
		Expect(failed).To(BeEmpty())
		Expect(cluster.cmd.Process.Signal(syscall.SIGTERM)).To(Succeed())
		Eventually(ctx, cluster.lines).Should(BeClosed())
		Expect(cluster.cmd.Wait()).To(Succeed())
	}, SpecTimeout(patience))
})

// behind says which stream lacks copies; empty if all have them.
func behind(ctx context.Context, urls string) string {
	nc, err := nats.Connect(urls)
	if err != nil {
		return err.Error()
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err.Error()
	}
	streams := js.ListStreams(ctx)
	for info := range streams.Info() {
		if info.Config.Replicas != 3 || info.Cluster == nil || len(info.Cluster.Replicas) != 2 {
			return info.Config.Name + " isn't kept on three servers"
		}
		for _, r := range info.Cluster.Replicas {
			if !r.Current {
				return info.Config.Name + " isn't current on " + r.Name
			}
		}
	}
	if err := streams.Err(); err != nil {
		return err.Error()
	}
	return ""
}
