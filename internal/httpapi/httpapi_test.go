package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"

	"github.com/cloudburst-nats/cloudburst"
)

// A gateway is a platform with the HTTP server before it. Every response is held
// to the document.
type gateway struct {
	t      *testing.T
	client *cloudburst.Client
	server *Server
	doc    *openapi3.T
	router routers.Router
	seen   map[string]bool // "<operation> <status>"
}

func newGateway(t *testing.T, cfg Config) *gateway {
	t.Helper()
	platform, err := cloudburst.Start(t.Context(), cloudburst.ServerConfig{Listen: "none", Store: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := platform.Close(); err != nil {
			t.Error(err)
		}
	})
	w := cloudburst.NewWorker(platform.Client())
	cloudburst.Handle(w, "square", func(_ context.Context, _ *cloudburst.Session, x int) (int, error) { return x * x, nil })
	cloudburst.Handle(w, "bytes", func(_ context.Context, _ *cloudburst.Session, v cloudburst.Value) (cloudburst.Value, error) {
		return v, nil
	})
	cloudburst.Handle(w, "bad", func(context.Context, *cloudburst.Session, struct{}) (int, error) {
		return 0, errors.New("it went wrong")
	}, cloudburst.Attempts(1))
	cloudburst.Handle(w, "late", func(ctx context.Context, _ *cloudburst.Session, _ struct{}) (int, error) {
		<-ctx.Done()
		return 0, ctx.Err()
	}, cloudburst.Attempts(1), cloudburst.Timeout(20*time.Millisecond))
	gate := make(chan struct{})
	cloudburst.Handle(w, "slow", func(ctx context.Context, _ *cloudburst.Session, _ struct{}) (int, error) {
		select {
		case <-gate:
			return 7, nil
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	})
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.Serve(ctx) }()
	<-w.Ready()
	t.Cleanup(func() {
		close(gate)
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	doc, err := openapi3.NewLoader().LoadFromData(description)
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Fatal(err)
	}
	router, err := legacy.NewRouter(doc)
	if err != nil {
		t.Fatal(err)
	}
	return &gateway{t: t, client: platform.Client(), server: New(platform.Client(), cfg), doc: doc, router: router, seen: make(map[string]bool)}
}

// do makes a request and returns the response, which must be one that the
// document has.
func (g *gateway) do(method, target, body string, header ...string) *httptest.ResponseRecorder {
	g.t.Helper()
	req := httptest.NewRequestWithContext(g.t.Context(), method, "http://127.0.0.1"+target, strings.NewReader(body))
	for i := 0; i+1 < len(header); i += 2 {
		if header[i] == "Host" {
			req.Host = header[i+1]
		}
		req.Header.Set(header[i], header[i+1])
	}
	rec := httptest.NewRecorder()
	g.server.ServeHTTP(rec, req)
	g.hold(req, rec)
	return rec
}

func (g *gateway) hold(req *http.Request, rec *httptest.ResponseRecorder) {
	g.t.Helper()
	flat := req.Clone(req.Context()) // OpenAPI has no parameter that holds slashes
	flat.Host = "127.0.0.1"
	for prefix, parts := range map[string]int{"/v1/runs/": 1, "/v1/messages/": 1, "/v1/kv/": 2} {
		if rest, ok := strings.CutPrefix(req.URL.Path, prefix); ok {
			rest, signal, _ := strings.Cut(rest, "/signals/")
			split := strings.SplitN(rest, "/", parts)
			split[len(split)-1] = strings.ReplaceAll(split[len(split)-1], "/", "_")
			flat.URL.Path, flat.URL.RawPath = prefix+strings.Join(split, "/"), ""
			if signal != "" {
				flat.URL.Path += "/signals/" + signal
			}
		}
	}
	route, params, err := g.router.FindRoute(flat)
	if err != nil {
		if rec.Code != http.StatusNotFound && rec.Code != http.StatusMethodNotAllowed {
			g.t.Errorf("%s %s: %v, and the answer is %d", req.Method, req.URL, err, rec.Code)
		}
		return
	}
	g.seen[fmt.Sprint(route.Operation.OperationID, " ", rec.Code)] = true
	err = openapi3filter.ValidateResponse(g.t.Context(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: req, PathParams: params, Route: route},
		Status:                 rec.Code, Header: rec.Header(), Body: io.NopCloser(bytes.NewReader(rec.Body.Bytes())),
		Options: &openapi3filter.Options{IncludeResponseStatus: true, MultiError: true, ExcludeResponseBody: !strings.HasPrefix(rec.Header().Get("Content-Type"), "application/json")},
	})
	if err != nil {
		g.t.Errorf("%s %s is answered otherwise than described: %v\n%s", req.Method, req.URL, err, rec.Body)
	}
}

