// Package httpapi is the platform by HTTP: calls, runs, functions, DAGs and
// state, as openapi.json describes them and /v1/openapi.json shows.
//
// It holds nothing and decides nothing: a request becomes what the client
// library does, and its result, or its error with a code, a message and a hint,
// the response. A call is stored before it is acknowledged and runs whatever
// happens to the connection.
//
// There is no authentication: whoever reaches the port may do anything. So it
// listens on this machine only unless told otherwise, and then refuses what a web
// page elsewhere could have a browser here send: requests of another origin, and
// requests by a name that isn't this machine's (DNS rebinding).
package httpapi

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/cloudburst-nats/cloudburst"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// Config bounds what requests may take. The zero value works.
type Config struct {
	// MaxBody is the largest argument or value, in bytes. Default 64 MiB, which is
	// what the platform takes; images of functions may be four times as large.
	MaxBody int64
	// MaxWait is the longest that a request may wait for a result. Default 10 min.
	MaxWait time.Duration
	// MaxConcurrent is how many requests are served at once; more are refused with
	// status 503. Default 1024.
	MaxConcurrent int
	// Log is told of handlers that fail. Nil is silent.
	Log *logrus.Entry
}

// A Server answers HTTP requests.
type Server struct {
	client *cloudburst.Client
	cfg    Config
	mux    *http.ServeMux
	slots  chan struct{}
	local  bool // it listens on this machine only
	origin *http.CrossOriginProtection

	namespaces sync.Map // those that were seen
}

var _ http.Handler = (*Server)(nil)

// New returns a server of a platform. It listens nowhere until Serve.
func New(client *cloudburst.Client, cfg Config) *Server {
	if cfg.MaxBody <= 0 {
		cfg.MaxBody = 64 << 20
	}
	if cfg.MaxWait <= 0 {
		cfg.MaxWait = 10 * time.Minute
	}
	if cfg.MaxConcurrent <= 0 {
		cfg.MaxConcurrent = 1024
	}
	s := &Server{client: client, cfg: cfg, mux: http.NewServeMux(), slots: make(chan struct{}, cfg.MaxConcurrent), origin: http.NewCrossOriginProtection()}
	for pattern, rt := range s.routes() {
		s.mux.HandleFunc(pattern, s.handler(rt))
	}
	return s
}

// A handler answers a request, or returns what went wrong.
type handler func(w http.ResponseWriter, r *http.Request) error

// A route is what is done for requests of one pattern.
type route struct {
	handle handler
	// of is what the name in the address is a name of; what isn't known is looked
	// for among these.
	of names
	// query are the parameters that it takes: another one is an error, since somebody
	// would rely on it.
	query []string
}

