package e2e

import (
	"context"
	"os/exec"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

// Somebody with nothing but the nats CLI can do and see everything.
var _ = Describe("The plain nats CLI", Label("cli"), Ordered, func() {
	var addr string

	BeforeAll(func(ctx SpecContext) {
		addr = freePort()
		cmd := exec.Command(bin.cloudburst, "server", "--listen", addr, "--store", GinkgoT().TempDir(), "--examples")
		launch(ctx, addr, cmd)
		Eventually(ctx, func() string { return try(ctx, addr, "micro", "ls") }).Should(ContainSubstring("compose"))
	}, NodeTimeout(patience))

	nats := func(ctx context.Context, args ...string) string {
		GinkgoHelper()
		out, err := command(ctx, addr, args...)
		Expect(err).NotTo(HaveOccurred(), "nats %s: %s", strings.Join(args, " "), out)
		return out
	}

	It("calls and waits", func(ctx SpecContext) {
		Expect(nats(ctx, "req", "--raw", "cb.fn.square", "5")).To(Equal("25"))
		Expect(nats(ctx, "req", "--raw", "cb.fn.compose", "4")).To(Equal("25"))
		Expect(nats(ctx, "req", "--raw", "cb.fn.echo", `{"a":[1,"two"]}`)).To(MatchJSON(`{"a":[1,"two"]}`))
	}, SpecTimeout(patience))

	It("publishes and fetches the result", func(ctx SpecContext) {
		nats(ctx, "pub", "--jetstream", "cb.call.square", "5", "-H", "Nats-Msg-Id:fetch-me")
		Eventually(ctx, func() string { return try(ctx, addr, "kv", "get", "--raw", "cb_results", "fetch-me") }).Should(Equal("25"))
		acked := nats(ctx, "pub", "--jetstream", "cb.call.square", "6") // its run is <stream>-<sequence>
		Expect(acked).To(ContainSubstring("CB_CALLS_examples"))
		Eventually(ctx, func() string {
			return try(ctx, addr, "kv", "get", "--raw", "cb_results", "CB_CALLS_examples-"+sequence(acked))
		}).Should(Equal("36"))
	}, SpecTimeout(patience))

	It("sees the services with their real numbers", func(ctx SpecContext) {
		nats(ctx, "req", "--raw", "cb.fn.square", "5")
		Expect(nats(ctx, "micro", "ls")).To(And(ContainSubstring("square"), ContainSubstring("compose"), ContainSubstring("echo")))
		Expect(nats(ctx, "micro", "info", "square")).To(ContainSubstring("cb.fn.square"))
		Eventually(ctx, func() string { return try(ctx, addr, "micro", "stats", "square", "--json") }).Should(MatchRegexp(`"num_requests": ?[1-9]`))
	}, SpecTimeout(patience))

	It("sees streams, consumers and state", func(ctx SpecContext) {
		Expect(nats(ctx, "stream", "ls", "--all")).To(And(ContainSubstring("CB_CALLS_examples"), ContainSubstring("CB_DEAD")))
		Expect(nats(ctx, "consumer", "ls", "CB_CALLS_examples")).To(ContainSubstring("workers"))
		Expect(nats(ctx, "kv", "ls")).To(And(ContainSubstring("cb_results"), ContainSubstring("state")))

		out, err := exec.CommandContext(ctx, bin.cloudburst, "kv", "put", "--nats", "nats://"+addr, "greeting", `"hello"`).CombinedOutput()
		Expect(err).NotTo(HaveOccurred(), "%s", out)
		Expect(nats(ctx, "kv", "get", "--raw", "state", "greeting")).To(Equal(`"hello"`))
	}, SpecTimeout(patience))

	It("writes state by hand that functions read", func(ctx SpecContext) {
		nats(ctx, "kv", "put", "state", "a", "[1,2]")
		nats(ctx, "kv", "put", "state", "b", "[3.5]")
		sum := []string{"req", "--raw", "cb.fn.sum", `[{"$ref":"a"},{"$ref":"b"}]`}
		Expect(nats(ctx, sum...)).To(Equal("6.5"))
		nats(ctx, "kv", "put", "state", "b", "[10]") // the worker's cache hears of it
		Eventually(ctx, func() string { return try(ctx, addr, sum...) }).Should(Equal("13"))
	}, SpecTimeout(patience))

	It("runs the same Nats-Msg-Id once", func(ctx SpecContext) {
		for range 2 {
			nats(ctx, "pub", "--jetstream", "cb.call.echo", `"first"`, "-H", "Nats-Msg-Id:once")
		}
		Expect(nats(ctx, "req", "--raw", "cb.fn.echo", `"first"`, "-H", "Nats-Msg-Id:once")).To(Equal(`"first"`))
		Expect(try(ctx, addr, "req", "cb.fn.echo", `"second"`, "-H", "Nats-Msg-Id:once")).To(ContainSubstring("conflict"))
	}, SpecTimeout(patience))

	It("gets an error that names the thing", func(ctx SpecContext) {
		Expect(try(ctx, addr, "req", "cb.fn.squaer", "5")).To(And(ContainSubstring("squaer"), ContainSubstring("square")))
		Expect(try(ctx, addr, "req", "cb.fn.square", "{")).To(ContainSubstring("JSON"))
		Expect(try(ctx, addr, "req", "cb.fn.square", `"five"`)).To(ContainSubstring("bad argument"))
		out, err := command(ctx, addr, "pub", "--jetstream", "cb.call.nosuch", "5")
		Expect(err).To(HaveOccurred(), "an unknown function must be refused: %s", out)
	}, SpecTimeout(patience))

	It("finds what failed for good", func(ctx SpecContext) {
		nats(ctx, "pub", "--jetstream", "cb.call.square", `"not a number"`, "-H", "Nats-Msg-Id:doomed")
		Eventually(ctx, func() string { return try(ctx, addr, "kv", "get", "--raw", "cb_results", "doomed") }).Should(ContainSubstring("bad argument"))
		Expect(nats(ctx, "stream", "get", "CB_DEAD", "--last-for", "cb.dead.square")).To(ContainSubstring("not a number"))
	}, SpecTimeout(patience))
})

// command runs the nats CLI.
func command(ctx context.Context, addr string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, bin.nats, append([]string{"--server", "nats://" + addr, "--no-context"}, args...)...)
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// try runs the nats CLI where failing is an answer too.
func try(ctx context.Context, addr string, args ...string) string {
	out, err := command(ctx, addr, args...)
	if err != nil {
		return out + " (" + err.Error() + ")"
	}
	return out
}

// sequence reads the stream sequence out of what `nats pub --jetstream` prints.
func sequence(out string) string {
	_, rest, _ := strings.Cut(out, "Sequence:")
	return strings.FieldsFunc(rest, func(r rune) bool { return r < '0' || r > '9' })[0]
}
