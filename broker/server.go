package broker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/sirupsen/logrus"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// ServerConfig describes a NATS server inside the process. The zero value
// listens on 127.0.0.1:4222 and keeps its data in ./cloudburst-data.
type ServerConfig struct {
	// Name is shown by NATS monitoring. Default "cloudburst".
	Name string
	// Listen is the address for NATS clients, host:port. Default
	// 127.0.0.1:4222; port 0 picks a free one; "none" opens no port, so that
	// only this process can connect.
	Listen string
	// AllowRemote permits an address that other machines reach. There is no
	// authentication: whoever reaches the port may call, read and delete
	// everything. Without it such an address is refused.
	AllowRemote bool
	// Store is the directory of the streams, created if need be. Default
	// "cloudburst-data". One server at a time can use it.
	Store string
	// Sync is when writes are forced to the disk: "default" is every two
	// minutes: nothing acknowledged is lost when the process dies, up to that
	// much when the machine does. "always" loses nothing, at about 20 times the
	// price of a write. An interval such as "10s" is in between.
	Sync string
	// MaxStore bounds what the streams take on the disk, in bytes; a stream
	// with a size limit reserves that. Default: three quarters of what is free.
	MaxStore int64
	// Cluster has the server be one of several that keep streams in copies. Nil: it
	// is alone.
	Cluster *ClusterConfig
	// Wrap, if set, is shown every connection that is made inside the process
	// and may replace it. It is for tests that cut the network.
	Wrap func(net.Conn) net.Conn
	// Log is told of the server's warnings, and at debug level of the rest. Nil
	// is silent.
	Log *logrus.Entry
}

// A ClusterConfig says how a server finds the others of its cluster. Each has a
// Name of its own, and the same ClusterConfig but for Listen. Streams are made in
// copies by Topology.Replicas, and go on while more than half of them are there.
type ClusterConfig struct {
	// Name is the cluster's. Default "cloudburst".
	Name string
	// Listen is the address for the other servers, host:port.
	Listen string
	// Routes are the others' addresses, host:port. Its own may be among them.
	Routes []string
	// Advertise is where the others are told to find this server, if that isn't
	// Listen: behind a proxy, say. With it clients aren't told of servers that they
	// weren't given.
	Advertise string
}

// A Server is a NATS server with JetStream inside the process.
type Server struct {
	cfg ServerConfig

	mu   sync.Mutex // guards what follows
	ns   *server.Server
	log  *serverLog
	lock *os.File // of the store
	port int      // the one that was picked, kept when started again

	stopped bool // by Shutdown
}

