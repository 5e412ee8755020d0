// Package e2e holds Cloudburst to its promises as a user meets them: with
// nothing but the nats CLI, as a Go program, and with real processes that are
// killed while they work. One file is one promise.
package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudburst-nats/cloudburst"
)

func TestMain(m *testing.M) {
	if role := os.Getenv(roleEnv); role != "" {
		os.Exit(play(role)) // this process is a server or worker of a spec
	}
	os.Exit(m.Run())
}

func TestE2E(t *testing.T) {
	RegisterFailHandler(Fail)
	RunSpecs(t, "Cloudburst")
}

// bin are the programs that users run. `make tools` builds them, before any clock runs.
// faulty is cloudburst with the build tag cbfaults, by which specs switch protocols off.
// faultyTests is this test program, likewise. skewed is faulty with a clock that is off,
// which `make test-clocks` builds.
var bin struct{ cloudburst, faulty, faultyTests, bench, faultyBench, nats, skewed string }

// patience bounds a spec, so that one that hangs ends. It is generous: the outcome of a
// spec must not depend on how busy the machine is.
const patience = 5 * time.Minute

var _ = SynchronizedBeforeSuite(func() {
	cmd := exec.Command("make", "-C", "..", "tools")
	cmd.Env = append(os.Environ(), "MAKEFLAGS=")
	out, err := cmd.CombinedOutput()
	Expect(err).NotTo(HaveOccurred(), "make tools: %s", out)
}, func() {
	dir, err := filepath.Abs("../bin")
	Expect(err).NotTo(HaveOccurred())
	bin.cloudburst, bin.nats = filepath.Join(dir, "cloudburst"), filepath.Join(dir, "nats")
	bin.faulty, bin.faultyTests = filepath.Join(dir, "cloudburst-faulty"), filepath.Join(dir, "e2e-faulty")
	bin.skewed = filepath.Join(dir, "cloudburst-skewed")
	bin.bench, bin.faultyBench = filepath.Join(dir, "cloudburst-bench-race"), filepath.Join(dir, "cloudburst-bench-faulty")
})

// A process is a program of its own, ended with the spec.
type process struct {
	cmd   *exec.Cmd
	stdin io.Closer
	lines chan string // of its standard output
}

// launch starts a program and returns once it printed a line that holds ready.
func launch(ctx context.Context, ready string, cmd *exec.Cmd) (*process, string) {
	GinkgoHelper()
	p := &process{cmd: cmd, lines: make(chan string, 1024)}
	var err error
	p.stdin, err = cmd.StdinPipe() // closes with this process: no child outlives it
	Expect(err).NotTo(HaveOccurred())
	out, err := cmd.StdoutPipe()
	Expect(err).NotTo(HaveOccurred())
	cmd.Stderr = GinkgoWriter
	Expect(cmd.Start()).To(Succeed())
	DeferCleanup(p.kill)
	go func() {
		defer close(p.lines)
		for scan := bufio.NewScanner(out); scan.Scan(); {
			select {
			case p.lines <- scan.Text():
			default: // nobody reads any more
			}
		}
	}()
	for {
		select {
		case line, more := <-p.lines:
			if !more {
				Fail(fmt.Sprintf("%s ended before it was ready: %v", cmd, cmd.Wait()))
			}
			if strings.Contains(line, ready) {
				return p, line
			}
		case <-ctx.Done():
			Fail(fmt.Sprintf("%s was not ready in time", cmd))
		}
	}
}

// kill ends the process as a crash would (kill -9), by its process id.
func (p *process) kill() {
	if p.cmd.ProcessState != nil {
		return
	}
	// An error says that it has ended by itself.
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

// freePort returns a loopback address that nobody listens on.
func freePort() string {
	GinkgoHelper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	Expect(err).NotTo(HaveOccurred())
	defer l.Close()
	return l.Addr().String()
}

// A platform is a server inside the test's process.
type platform struct {
	*cloudburst.Client
	server *cloudburst.Server
}

// start runs a platform inside the test, with a worker that serves what handle
// adds, until the spec ends.
func start(ctx context.Context, handle func(w *cloudburst.Worker)) *platform {
	GinkgoHelper()
	server, err := cloudburst.Start(ctx, cloudburst.ServerConfig{Listen: "127.0.0.1:0", Store: GinkgoT().TempDir()})
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(server.Close)
	p := &platform{server.Client(), server}
	if handle != nil {
		p.serve(ctx, handle)
	}
	return p
}

// serve adds a worker of the default pool, or of the one that opts name.
func (p *platform) serve(ctx context.Context, handle func(w *cloudburst.Worker), opts ...cloudburst.WorkerOption) {
	GinkgoHelper()
	w := cloudburst.NewWorker(p.Client, opts...)
	handle(w)
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan error, 1)
	go func() { done <- w.Serve(serving) }()
	DeferCleanup(func() {
		stop()
		Expect(<-done).To(Succeed())
	})
	select {
	case <-w.Ready():
	case err := <-done:
		done <- nil
		Fail(fmt.Sprint("worker: ", err))
	case <-ctx.Done():
		Fail("the worker was not ready in time")
	}
}
