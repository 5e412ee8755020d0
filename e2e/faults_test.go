package e2e

import (
	"strconv"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

// A cluster of three servers and its workers lose nothing that was acknowledged, and
// count nothing twice, whatever part of it breaks. `cloudburst-bench faults` does the
// same for longer.
var _ = Describe("A cluster under faults", Label("crash", "cluster"), func() {
	It("loses nothing and does nothing twice", func(ctx SpecContext) {
		kinds := []string{"worker-kill", "worker-stop", "node-kill", "node-cut", "quorum"}
		found := measure[faulted](ctx, bin.bench, nil, "faults", "--kinds", strings.Join(kinds, ","),
			"--calls", "200", "--dags", "20", "--writes", "200", "--callers", "8", "--workers", "2", "--for", "1500ms",
			"--seed", strconv.FormatInt(GinkgoRandomSeed(), 10))
		Expect(found.err).NotTo(HaveOccurred())
		Expect(found.rows).To(HaveLen(len(kinds)))
		for _, row := range found.rows {
			Expect(row.Faults).To(Equal(1), row.Case)
		}
	}, SpecTimeout(patience))
})

// faulted is what is told of a kind of fault.
type faulted struct {
	Case   string
	Faults int
}
