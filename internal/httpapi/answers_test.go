package httpapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// A caller must tell a run that has ended, too late, from one that goes on.
func TestTimeOutOfAFunctionIsItsOwn(t *testing.T) {
	g := newGateway(t, Config{})
	rec := g.do("POST", "/v1/fn/late?run=late-1", "")
	g.want(rec, 500, `"function_timeout"`, "the run has ended", "20ms", `"run":"late-1"`)
	if strings.Contains(rec.Body.String(), "goes on") {
		t.Errorf("it says that the run goes on: %s", rec.Body)
	}
	g.want(g.do("GET", "/v1/runs/late-1", ""), 200, `"failed"`, `"function_timeout"`, "the run has ended")
	g.want(g.do("GET", "/v1/runs?name=late", ""), 200, `"late-1"`, `"function_timeout"`)
}

func TestLists(t *testing.T) {
	g := newGateway(t, Config{})
	g.want(g.do("GET", "/v1/runs", ""), 200, `"runs":[]`)
	for i := range 5 {
		g.want(g.do("POST", fmt.Sprintf("/v1/fn/square?run=r%d", i), "2"), 200)
	}
	g.want(g.do("POST", "/v1/fn/bad?run=failed", ""), 500)
	g.want(g.do("POST", "/v1/fn/slow?async&run=goes-on", ""), 202)
	g.want(g.do("GET", "/v1/runs/failed?wait=20s", ""), 200)
	g.pages("/v1/runs?limit=2", func(page listPage) []string {
		var ids []string
		for _, r := range page.Runs {
			ids = append(ids, r.Run)
		}
		return ids
	}, "goes-on", "failed", "r4", "r3", "r2", "r1", "r0")
	g.want(g.do("GET", "/v1/runs?status=failed", ""), 200, `"failed"`, `"function_failed"`, "it went wrong")
	g.want(g.do("GET", "/v1/runs?name=slow&status=running", ""), 200, `"goes-on"`)
	for query, word := range map[string]string{
		"status=done": "there are pending", "limit=0": "from 1 to 1000", "limit=many": "from 1 to 1000", "limit=1001": "from 1 to 1000",
		"after=x": "the page before", "name=a.b": "only letters", "lmit=2": "did you mean limit",
	} {
		g.want(g.do("GET", "/v1/runs?"+query, ""), 400, word)
	}

	g.want(g.do("GET", "/v1/kv", ""), 200, `"namespaces":[`)
	g.want(g.do("GET", "/v1/kv/notes", ""), 404, "there is no such namespace")
	for _, key := range []string{"a", "b%2Fc", "user:1", "user:2", "user:3"} {
		g.want(g.do("PUT", "/v1/kv/notes/"+key, "1"), 204)
	}
	g.want(g.do("GET", "/v1/kv", ""), 200, `"notes"`)
	keys := func(page listPage) []string { return page.Keys }
	g.pages("/v1/kv/notes?limit=2", keys, "a", "b/c", "user:1", "user:2", "user:3")
	g.pages("/v1/kv/notes?limit=2&prefix=user:", keys, "user:1", "user:2", "user:3")
	g.want(g.do("GET", "/v1/kv/notes?prefix=none", ""), 200, `"keys":[]`)
	g.want(g.do("GET", "/v1/kv/note", ""), 404, "did you mean notes?")
	g.want(g.do("GET", "/v1/kv/notes?after=a%20b", ""), 400, "the page before")
	g.want(g.do("GET", "/v1/kv/notes?limit=-1", ""), 400, "from 1 to 10000")
}

type listPage struct {
	Runs []struct{ Run string }
	Keys []string
	Next string
}

