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

	"github.com/cloudburst-nats/cloudburst"
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
	if code := <-done; code != exitOK {
		t.Errorf("told to end: exit code %d, want 0", code)
	}
}

func TestServerRefuses(t *testing.T) {
	u := newUser(t)
	busy := strings.TrimPrefix(u.env["NATS_URL"], "nats://")
	u.sees(u.gets(exitRefused, "server", "--listen", busy, "--store", t.TempDir()), busy)
	u.gets(exitUsage, "server", "--listen", "0.0.0.0:0", "--store", t.TempDir())
	u.gets(exitUsage, "server", "--sync", "sometimes", "--listen", "127.0.0.1:0", "--store", t.TempDir())
}

func TestDemo(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	u := &user{t, shell{}}
	u.sees(u.does("demo", "--users", "20", "--follows", "3", "--posts", "20"), "verified")
	var report map[string]any
	if err := json.Unmarshal([]byte(u.does("demo", "--users", "20", "--follows", "3", "--posts", "20", "-o", "json")), &report); err != nil {
		t.Errorf("-o json: %v", err)
	}
	u.gets(exitFailed, "demo", "--graph", "/no/such/file")
	left, err := os.ReadDir(os.Getenv("TMPDIR"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
