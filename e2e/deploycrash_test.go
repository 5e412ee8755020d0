package e2e

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudburst-nats/cloudburst"
)

// A deployment is cut short at any moment: a worker of the pool or the server is
// killed. The old version or the new one serves, no call fails, and the deployment
// can be made again.
var _ = Describe("A deployment that is cut short", Label("deploy", "crash"), func() {
	It("leaves one version that serves, and can be made again", func(ctx SpecContext) {
		dir, addr := GinkgoT().TempDir(), freePort()
		serve := func() func() {
			p, _ := launch(ctx, addr, exec.Command(bin.cloudburst, "server", "--listen", addr, "--store", filepath.Join(dir, "store"), "--pool", "none", "--ack-wait", "1s"))
			return p.kill
		}
		work := func(name string) func() {
			cmd := exec.Command(bin.cloudburst, "worker", "run", "--nats", "nats://"+addr, "--images", filepath.Join(dir, name), "--ack-wait", "1s", "--with-parent")
			in, err := cmd.StdinPipe() // closes with this process
			Expect(err).NotTo(HaveOccurred())
			cmd.Stderr = GinkgoWriter
			Expect(cmd.Start()).To(Succeed())
			kill := sync.OnceFunc(func() {
				_ = cmd.Process.Kill()
				_ = cmd.Wait()
				_ = in.Close()
			})
			DeferCleanup(kill)
			return kill
		}
		killServer := serve()
		kills := []func(){work("a"), work("b")}
		client, err := cloudburst.Connect(ctx, "nats://"+addr)
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(client.Close)
		deploy := func(version int) error {
			within, cancel := context.WithTimeout(ctx, time.Minute)
			defer cancel()
			_, err := client.Deploy(within, cloudburst.Deployment{
				Name: "version", Runtime: "python", Image: fmt.Appendf(nil, "def handler(cloudburst, x):\n    return %d\n", version),
			})
			return err
		}
		Eventually(ctx, func() error { return deploy(1) }).Should(Succeed())

		var serving atomic.Int64 // the version that was last deployed for sure
		serving.Store(1)
		calling, stop := context.WithCancel(ctx)
		var callers sync.WaitGroup
		failed := make(chan error, 2)
		defer callers.Wait()
		defer stop()
		for range 2 {
			callers.Go(func() {
				for calling.Err() == nil {
					least := serving.Load()
					got, err := cloudburst.Call[int64](calling, client, "version", 0)
					if calling.Err() != nil {
						return
					}
					if err == nil && (got < least || got > serving.Load()+1) {
						err = fmt.Errorf("version %d answered, when %d was deployed", got, least)
					}
					if err != nil {
						failed <- err
						return
					}
				}
			})
		}
		check := func() {
			GinkgoHelper()
			select {
			case err := <-failed:
				Fail(err.Error())
			default:
			}
		}
		for version := 2; version <= 4; version++ {
			By(fmt.Sprint("deploying version ", version))
			deployed := make(chan error, 1)
			go func() { deployed <- deploy(version) }()
			// From the first request to after the last: a deployment takes some 0.2 s.
			<-time.After(time.Duration(version-2) * 90 * time.Millisecond)
			if version == 4 {
				killServer()
				killServer = serve()
			} else {
				kills[version%2]()
				kills[version%2] = work(string(rune('a' + version%2)))
			}
			if <-deployed != nil {
				Eventually(ctx, func() error { return deploy(version) }).Should(Succeed())
			}
			serving.Store(int64(version))
			check()
			for range 10 {
				Expect(cloudburst.Call[int](ctx, client, "version", 0)).To(Equal(version))
			}
		}
		stop()
		callers.Wait()
		check()
	}, SpecTimeout(patience))
})