func (s *Server) routes() map[string]route {
	calling := []string{"async", "wait", "level", "run", "in", "wait-for-worker"}
	return map[string]route{
		"POST /v1/fn/{name}":                 {s.call, callables, calling},
		"GET /v1/fn":                         {s.listFunctions, 0, nil},
		"GET /v1/fn/{name}":                  {s.showFunction, functions, nil},
		"PUT /v1/fn/{name}":                  {s.deploy, 0, deployParameters()},
		"DELETE /v1/fn/{name}":               {s.removeFunction, functions, nil},
		"POST /v1/fn/{name}/rollback":        {s.rollBack, functions, []string{"to"}},
		"GET /v1/fn/{name}/logs":             {s.logs, functions, []string{"run", "last", "follow"}},
		"GET /v1/runs":                       {s.listRuns, 0, []string{"name", "status", "limit", "after"}},
		"GET /v1/runs/{run...}":              {s.showRun, runs, []string{"wait"}},
		"DELETE /v1/runs/{run...}":           {s.cancelRun, runs, nil},
		"POST /v1/runs/{run}/signals/{name}": {s.signalRun, runs, nil},
		"POST /v1/messages/{to}":             {s.sendMessage, 0, nil},
		"GET /v1/dags":                       {s.listDAGs, 0, nil},
		"GET /v1/dags/{name}":                {s.showDAG, dags, nil},
		"PUT /v1/dags/{name}":                {s.applyDAG, 0, nil},
		"POST /v1/dags/{name}":               {s.call, callables, calling},
		"DELETE /v1/dags/{name}":             {s.removeDAG, dags, nil},
		"GET /v1/kv":                         {s.listNamespaces, 0, nil},
		"GET /v1/kv/{ns}":                    {s.listKeys, keys, []string{"prefix", "limit", "after"}},
		"GET /v1/kv/{ns}/{key...}":           {s.getKey, keys, nil},
		"PUT /v1/kv/{ns}/{key...}":           {s.putKey, keys, nil},
		"DELETE /v1/kv/{ns}/{key...}":        {s.deleteKey, keys, nil},
		"GET /healthz":                       {s.healthy, 0, nil},
		"GET /readyz":                        {s.ready, 0, nil},
		"GET /v1/openapi.json":               {describe, 0, nil},
	}
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := s.admit(r); err != nil {
		s.fail(w, r, 0, err)
		return
	}
	if at := r.URL.EscapedPath(); strings.HasPrefix(at, "/v1/") && path.Clean(at) != at {
		s.fail(w, r, 0, &wire.Error{Op: "read request", Name: at, Kind: wire.KindBadName, Msg: "no empty part, '.' or '..' is allowed, nor a slash at the end; slashes and dots that are part of a key are written as %2F and %2E"})
		return
	}
	if !strings.HasPrefix(r.URL.Path, "/v1/") { // whether it is well is asked when it is busy, too
		s.route(w, r)
		return
	}
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
		s.route(w, r)
	default:
		s.fail(w, r, 0, &wire.Error{Op: "serve", Kind: wire.KindBusy, Msg: fmt.Sprintf("%d requests are being served, which is the most", s.cfg.MaxConcurrent)})
	}
}

func (s *Server) route(w http.ResponseWriter, r *http.Request) {
	_, pattern := s.mux.Handler(r)
	if pattern == "" {
		s.noRoute(w, r)
		return
	}
	if strings.Count(pattern, "/") > strings.Count(r.URL.EscapedPath(), "/") { // the multiplexer would redirect to nothing
		s.fail(w, r, 0, &wire.Error{Op: "read request", Name: r.URL.Path, Kind: wire.KindBadName, Msg: "a part is missing: it is " + strings.ReplaceAll(pattern, "...}", "}")})
		return
	}
	s.mux.ServeHTTP(w, r)
}

// noRoute says in JSON what the multiplexer would say in text.
func (s *Server) noRoute(w http.ResponseWriter, r *http.Request) {
	probe := &probe{header: make(http.Header)}
	s.mux.ServeHTTP(probe, r)
	if allow := probe.header.Get("Allow"); allow != "" {
		w.Header().Set("Allow", allow)
		writeError(w, http.StatusMethodNotAllowed, body{Code: "method_not_allowed", Message: r.Method + " is not for " + r.URL.Path, Hint: "there are " + allow})
		return
	}
	writeError(w, http.StatusNotFound, body{Code: "no_route", Message: "there is nothing at " + r.URL.Path, Hint: "GET /v1/openapi.json lists what there is"})
}

// A probe takes the header of a response, and nothing else.
type probe struct{ header http.Header }

func (p *probe) Header() http.Header         { return p.header }
func (p *probe) Write(b []byte) (int, error) { return len(b), nil }
func (p *probe) WriteHeader(int)             {}

// admit refuses what a page elsewhere could have a browser here send.
func (s *Server) admit(r *http.Request) error {
	if s.local && !localName(r.Host) {
		return &forbidden{"the host " + r.Host + " is not this machine's: use 127.0.0.1 or localhost"}
	}
	if err := s.origin.Check(r); err != nil {
		return &forbidden{"a page of another origin: " + err.Error()}
	}
	return nil
}

type forbidden struct{ msg string }

func (f *forbidden) Error() string { return f.msg }

