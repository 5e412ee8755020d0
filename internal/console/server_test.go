package console

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/cloudburst-nats/cloudburst"
	"github.com/cloudburst-nats/cloudburst/broker"
	"github.com/cloudburst-nats/cloudburst/internal/cli"
)

// TestServer runs the server as its users do: until it is told to end.
func TestServer(t *testing.T) {
	for _, external := range []bool{false, true} {
		t.Run(fmt.Sprintf("external=%v", external), func(t *testing.T) {
			args := []string{"server", "--examples", "--listen", "127.0.0.1:0", "--store", t.TempDir()}
			if external {
				bare, err := cloudburst.Start(t.Context(), cloudburst.ServerConfig{Listen: "127.0.0.1:0", Store: t.TempDir()})
				if err != nil {
					t.Fatal(err)
				}
				defer func() {
					if err := bare.Close(); err != nil {
						t.Error(err)
					}
				}()
				args = []string{"server", "--examples", "--nats", bare.URL()}
			}
			testServer(t, args)
		})
	}
}

func testServer(t *testing.T, args []string) {
	t.Helper()
	ctx, terminate := context.WithCancel(t.Context())
	out, in := io.Pipe()
	done := make(chan int, 1)
	go func() {
		done <- Run(ctx, args, Env{Stdin: strings.NewReader(""), Stdout: in, Stderr: io.Discard, Getenv: func(string) string { return "" }})
		in.Close()
	}()
	var url string
	var said []string
	lines := bufio.NewScanner(out)
	for len(said) < 5 && lines.Scan() {
		said = append(said, lines.Text())
		for word := range strings.FieldsSeq(lines.Text()) {
			if strings.HasPrefix(word, "nats://") {
				url = word
			}
		}
	}
	go func() { _, _ = io.Copy(io.Discard, out) }() // until the server has ended
	if url == "" {
		t.Fatalf("the server printed %q; want its URL", said)
	}
	u := &user{t, shell{env: map[string]string{"NATS_URL": url}}}
	if got := u.does("call", "compose", "4"); got != "25\n" {
		t.Errorf("call compose 4: got %q, want 25", got)
	}
	terminate()
	if code := <-done; code != cli.ExitOK {
		t.Errorf("told to end: exit code %d, want 0", code)
	}
}