// want checks status and body; code is that of an error.
func (g *gateway) want(rec *httptest.ResponseRecorder, status int, contains ...string) {
	g.t.Helper()
	if rec.Code != status {
		g.t.Errorf("status %d, want %d: %s", rec.Code, status, rec.Body)
	}
	for _, part := range contains {
		if !strings.Contains(rec.Body.String(), part) {
			g.t.Errorf("%q isn't in %s", part, rec.Body)
		}
	}
}

func TestCalls(t *testing.T) {
	g := newGateway(t, Config{MaxBody: 1 << 20})
	rec := g.do("POST", "/v1/fn/square", "5")
	g.want(rec, 200)
	if rec.Body.String() != "25" || rec.Header().Get("Content-Type") != "application/json" || rec.Header().Get("Cb-Run") == "" {
		t.Errorf("got %q, %v", rec.Body, rec.Header())
	}
	// What curl -d says unless told otherwise.
	g.want(g.do("POST", "/v1/fn/square", "6", "Content-Type", "application/x-www-form-urlencoded"), 200, "36")
	rec = g.do("POST", "/v1/fn/bytes", "\x00\x01<script>", "Content-Type", "application/octet-stream")
	g.want(rec, 200, "\x00\x01<script>")
	if rec.Header().Get("Content-Type") != "application/octet-stream" || rec.Header().Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("headers %v", rec.Header())
	}
	g.want(g.do("POST", "/v1/fn/square", "{"), 400, `"bad_argument"`, "not valid JSON")
	g.want(g.do("POST", "/v1/fn/square", `"five"`), 400, `"bad_argument"`)
	g.want(g.do("POST", "/v1/fn/squar", "5"), 404, `"unknown"`, "did you mean square")
	g.want(g.do("POST", "/v1/fn/a.b", "5"), 400, `"bad_name"`)
	g.want(g.do("POST", "/v1/fn/square?level=best", "5"), 400, "best")
	g.want(g.do("POST", "/v1/fn/square?wait=soon", "5"), 400, "soon")
	g.want(g.do("POST", "/v1/fn/square?wiat=5s", "5"), 400, "wiat")
	g.want(g.do("POST", "/v1/fn/square?wait=99h", "5"), 400, "longest")
	g.want(g.do("POST", "/v1/fn/square?async=0", "5"), 200, "25")
	g.want(g.do("POST", "/v1/fn/square?async=maybe", "5"), 400, "maybe")
	g.want(g.do("POST", "/v1/fn/bad", ""), 500, `"function_failed"`, "it went wrong", `"run"`)
	g.want(g.do("POST", "/v1/fn/bytes", strings.Repeat(" ", 1<<20+1)), 413, `"too_large"`, "1048576")
	g.want(g.do("POST", "/v1/fn/slow?wait=50ms&run=slow-1", ""), 504, `"timeout"`, "the run goes on: GET /v1/runs/slow-1")
	g.want(g.do("GET", "/v1/runs/slow-1", ""), 200, `"running"`)
	g.want(g.do("DELETE", "/v1/runs/slow-1", ""), 204)
	g.want(g.do("GET", "/v1/runs/slow-1?wait=20s", ""), 200, `"cancelled"`)
}

