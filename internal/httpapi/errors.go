package httpapi

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/cloudburst-nats/cloudburst/broker/wire"
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
	wire.KindTimeout:     {"timeout", "the run goes on: GET /v1/runs/RUN?wait=1m has its result"},
	wire.KindCancelled:   {"cancelled", "somebody cancelled the run"},
	wire.KindBadArgument: {"bad_argument", "correct the request; /v1/openapi.json describes it"},
	wire.KindBadName:     {"bad_name", "correct the name; /v1/openapi.json describes it"},
	wire.KindUnknown:     {"unknown", "GET /v1/fn and GET /v1/dags list what can be called"},
	wire.KindTooLarge:    {"too_large", "split it, or keep parts of it in state and pass references"},
	wire.KindBusy:        {"busy", "try again later, with the same ?run= so that it runs once"},
	wire.KindConflict:    {"conflict", "it exists otherwise: remove that first, or choose another name"},
	wire.KindUnavailable: {"unavailable", "try again later; GET /readyz tells when it is back"},
	wire.KindPermanent:   {"function_failed", "the function says that trying again is useless"},
	wire.KindCrashed:     {"crashed", "it brought its workers down; it is kept as a dead letter"},
	wire.KindLattice:     {"conflict", "the key holds another kind of value: use another key"},
	wire.KindInvalid:     {"invalid", "correct what was sent: the message names what is wrong with it"},
}

// runError is an error of a run.
type runError struct {
	run wire.RunID
	err error
}

func (e *runError) Error() string { return e.err.Error() }
func (e *runError) Unwrap() error { return e.err }

// fail answers with an error.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	if no, ok := errors.AsType[*forbidden](err); ok {
		writeError(w, http.StatusForbidden, body{Code: "forbidden", Message: no.msg, Hint: "programs other than browsers aren't asked for an origin"})
		return
	}
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		writeError(w, http.StatusRequestEntityTooLarge, body{Code: "too_large", Message: err.Error(), Hint: codes[wire.KindTooLarge].hint})
		return
	}
	e, known := errors.AsType[*wire.Error](err)
	switch {
	case known:
	case errors.Is(err, context.DeadlineExceeded):
		e = &wire.Error{Kind: wire.KindTimeout, Msg: "no answer in time"}
	case r.Context().Err() != nil:
		return // the caller has gone
	default:
		e = &wire.Error{Kind: wire.KindUnavailable, Msg: err.Error()}
	}
	answer := body{Code: "internal", Message: err.Error(), Hint: "", Stack: e.Stack}
	if c, ok := codes[e.Kind]; ok {
		answer.Code, answer.Hint = c.code, c.hint
	}
	if e.Kind == wire.KindUnknown && strings.HasPrefix(r.URL.Path, "/v1/kv/") {
		answer.Hint = "PUT it first"
	}
	if of := new(runError); errors.As(err, &of) {
		answer.Run = of.run
		answer.Hint = strings.ReplaceAll(answer.Hint, "/RUN", "/"+string(of.run))
	}
	if e.Kind == wire.KindUnknown && e.Name != "" {
		if near := s.near(r.Context(), e.Name); len(near) > 0 {
			answer.Hint = "did you mean " + strings.Join(near, " or ") + "? " + answer.Hint
		}
	}
	if e.Kind == wire.KindBusy || e.Kind == wire.KindUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	writeError(w, e.Kind.Code(), answer)
}

func writeError(w http.ResponseWriter, status int, e body) {
	// The caller may have gone: there is nobody to tell.
	_ = writeJSON(w, status, struct {
		Error body `json:"error"`
	}{e})
}

// near returns names that somebody may have meant.
func (s *Server) near(ctx context.Context, name string) []string {
	fns, err := s.client.Functions(ctx)
	if err != nil {
		return nil
	}
	dags, err := s.client.Broker().DAGs(ctx)
	if err != nil {
		return nil
	}
	return wire.Near(name, func(yield func(string) bool) {
		for _, f := range fns {
			if !yield(f.Name) {
				return
			}
		}
		for _, d := range dags {
			if !yield(d.Name) {
				return
			}
		}
	})
}