// What can't work is refused at once: nothing is started, and the way out is told.
func TestServerRefuses(t *testing.T) {
	u := newUser(t)
	busy := strings.TrimPrefix(u.env["NATS_URL"], "nats://")
	taken := "another server may be running there"
	file := t.TempDir() + "/file"
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	bare, err := broker.StartServer(t.Context(), broker.ServerConfig{Listen: "none", Store: t.TempDir() + "/used"})
	if err != nil {
		t.Fatal(err)
	}
	defer bare.Shutdown()
	used := bare.Store()
	for _, tt := range []struct {
		code int
		args string // of `server`; LISTEN stands for a free port, STORE for a new directory
		want string
	}{
		{cli.ExitRefused, "--listen " + busy + " STORE", taken},
		{cli.ExitRefused, "LISTEN STORE --http " + busy, taken},
		{cli.ExitRefused, "LISTEN STORE --server-name n1 --routes 127.0.0.1:1 --cluster-listen " + busy, taken},
		{cli.ExitRefused, "LISTEN --store " + used, "another server uses this store"},
		{cli.ExitUsage, "LISTEN --store " + file, "can't be a store"},
		{cli.ExitUsage, "LISTEN --store " + file + "/below", "can't be a store"},
		{cli.ExitUsage, "LISTEN --store=", "want a directory"},
		{cli.ExitUsage, "--listen= STORE", "want host:port"},
		{cli.ExitUsage, "--listen none STORE", "nobody could connect"},
		{cli.ExitUsage, "--listen 0.0.0.0:0 STORE", "no authentication"},
		{cli.ExitUsage, "--listen 192.0.2.1:0 --allow-remote STORE", "an address of this machine"},
		{cli.ExitUsage, "LISTEN STORE --sync sometimes", "always"},
		{cli.ExitUsage, "LISTEN STORE --max-store -1", "size"},
		{cli.ExitUsage, "LISTEN STORE --log loud", "debug"},
		{cli.ExitUsage, "LISTEN STORE --http nonsense", "127.0.0.1:8080"},
		{cli.ExitUsage, "LISTEN STORE --http 0.0.0.0:0", "no authentication"},
		{cli.ExitUsage, "LISTEN STORE --replicas 7", "1 to 5"},
		{cli.ExitUsage, "LISTEN STORE --replicas 0", "1 to 5"},
		{cli.ExitUsage, "LISTEN STORE --replicas 3", "a server that is alone keeps one copy"},
		{cli.ExitUsage, "LISTEN STORE --ack-wait 0s", "at least 100ms"},
		{cli.ExitUsage, "LISTEN STORE --ack-wait -1s", "at least 100ms"},
		{cli.ExitUsage, "LISTEN STORE --ack-wait 1000000h", "at most 1h"},
		{cli.ExitBusy, "LISTEN STORE --max-store 10MiB --logs-size 1MiB --messages-size 1MiB", "server --results-size 16MiB"},
		{cli.ExitBusy, "LISTEN STORE --max-store 10MiB --results-size 1MiB --messages-size 1MiB", "server --logs-size 16MiB"},
		{cli.ExitBusy, "LISTEN STORE --max-store 10MiB --results-size 1MiB --logs-size 1MiB", "server --messages-size 16MiB"},
		{cli.ExitUsage, "LISTEN STORE --backlog-size 0", "want a size"},
		{cli.ExitUsage, "LISTEN STORE --results-ttl never", "want a time"},
		{cli.ExitUsage, "LISTEN STORE --slots -1", "less than 0"},
		{cli.ExitUsage, "LISTEN STORE --pool a.b", "only letters"},
		{cli.ExitUsage, "LISTEN STORE --pool a,none", "no pool at all"},
		{cli.ExitUsage, "LISTEN STORE --images " + file + "/below", "not a directory"},
		{cli.ExitUsage, "LISTEN STORE --workers 0", "1 to 1000"},
		{cli.ExitUsage, "LISTEN STORE --workers some", "1 to 1000"},
		{cli.ExitUsage, "LISTEN STORE --workers-max 3", "--workers auto"},
		{cli.ExitUsage, "LISTEN STORE --workers auto --workers-min -1", "less than 0"},
		{cli.ExitUsage, "LISTEN STORE --workers auto --workers-min 3 --workers-max 2", "more than max"},
		{cli.ExitUsage, "LISTEN STORE --workers auto --workers-stable -1s", "less than 0"},
		{cli.ExitUsage, "LISTEN STORE --routes 127.0.0.1:1", "--cluster-listen"},
		{cli.ExitUsage, "LISTEN STORE --server-name n1 --cluster-listen 127.0.0.1:0", "--routes"},
		{cli.ExitUsage, "LISTEN STORE --cluster-listen 127.0.0.1:0 --routes 127.0.0.1:1", "--server-name"},
		{cli.ExitUsage, "LISTEN STORE --server-name n1 --cluster-listen nonsense --routes 127.0.0.1:1", "want host:port"},
		{cli.ExitUsage, "--listen 127.0.0.1:4999 STORE --server-name n1 --cluster-listen 127.0.0.1:4999 --routes 127.0.0.1:1", "another port"},
		{cli.ExitUsage, "STORE --nats nats://127.0.0.1:1", "for the server inside"},
	} {
		args := strings.ReplaceAll(strings.ReplaceAll("server "+tt.args, "LISTEN", "--listen 127.0.0.1:0"), "STORE", "--store "+t.TempDir()+"/new")
		u.sees(u.gets(tt.code, strings.Fields(args)...), tt.want)
	}
	for args, want := range map[string]string{
		"gateway --http nonsense": "127.0.0.1:8080", "gateway --replicas 7": "1 to 5", "gateway --log loud": "debug",
		"worker run --slots -1": "less than 0", "worker run --pool a.b": "only letters", "worker run --pool none": "nothing",
		"cluster --servers 4": "3 or 5", "cluster --replicas 4": "more copies than servers", "cluster --slots -1": "less than 0", "cluster --store=": "want a directory",
		"cluster --listen nonsense": "want host:port", "cluster --nats nats://127.0.0.1:1": "starts its own",
	} {
		u.sees(u.gets(cli.ExitUsage, strings.Fields(args)...), want)
	}
}

// NATS that can't carry a platform is refused too, and not waited for.
func TestGatewayRefusesNATSWithoutJetStream(t *testing.T) {
	ns, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	ns.Start()
	defer ns.WaitForShutdown()
	defer ns.Shutdown()
	u := &user{t, shell{}}
	url := "nats://" + ns.Addr().String()
	u.sees(u.gets(cli.ExitRefused, "gateway", "--nats", url), "runs without JetStream", "nats-server -js")
	u.sees(u.gets(cli.ExitRefused, "server", "--nats", url), "runs without JetStream")
}

func TestDemo(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	u := &user{t, shell{}}
	u.sees(u.does("demo", "--users", "20", "--follows", "3", "--posts", "20"), "verified")
	var report map[string]any
	if err := json.Unmarshal([]byte(u.does("demo", "--users", "20", "--follows", "3", "--posts", "20", "-o", "json")), &report); err != nil {
		t.Errorf("-o json: %v", err)
	}
	u.gets(cli.ExitFailed, "demo", "--graph", "/no/such/file")
	left, err := os.ReadDir(os.Getenv("TMPDIR"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
