package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/cloudburst-nats/cloudburst/broker"
	"github.com/cloudburst-nats/cloudburst/deployments"
)

// A site is a transport brought up: a server with the platform, a worker of
// the floor and one of ours. Close ends everything, last opened first.
type site struct {
	server *broker.Server // to connect to inside the process; nil: by url
	url    string
	ends   []func() error
	parts  []part                  // in processes of their own
	fail   context.CancelCauseFunc // called when a part fails
}

// A part is a process that plays a role.
type part struct {
	role string
	pid  int
}

func openSite(ctx context.Context, fail context.CancelCauseFunc, cfg Config, transport string) (*site, error) {
	s := &site{fail: fail}
	dir, err := os.MkdirTemp(cfg.Store, "cloudburst-bench-")
	if err != nil {
		return nil, fmt.Errorf("make store: %w", err)
	}
	s.ends = append(s.ends, func() error { return os.RemoveAll(dir) })
	store := filepath.Join(dir, "store")
	if transport == Processes {
		err = s.spawnAll(ctx, cfg.Exe, store)
	} else {
		err = s.startAll(ctx, store, transport)
	}
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// close ends what was opened. It may be called once.
func (s *site) close() error {
	var errs []error
	for _, end := range slices.Backward(s.ends) {
		errs = append(errs, end())
	}
	return errors.Join(errs...)
}

// startAll brings all parts up in this process.
func (s *site) startAll(ctx context.Context, store, transport string) error {
	listen := "none"
	if transport == TCP {
		listen = "127.0.0.1:0"
	}
	p, err := startPlatform(ctx, store, listen)
	if err != nil {
		return err
	}
	s.ends = append(s.ends, p.close)
	if s.url = p.server.URL(); s.url == "" {
		s.server = p.server
	}
	for _, serve := range []func(context.Context, *broker.Broker, func()) error{serveFloorWorker, serveWorker} {
		b, err := s.connect(ctx, "bench worker")
		if err != nil {
			return err
		}
		err = s.start(ctx, func(ctx context.Context, ready func()) error { return serve(ctx, b, ready) })
		if err != nil {
			return err
		}
	}
	return nil
}

// serveFloorWorker serves the floor on the bare connection of a broker, which
// alone knows how to connect inside a process.
func serveFloorWorker(ctx context.Context, b *broker.Broker, ready func()) error {
	return serveFloor(ctx, b.Conn(), ready)
}

// connect opens a connection that ends with the site.
func (s *site) connect(ctx context.Context, name string) (*broker.Broker, error) {
	b, err := broker.Connect(ctx, broker.Config{Name: name, URL: s.url, Server: s.server})
	if err != nil {
		return nil, err
	}
	s.ends = append(s.ends, func() error { b.Close(); return nil })
	return b, nil
}

// start runs a part until the site ends, and returns once it is ready. Should
// the part fail in between, so does the site.
func (s *site) start(ctx context.Context, run func(ctx context.Context, ready func()) error) error {
	running, stop := context.WithCancel(ctx)
	ready := make(chan struct{})
	ended := make(chan struct{})
	var failure error // to be read once ended is closed
	go func() {
		defer close(ended)
		err := run(running, func() { close(ready) })
		switch {
		case err != nil && !errors.Is(err, context.Canceled):
			failure = err
		case running.Err() == nil:
			failure = errors.New("a part ended by itself")
		}
		if failure != nil {
			s.fail(failure)
		}
	}()
	select {
	case <-ready:
	case <-ended:
	}
	end := func() error {
		stop()
		<-ended
		return failure
	}
	select {
	case <-ended:
		return errors.Join(end(), ctx.Err())
	default:
		s.ends = append(s.ends, end)
		return nil
	}
}

// A platform is a server in this process with everything but workers.
type platform struct {
	server *broker.Server
	node   *deployments.Node
}

func startPlatform(ctx context.Context, store, listen string) (*platform, error) {
	server, err := broker.StartServer(ctx, broker.ServerConfig{Listen: listen, Store: store})
	if err != nil {
		return nil, err
	}
	node, err := deployments.StartNode(ctx, deployments.NodeConfig{Broker: broker.Config{Server: server}})
	if err != nil {
		server.Shutdown()
		return nil, err
	}
	return &platform{server, node}, nil
}

func (p *platform) close() error {
	err := p.node.Close()
	p.server.Shutdown()
	return err
}
