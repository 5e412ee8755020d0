package broker

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/cloudburst-nats/cloudburst/wire"
)

func startServer(t *testing.T, cfg ServerConfig) *Server {
	t.Helper()
	if cfg.Store == "" {
		cfg.Store = t.TempDir()
	}
	s, err := StartServer(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Shutdown)
	return s
}

func TestServerRefusesWhatCannotWork(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	used := startServer(t, ServerConfig{Listen: "none"})
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for name, tt := range map[string]struct {
		cfg  ServerConfig
		kind wire.Kind
		hint string
	}{
		"no port":         {ServerConfig{Listen: "localhost"}, wire.KindBadArgument, "want host:port"},
		"port too high":   {ServerConfig{Listen: "127.0.0.1:70000"}, wire.KindBadArgument, "want host:port"},
		"all interfaces":  {ServerConfig{Listen: ":4222"}, wire.KindBadArgument, "no authentication"},
		"another machine": {ServerConfig{Listen: "example.com:4222"}, wire.KindBadArgument, "no authentication"},
		"sync policy":     {ServerConfig{Listen: "none", Sync: "sometimes"}, wire.KindBadArgument, `"always"`},
		"sync interval":   {ServerConfig{Listen: "none", Sync: "-1s"}, wire.KindBadArgument, `"always"`},
		"two at once":     {ServerConfig{Listen: "nowhere", Sync: "never"}, wire.KindBadArgument, `not a sync policy`},
		"store is a file": {ServerConfig{Listen: "none", Store: file}, wire.KindBadArgument, "can't be a store"},
		"store in use":    {ServerConfig{Listen: "none", Store: used.cfg.Store}, wire.KindConflict, "another server uses this store"},
		"port taken":      {ServerConfig{Listen: taken.Addr().String()}, wire.KindConflict, "address already in use; another server may be running there"},
	} {
		t.Run(name, func(t *testing.T) {
			if tt.cfg.Store == "" {
				tt.cfg.Store = filepath.Join(t.TempDir(), "store")
			}
			s, err := StartServer(t.Context(), tt.cfg)
			if err == nil {
				s.Shutdown()
			}
			if wire.KindOf(err) != tt.kind || !strings.Contains(err.Error(), tt.hint) {
				t.Fatalf("StartServer(%+v) = %v, want %v with %q", tt.cfg, err, tt.kind, tt.hint)
			}
			if f, err := lockStore(tt.cfg.Store); err == nil {
				f.Close()
			} else if name != "store in use" && name != "store is a file" {
				t.Errorf("the store is still locked: %v", err)
			}
		})
	}
}

func TestServerKeepsStoreAndPort(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "store")
	s := startServer(t, ServerConfig{Listen: "127.0.0.1:0", Store: dir, Sync: "always"})
	url := s.URL()
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("store: %v, %v, want only for its owner", info.Mode(), err)
	}
	b := connect(t, s, Topology{})
	if err := b.EnsurePlatform(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := b.put(t.Context(), &nats.Msg{Subject: bucketSubject(BucketDAGs, "d"), Data: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	b.Close()
	s.Shutdown()
	s.Shutdown()
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s.URL() != url {
		t.Errorf("URL after a restart = %s, was %s", s.URL(), url)
	}
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	b = connect(t, s, Topology{})
	msg, err := b.last(t.Context(), bucketStream(BucketDAGs), bucketSubject(BucketDAGs, "d"))
	if err != nil || msg == nil || string(msg.Data) != "x" {
		t.Errorf("after a restart: %v, %v, want x", msg, err)
	}
	if err := b.EnsurePlatform(t.Context()); err != nil {
		t.Errorf("ensure what a restart kept: %v", err)
	}
}

func TestServerAddresses(t *testing.T) {
	for listen, host := range map[string]string{"none": "", "localhost:0": "localhost", "0.0.0.0:-1": "127.0.0.1", "[::1]:0": "::1"} {
		if listen == "[::1]:0" && !hasIPv6() {
			continue
		}
		s := startServer(t, ServerConfig{Listen: listen, AllowRemote: true})
		if host == "" {
			if s.URL() != "" {
				t.Errorf("listen %q: URL %q, want none", listen, s.URL())
			}
			continue
		}
		nc, err := nats.Connect(s.URL())
		if err != nil {
			t.Errorf("listen %q: connect to %s: %v", listen, s.URL(), err)
			continue
		}
		nc.Close()
	}
}

func TestServerStartGivesUp(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("no patience")
	cancel(why)
	s, err := StartServer(ctx, ServerConfig{Listen: "none", Store: t.TempDir()})
	if err == nil { // it was faster
		s.Shutdown()
		return
	}
	if !errors.Is(err, why) {
		t.Errorf("StartServer = %v, want the cause %v", err, why)
	}
}

func hasIPv6() bool {
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		return false
	}
	return l.Close() == nil
}

// connect returns a broker that ends with the test.
func connect(t testing.TB, s *Server, topology Topology) *Broker {
	t.Helper()
	b, err := Connect(t.Context(), Config{Server: s, Topology: topology})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}
