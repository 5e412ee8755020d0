package faults

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/cloudburst-nats/cloudburst"
	"github.com/cloudburst-nats/cloudburst/bench/process"
	"github.com/cloudburst-nats/cloudburst/broker"
	"github.com/cloudburst-nats/cloudburst/internal/loopback"
)

const nodes = 3

// A site is the platform: servers, workers, and the links between them. One
// goroutine at a time breaks it.
type site struct {
	cfg  Config
	dir  string
	fail context.CancelCauseFunc // called when a part ends that nobody has killed
	ends []func() error          // in order of opening

	listen  [nodes]string // where servers listen for clients
	routes  [nodes]string // and for each other
	between [nodes][nodes]*link
	servers [nodes]*process.Process
	workers []*worker

	client *cloudburst.Client // of the load
	front  [nodes]*link       // its links to the servers
	direct *broker.Broker     // of the audit, past all links
}

// A worker is a process and its links to the servers.
type worker struct {
	process *process.Process
	links   [nodes]*link
}

// open brings everything up: last opened, first closed.
func (s *site) open(ctx context.Context) error {
	dir, err := os.MkdirTemp(s.cfg.Store, "cloudburst-bench-")
	if err != nil {
		return fmt.Errorf("make store: %w", err)
	}
	s.dir = dir
	s.ends = append(s.ends, func() error { return os.RemoveAll(dir) })
	if err := s.wire(); err != nil {
		return err
	}
	for i := range nodes {
		if err := s.startNode(ctx, i); err != nil {
			return err
		}
		s.ends = append(s.ends, func() error { return s.servers[i].End() })
	}
	if s.direct, err = connected(ctx, urls(s.listen[:])); err != nil {
		return err
	}
	s.ends = append(s.ends, func() error { s.direct.Close(); return nil })
	if err := s.settled(ctx); err != nil {
		return err
	}
	s.workers = make([]*worker, s.cfg.Workers)
	for i := range s.workers {
		w := &worker{}
		if w.links, err = s.linksToNodes(); err != nil {
			return err
		}
		s.workers[i] = w
		if err := s.startWorker(ctx, i, 0); err != nil {
			return err
		}
		s.ends = append(s.ends, func() error { return w.process.End() })
	}
	return s.connectLoad(ctx)
}

func (s *site) close() error {
	var errs []error
	for _, end := range slices.Backward(s.ends) {
		errs = append(errs, end())
	}
	return errors.Join(errs...)
}

// wire picks the ports and lays the links between the servers.
func (s *site) wire() error {
	for i := range nodes {
		for _, at := range []*string{&s.listen[i], &s.routes[i]} {
			var err error
			if *at, err = loopback.FreeAddr("127.0.0.1"); err != nil {
				return err
			}
		}
	}
	for i := range nodes {
		for j := range nodes {
			if i == j {
				continue
			}
			l, err := newLink(s.routes[j])
			if err != nil {
				return err
			}
			s.between[i][j] = l
			s.ends = append(s.ends, l.close)
		}
	}
	return nil
}

// linksToNodes lays links to all servers, which end with the site.
func (s *site) linksToNodes() (links [nodes]*link, err error) {
	for i := range links {
		if links[i], err = newLink(s.listen[i]); err != nil {
			return links, err
		}
		s.ends = append(s.ends, links[i].close)
	}
	return links, nil
}

func addrs(links [nodes]*link) []string {
	list := make([]string, nodes)
	for i, l := range links {
		list[i] = l.addr()
	}
	return list
}

func (s *site) startNode(ctx context.Context, i int) error {
	part := nodePart{
		Name: fmt.Sprint("n", i+1), Listen: s.listen[i], Store: filepath.Join(s.dir, fmt.Sprint("n", i+1)),
		// Nobody is there: the routes are all known, and each has its link.
		Cluster: broker.ClusterConfig{Listen: s.routes[i], Advertise: "127.0.0.1:1"},
	}
	for j := range nodes {
		if i != j {
			part.Cluster.Routes = append(part.Cluster.Routes, s.between[i][j].addr())
		}
	}
	p, err := s.start(ctx, RoleNode, part)
	if err != nil {
		return fmt.Errorf("server n%d: %w", i+1, err)
	}
	s.servers[i] = p
	return nil
}

func (s *site) startWorker(ctx context.Context, i int, skew time.Duration) error {
	p, err := s.start(ctx, RoleWorker, workerPart{URL: urls(addrs(s.workers[i].links)), Skew: skew})
	if err != nil {
		return fmt.Errorf("worker %d: %w", i+1, err)
	}
	s.workers[i].process = p
	return nil
}

func (s *site) start(ctx context.Context, role string, part any) (*process.Process, error) {
	arg, err := json.Marshal(part)
	if err != nil {
		return nil, err
	}
	return process.Start(ctx, s.cfg.Part(role, string(arg)), s.fail)
}

func connected(ctx context.Context, url string) (*broker.Broker, error) {
	const patience = 30 * time.Second
	for began := time.Now(); ; {
		b, err := broker.Connect(ctx, broker.Config{Name: "bench faults", URL: url})
		if err == nil || time.Since(began) > patience {
			return b, err
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return nil, err
		}
	}
}

// connectLoad connects the load, by links of its own, and says what is called.
func (s *site) connectLoad(ctx context.Context) error {
	var err error
	if s.front, err = s.linksToNodes(); err != nil {
		return err
	}
	b, err := connected(ctx, urls(addrs(s.front)))
	if err != nil {
		return err
	}
	s.client = cloudburst.NewClient(b, nil)
	s.ends = append(s.ends, func() error { s.client.Close(); return nil })
	return s.client.ApplyDAG(ctx, diamond())
}

// settled waits until every stream has a leader and copies that lack nothing. It
// is what makes faults come one at a time.
func (s *site) settled(ctx context.Context) error {
	const patience = 2 * time.Minute
	var lacking error
	for began := time.Now(); time.Since(began) < patience; {
		asked, cancel := context.WithTimeout(ctx, 5*time.Second)
		lacking = s.lacking(asked)
		cancel()
		if lacking == nil || ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
	return fmt.Errorf("the servers are not well again after %v: %w", patience, lacking)
}

// lacking says what the platform lacks yet.
func (s *site) lacking(ctx context.Context) error {
	streams := s.direct.JetStream().ListStreams(ctx)
	found := 0
	for info := range streams.Info() {
		found++
		if err := lacksCopies(info); err != nil {
			return err
		}
	}
	if err := streams.Err(); err != nil {
		return err
	}
	if found == 0 {
		return errors.New("there are no streams yet")
	}
	return nil
}

func lacksCopies(info *jetstream.StreamInfo) error {
	c := info.Cluster
	if c == nil || c.Leader == "" || len(c.Replicas) != info.Config.Replicas-1 {
		return fmt.Errorf("stream %s has no leader, or not all copies", info.Config.Name)
	}
	for _, copied := range c.Replicas {
		if !copied.Current || copied.Offline {
			return fmt.Errorf("stream %s: the copy on %s is behind", info.Config.Name, copied.Name)
		}
	}
	return nil
}

// pause waits, but not longer than ctx.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