func TestRuns(t *testing.T) {
	g := newGateway(t, Config{})
	rec := g.do("POST", "/v1/fn/square?async&run=order/1", "9")
	g.want(rec, 202, `"order/1"`)
	rec = g.do("GET", "/v1/runs/order/1?wait=20s", "")
	g.want(rec, 200, `"ok"`, `"value":81`)
	g.want(g.do("POST", "/v1/fn/square?async&run=order/1", "9"), 202)
	g.want(g.do("POST", "/v1/fn/square?run=order/1", "9"), 200, "81")
	for _, again := range []string{"square?async&run=order/1", "square?run=order/1", "bytes?run=order/1"} {
		g.want(g.do("POST", "/v1/fn/"+again, "10"), 409, `"conflict"`, "order/1", "choose another id")
	}
	g.want(g.do("GET", "/v1/runs/order/1?wait=20s", ""), 200, `"value":81`) // it ran once
	g.want(g.do("GET", "/v1/runs/nobody", ""), 404, `"unknown"`)
	g.want(g.do("GET", "/v1/runs/a%20b", ""), 400)
	g.want(g.do("POST", "/v1/fn/bytes?async=1&run=b", "\xff", "Content-Type", "image/png"), 202)
	g.want(g.do("GET", "/v1/runs/b?wait=20s", ""), 200, `"base64":"/w=="`, `"image/png"`)
	g.want(g.do("POST", "/v1/fn/bad?async=1&run=c", ""), 202)
	g.want(g.do("GET", "/v1/runs/c?wait=20s", ""), 200, `"failed"`, "it went wrong")

	// A token takes a caller's past from call to call.
	first := g.do("POST", "/v1/fn/square", "2", "Cb-Session", `{"token":true}`)
	g.want(first, 200)
	if first.Header().Get("Cb-Session") == "" {
		t.Error("no token")
	}
}

func TestSignals(t *testing.T) {
	g := newGateway(t, Config{})
	g.want(g.do("PUT", "/v1/dags/order", `{"name":"order","nodes":[{"name":"bytes","as":"order","signal":"approve"}]}`), 200)
	g.want(g.do("POST", "/v1/fn/order?async&run=order%2F1", "9"), 202)
	g.want(g.do("POST", "/v1/runs/order%2F1/signals/aprove", "true"), 404, "it awaits approve")
	g.want(g.do("POST", "/v1/runs/order%2F1/signals/approve", "{"), 400)
	g.want(g.do("POST", "/v1/runs/order%2F1/signals/approve", `{"by":"eve"}`), 204)
	g.want(g.do("POST", "/v1/runs/order%2F1/signals/approve", "false"), 409, `"conflict"`)
	g.want(g.do("GET", "/v1/runs/order/1?wait=20s", ""), 200, `"value":{"order":9,"signal":{"by":"eve"}}`)
	g.want(g.do("POST", "/v1/runs/nobody/signals/approve", ""), 404, `"unknown"`)
	g.want(g.do("POST", "/v1/messages/order%2F2", `{"n":1}`), 204)
	g.want(g.do("POST", "/v1/messages/order%2F2", "{"), 400, `"bad_argument"`)
	g.want(g.do("POST", "/v1/messages/a%20b", "1"), 400, `"bad_name"`)
}

