package broker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/sirupsen/logrus"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// Config says how to reach NATS. The zero value connects to nats://127.0.0.1:4222.
type Config struct {
	// Name is shown by NATS monitoring. Default "cloudburst".
	Name string
	// URL is one or more server URLs, separated by commas. Ignored with Server.
	URL string
	// Server is an embedded server to connect to inside the process.
	Server *Server
	// Creds is the path of a credentials file; empty for none.
	Creds string
	// TLSCA, TLSCert and TLSKey are paths of PEM files; empty for the system's
	// roots and no client certificate.
	TLSCA, TLSCert, TLSKey string
	// Timeout bounds every request to the server. Default 5 s.
	Timeout time.Duration
	// Topology is what EnsurePlatform writes down, or changes. Others have no use for
	// it: the platform keeps its sizes itself.
	Topology Topology
	// Log is told of lost and regained connections. Nil is silent.
	Log *logrus.Entry
}

// A Broker is one process's connection to the platform. It is safe for
// concurrent use. Close ends it.
type Broker struct {
	nc      *nats.Conn
	js      bounded
	mux     *mux
	timeout time.Duration
	sizes   sizes
	full    fullFlag
	known   known
	observe observer
	objects objects
	payload atomic.Int64 // what a message holds, in bytes
	told    told
	hush    hush
	floors  floors
	absent  absent
	clock   serverClock

	attendance attendance

	mu          sync.Mutex    // guards what follows
	reconnected []func()      // called after every reconnect
	again       chan struct{} // closed at the next reconnect
}

// Connect dials NATS and returns once the connection stands.
func Connect(ctx context.Context, cfg Config) (*Broker, error) {
	if cfg.Timeout <= 0 {
		cfg.Timeout = 5 * time.Second
	}
	b := &Broker{timeout: cfg.Timeout, observe: observer{cfg.Log}, again: make(chan struct{}), attendance: newAttendance()}
	b.sizes.given = cfg.Topology
	b.sizes.now.Store(&settled{Topology: cfg.Topology.withDefaults()})
	opts, err := b.options(cfg)
	if err != nil {
		return nil, err
	}
	urls := cfg.URL
	if urls == "" {
		urls = nats.DefaultURL
	}
	if cfg.Server != nil {
		urls = ""
	}
	b.nc, err = nats.Connect(urls, opts...)
	if err != nil {
		return nil, connectError(urls, err)
	}
	if err := b.checkPayload(); err != nil {
		b.nc.Close()
		return nil, err
	}
	js, err := jetstream.New(b.nc, jetstream.WithDefaultTimeout(cfg.Timeout))
	if err != nil {
		b.nc.Close()
		return nil, fmt.Errorf("open JetStream: %w", err)
	}
	b.js = bounded{js, cfg.Timeout}
	m, err := newMux(b.nc, cfg.Timeout, b.fullForAll, b.explain)
	if err != nil {
		b.nc.Close()
		return nil, fmt.Errorf("open reply inbox: %w", err)
	}
	b.mu.Lock() // a connection may be closed for good at any time
	b.mux = m
	b.mu.Unlock()
	if err := b.follow(); err != nil {
		b.nc.Close()
		return nil, fmt.Errorf("follow the platform's sizes: %w", err)
	}
	if cfg.Server == nil || cfg.Server.cfg.Cluster == nil { // one of several has nobody to ask yet
		if _, err := b.learnStored(ctx, min(cfg.Timeout, 2*time.Second)); err != nil {
			b.observe.sizesUnknown(err) // whoever needs them asks again
		}
	}
	if ctx.Err() != nil {
		b.Close()
		return nil, &wire.Error{Op: "connect to NATS", Name: RedactURL(urls), Kind: wire.KindTimeout, Msg: "no connection in the time that there was", Err: context.Cause(ctx)}
	}
	return b, nil
}

