// Package brokertest starts a real platform inside a test: an embedded server
// without a port, on a store of its own, that ends with the test. It takes
// about 20 ms.
//
//	p := brokertest.Start(t)
//	b := p.Connect("worker")   // as another process would be
//	p.Cut(); p.Heal()          // the network
//	p.Restart(); p.Kill()      // the server, on the same store
//
// Killed means that clients lose their connections and the server finds its
// store as a process that died at that moment leaves it: what it had written,
// and nothing that it writes when it stops. A power loss is not imitated.
package brokertest

import (
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/cloudburst-nats/cloudburst/broker"
)

// A Platform is a server with everything that EnsurePlatform makes.
type Platform struct {
	t        testing.TB
	server   *broker.Server
	store    string
	topology broker.Topology
	network  network
	first    *broker.Broker
}

// An Option changes what Start starts.
type Option func(*broker.ServerConfig, *broker.Topology)

// WithTopology gives all brokers a topology.
func WithTopology(t broker.Topology) Option {
	return func(_ *broker.ServerConfig, topology *broker.Topology) { *topology = t }
}

// WithMaxStore bounds the storage, in bytes, as a full disk does. Streams with
// a size limit reserve theirs, so the topology's limits must fit in.
func WithMaxStore(bytes int64) Option {
	return func(cfg *broker.ServerConfig, _ *broker.Topology) { cfg.MaxStore = bytes }
}

// WithPort opens a free port of the loopback interface: see URL.
func WithPort() Option {
	return func(cfg *broker.ServerConfig, _ *broker.Topology) { cfg.Listen = "127.0.0.1:0" }
}

// Start starts a platform that ends with the test.
func Start(t testing.TB, opts ...Option) *Platform {
	t.Helper()
	p := &Platform{t: t, store: t.TempDir(), network: network{conns: make(map[net.Conn]struct{})}}
	cfg := broker.ServerConfig{Name: "test", Listen: "none", Store: filepath.Join(p.store, "live"), Wrap: p.network.wrap}
	for _, opt := range opts {
		opt(&cfg, &p.topology)
	}
	var err error
	if p.server, err = broker.StartServer(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.server.Shutdown)
	p.first = p.Connect("test")
	if err := p.first.EnsurePlatform(t.Context()); err != nil {
		t.Fatal(err)
	}
	return p
}

// Broker returns the test's own connection.
func (p *Platform) Broker() *broker.Broker { return p.first }

// Server returns the server, for parts that connect by themselves.
func (p *Platform) Server() *broker.Server { return p.server }

// URL returns where plain NATS clients can connect; empty unless WithPort.
func (p *Platform) URL() string { return p.server.URL() }

// Connect returns a connection of its own, as another process would have. It
// ends with the test.
func (p *Platform) Connect(name string) *broker.Broker {
	p.t.Helper()
	b, err := broker.Connect(p.t.Context(), broker.Config{Server: p.server, Name: name, Topology: p.topology})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(b.Close)
	return b
}

// Cut closes every connection inside the process, and keeps new ones from
// being made until Heal.
func (p *Platform) Cut() { p.network.cut() }

// Heal lets clients connect again. They do so by themselves.
func (p *Platform) Heal() { p.network.heal() }

// Restart stops the server in an orderly way and starts it again.
func (p *Platform) Restart() {
	p.t.Helper()
	p.server.Shutdown()
	p.start()
}

// Kill ends the server as if its process had died, and starts it again.
func (p *Platform) Kill() {
	p.t.Helper()
	// Nothing is acknowledged from here on, so the copy misses nothing that was.
	p.Cut()
	live, left := filepath.Join(p.store, "live"), filepath.Join(p.store, "left")
	if err := os.CopyFS(left, os.DirFS(live)); err != nil {
		p.t.Fatal(err)
	}
	p.server.Shutdown()
	if err := os.RemoveAll(live); err != nil {
		p.t.Fatal(err)
	}
	if err := os.Rename(left, live); err != nil {
		p.t.Fatal(err)
	}
	p.start()
	p.Heal()
}

func (p *Platform) start() {
	p.t.Helper()
	if err := p.server.Start(p.t.Context()); err != nil {
		p.t.Fatal(err)
	}
}

// network knows every connection inside the process.
type network struct {
	mu     sync.Mutex // guards what follows
	conns  map[net.Conn]struct{}
	broken bool
}

func (n *network) wrap(conn net.Conn) net.Conn {
	n.mu.Lock()
	defer n.mu.Unlock()
	w := &wrapped{Conn: conn, n: n}
	if n.broken {
		_ = conn.Close() // the client finds it closed, and tries again
		return w
	}
	n.conns[w] = struct{}{}
	return w
}

func (n *network) cut() {
	n.mu.Lock()
	n.broken = true
	conns := n.conns
	n.conns = make(map[net.Conn]struct{})
	n.mu.Unlock()
	for conn := range conns {
		_ = conn.Close() // it may be closed already
	}
}

func (n *network) heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.broken = false
}

// wrapped is a connection that is forgotten when it is closed.
type wrapped struct {
	net.Conn
	n *network
}

func (w *wrapped) Close() error {
	w.n.mu.Lock()
	delete(w.n.conns, w)
	w.n.mu.Unlock()
	return w.Conn.Close()
}