func TestStateAndDAGs(t *testing.T) {
	g := newGateway(t, Config{})
	for _, key := range []string{"plain", "with/slash", "user%3A1", "%C3%A4%20b", "dot.dot"} {
		g.want(g.do("GET", "/v1/kv/state/"+key, ""), 404)
		g.want(g.do("PUT", "/v1/kv/state/"+key, `{"a":1}`), 204)
		g.want(g.do("GET", "/v1/kv/state/"+key, ""), 200, `{"a":1}`)
		g.want(g.do("DELETE", "/v1/kv/state/"+key, ""), 204)
		g.want(g.do("GET", "/v1/kv/state/"+key, ""), 404, "PUT it first")
	}
	if v, found, err := g.client.State().Get(t.Context(), "user:1"); err != nil || found {
		t.Errorf("user:1 is %v, %v, %v", v, found, err)
	}
	rec := g.do("PUT", "/v1/kv/state/mine", "1", "Cb-Session", `{"token":true}`)
	g.want(rec, 204)
	token := rec.Header().Get("Cb-Session")
	if !strings.Contains(token, `"state"`) {
		t.Errorf("the token %q has not seen the write", token)
	}
	g.want(g.do("GET", "/v1/kv/state/mine", "", "Cb-Session", token), 200, "1")
	g.want(g.do("GET", "/v1/kv/state/mine", "", "Cb-Session", "nonsense"), 400)
	for _, key := range []string{"a//b", "a/../b", "./a"} { // another key, to who cleans paths
		g.want(g.do("PUT", "/v1/kv/state/"+key, "1"), 400, "%2F")
	}
	g.want(g.do("PUT", "/v1/kv/state/a%2F%2E%2E%2Fb", "1"), 204)
	if _, found, err := g.client.State().Get(t.Context(), "a/../b"); err != nil || !found {
		t.Errorf("a/../b: %v, %v", found, err)
	}
	g.want(g.do("PUT", "/v1/kv/state/k", "{"), 400, "JSON")
	g.want(g.do("GET", "/v1/kv/typo/k", ""), 404, "typo")
	g.want(g.do("DELETE", "/v1/kv/typo/k", ""), 404, "typo")
	g.want(g.do("PUT", "/v1/kv/state/k", "{", "Content-Type", "text/plain"), 204)
	g.want(g.do("PUT", "/v1/kv/cb_functions/k", "1"), 400)

	g.want(g.do("PUT", "/v1/dags/twice", "nodes:\n  - {name: a, function: square}\n  - {name: b, function: square}\nedges:\n  - {from: a, to: b}\n", "Content-Type", "application/yaml"), 200)
	g.want(g.do("PUT", "/v1/dags/twice", "nodes: [{name: a, function: square}, {name: a, function: square}]"), 400, `"invalid"`, "two nodes")
	g.want(g.do("PUT", "/v1/dags/twice", `{"name":"other","nodes":[{"name":"a","function":"square"}]}`), 400, "another name")
	g.want(g.do("PUT", "/v1/dags/twice", `{"name":"twice","nodes":[{"name":"a","function":"nobody"}]}`), 400, "nobody")
	g.want(g.do("PUT", "/v1/dags/twice", "name: twice\nnodes:\n  - {name: a, function: square}\n  - {name: b, function: square}\nedges:\n  - {from: a, to: b}\n", "Content-Type", "application/yaml"), 200, `"twice"`)
	g.want(g.do("POST", "/v1/dags/twice", "3"), 200, "81")
	g.want(g.do("POST", "/v1/fn/twice", "3"), 200, "81")
	g.want(g.do("GET", "/v1/dags", ""), 200, `"twice"`)
	g.want(g.do("GET", "/v1/dags/twice", ""), 200, `"edges"`)
	g.want(g.do("DELETE", "/v1/dags/twice", ""), 204)
	g.want(g.do("GET", "/v1/dags/twice", ""), 404)
	g.want(g.do("DELETE", "/v1/dags/twice", ""), 404)
}

func TestFunctions(t *testing.T) {
	g := newGateway(t, Config{})
	g.want(g.do("GET", "/v1/fn", ""), 200, `"square"`, `"native"`)
	g.want(g.do("GET", "/v1/fn/square", ""), 200, `"timeout_ms":60000`)
	g.want(g.do("GET", "/v1/fn/nobody", ""), 404)
	g.want(g.do("PUT", "/v1/fn/f?memory=lots", "x"), 400, "lots")
	g.want(g.do("PUT", "/v1/fn/f?limit=1", "x"), 400, "no such parameter")
	g.want(g.do("PUT", "/v1/fn/f?timeout=soon", "x"), 400, "it is a duration", "soon")
	g.want(g.do("PUT", "/v1/fn/f?attempts=two", "x"), 400, "it is a whole number", "two")
	g.want(g.do("PUT", "/v1/fn/f", ""), 400, "empty")
	g.want(g.do("PUT", "/v1/fn/f", "def handler(cloudburst): pass"), 503, `"unavailable"`, "worker run")
	g.want(g.do("POST", "/v1/fn/square/rollback", ""), 404)
	g.want(g.do("POST", "/v1/fn/square/rollback?to=x", ""), 400)
	g.want(g.do("GET", "/v1/fn/square/logs", ""), 200)
	g.want(g.do("GET", "/v1/fn/nobody/logs", ""), 404)
	g.want(g.do("GET", "/v1/fn/square/logs?last=-1", ""), 400)
	g.want(g.do("DELETE", "/v1/fn/nobody", ""), 404)
	g.want(g.do("DELETE", "/v1/fn/square", ""), 204)
}

