package cloudburst

import (
	"context"

	"github.com/sirupsen/logrus"

	"github.com/cloudburst-nats/cloudburst/broker"
	"github.com/cloudburst-nats/cloudburst/deployments"
)

// ServerConfig describes a platform inside the process. The zero value keeps
// its data in ./cloudburst-data and listens on 127.0.0.1:4222.
type ServerConfig struct {
	// Listen is the address for NATS clients. Default 127.0.0.1:4222; port 0
	// picks a free one; "none" opens no port: only this process can connect.
	Listen string
	// Store is the directory of the streams. Default "cloudburst-data".
	Store string
	// Name is the server's, and its own in a cluster. Default "cloudburst".
	Name string
	// Cluster has the server be one of several that keep streams in copies, as
	// Topology.Replicas says. Nil: it is alone.
	Cluster *broker.ClusterConfig
	// MaxStore bounds what the streams take on the disk, in bytes. Default: three
	// quarters of what is free.
	MaxStore int64
	// Sync is when writes are forced to the disk: "default" (every two minutes:
	// nothing acknowledged is lost when the process dies, up to that much when
	// the machine does), "always" (nothing is, at many times the price), or an
	// interval such as "10s".
	Sync string
	// AllowRemote permits listening on an address that other machines reach,
	// though anyone who reaches it may then do anything.
	AllowRemote bool
	// Topology sets sizes and times. The platform keeps them: what isn't set stays as
	// it is, and what differs is changed, for all servers and workers.
	Topology broker.Topology
	// Log is told of what happens. Nil is silent.
	Log *logrus.Entry
}

// A Server is a platform in this process: an embedded NATS server with the
// gateway and the janitor. Workers join it through its client.
type Server struct {
	node   *deployments.Node
	client *Client
}

// Start starts a platform in this process and returns once it answers. The
// server runs until Close.
func Start(ctx context.Context, cfg ServerConfig) (*Server, error) {
	node, err := deployments.StartNode(ctx, deployments.NodeConfig{
		Server: &broker.ServerConfig{
			Name: cfg.Name, Cluster: cfg.Cluster, MaxStore: cfg.MaxStore,
			Listen: cfg.Listen, Store: cfg.Store, Sync: cfg.Sync, AllowRemote: cfg.AllowRemote, Log: cfg.Log,
		},
		Broker: broker.Config{Name: "cloudburst server", Topology: cfg.Topology},
		Log:    cfg.Log,
	})
	if err != nil {
		return nil, err
	}
	return &Server{node: node, client: NewClient(node.Broker(), cfg.Log)}, nil
}

// Client returns a client inside the process. It ends with the server.
func (s *Server) Client() *Client { return s.client }

// URL returns where NATS clients can connect; empty with Listen "none".
func (s *Server) URL() string { return s.node.URL() }

// Failed is closed when a part of the server has failed and won't come back; the
// rest goes on. Close tells what it was.
func (s *Server) Failed() <-chan struct{} { return s.node.Failed() }

// Close stops the server. Workers should have ended before.
func (s *Server) Close() error { return s.node.Close() }
