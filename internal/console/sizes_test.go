package console

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/cloudburst-nats/cloudburst"
	"github.com/cloudburst-nats/cloudburst/broker"
	"github.com/cloudburst-nats/cloudburst/internal/cli"
	"github.com/cloudburst-nats/cloudburst/internal/loopback"
)

func TestPlatformSizes(t *testing.T) {
	u := newUser(t)
	u.sees(u.does("platform"), "backlog-size", "1GiB", "ack-wait", "5s", "a full one refuses calls")
	u.sees(u.does("platform", "set", "backlog-size=20MiB", "ack-wait=2s", "logs-ttl=2h"), "20MiB", "2s", "2h")
	var shown jsonPlatform
	if err := json.Unmarshal([]byte(u.does("platform", "-o", "json")), &shown); err != nil {
		t.Fatal(err)
	}
	for _, s := range shown.Sizes {
		if want := map[string]int64{"backlog-size": 20 << 20, "ack-wait": 2000, "replicas": 1}[s.Name]; want != 0 && s.Value != want {
			t.Errorf("%s is %d %s, want %d", s.Name, s.Value, s.Unit, want)
		}
	}
	client, err := cloudburst.Connect(t.Context(), u.env["NATS_URL"])
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	js := client.Broker().JetStream()
	info, err := js.Stream(t.Context(), "CB_CALLS_examples")
	if err != nil {
		t.Fatal(err)
	}
	cfg := info.CachedInfo().Config
	if cfg.MaxBytes != 20<<20 {
		t.Errorf("the pool's backlog has %d bytes", cfg.MaxBytes)
	}
	cfg.MaxBytes = 30 << 20
	if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	u.sees(u.does("platform"), "They stay", "CB_CALLS_examples", "max_bytes", "31457280", "20971520")

	for _, wrong := range []struct{ arg, want string }{
		{"backlog-size", "want NAME=VALUE"},
		{"backlog-siez=1GiB", "did you mean backlog-size?"},
		{"backlog-size=-1", "want a size"},
		{"ack-wait=soon", "want a time"},
		{"replicas=7", "1 to 5"},
		{"duplicates=1s", "want at least 1m5s"},
	} {
		u.sees(u.gets(cli.ExitUsage, "platform", "set", wrong.arg), wrong.want)
	}
	u.sees(u.gets(cli.ExitUsage, "platform", "set", "replicas=3"), "a NATS server that is alone keeps one copy")
	u.sees(u.does("call", "square", "5"), "25")

	// Scripts that were written when everybody had to be told go on.
	u.stdin = "name: twice\nnodes: [{name: a, function: increment}, {name: b, function: increment}]\nedges: [{from: a, to: b}]\n"
	u.sees(u.does("dag", "apply", "-", "--backlog-size", "5MiB", "--ack-wait", "9s", "--replicas", "3"), "twice@", "deprecated")
	u.does("kv", "put", "k", "1", "--replicas", "3")
	u.sees(u.does("platform"), "20MiB")
}

// serverUntil runs a server until the test ends and returns what it prints and logs,
// and how to end it earlier.
func serverUntil(t *testing.T, args ...string) (printed *bufio.Scanner, logged *lockedBuffer, end func() int) {
	t.Helper()
	ctx, terminate := context.WithCancel(context.WithoutCancel(t.Context()))
	out, in := io.Pipe()
	logged = new(lockedBuffer)
	done := make(chan int, 1)
	go func() {
		done <- Run(ctx, append([]string{"server"}, args...), Env{Stdin: strings.NewReader(""), Stdout: in, Stderr: logged, Getenv: func(string) string { return "" }})
		in.Close()
	}()
	end = sync.OnceValue(func() int {
		terminate()
		go func() { _, _ = io.Copy(io.Discard, out) }()
		return <-done
	})
	t.Cleanup(func() { end() })
	return bufio.NewScanner(out), logged, end
}

// A lockedBuffer is written and read at once.
type lockedBuffer struct {
	mu   sync.Mutex // guards text
	text strings.Builder
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// A server whose store can't be used as it is keeps NATS up, says what to do, and goes
// on once that is done.
func TestServerWaitsForWhatMustBeMended(t *testing.T) {
	store := t.TempDir()
	addr, err := loopback.FreeAddr("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	bare, err := broker.StartServer(t.Context(), broker.ServerConfig{Listen: "none", Store: store})
	if err != nil {
		t.Fatal(err)
	}
	b, err := broker.Connect(t.Context(), broker.Config{Server: bare})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.JetStream().CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "state", History: 10}); err != nil {
		t.Fatal(err)
	}
	b.Close()
	bare.Shutdown()

	printed, logged, end := serverUntil(t, "--listen", addr, "--store", store, "--pool", "none")
	deadline := time.Now().Add(time.Minute)
	for !strings.Contains(logged.String(), "nats kv edit state --history 1") {
		if time.Now().After(deadline) {
			t.Fatalf("logged %s", logged)
		}
		<-time.After(10 * time.Millisecond)
	}
	b, err = broker.Connect(t.Context(), broker.Config{URL: "nats://" + addr})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if _, err := b.JetStream().UpdateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "state", History: 1}); err != nil {
		t.Fatal(err)
	}
	if !printed.Scan() || !strings.Contains(printed.Text(), addr) {
		t.Errorf("printed %q; logged %s", printed.Text(), logged)
	}
	if code := end(); code != cli.ExitOK {
		t.Errorf("exit code %d", code)
	}
}
