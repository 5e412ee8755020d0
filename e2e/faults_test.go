package e2e

import (
	"context"
	"os"
	"os/exec"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudburst-nats/cloudburst/bench/faults"
)

// A cluster of three servers and its workers lose nothing that was acknowledged, and
// count nothing twice, whatever part of it breaks. `cloudburst bench faults` does the
// same for longer.
var _ = Describe("A cluster under faults", Label("crash", "cluster"), func() {
	It("loses nothing and does nothing twice", func(ctx SpecContext) {
		cfg := faults.Config{
			Kinds: []string{"worker-kill", "worker-stop", "node-kill", "node-cut", "quorum"},
			Calls: 200, DAGs: 20, Writes: 200, Callers: 8, Workers: 2, For: 1500 * time.Millisecond,
			Seed: uint64(GinkgoRandomSeed()), Store: GinkgoT().TempDir(), Progress: GinkgoWriter,
			Part: func(role, arg string) *exec.Cmd { return as("fault", role, arg) },
		}
		r, err := faults.Run(ctx, cfg)
		Expect(err).NotTo(HaveOccurred())
		Expect(r.Write(GinkgoWriter, false)).To(Succeed())
		Expect(r.Events).To(HaveLen(len(cfg.Kinds)))
		Expect(r.Err()).NotTo(HaveOccurred())
	}, SpecTimeout(patience))
})

// playFault plays a part of the cluster.
func playFault(ctx context.Context) error {
	return faults.Serve(ctx, os.Getenv(urlEnv), os.Getenv(storeEnv), os.Stdout)
}
