package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudburst-nats/cloudburst"
)

// Every consistency level keeps its promise, on real workers of which some hear
// late of what others write, and while they are killed. That the checks would see
// it if one didn't is shown by switching the protocols off, one by one.
var _ = Describe("The consistency levels", Label("consistency"), func() {
	// hot has few keys, so that runs meet.
	hot := func(seed, requests int, more ...string) []string {
		return append([]string{
			"consistency", "--clients", "8", "--workers", "3", "--keys", "200", "--dags", "30",
			"--lag", "300ms", "--seed", strconv.Itoa(seed), "--requests", strconv.Itoa(requests),
		}, more...)
	}

	It("keep their promises, and exclude what lww lets through", func(ctx SpecContext) {
		stronger := levels[1:]
		seen := make(map[string]int)
		const atMost = 10 // whether runs meet is a matter of time, too
		for try := range atMost {
			for _, row := range kept(ctx, 8*50, hot(1+try, 50)) {
				if row.Anomalies != nil {
					seen[row.Case] += *row.Anomalies
				}
			}
			if len(seen) == len(stronger) && !slices.Contains(slices.Collect(maps.Values(seen)), 0) {
				break
			}
		}
		// What causal and session-causal exclude beyond causal-key is rare on a slow
		// machine: that they do is seen below, where their protocol is switched off.
		for _, level := range stronger {
			Expect(seen[level]).To(BeNumerically(">", 0), "anomalies at lww that %s excludes", level)
		}
	}, SpecTimeout(patience))

	It("keep them while workers are killed", Label("crash"), func(ctx SpecContext) {
		rows := kept(ctx, 8*20, hot(1, 20, "--kill-every", "700ms"))
		Expect(rows[0].Kills).To(BeNumerically(">", 1))
		Expect(rows[0].Pinned).To(BeZero(), "bytes that live workers keep for runs that have ended")
	}, SpecTimeout(patience))

	Describe("without their protocols", func() {
		DescribeTable("are seen to break", func(ctx SpecContext, protocol, level string) {
			const atMost = 10 // runs meet by chance: each try has a seed of its own
			for try := range atMost {
				faults := []string{"CLOUDBURST_FAULTS=" + protocol}
				found := measure[levelled](ctx, bin.faultyBench, faults, hot(1+try, 50, "--levels", level)...)
				Expect(found.rows).To(HaveLen(1), "what was printed")
				if found.rows[0].Violations > 0 {
					Expect(found.err).To(MatchError(ContainSubstring(level)))
					return
				}
				Expect(found.err).NotTo(HaveOccurred())
			}
			Fail("no violation of " + level + " without " + protocol)
		},
			Entry("repeatable without pins", "pins", cloudburst.Repeatable, SpecTimeout(patience)),
			Entry("causal-key without what a session has seen", "seen", cloudburst.CausalKey, SpecTimeout(patience)),
			Entry("causal-key without clocks", "clock", cloudburst.CausalKey, SpecTimeout(patience)),
			Entry("causal without the cut", "cut", cloudburst.Causal, SpecTimeout(patience)),
			Entry("session-causal without the cut", "cut", cloudburst.SessionCausal, SpecTimeout(patience)),
		)
	})
})

var levels = []string{
	cloudburst.LWW, cloudburst.Repeatable, cloudburst.CausalKey, cloudburst.Causal, cloudburst.SessionCausal,
}

// levelled is what is told of a level.
type levelled struct {
	Case       string
	Runs       int
	Failed     int
	Violations int
	Anomalies  *int  `json:"anomalies_at_lww"`
	Kills      int   `json:"kills"`
	Pinned     int64 `json:"pinned_bytes"`
}

// kept runs the experiment, so many requests at each level: every request ends well, and every level keeps its
// promise.
func kept(ctx context.Context, runs int, args []string) []levelled {
	GinkgoHelper()
	found := measure[levelled](ctx, bin.bench, nil, args...)
	Expect(found.err).NotTo(HaveOccurred())
	Expect(found.rows).To(HaveLen(len(levels)))
	for _, row := range found.rows {
		Expect(row.Runs).To(Equal(runs), "requests at %s", row.Case)
		Expect(row.Failed).To(BeZero(), "runs at %s that gave up", row.Case)
	}
	return found.rows
}

// measured is what a benchmark printed, and what it complained of if it failed.
type measured[T any] struct {
	rows []T
	err  error
}

// measure runs a benchmark.
func measure[T any](ctx context.Context, exe string, env []string, args ...string) measured[T] {
	GinkgoHelper()
	var out, complaint bytes.Buffer
	cmd := exec.CommandContext(ctx, exe, append(args, "-o", "json", "--store", GinkgoT().TempDir())...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = io.MultiWriter(&out, GinkgoWriter), io.MultiWriter(&complaint, GinkgoWriter)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	var m measured[T]
	if err := cmd.Run(); err != nil {
		m.err = fmt.Errorf("%w: %s", err, &complaint)
	}
	for dec := json.NewDecoder(&out); dec.More(); {
		var row T
		Expect(dec.Decode(&row)).To(Succeed())
		m.rows = append(m.rows, row)
	}
	return m
}