func localName(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// handler answers with the error that a route returns; a panic is one too.
func (s *Server) handler(rt route) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if p := recover(); p != nil {
				if p == http.ErrAbortHandler { //nolint:errorlint,err113 // this very value, as the package says
					panic(p)
				}
				if s.cfg.Log != nil {
					s.cfg.Log.WithField("path", r.URL.Path).Errorf("HTTP handler panicked: %v\n%s", p, debug.Stack())
				}
				writeError(w, http.StatusInternalServerError, body{Code: "internal", Message: "the gateway failed", Hint: "this is a defect: the server's log has more"})
			}
		}()
		err := only(r.URL.RawQuery, rt.query)
		if err == nil {
			err = rt.handle(w, r)
		}
		if err != nil {
			s.fail(w, r, rt.of, err)
		}
	}
}

// Listen listens for Serve. ":8080" and "8080" are this machine only; an address
// that other machines reach needs remote, since there is no authentication.
func Listen(ctx context.Context, addr string, remote bool) (net.Listener, error) {
	bad := func(msg string) error {
		return &wire.Error{Op: "listen for HTTP", Name: addr, Kind: wire.KindBadArgument, Msg: msg}
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		host, port = "", addr
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return nil, bad("it has to look like :8080 or 127.0.0.1:8080")
	}
	if host == "" {
		host = "127.0.0.1"
	}
	if !localName(host) && !remote {
		return nil, bad("other machines reach this address, and there is no authentication: listen on 127.0.0.1, or allow remote access (--allow-remote) where the network itself is protected")
	}
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(host, port))
	if err != nil && errors.Is(err, syscall.EADDRINUSE) {
		return nil, &wire.Error{Op: "listen for HTTP", Name: addr, Kind: wire.KindConflict, Msg: err.Error() + "; another server may be running there: stop it, or listen elsewhere (port 0 picks a free one)", Err: err}
	}
	if err != nil {
		return nil, bad(err.Error())
	}
	return ln, nil
}

const (
	headerWithin = 10 * time.Second // of a request
	bodyWithin   = 5 * time.Minute  // of a request with its body
	idleFor      = 2 * time.Minute  // a connection
	endWithin    = 30 * time.Second // requests, when the server ends
)

// Serve answers until ctx ends, and then what is under way, for half a minute at
// most. It closes the listener.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	s.local = localName(ln.Addr().String())
	following, stop := context.WithCancel(context.WithoutCancel(ctx))
	server := &http.Server{
		Handler: s, ReadHeaderTimeout: headerWithin, ReadTimeout: bodyWithin, IdleTimeout: idleFor,
		BaseContext: func(net.Listener) context.Context { return context.WithValue(following, endingKey{}, ctx.Done()) },
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ln) }()
	defer stop()
	select {
	case err := <-ended:
		return fmt.Errorf("serve HTTP: %w", err)
	case <-ctx.Done():
	}
	within, cancel := context.WithTimeout(context.WithoutCancel(ctx), endWithin)
	defer cancel()
	err := server.Shutdown(within)
	if err != nil {
		err = errors.Join(err, server.Close())
	}
	if closed := <-ended; !errors.Is(closed, http.ErrServerClosed) {
		err = errors.Join(err, closed)
	}
	return err
}

// endingKey is where a request's context has the channel that is closed when the
// server ends: what would go on for ever ends then.
type endingKey struct{}

func ending(r *http.Request) <-chan struct{} {
	done, _ := r.Context().Value(endingKey{}).(<-chan struct{})
	return done
}

//go:embed openapi.json
var description []byte

func describe(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Content-Type", "application/json")
	_, err := w.Write(description)
	return ignoreGone(err)
}

func (s *Server) healthy(w http.ResponseWriter, _ *http.Request) error {
	return writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
}

// ready says whether the platform behind can be reached.
func (s *Server) ready(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
	defer cancel()
	if _, err := s.client.Broker().Workers(ctx); err != nil {
		return &wire.Error{Op: "reach the platform", Kind: wire.KindUnavailable, Msg: err.Error(), Err: err}
	}
	if err := s.client.Broker().Full(); err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, map[string]string{"status": "ready"})
}

func writeJSON(w http.ResponseWriter, status int, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, err = w.Write(append(text, '\n'))
	return ignoreGone(err)
}

// ignoreGone drops the error of a caller that has gone: there is nobody to tell.
func ignoreGone(error) error { return nil }
