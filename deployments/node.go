package deployments

import (
	"context"
	"errors"
	"math"
	"strings"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/cloudburst-nats/cloudburst/broker"
	"github.com/cloudburst-nats/cloudburst/internal/lifecycle"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// NodeConfig describes a platform in one process.
type NodeConfig struct {
	// Server is the embedded server to start; nil connects to Broker.URL instead.
	Server *broker.ServerConfig
	// Broker says how to connect, and how streams are made.
	Broker broker.Config
	// Wait has the start wait for servers that are away until ctx ends.
	Wait bool
	// Hold keeps the embedded server up where its streams contradict what the platform
	// needs, and can't be put right: whoever is to mend that needs a server. The start
	// then goes on by itself, once it is mended, until ctx ends.
	Hold bool
	// Log is told of what the parts meet. Nil is silent.
	Log *logrus.Entry
}

// A Node is a running platform: server (or connection), gateway, janitor, timers and keeper.
// Workers join it with RunWorker, in this process or elsewhere.
type Node struct {
	server *broker.Server // nil when the server is elsewhere
	broker *broker.Broker
	group  *lifecycle.Group
}

// StartNode brings the parts up in order and returns once the platform answers.
// The node runs until Close; ctx bounds the start alone.
func StartNode(ctx context.Context, cfg NodeConfig) (*Node, error) {
	n := &Node{group: lifecycle.New(ctx)}
	if cfg.Server != nil {
		server, err := broker.StartServer(ctx, *cfg.Server)
		if err != nil {
			return nil, err
		}
		n.server = server
		cfg.Broker.Server = server
	}
	cfg.Broker.Log = cfg.Log
	toConnect, toEnsure := time.Duration(0), patience
	if cfg.Wait {
		toConnect, toEnsure = math.MaxInt64, math.MaxInt64
	}
	var b *broker.Broker
	err := patiently(ctx, toConnect, false, cfg.Log, func() (err error) {
		b, err = broker.Connect(ctx, cfg.Broker)
		return err
	})
	if err != nil {
		n.shutdown()
		return nil, err
	}
	n.broker = b
	if cfg.Server == nil {
		if err := b.CheckServer(ctx); err != nil {
			n.shutdown()
			return nil, err
		}
	}
	parts := n.group.Floor()
	parts.Start(func(ctx context.Context) error { return b.KeepStore(ctx, n.server) })
	if err := patiently(ctx, toEnsure, cfg.Hold, cfg.Log, func() error { return ensure(ctx, b) }); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	catalogue := b.NewCatalogue()
	parts.Start(catalogue.Run)
	select {
	case <-catalogue.Ready():
	case <-n.group.Failed():
		return nil, n.Close()
	case <-ctx.Done():
		return nil, errors.Join(context.Cause(ctx), n.Close())
	}
	gateway := b.NewGateway(catalogue)
	parts.Start(gateway.Run)
	parts.Start(b.NewJanitor(broker.JanitorConfig{}).Run)
	parts.Start(b.NewTimers().Run)
	parts.Start((&keeper{b: b, catalogue: catalogue, log: cfg.Log}).run)
	parts.Start(func(ctx context.Context) error { return b.KeepRight(ctx, keepRightEvery) })
	select {
	case <-gateway.Ready():
		return n, nil
	case <-n.group.Failed():
		return nil, n.Close()
	case <-ctx.Done():
		return nil, errors.Join(context.Cause(ctx), n.Close())
	}
}

// keepRightEvery is after how long, at most, a setting is put right that somebody
// changed and a promise rests on.
const keepRightEvery = 30 * time.Second

// patience is for how long what starts waits for storage that is there and can't
// answer: servers of a cluster have to elect a leader first.
const patience = 30 * time.Second

// patiently does something again while the servers are away, or too few to elect a
// leader; with hold, also until somebody has mended what contradicts.
func patiently(ctx context.Context, patience time.Duration, hold bool, log *logrus.Entry, do func() error) error {
	told := ""
	for began, wait := time.Now(), 250*time.Millisecond; ; {
		err := do()
		kind := wire.KindOf(err)
		held := hold && kind == wire.KindConflict
		if !held && (kind != wire.KindUnavailable || errors.Is(err, broker.ErrClosed) || time.Since(began) >= patience) {
			return err
		}
		if held {
			wait = 2 * time.Second
		}
		if first, _, _ := strings.Cut(err.Error(), "\n"); log != nil && (told == "" || held && told != first) {
			told = first
			if held {
				log.WithField("error", first).Error("NATS is up, and the platform waits until this is mended")
			} else {
				log.WithField("error", first).Warn("waiting for NATS")
			}
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return errors.Join(err, context.Cause(ctx))
		}
	}
}

// ensure makes what the platform needs.
func ensure(ctx context.Context, b *broker.Broker) error {
	err := b.SetUpPlatform(ctx)
	if err == nil {
		_, err = b.OpenBucket(ctx, broker.DefaultNamespace)
	}
	return err
}

// Failed is closed when a part has failed: the node goes on without it, and Close
// tells what it was.
func (n *Node) Failed() <-chan struct{} { return n.group.Failed() }

// Broker returns the node's own connection.
func (n *Node) Broker() *broker.Broker { return n.broker }

// URL returns where NATS clients reach the embedded server; empty if it has no
// port, or is elsewhere.
func (n *Node) URL() string {
	if n.server == nil {
		return ""
	}
	return n.server.URL()
}

// Close takes the parts down in reverse order and returns what they failed with.
func (n *Node) Close() error {
	err := n.group.Stop()
	n.shutdown()
	return err
}

func (n *Node) shutdown() {
	if n.broker != nil {
		n.broker.Close()
	}
	if n.server != nil {
		n.server.Shutdown()
	}
}