// pages reads a list page by page, to its end.
func (g *gateway) pages(target string, items func(listPage) []string, want ...string) {
	g.t.Helper()
	var got []string
	for after := ""; len(got) <= len(want); {
		rec := g.do("GET", target+"&after="+after, "")
		var page listPage
		if err := json.Unmarshal(rec.Body.Bytes(), &page); err != nil || rec.Code != 200 {
			g.t.Fatalf("%s: %d %s, %v", target, rec.Code, rec.Body, err)
		}
		got = append(got, items(page)...)
		if after = page.Next; after == "" {
			break
		}
	}
	if !slices.Equal(got, want) {
		g.t.Errorf("%s lists %q, want %q", target, got, want)
	}
}

// What is near is looked for among names of the kind that was asked for.
func TestDidYouMean(t *testing.T) {
	g := newGateway(t, Config{})
	g.want(g.do("PUT", "/v1/dags/squares", `{"nodes":[{"name":"square"}]}`), 200)
	g.want(g.do("PUT", "/v1/kv/squares/k", "1"), 204)
	for target, want := range map[string]string{
		"POST /v1/fn/squar":           "did you mean square or squares?",
		"POST /v1/dags/squar":         "did you mean square or squares?",
		"GET /v1/fn/squar":            "did you mean square?",
		"DELETE /v1/fn/squar":         "did you mean square?",
		"POST /v1/fn/squar/rollback":  "did you mean square?",
		"GET /v1/fn/squar/logs":       "did you mean square?",
		"GET /v1/dags/squar":          "did you mean squares?",
		"DELETE /v1/dags/squar":       "did you mean squares?",
		"GET /v1/kv/square/k":         "did you mean squares?",
		"GET /v1/kv/squares/square":   "",
		"GET /v1/runs/square":         "",
		"DELETE /v1/runs/square":      "",
		"POST /v1/fn/square/rollback": "",
	} {
		method, path, _ := strings.Cut(target, " ")
		rec := g.do(method, path, "")
		g.want(rec, 404)
		var answer struct{ Error body }
		if err := json.Unmarshal(rec.Body.Bytes(), &answer); err != nil {
			t.Fatal(err)
		}
		if hint := answer.Error.Hint; want != "" && !strings.HasPrefix(hint, want+" ") || want == "" && strings.Contains(hint, "did you mean") || hint == "" {
			t.Errorf("%s: the hint is %q, want %q", target, hint, want)
		}
	}
}

// A parameter without a value is true, wherever there is such a parameter.
func TestFlags(t *testing.T) {
	g := newGateway(t, Config{})
	for value, want := range map[string]bool{"": true, "=": true, "=1": true, "=true": true, "=0": false, "=false": false} {
		q, err := url.ParseQuery("transactional" + value)
		if err != nil {
			t.Fatal(err)
		}
		if d, err := deployment("f", q); err != nil || d.Transactional != want {
			t.Errorf("?transactional%s: %v, %v, want %v", value, d.Transactional, err, want)
		}
	}
	// Of every flag that the document has.
	flags := 0
	for path, item := range g.doc.Paths.Map() {
		for method, op := range item.Operations() {
			for _, p := range op.Parameters {
				if p.Value.In != "query" || !p.Value.AllowEmptyValue {
					continue
				}
				flags++
				rec := g.do(method, strings.ReplaceAll(path, "{name}", "square")+"?"+p.Value.Name+"=maybe", "1")
				g.want(rec, 400, "neither true nor false", p.Value.Name)
			}
		}
	}
	if flags != 6 {
		t.Errorf("the document has %d flags, want 6", flags)
	}
}

