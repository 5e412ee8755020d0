package httpapi

import (
	"context"
	"errors"
	"iter"
	"net/http"
	"strings"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// body is what an error looks like: {"error": {…}}.
type body struct {
	Code    string     `json:"code"`
	Message string     `json:"message"`
	Hint    string     `json:"hint"`
	Run     wire.RunID `json:"run,omitempty"`
	Stack   string     `json:"stack,omitempty"`
}

// codes are the kinds of errors as programs tell them apart, and what to do.
var codes = map[wire.Kind]struct{ code, hint string }{
	wire.KindFunction:    {"function_failed", "the function's own error: look at its log, GET /v1/fn/NAME/logs"},
	wire.KindPanic:       {"function_crashed", "the function's own error: look at the stack and its log, GET /v1/fn/NAME/logs"},
	wire.KindTimeout:     {"timeout", "try again later; GET /readyz tells whether the platform can be reached"},
	wire.KindCancelled:   {"cancelled", "somebody cancelled the run"},
	wire.KindBadArgument: {"bad_argument", "correct the request; /v1/openapi.json describes it"},
	wire.KindBadName:     {"bad_name", "correct the name; /v1/openapi.json describes it"},
	wire.KindUnknown:     {"unknown", "GET /v1/openapi.json lists what there is"},
	wire.KindTooLarge:    {"too_large", "split it, or keep parts of it in state and pass references"},
	wire.KindBusy:        {"busy", "try again later, with the same ?run= so that it runs once"},
	wire.KindConflict:    {"conflict", "the message says what stands in the way: remove that, or choose another name or id"},
	wire.KindUnavailable: {"unavailable", "try again later; GET /readyz tells when it is back"},
	wire.KindPermanent:   {"function_failed", "the function says that trying again is useless"},
	wire.KindCrashed:     {"crashed", "it brought its workers down; it is kept as a dead letter"},
	wire.KindLattice:     {"conflict", "the key holds another kind of value: use another key"},
	wire.KindNoWorker:    {"no_worker", "the call is stored, and runs once a worker serves its pool: start one, or call with ?wait-for-worker"},
	wire.KindInvalid:     {"invalid", "correct what was sent: the message names what is wrong with it"},
}

// A runError is an error of a run.
type runError struct {
	run   wire.RunID
	err   error
	ended bool // the run's own: it has ended with it
}

func (e *runError) Error() string { return e.err.Error() }
func (e *runError) Unwrap() error { return e.err }

// failure is what is told of an error: of the run itself if ended.
func failure(e *wire.Error, ended bool) body {
	answer := body{Code: "internal", Message: e.Error(), Stack: e.Stack}
	if c, ok := codes[e.Kind]; ok {
		answer.Code, answer.Hint = c.code, c.hint
	}
	if e.Kind == wire.KindTimeout && ended {
		answer.Code = "function_timeout"
		answer.Hint = "the run has ended: the function took longer than it may, at its last attempt; deploy it with a longer timeout"
	}
	return answer
}

// fail answers with an error; of says what the name in the address is a name of.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, of names, err error) {
	if no, ok := errors.AsType[*forbidden](err); ok {
		writeError(w, http.StatusForbidden, body{Code: "forbidden", Message: no.msg, Hint: "programs other than browsers aren't asked for an origin"})
		return
	}
	e, known := errors.AsType[*wire.Error](err)
	switch {
	case known:
	case errors.Is(err, context.DeadlineExceeded):
		e = &wire.Error{Op: "serve", Name: r.Method + " " + r.URL.Path, Kind: wire.KindTimeout, Msg: "the platform gave no answer in time"}
	case r.Context().Err() != nil:
		return // the caller has gone
	default:
		e = &wire.Error{Op: "serve", Name: r.Method + " " + r.URL.Path, Kind: wire.KindUnavailable, Msg: err.Error()}
	}
	var run runError
	if at, ok := errors.AsType[*runError](err); ok {
		run = *at
	}
	answer := failure(e, run.ended)
	answer.Run = run.run
	status := e.Kind.Code()
	switch {
	case e.Kind == wire.KindTimeout && run.ended:
		status = http.StatusInternalServerError // it failed, and there is nothing to wait for
	case e.Kind == wire.KindTimeout && run.run != "":
		answer.Hint = "the run goes on: GET /v1/runs/" + string(run.run) + "?wait=1m has its result"
	case e.Kind == wire.KindNoWorker && run.run != "":
		answer.Hint = "start a worker, or wait for one: GET /v1/runs/" + string(run.run) + "?wait=1m has the result, and a call with ?wait-for-worker waits"
	case e.Kind == wire.KindUnknown && !run.ended:
		answer.Hint = s.unknownHint(r, of, e.Name)
	}
	if e.Kind == wire.KindBusy || e.Kind == wire.KindUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	writeError(w, status, answer)
}

func writeError(w http.ResponseWriter, status int, e body) {
	// The caller may have gone: there is nobody to tell.
	_ = writeJSON(w, status, struct {
		Error body `json:"error"`
	}{e})
}

// names are what a name in an address is a name of.
type names int

const (
	anything names = iota
	callables
	functions
	dags
	runs
	keys
)

// unknownHint says where to look for what isn't known: among names of its own kind.
func (s *Server) unknownHint(r *http.Request, of names, unknown string) string {
	asked, where := r.PathValue("name"), ""
	switch of {
	case callables:
		where = "GET /v1/fn and GET /v1/dags list what can be called"
	case functions:
		where = "GET /v1/fn lists the functions"
	case dags:
		where = "GET /v1/dags lists the DAGs"
	case runs:
		return "GET /v1/runs lists the runs that are kept"
	case keys:
		asked = r.PathValue("ns")
		if where = "GET /v1/kv lists the namespaces; the first PUT makes one"; unknown != asked {
			return "PUT it first; GET /v1/kv/" + asked + " lists the keys"
		}
	case anything:
		return codes[wire.KindUnknown].hint
	}
	if unknown != asked { // something else isn't there
		return where
	}
	if near := wire.Near(asked, s.known(r.Context(), of)); len(near) > 0 {
		where = "did you mean " + strings.Join(near, " or ") + "? " + where
	}
	return where
}

// known yields the names of a kind; none if they can't be read.
func (s *Server) known(ctx context.Context, of names) iter.Seq[string] {
	return func(yield func(string) bool) {
		var all []string
		if of == callables || of == functions {
			fns, _ := s.client.Functions(ctx) // a hint is no reason to fail
			for _, f := range fns {
				all = append(all, f.Name)
			}
		}
		if of == callables || of == dags {
			recs, _ := s.client.Broker().DAGs(ctx)
			for _, d := range recs {
				all = append(all, d.Name)
			}
		}
		if of == keys {
			all, _ = s.client.Broker().Namespaces(ctx)
		}
		for _, name := range all {
			if !yield(name) {
				return
			}
		}
	}
}