// StartServer starts a server and returns once it accepts connections. ctx
// bounds the start alone. What is wrong with the configuration, a store that
// another server uses and a port that is taken are each a wire.Error.
func StartServer(ctx context.Context, cfg ServerConfig) (*Server, error) {
	if cfg.Name == "" {
		cfg.Name = "cloudburst"
	}
	if cfg.Listen == "" {
		cfg.Listen = nats.DefaultURL[len("nats://"):]
	}
	if cfg.Store == "" {
		cfg.Store = "cloudburst-data"
	}
	s := &Server{cfg: cfg}
	if err := s.Start(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// Start starts the server again after Shutdown, on the same store and port.
// Clients that were connected find it by themselves.
func (s *Server) Start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ns != nil {
		return nil
	}
	opts, err := s.options()
	if err != nil {
		return err
	}
	if s.lock, err = lockStore(s.cfg.Store); err != nil {
		return err
	}
	if err := s.startLocked(ctx, opts); err != nil {
		s.stopLocked()
		return err
	}
	s.stopped = false
	return nil
}

func (s *Server) startLocked(ctx context.Context, opts *server.Options) error {
	var err error
	if s.ns, err = server.NewServer(opts); err != nil {
		return serverError(wire.KindBadArgument, s.cfg.Listen, err.Error(), err)
	}
	log := &serverLog{log: s.cfg.Log}
	s.log = log
	s.ns.SetLoggerV2(log, log.debug(), false, false)
	started := make(chan struct{})
	go func() {
		defer close(started)
		s.ns.Start()
	}()
	select {
	case <-started:
	case <-ctx.Done():
		s.ns.Shutdown()
		<-started
		return serverError(wire.KindTimeout, s.cfg.Store, "gave up while it was reading its store", context.Cause(ctx))
	}
	s.awaitRoutes(ctx, log)
	if msg := log.fatal(); msg != "" {
		return s.startError(strings.ReplaceAll(msg, `"`, ""))
	}
	if addr, ok := s.ns.Addr().(*net.TCPAddr); ok {
		s.port = addr.Port
	}
	return nil
}

// awaitRoutes returns once the port for the other servers is open, or can't be: the
// server opens it after it has started.
func (s *Server) awaitRoutes(ctx context.Context, log *serverLog) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for s.cfg.Cluster != nil && s.ns.ClusterAddr() == nil && log.fatal() == "" {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// startError says what to do about what kept the server from starting.
func (s *Server) startError(msg string) error {
	if strings.Contains(msg, "listening") {
		at := s.cfg.Listen
		if strings.Contains(msg, "router") && s.cfg.Cluster != nil {
			at = s.cfg.Cluster.Listen
		}
		if strings.Contains(msg, "in use") || strings.Contains(msg, "Only one usage") { // as Windows says it
			return serverError(wire.KindConflict, at, msg+"; another server may be running there: stop it, or listen elsewhere (port 0 picks a free one)", nil)
		}
		return serverError(wire.KindBadArgument, at, msg+"; listen on an address of this machine, at a port that this user may open", nil)
	}
	if strings.Contains(msg, "permission denied") || strings.Contains(msg, "not writable") || strings.Contains(msg, "read-only") {
		return serverError(wire.KindBadArgument, s.cfg.Store, msg+"; choose a directory that this user may write to", nil)
	}
	return serverError(wire.KindUnavailable, s.cfg.Store, msg, nil)
}

// URL returns where NATS clients can connect; empty without a port.
func (s *Server) URL() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.port == 0 {
		return ""
	}
	host, _, err := net.SplitHostPort(s.cfg.Listen)
	if ip := net.ParseIP(host); err != nil || host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "nats://" + net.JoinHostPort(host, strconv.Itoa(s.port))
}

// Store returns the directory that the server keeps its data in.
func (s *Server) Store() string { return s.cfg.Store }

// Shutdown stops the server and returns when its store is closed. Stopping it
// again does nothing.
func (s *Server) Shutdown() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
	s.stopLocked()
}

func (s *Server) stopLocked() {
	if s.ns != nil {
		s.ns.Shutdown()
		s.ns.WaitForShutdown()
		s.ns = nil
	}
	if s.lock != nil {
		// The lock ends with the file, and the process, whatever Close says.
		_ = s.lock.Close()
		s.lock = nil
	}
}

// storeError is why the server's store takes no writes any more; empty if it does, or
// the server doesn't run.
func (s *Server) storeError() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ns == nil && s.stopped {
		return ""
	}
	if s.ns == nil {
		return "the server could not be started"
	}
	if why := s.log.storeError(); why != "" {
		return why
	}
	if !s.ns.JetStreamEnabled() {
		return "JetStream is off"
	}
	return ""
}

// restart starts the server again in place, unless somebody has shut it down.
func (s *Server) restart(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return nil
	}
	if s.ns != nil {
		s.ns.Shutdown()
		s.ns.WaitForShutdown()
		s.ns = nil
	}
	opts, err := s.options()
	if err != nil {
		return err
	}
	if err := s.startLocked(ctx, opts); err != nil {
		if s.ns != nil {
			s.ns.Shutdown()
			s.ns.WaitForShutdown()
			s.ns = nil
		}
		return err
	}
	return nil
}

// inProcess has a client connect without a port.
func (s *Server) inProcess() []nats.Option {
	return []nats.Option{nats.InProcessServer(dialer{s})}
}

// A dialer connects to whatever server runs at the moment.
type dialer struct{ s *Server }

// InProcessConn is called by the NATS client, for every reconnect too.
func (d dialer) InProcessConn() (net.Conn, error) {
	d.s.mu.Lock()
	ns := d.s.ns
	d.s.mu.Unlock()
	if ns == nil {
		return nil, net.ErrClosed
	}
	conn, err := ns.InProcessConn()
	if err != nil || d.s.cfg.Wrap == nil {
		return conn, err
	}
	return d.s.cfg.Wrap(conn), nil
}