// What can't be read of a query, and what is there twice, is an error: ?run=a;b without
// its id would be another run with each try.
func TestQueriesAreReadWhole(t *testing.T) {
	g := newGateway(t, Config{})
	for query, says := range map[string]string{
		"run=a;b":         "';' is written as %3B",
		"run=100%":        "'%' as %25",
		"run=%zz":         "can't be read",
		"async;run=a":     "can't be read",
		"run=a&run=b":     "it is there 2 times",
		"async&async&run": "it is there 2 times",
	} {
		g.want(g.do("POST", "/v1/fn/square?"+query, "5"), 400, "bad_argument", says)
	}
	g.want(g.do("GET", "/v1/runs?limit=%zz", ""), 400, "can't be read")
	g.want(g.do("GET", "/v1/kv/state?prefix=a&prefix=b", ""), 400, "it is there 2 times")
	g.want(g.do("PUT", "/v1/fn/f?arg=a&arg=b&entry=x&entry=y", "x"), 400, "entry")
	g.want(g.do("POST", "/v1/fn/square?run=a%2Fb", "5"), 200, "25")
}

// Every operation is asked in the ways that don't depend on what it does, and takes
// the parameters that the document has.
func TestEveryOperation(t *testing.T) {
	g := newGateway(t, Config{MaxConcurrent: 1})
	none := &gateway{t: t, server: New(nil, Config{}), doc: g.doc, router: g.router, seen: g.seen} // it panics
	none.server.local, g.server.local = true, true
	for pattern, rt := range g.server.routes() {
		method, path, _ := strings.Cut(strings.ReplaceAll(pattern, "...}", "}"), " ")
		var query []string
		for _, p := range g.doc.Paths.Find(path).GetOperation(method).Parameters {
			if p.Value.In == "query" {
				query = append(query, p.Value.Name)
			}
		}
		slices.Sort(query)
		if takes := slices.Sorted(slices.Values(rt.query)); !slices.Equal(takes, query) {
			t.Errorf("%s takes %q, and is described with %q", pattern, takes, query)
		}
		at := strings.NewReplacer("{name}", "square", "{run}", "r", "{ns}", "state", "{key}", "k").Replace(path)
		g.want(g.do(method, at+"?nonsense=1", "1"), 400, "nonsense")
		g.want(g.do(method, at, "1", "Host", "evil.example"), 403, `"forbidden"`)
		if strings.HasPrefix(at, "/v1/") {
			g.server.slots <- struct{}{}
			g.want(g.do(method, at, "1"), 503, `"busy"`)
			<-g.server.slots
		}
		if path != "/healthz" && path != "/v1/openapi.json" {
			none.want(none.do(method, at, `{"nodes":[{"name":"square"}]}`), 500, `"internal"`)
		}
	}
}

// What lacks its end isn't redirected to what isn't there.
func TestAddressesWithoutTheirEnd(t *testing.T) {
	g := newGateway(t, Config{})
	for target, part := range map[string]string{
		"PUT /v1/kv/state":     "a part is missing: it is PUT /v1/kv/{ns}/{key}",
		"DELETE /v1/kv/state":  "a part is missing: it is DELETE /v1/kv/{ns}/{key}",
		"DELETE /v1/runs":      "a part is missing: it is DELETE /v1/runs/{run}",
		"GET /v1/runs/":        "nor a slash at the end",
		"GET /v1/kv/state/":    "nor a slash at the end",
		"GET /v1/fn/":          "nor a slash at the end",
		"GET /v1/kv/state/a//": "%2F",
	} {
		method, path, _ := strings.Cut(target, " ")
		rec := httptest.NewRecorder()
		g.server.ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), method, "http://127.0.0.1"+path, strings.NewReader("1")))
		g.want(rec, 400, part)
	}
}

