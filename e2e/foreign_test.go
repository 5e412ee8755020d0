package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

// A client in another language that knows docs/wire.md, and no library of ours, can do
// all that is described there. `make tools` installs what it needs, where Node is.
var _ = Describe("A client in another language", Label("foreign"), func() {
	It("does all that the wire contract describes", func(ctx SpecContext) {
		node, err := exec.LookPath("node")
		if err != nil {
			Skip("there is no Node on this machine: its client was not tried")
		}
		if _, err := os.Stat("node/node_modules"); err != nil {
			Skip("there is no npm on this machine, by which Node's client comes: it was not tried")
		}
		dir := GinkgoT().TempDir()
		addr := freePort()
		launch(ctx, addr, exec.Command(bin.cloudburst, "server", "--listen", addr, "--store", filepath.Join(dir, "store"), "--examples"))
		many := filepath.Join(dir, "many.json")
		Expect(os.WriteFile(many, []byte(`"`+strings.Repeat("many ", 140_000)+`"`), 0o600)).To(Succeed())
		out, err := exec.CommandContext(ctx, bin.cloudburst, "kv", "put", "--nats", "nats://"+addr, "many", "@"+many).CombinedOutput()
		Expect(err).NotTo(HaveOccurred(), "%s", out)

		out, err = exec.CommandContext(ctx, node, "node/client.mjs", "nats://"+addr, "../examples/guests/prebuilt/square-c.wasm").CombinedOutput()
		Expect(err).NotTo(HaveOccurred(), "%s", out)
		Expect(string(out)).To(ContainSubstring("ok: reads a dead letter and calls it again"))
		fmt.Fprintf(GinkgoWriter, "%s", out)
	}, SpecTimeout(patience))
})
