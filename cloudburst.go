// Package cloudburst is the client library of Cloudburst: stateful functions
// on NATS JetStream, after the paper "Cloudburst: Stateful
// Functions-as-a-Service" (PVLDB 13(11), 2020).
//
// A Client is a connection to a platform that runs somewhere (cloudburst
// server), or in this very process (Start). With it, a program calls functions
// and DAGs by name, holds futures of their results, reads and writes the state
// they share, and defines DAGs. A Worker serves functions, written as ordinary
// Go funcs, from the program's own binary; Handle registers them.
//
// A call is stored before it is acknowledged and runs at least once; what a
// function writes to its Session is stored, once, before its caller hears of
// the result. What fails for good is kept as a dead letter.
package cloudburst

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/sirupsen/logrus"

	"github.com/cloudburst-nats/cloudburst/broker"
	"github.com/cloudburst-nats/cloudburst/kvlattice"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// Words of the platform that callers meet.
type (
	// Value is raw bytes with a content type; arguments, results and state
	// that are not JSON travel as a Value.
	Value = wire.Value
	// RunID names one execution of a function or DAG.
	RunID = wire.RunID
	// Result is the outcome of a run with its timings.
	Result = wire.Result
	// Function is a function's registration.
	Function = wire.Function
)

// DefaultNamespace is the bucket that state is kept in unless another is named.
const DefaultNamespace = broker.DefaultNamespace

// A Client is a connection to a platform. It is safe for concurrent use.
type Client struct {
	*shared
	call callOptions
}

// shared is what a client and those derived of it by With have in common.
type shared struct {
	broker *broker.Broker
	writer string           // this incarnation, as a writer of state
	clock  *kvlattice.Clock // of the servers' time
	stamps stamps
	log    *logrus.Entry
	sent   atomic.Uint64 // messages
	// operations counts what client.State() counts and adds to observed-remove sets.
	operations atomic.Uint64

	mu     sync.Mutex // guards what follows
	stores map[string]*kvlattice.Store
}

// Connect connects to the platform behind a NATS server or cluster: url is one
// or more NATS URLs, separated by commas; empty is nats://127.0.0.1:4222.
func Connect(ctx context.Context, url string, opts ...Option) (*Client, error) {
	cfg := broker.Config{URL: url}
	for _, opt := range opts {
		opt(&cfg)
	}
	b, err := broker.Connect(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return NewClient(b, cfg.Log), nil
}

// NewClient returns a client on a broker that the caller has connected, and
// that Close closes. Most programs want Connect.
func NewClient(b *broker.Broker, log *logrus.Entry) *Client {
	clock := kvlattice.NewClock(b.Now)
	return &Client{shared: &shared{
		broker: b, log: log,
		writer: "c-" + uuid.NewString()[:13],
		clock:  clock,
		stamps: stamps{clock: clock},
		stores: make(map[string]*kvlattice.Store),
	}}
}

// Close ends the connection. Runs under way go on.
func (c *Client) Close() { c.broker.Close() }

// Broker returns the connection underneath, for tools.
func (c *Client) Broker() *broker.Broker { return c.broker }

// An Option changes how Connect connects.
type Option func(*broker.Config)

// WithName sets the name that NATS monitoring shows. Default "cloudburst".
func WithName(name string) Option { return func(c *broker.Config) { c.Name = name } }

// WithCredentials authenticates with a NATS credentials file.
func WithCredentials(path string) Option { return func(c *broker.Config) { c.Creds = path } }

// WithTLS sets paths of PEM files: the authority to trust, and a client
// certificate with its key. Each may be empty.
func WithTLS(ca, cert, key string) Option {
	return func(c *broker.Config) { c.TLSCA, c.TLSCert, c.TLSKey = ca, cert, key }
}

// WithTimeout bounds each request to the server. Default 5 s.
func WithTimeout(d time.Duration) Option { return func(c *broker.Config) { c.Timeout = d } }

// WithTopology has no effect on a platform that is there: it keeps its sizes itself.
//
// Deprecated: give the sizes to the first server, or use `cloudburst platform set`.
func WithTopology(t broker.Topology) Option { return func(c *broker.Config) { c.Topology = t } }

// WithLog has the client tell of lost connections and of what its workers meet.
// Default: silent.
func WithLog(log *logrus.Entry) Option { return func(c *broker.Config) { c.Log = log } }