// connectError tells a server that is away from one that doesn't want us, and from
// what can't be a server at all.
func connectError(urls string, err error) error {
	e := &wire.Error{Op: "connect to NATS", Kind: wire.KindUnavailable, Name: RedactURL(urls), Err: err}
	why := strings.TrimPrefix(err.Error(), "nats: ")
	var address *net.AddrError
	var parse *url.Error
	switch {
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired), errors.Is(err, nats.ErrAuthRevoked):
		e.Kind, e.Msg = wire.KindBadArgument, why+"; check the user, the password or the credentials file"
	case errors.As(err, &address), errors.As(err, &parse):
		e.Kind, e.Msg = wire.KindBadArgument, "this is no address of a server; it looks like nats://127.0.0.1:4222"
	case strings.Contains(why, "certificate"), strings.Contains(why, "credentials"), strings.Contains(why, "tls:"):
		e.Kind, e.Msg = wire.KindBadArgument, why+"; check the files of the certificates and the credentials"
	case errors.Is(err, nats.ErrNoServers), errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, nats.ErrTimeout):
		e.Msg = "nobody answers there; is a server running? `cloudburst server` starts one"
	default:
		e.Msg = why + "; is a server running there? `cloudburst server` starts one"
	}
	return e
}

// RedactURL takes user, password and token out of NATS URLs, of which there may be
// several with commas.
func RedactURL(list string) string {
	urls := strings.Split(list, ",")
	for i, one := range urls {
		if u, err := url.Parse(one); err == nil && u.User != nil {
			u.User = nil
			urls[i] = u.String()
		}
	}
	return strings.Join(urls, ",")
}

// ErrClosed is the cause of what fails because Close was called before.
var ErrClosed = nats.ErrConnectionClosed

// Close flushes what was published and ends the connection. Requests under way
// return an error.
func (b *Broker) Close() {
	// Bounded: a server that is gone must not hold up the caller.
	if err := b.nc.FlushTimeout(time.Second); err != nil {
		b.observe.closedUnflushed(err)
	}
	b.mux.stop()
	b.nc.Close()
}

// Conn returns the NATS connection, for what the platform has no words for.
func (b *Broker) Conn() *nats.Conn { return b.nc }

// JetStream returns the JetStream context of the connection.
func (b *Broker) JetStream() jetstream.JetStream { return b.js.JetStream }

// onReconnect has fn called after every reconnect, from a goroutine of the
// NATS client: fn must not block. The returned func ends that.
func (b *Broker) onReconnect(fn func()) (cancel func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reconnected = append(b.reconnected, fn)
	i := len(b.reconnected) - 1
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.reconnected[i] = nil
	}
}

// epoch returns a channel that is closed at the next reconnect.
func (b *Broker) epoch() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.again
}

func (b *Broker) options(cfg Config) ([]nats.Option, error) {
	name := cfg.Name
	if name == "" {
		name = "cloudburst"
	}
	opts := []nats.Option{
		nats.Name(name),
		nats.MaxReconnects(-1),
		nats.IgnoreAuthErrorAbort(), // credentials may be renewed, and a server restarted with others
		// A connection that is only half open is noticed within half a minute.
		nats.PingInterval(10 * time.Second), nats.MaxPingsOutstanding(2),
		nats.ClosedHandler(func(*nats.Conn) {
			b.mu.Lock()
			m := b.mux
			b.mu.Unlock()
			if m != nil {
				m.stop() // nothing will be answered any more
			}
		}),
		nats.ReconnectWait(100 * time.Millisecond),
		nats.ReconnectJitter(100*time.Millisecond, 500*time.Millisecond),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			b.payload.Store(nc.MaxPayload())
			b.observe.reconnected()
			b.full.Store(nil) // who is full tells again
			b.mu.Lock()
			fns := append([]func(){}, b.reconnected...)
			close(b.again)
			b.again = make(chan struct{})
			b.mu.Unlock()
			for _, fn := range fns {
				if fn != nil {
					fn()
				}
			}
		}),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) { b.observe.disconnected(err) }),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) { b.observe.asyncError(sub, err) }),
	}
	if cfg.Server != nil {
		opts = append(opts, cfg.Server.inProcess()...)
	}
	secured, err := credentials(cfg)
	return append(opts, secured...), err
}