// A body of the limit is taken, at every door that takes one, and a byte more is refused
// with both numbers.
func TestBodiesOfTheLimit(t *testing.T) {
	const most = 300_000 // more than one message of the platform's own
	g := newGateway(t, Config{MaxBody: most})
	g.want(g.do("PUT", "/v1/dags/order", `{"name":"order","nodes":[{"name":"bytes","as":"order","signal":"approve"}]}`), 200)
	g.want(g.do("POST", "/v1/fn/order?async&run=large", "1"), 202)
	body := func(size int) string { return `"` + strings.Repeat("a", size-2) + `"` }
	for target, status := range map[string]int{
		"POST /v1/fn/bytes": 200, "POST /v1/fn/bytes?async": 202, "PUT /v1/kv/state/large": 204, "POST /v1/runs/large/signals/approve": 204,
	} {
		method, path, _ := strings.Cut(target, " ")
		g.want(g.do(method, path, body(most+1)), 413, `"too_large"`, "the body is 300001 bytes; the limit is 300000", "pass references")
		rec := g.do(method, path, body(most))
		if g.want(rec, status); status == 200 && rec.Body.String() != body(most) {
			t.Errorf("%s: %d bytes come back", target, rec.Body.Len())
		}
	}
	if rec := g.do("GET", "/v1/kv/state/large", ""); rec.Body.String() != body(most) {
		t.Errorf("a key of %d bytes: %d come back", most, rec.Body.Len())
	}
	g.want(g.do("GET", "/v1/runs/large?wait=20s", ""), 200, body(most))
	// A body whose length isn't told before.
	r := httptest.NewRequestWithContext(t.Context(), "POST", "http://127.0.0.1/v1/fn/bytes", struct{ io.Reader }{strings.NewReader(body(most + 1))})
	rec := httptest.NewRecorder()
	g.server.ServeHTTP(rec, r)
	g.want(rec, 413, "more than 300000 bytes")
}

// A call of a function that no worker serves is answered at once, with the run that will
// be, unless the caller waits for a worker.
func TestCallsWithoutWorker(t *testing.T) {
	g := newGateway(t, Config{MaxWait: time.Hour})
	if err := g.client.Broker().RegisterFunctions(t.Context(), []wire.Function{{Name: "away", Pool: "elsewhere", Runtime: "native"}}); err != nil {
		t.Fatal(err)
	}
	rec := g.do("POST", "/v1/fn/away?wait=1h&run=later", "5")
	g.want(rec, 503, `"no_worker"`, "elsewhere", "is stored", `"run":"later"`, "?wait-for-worker", "GET /v1/runs/later")
	if rec.Header().Get("Retry-After") != "" {
		t.Error("a caller is told to try again what is stored")
	}
	g.want(g.do("POST", "/v1/fn/away?async", "5"), 202, `"warning"`, "elsewhere")
	g.want(g.do("POST", "/v1/fn/away?wait-for-worker&wait=3s", "5"), 504, `"timeout"`)
	g.want(g.do("POST", "/v1/fn/away?wait-for-worker=maybe", "5"), 400, "maybe")
	if rec := g.do("POST", "/v1/fn/square?async", "5"); strings.Contains(rec.Body.String(), "warning") {
		t.Errorf("a warning though there is a worker: %s", rec.Body)
	}
}

// A broken is a connection whose caller goes after the first line.
type broken struct {
	header http.Header
	begun  bool
	twice  int // statuses after the response had begun
}

func (b *broken) Header() http.Header { return b.header }

func (b *broken) Write([]byte) (int, error) {
	b.begun = true
	return 0, errors.New("the caller has gone")
}

func (b *broken) WriteHeader(int) {
	if b.begun {
		b.twice++
	}
	b.begun = true
}

// A response that has begun gets no second status, whatever fails then.
func TestNoSecondStatus(t *testing.T) {
	g := newGateway(t, Config{})
	if _, err := g.client.Broker().JetStream().Publish(t.Context(), "cb.log.square", []byte("hello")); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/v1/fn/square/logs", "/v1/openapi.json", "/v1/fn", "/v1/fn/nobody"} {
		w := &broken{header: make(http.Header)}
		func() {
			defer func() {
				if p := recover(); p != nil && p != http.ErrAbortHandler { //nolint:errorlint,err113 // this very value
					panic(p)
				}
			}()
			g.server.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
		}()
		if !w.begun || w.twice > 0 {
			t.Errorf("%s: begun %v, %d more statuses", path, w.begun, w.twice)
		}
	}
}
