package console

import (
	"strings"
	"testing"

	"github.com/cloudburst-nats/cloudburst"
	"github.com/cloudburst-nats/cloudburst/internal/cli"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// A command that calls what no worker serves ends at once, with the run that will be; one
// that doesn't wait for the result warns.
func TestCallWithoutWorker(t *testing.T) {
	server, err := cloudburst.Start(t.Context(), cloudburst.ServerConfig{Listen: "127.0.0.1:0", Store: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := server.Client().Broker().RegisterFunctions(t.Context(), []wire.Function{{Name: "away", Pool: "elsewhere", Runtime: "native"}}); err != nil {
		t.Fatal(err)
	}
	at := shell{env: map[string]string{"NATS_URL": server.URL()}}
	for _, tt := range []struct {
		args string
		code int
		out  string
		errs []string
	}{
		{"call away 5 --run-id r1 --timeout 1h", cli.ExitUnavailable, "", []string{"no worker", `pool "elsewhere"`, "is stored", "cloudburst result r1 --wait 1m", "--wait-for-worker"}},
		{"call away 5 --run-id r2 --async", cli.ExitOK, "r2\n", []string{"warning", `pool "elsewhere"`, "cloudburst worker run --pool elsewhere"}},
		{"call away 5 --run-id r3 --wait-for-worker --timeout 4s", cli.ExitTimeout, "", []string{"no worker", `pool "elsewhere"`, "cloudburst result r3 --wait 1m"}},
	} {
		out, errs, code := at.run(t.Context(), strings.Fields(tt.args)...)
		if code != tt.code || out != tt.out {
			t.Errorf("%s: exit code %d, printed %q, want %d, %q", tt.args, code, out, tt.code, tt.out)
		}
		for _, want := range tt.errs {
			if !strings.Contains(errs, want) {
				t.Errorf("%s: %q isn't in %q", tt.args, want, errs)
			}
		}
	}
}