// credentials are the options that say who connects, and whom to trust.
func credentials(cfg Config) (opts []nats.Option, err error) {
	for _, path := range []string{cfg.Creds, cfg.TLSCA, cfg.TLSCert, cfg.TLSKey} {
		if path == "" {
			continue
		}
		if _, err := os.Stat(path); err != nil {
			return nil, &wire.Error{Op: "connect to NATS", Kind: wire.KindBadArgument, Name: path, Msg: err.Error(), Err: err}
		}
	}
	if cfg.Creds != "" {
		opts = append(opts, nats.UserCredentials(cfg.Creds))
	}
	if cfg.TLSCA != "" {
		opts = append(opts, nats.RootCAs(cfg.TLSCA))
	}
	if (cfg.TLSCert == "") != (cfg.TLSKey == "") {
		return nil, &wire.Error{Op: "connect to NATS", Kind: wire.KindBadArgument, Msg: "a client certificate needs both a certificate and a key file"}
	}
	if cfg.TLSCert != "" {
		opts = append(opts, nats.ClientCert(cfg.TLSCert, cfg.TLSKey))
	}
	return opts, nil
}

// apiError turns what NATS said into an Error that a caller can act on.
func apiError(op, name string, err error) error {
	if err == nil {
		return nil
	}
	e := &wire.Error{Op: op, Name: name, Kind: wire.KindUnavailable, Msg: err.Error(), Err: err}
	var known *wire.Error
	var api *jetstream.APIError
	switch {
	case errors.As(err, &known):
		return err
	case errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, ErrClosed):
		e.Msg = "the client was closed: connect anew"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrTimeout):
		e.Msg = "no answer from the server in time; it may be down or without a quorum"
	case errors.Is(err, nats.ErrNoResponders):
		e.Msg = "nobody answers for it now: its stream isn't there, or JetStream is on its way back; try again"
	case errors.Is(err, nats.ErrMaxPayload):
		e.Kind, e.Msg = wire.KindTooLarge, "with its headers it is larger than the server's max_payload: store it and pass a reference"
	case errors.As(err, &api):
		e.Kind = apiKind(api)
		switch e.Kind { //nolint:exhaustive // the others' own words are enough
		case wire.KindBusy:
			e.Msg = api.Description + ": the stream or the disk is full; wait for workers to catch up, add workers, or raise the limit"
		case wire.KindTooLarge:
			e.Msg = api.Description + ": store the value in parts and pass references"
		}
	}
	return e
}

// Codes of the JetStream API that mean something to us (server/errors.json).
const (
	codeNoResources   = 10023 // the disk or the account's storage is full
	codeNoStorage     = 10047
	codeNoReplicas    = 10074 // a server that is alone keeps one copy
	codeTooLarge      = 10054
	codeStoreFailed   = 10077 // maximum bytes or messages exceeded
	codeWrongLastSeq  = 10071
	codeInProcess     = 10158 // a message of the same id is being stored on a replicated stream
	codeWrongLastSeq2 = 10164 // an in-flight write, on replicated streams
)

func apiKind(e *jetstream.APIError) wire.Kind {
	switch {
	case recovers(e):
		return wire.KindUnavailable
	case e.ErrorCode == codeNoResources, e.ErrorCode == codeNoStorage, e.ErrorCode == codeStoreFailed:
		return wire.KindBusy
	case e.ErrorCode == codeTooLarge:
		return wire.KindTooLarge
	case e.Code == 404:
		return wire.KindUnknown
	case e.Code == 400:
		return wire.KindConflict
	default:
		return wire.KindUnavailable
	}
}
