package broker

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// bareServer starts a NATS server that isn't ours.
func bareServer(t *testing.T, opts *server.Options) string {
	t.Helper()
	opts.Host, opts.Port, opts.NoSigs, opts.NoLog = "127.0.0.1", -1, true, true
	ns, err := server.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	ns.Start()
	t.Cleanup(func() { ns.Shutdown(); ns.WaitForShutdown() })
	return "nats://" + ns.Addr().String()
}

// oldServer speaks as much NATS as a client needs that connects, and says that it is old.
func oldServer(t *testing.T, version string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				fmt.Fprintf(conn, `INFO {"server_id":"X","version":%q,"proto":1,"headers":true,"max_payload":1048576,"jetstream":true}`+"\r\n", version)
				lines := bufio.NewScanner(conn)
				for lines.Scan() {
					if strings.HasPrefix(lines.Text(), "PING") {
						fmt.Fprint(conn, "PONG\r\n")
					}
				}
			}()
		}
	}()
	return "nats://" + l.Addr().String()
}

// What can't carry a platform is refused at once, with what to do.
func TestServersThatCannotCarryAPlatform(t *testing.T) {
	accounts := &server.Options{JetStream: true, StoreDir: t.TempDir()}
	plain := server.NewAccount("PLAIN")
	accounts.Accounts = []*server.Account{plain}
	accounts.Users = []*server.User{{Username: "u", Password: "p", Account: plain}}
	for name, tt := range map[string]struct{ url, want string }{
		"without JetStream":       {bareServer(t, &server.Options{}), "nats-server -js"},
		"an account without it":   {strings.Replace(bareServer(t, accounts), "//", "//u:p@", 1), "enabled for this account"},
		"too old":                 {oldServer(t, "2.10.4"), "its version is 2.10.4, and the platform needs 2.12 or later"},
		"with all that is needed": {bareServer(t, &server.Options{JetStream: true, StoreDir: t.TempDir()}), ""},
	} {
		b, err := Connect(t.Context(), Config{URL: tt.url})
		if err != nil {
			t.Fatal(name, err)
		}
		t.Cleanup(b.Close)
		err = b.CheckServer(t.Context())
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case tt.want != "" && (wire.KindOf(err) != wire.KindConflict || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%s: %v, want a conflict with %q", name, err, tt.want)
		}
	}
	for version, old := range map[string]bool{"2.11.9": true, "1.4.1": true, "2.12.0": false, "2.15.2-RC.1": false, "3.0.0": false, "dev": false, "": false} {
		if tooOld(version) != old {
			t.Errorf("version %q is too old: %v, want %v", version, !old, old)
		}
	}
}