// options checks the configuration and says all that is wrong with it.
func (s *Server) options() (*server.Options, error) {
	cfg := s.cfg
	store, err := filepath.Abs(cfg.Store)
	if err != nil {
		return nil, fmt.Errorf("find store: %w", err)
	}
	opts := &server.Options{
		ServerName: cfg.Name, JetStream: true, StoreDir: store, JetStreamMaxStore: max(cfg.MaxStore, 0),
		NoSigs: true, NoLog: true,
	}
	var listen, always error
	if cfg.Listen == "none" {
		opts.DontListen = true
	} else {
		opts.Host, opts.Port, listen = parseListen(cfg.Listen, cfg.AllowRemote)
		if s.port != 0 {
			opts.Port = s.port
		}
	}
	opts.SyncAlways, opts.SyncInterval, always = parseSync(cfg.Sync)
	return opts, errors.Join(listen, always, cfg.Cluster.into(opts, cfg.AllowRemote))
}

// into adds the cluster to a server's options.
func (c *ClusterConfig) into(opts *server.Options, remote bool) error {
	if c == nil {
		return nil
	}
	host, port, err := parseListen(c.Listen, remote)
	if err != nil {
		return err
	}
	name := c.Name
	if name == "" {
		name = "cloudburst"
	}
	opts.Cluster = server.ClusterOpts{Name: name, Host: host, Port: port, Advertise: c.Advertise, NoAdvertise: c.Advertise != ""}
	for _, route := range c.Routes {
		if _, _, err := net.SplitHostPort(route); err != nil {
			return serverError(wire.KindBadArgument, route, "not the address of another server of the cluster: want host:port", err)
		}
		opts.Routes = append(opts.Routes, &url.URL{Scheme: "nats-route", Host: route})
	}
	return nil
}

func parseListen(listen string, remote bool) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(listen)
	if err == nil {
		port, err = strconv.Atoi(text)
	}
	if err != nil || port < -1 || port > 65535 {
		return "", 0, serverError(wire.KindBadArgument, listen, `not an address to listen on: want host:port, such as 127.0.0.1:4222, or "none"`, err)
	}
	ip := net.ParseIP(host)
	if loopback := host == "localhost" || ip != nil && ip.IsLoopback(); !loopback && !remote {
		return "", 0, serverError(wire.KindBadArgument, listen,
			"other machines reach this address, and there is no authentication: listen on 127.0.0.1, or allow remote access (--allow-remote) where the network itself is protected", nil)
	}
	if port == 0 {
		port = server.RANDOM_PORT
	}
	return host, port, nil
}

func parseSync(sync string) (always bool, interval time.Duration, err error) {
	switch sync {
	case "", "default":
		return false, 0, nil
	case "always":
		return true, 0, nil
	}
	if interval, err = time.ParseDuration(sync); err != nil || interval <= 0 {
		return false, 0, serverError(wire.KindBadArgument, sync, `not a sync policy: want "default", "always" or an interval such as "10s"`, err)
	}
	return false, interval, nil
}

// lockStore makes sure that no other server uses the store; the server itself
// doesn't check, and two on one store destroy it. The lock ends when the file
// is closed or the process dies.
func lockStore(store string) (*os.File, error) {
	if err := os.MkdirAll(store, 0o700); err != nil {
		return nil, serverError(wire.KindBadArgument, store, "can't be a store: "+err.Error(), err)
	}
	f, err := lockFile(filepath.Join(store, "cloudburst.lock"))
	if errors.Is(err, errLocked) {
		return nil, serverError(wire.KindConflict, store, "another server uses this store: stop it, connect to it, or choose another directory", err)
	}
	if err != nil {
		return nil, serverError(wire.KindBadArgument, store, "can't be a store: "+err.Error(), err)
	}
	return f, nil
}

var errLocked = errors.New("locked by another process")

func serverError(kind wire.Kind, name, msg string, err error) error {
	return &wire.Error{Op: "start server", Kind: kind, Name: name, Msg: msg, Err: err}
}
