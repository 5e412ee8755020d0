package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudburst-nats/cloudburst/examples/guests"
)

// A function in Python or WebAssembly is deployed to a server that runs, by the
// command line, by plain HTTP and from Python, and is called by all of them and by
// NATS.
var _ = Describe("A deployed function", Label("deploy"), Ordered, ContinueOnFailure, func() {
	var cli, addr, web, dir string

	BeforeAll(func(ctx SpecContext) {
		dir = GinkgoT().TempDir()
		cli = bin.cloudburst
		addr = freePort()
		_, line := launch(ctx, "HTTP is at", exec.Command(cli, "server", "--listen", addr, "--store", filepath.Join(dir, "store"), "--http", "127.0.0.1:0"))
		web = strings.TrimSuffix(strings.Fields(line)[3], ",")
	}, NodeTimeout(2*patience))

	run := func(ctx context.Context, args ...string) (string, error) {
		cmd := exec.CommandContext(ctx, cli, append(args, "--nats", "nats://"+addr)...)
		out, err := cmd.CombinedOutput()
		return strings.TrimSpace(string(out)), err
	}
	must := func(ctx context.Context, args ...string) string {
		GinkgoHelper()
		out, err := run(ctx, args...)
		Expect(err).NotTo(HaveOccurred(), "cloudburst %s: %s", strings.Join(args, " "), out)
		return out
	}
	file := func(name, text string) string {
		GinkgoHelper()
		path := filepath.Join(dir, name)
		Expect(os.WriteFile(path, []byte(text), 0o600)).To(Succeed())
		return path
	}
	request := func(ctx context.Context, method, path, body string) (int, string) {
		GinkgoHelper()
		req, err := http.NewRequestWithContext(ctx, method, web+path, strings.NewReader(body))
		Expect(err).NotTo(HaveOccurred())
		resp, err := http.DefaultClient.Do(req)
		Expect(err).NotTo(HaveOccurred())
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		Expect(err).NotTo(HaveOccurred())
		return resp.StatusCode, strings.TrimSpace(string(text))
	}

	It("in Python is deployed, called, replaced, rolled back and removed from the command line", func(ctx SpecContext) {
		counter := `
def handler(cloudburst, who, by=1):
    print("counting for", who)
    cloudburst.counter("visits:" + who).add(by)
    return cloudburst.counter("visits:" + who).value()
`
		Expect(must(ctx, "fn", "deploy", "visit", file("visit.py", counter))).To(ContainSubstring("version 1"))
		Expect(must(ctx, "call", "visit", "ann")).To(Equal("1"))
		Expect(must(ctx, "call", "visit", "ann", "10")).To(Equal("11"))
		Expect(must(ctx, "kv", "get", "visits:ann")).To(Equal("11"))
		Eventually(ctx, func() (string, error) { return run(ctx, "fn", "logs", "visit") }).Should(ContainSubstring("counting for ann"))

		Expect(must(ctx, "fn", "deploy", "visit", file("visit.py", "def handler(cloudburst, who):\n    return 'hello ' + who\n"))).To(ContainSubstring("version 2"))
		Expect(must(ctx, "call", "visit", "ann")).To(ContainSubstring("hello ann"))
		must(ctx, "fn", "rollback", "visit")
		Expect(must(ctx, "call", "visit", "ann")).To(Equal("12"))
		Expect(must(ctx, "fn", "show", "visit")).To(MatchRegexp(`(?m)^ *1 +takes new calls`))

		By("pinning a version in a DAG")
		must(ctx, "dag", "apply", file("pinned.yaml", "name: pinned\nnodes:\n  - {name: greet, function: visit@2}\n  - {name: count, function: visit@1}\nedges:\n  - {from: greet, to: count}\n"))
		Expect(must(ctx, "call", "pinned", "bob")).To(Equal("1"))
		Expect(must(ctx, "kv", "get", "visits:hello bob")).To(Equal("1"))
		out, err := run(ctx, "fn", "rm", "visit")
		Expect(err).To(HaveOccurred())
		Expect(out).To(ContainSubstring("DAG pinned"))
		must(ctx, "dag", "rm", "pinned")
		must(ctx, "fn", "rm", "visit")
		_, err = run(ctx, "call", "visit", "ann")
		Expect(err).To(HaveOccurred())
	}, SpecTimeout(patience))

	It("in WebAssembly is deployed and called", func(ctx SpecContext) {
		path := file("square.wasm", string(guests.SquareC))
		Expect(must(ctx, "fn", "deploy", "square", path, "--check", "5", "--want", "25", "--memory", "16MiB")).To(ContainSubstring("of wasm"))
		Expect(must(ctx, "call", "square", "6")).To(Equal("36"))
		path = file("visits.wasm", string(guests.CounterC))
		must(ctx, "fn", "deploy", "visits", path)
		first := must(ctx, "call", "visits", "home")
		Expect(must(ctx, "call", "visits", "home")).NotTo(Equal(first))
	}, SpecTimeout(patience))

	It("that is wrong is refused by name, and the version that there is goes on", func(ctx SpecContext) {
		must(ctx, "fn", "deploy", "steady", file("steady.py", "def handler(cloudburst):\n    return 'steady'\n"))
		cut := string(guests.SquareC[:len(guests.SquareC)/2])
		for _, c := range []struct{ name, text, says string }{
			{"syntax.py", "def handler(cloudburst:\n    return 1\n", "line 1"},
			{"import.py", "import nowhere\ndef handler(cloudburst):\n    return 1\n", "nowhere"},
			{"entry.py", "def other(cloudburst):\n    return 1\n", "handler"},
			{"cut.wasm", cut, "invalid"},
			{"none.wasm", "\x00asm\x02\x00\x00\x00", "invalid"},
			{"empty.py", "", "empty"},
		} {
			out, err := run(ctx, "fn", "deploy", "steady", file(c.name, c.text))
			Expect(err).To(HaveOccurred(), c.name)
			Expect(out).To(ContainSubstring(c.says), c.name)
			Expect(must(ctx, "call", "steady")).To(ContainSubstring("steady"), c.name)
		}
		out, err := run(ctx, "fn", "deploy", "steady", file("other.py", "def handler(cloudburst):\n    return 2\n"), "--check", "[]", "--want", "3")
		Expect(err).To(HaveOccurred())
		Expect(out).To(ContainSubstring("wanted was 3"))
		Expect(must(ctx, "fn", "show", "steady", "-o", "json")).To(ContainSubstring(`"version": 1`))
	}, SpecTimeout(patience))

	It("is deployed, called and looked into by plain HTTP", func(ctx SpecContext) {
		code, body := request(ctx, "PUT", "/v1/fn/twice?about=doubles", "def handler(cloudburst, x):\n    cloudburst.put('last', x)\n    return 2 * x\n")
		Expect(code).To(Equal(201), body)
		code, body = request(ctx, "POST", "/v1/fn/twice", "21")
		Expect(code).To(Equal(200), body)
		Expect(body).To(Equal("42"))
		code, body = request(ctx, "GET", "/v1/kv/state/last", "")
		Expect(code).To(Equal(200), body)
		Expect(body).To(Equal("21"))
		code, body = request(ctx, "POST", "/v1/fn/twice", "{")
		Expect(code).To(Equal(400), body)
		code, body = request(ctx, "POST", "/v1/fn/twise", "1")
		Expect(code).To(Equal(404), body)
		Expect(body).To(ContainSubstring("twice")) // did you mean
		code, _ = request(ctx, "GET", "/readyz", "")
		Expect(code).To(Equal(200))
	}, SpecTimeout(patience))

	It("goes on after its server was killed", func(ctx SpecContext) {
		must(ctx, "fn", "deploy", "lasting", file("lasting.py", "def handler(cloudburst, x):\n    return x + 1\n"))
		store := filepath.Join(dir, "killed")
		at := freePort()
		on := func(args ...string) string {
			out, _ := exec.CommandContext(ctx, cli, append(args, "--nats", "nats://"+at)...).CombinedOutput()
			return strings.TrimSpace(string(out))
		}
		p, _ := launch(ctx, at, exec.Command(cli, "server", "--listen", at, "--store", store))
		Expect(on("fn", "deploy", "lasting", filepath.Join(dir, "lasting.py"))).To(ContainSubstring("version 1"))
		p.kill()
		launch(ctx, at, exec.Command(cli, "server", "--listen", at, "--store", store))
		Expect(on("call", "lasting", "1")).To(Equal("2"))
	}, SpecTimeout(patience))

	It("is written, deployed and called from Python", func(ctx SpecContext) {
		cmd := exec.CommandContext(ctx, "python3", "-m", "unittest", "discover", "-s", "../python/tests")
		cmd.Env = append(os.Environ(), "CLOUDBURST_URL="+web, "PYTHONDONTWRITEBYTECODE=1")
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		Expect(cmd.Run()).To(Succeed(), out.String)
		fmt.Fprint(GinkgoWriter, out.String())
	}, SpecTimeout(patience))
})