func TestHealthAndRoutes(t *testing.T) {
	g := newGateway(t, Config{})
	g.want(g.do("GET", "/healthz", ""), 200)
	g.want(g.do("GET", "/readyz", ""), 200)
	g.want(g.do("GET", "/v1/openapi.json", ""), 200, `"openapi"`)
	g.want(g.do("GET", "/nothing", ""), 404, `"no_route"`)
	rec := g.do("PATCH", "/v1/fn/square", "")
	g.want(rec, 405, `"method_not_allowed"`)
	if !strings.Contains(rec.Header().Get("Allow"), "POST") {
		t.Errorf("Allow: %q", rec.Header().Get("Allow"))
	}
	// The document and the routes are of the same operations.
	described := make(map[string]bool)
	for path, item := range g.doc.Paths.Map() {
		for method := range item.Operations() {
			described[method+" "+path] = true
		}
	}
	routed := make(map[string]bool)
	for pattern := range g.server.routes() {
		routed[strings.ReplaceAll(pattern, "...}", "}")] = true
	}
	for r := range routed {
		if !described[r] {
			t.Errorf("%s isn't described", r)
		}
	}
	for d := range described {
		if !routed[d] {
			t.Errorf("%s is described, and isn't there", d)
		}
	}
}

func TestBrowsersFromElsewhereAreRefused(t *testing.T) {
	g := newGateway(t, Config{})
	g.server.local = true
	req := func(method, host string, header ...string) int {
		t.Helper()
		r := httptest.NewRequestWithContext(t.Context(), method, "http://"+host+"/v1/fn/square", strings.NewReader("2"))
		for i := 0; i+1 < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		rec := httptest.NewRecorder()
		g.server.ServeHTTP(rec, r)
		return rec.Code
	}
	for _, c := range []struct {
		want int
		got  int
	}{
		{200, req("POST", "127.0.0.1:8080")},
		{200, req("POST", "localhost:8080")},
		{200, req("POST", "[::1]:8080")},
		{403, req("POST", "evil.example:8080")}, // resolves to 127.0.0.1 by now
		{403, req("POST", "127.0.0.1:8080", "Origin", "http://evil.example")},
		{403, req("POST", "127.0.0.1:8080", "Sec-Fetch-Site", "cross-site")},
		{200, req("POST", "127.0.0.1:8080", "Origin", "http://127.0.0.1:8080")},
	} {
		if c.got != c.want {
			t.Errorf("status %d, want %d", c.got, c.want)
		}
	}
}

func TestTooManyRequestsAreRefused(t *testing.T) {
	g := newGateway(t, Config{MaxConcurrent: 2})
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() {
			r := httptest.NewRequestWithContext(ctx, "POST", "http://127.0.0.1/v1/fn/slow", nil)
			g.server.ServeHTTP(httptest.NewRecorder(), r)
		})
	}
	eventually(t, "the requests have begun", func() bool { return len(g.server.slots) == 2 })
	rec := httptest.NewRecorder()
	g.server.ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), "GET", "http://127.0.0.1/v1/fn", nil))
	if rec.Code != 503 || rec.Header().Get("Retry-After") == "" {
		t.Errorf("status %d, %v", rec.Code, rec.Header())
	}
	g.want(g.do("GET", "/healthz", ""), 200)
	cancel() // callers that go away end their waits
	all.Wait()
	g.want(g.do("GET", "/healthz", ""), 200)
}

func TestServeEndsInOrder(t *testing.T) {
	g := newGateway(t, Config{})
	for _, addr := range []string{"0.0.0.0:0", "192.0.2.1:80", "8080x", ":-1"} {
		if ln, err := Listen(t.Context(), addr, false); err == nil {
			ln.Close()
			t.Errorf("it listens on %s", addr)
		}
	}
	ln, err := Listen(t.Context(), ":0", false)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(ln.Addr().String(), "127.0.0.1:") {
		t.Errorf("it listens on %v", ln.Addr())
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- g.server.Serve(ctx, ln) }()
	base := "http://" + ln.Addr().String()
	resp, err := http.Post(base+"/v1/fn/square", "application/json", strings.NewReader("4"))
	if err != nil {
		t.Fatal(err)
	}
	var got int
	if err := json.NewDecoder(resp.Body).Decode(&got); err != nil || got != 16 {
		t.Errorf("got %d, %v", got, err)
	}
	resp.Body.Close()
	following, err := http.Get(base + "/v1/fn/square/logs?follow")
	if err == nil {
		defer following.Body.Close()
	}
	stop()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Fatal("it doesn't end")
	}
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-deadline.C:
			t.Fatalf("not within a minute: %s", what)
		case <-tick.C:
		}
	}
}
