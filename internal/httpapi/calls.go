package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cloudburst-nats/cloudburst"
	"github.com/cloudburst-nats/cloudburst/broker/wire"
)

// waitFor is how long a call waits for its result unless the request says.
const waitFor = time.Minute

// call calls a function or DAG: POST /v1/fn/{name}.
func (s *Server) call(w http.ResponseWriter, r *http.Request) error {
	call, err := s.callOf(w, r)
	if err != nil {
		return err
	}
	wait, err := s.wait(r, waitFor)
	if err != nil {
		return err
	}
	async, err := flag(r, "async")
	if err != nil {
		return err
	}
	if async {
		return s.start(w, r, call)
	}
	ctx, cancel := context.WithTimeout(r.Context(), wait)
	defer cancel()
	result, err := s.client.Broker().Call(ctx, call)
	switch {
	case err != nil && r.Context().Err() == nil && ctx.Err() != nil:
		return &runError{call.Run, &wire.Error{Op: "call", Name: call.Name, Kind: wire.KindTimeout, Msg: fmt.Sprintf("no result within %v: the run goes on", wait)}}
	case err != nil:
		return err
	case result.Err != nil:
		return &runError{result.Run, result.Err}
	case result.Status != wire.StatusOK:
		return &runError{result.Run, &wire.Error{Op: "call", Name: call.Name, Kind: wire.KindCancelled, Msg: "the run ended " + string(result.Status)}}
	}
	w.Header().Set("Cb-Run", string(result.Run))
	if result.Past != "" {
		w.Header().Set(wire.HeaderSession, result.Past)
	}
	return writeValue(w, result.Value)
}

// callOf reads a request for a call.
func (s *Server) callOf(w http.ResponseWriter, r *http.Request) (wire.Call, error) {
	q := r.URL.Query()
	if err := only(q, "async", "wait", "level", "run"); err != nil {
		return wire.Call{}, err
	}
	call := wire.Call{Name: r.PathValue("name"), Run: wire.RunID(q.Get("run")), Level: q.Get("level"), Past: r.Header.Get(wire.HeaderSession)}
	if err := wire.CheckName("function", call.Name); err != nil {
		return call, err
	}
	if call.Run == "" {
		call.Run = wire.NewRunID()
	} else if err := wire.CheckCallerID(call.Run); err != nil {
		return call, err
	}
	var err error
	if call.Args, err = s.value(w, r); err != nil {
		return call, err
	}
	if call.Args.IsJSON() && len(call.Args.Body) > 0 && !json.Valid(call.Args.Body) {
		return call, &wire.Error{Op: "call", Name: call.Name, Kind: wire.KindBadArgument, Msg: "the body is not valid JSON: send it with the Content-Type that it has"}
	}
	return call, nil
}

// value reads a value from a request's body. Forms are what curl -d says that it
// sends when nobody tells it otherwise: then it is JSON.
func (s *Server) value(w http.ResponseWriter, r *http.Request) (wire.Value, error) {
	body, err := s.read(w, r, s.cfg.MaxBody)
	if err != nil {
		return wire.Value{}, err
	}
	typ := r.Header.Get("Content-Type")
	if media, _, _ := strings.Cut(typ, ";"); media == "application/json" || media == "application/x-www-form-urlencoded" {
		typ = ""
	}
	return wire.Value{Body: body, Type: typ}, nil
}

func (s *Server) read(w http.ResponseWriter, r *http.Request, most int64) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, most))
	if large := new(http.MaxBytesError); errors.As(err, &large) {
		return nil, fmt.Errorf("the body is over %d bytes, which is the most: %w", most, err)
	}
	if err != nil {
		return nil, &wire.Error{Op: "read request", Kind: wire.KindBadArgument, Msg: err.Error(), Err: err}
	}
	return body, nil
}

func (s *Server) start(w http.ResponseWriter, r *http.Request, call wire.Call) error {
	p, err := s.client.Broker().Start(r.Context(), call)
	if err != nil {
		return err
	}
	defer p.Close()
	if err := p.Stored(r.Context()); err != nil {
		return err
	}
	w.Header().Set("Cb-Run", string(p.Run))
	return writeJSON(w, http.StatusAccepted, map[string]wire.RunID{"run": p.Run})
}

// wait reads ?wait=, which is a duration.
func (s *Server) wait(r *http.Request, unless time.Duration) (time.Duration, error) {
	text := r.URL.Query().Get("wait")
	if text == "" {
		return unless, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return 0, &wire.Error{Op: "read request", Name: "wait", Kind: wire.KindBadArgument, Msg: fmt.Sprintf("%q is no duration: it looks like 30s or 2m", text)}
	}
	if d > s.cfg.MaxWait {
		return 0, &wire.Error{Op: "read request", Name: "wait", Kind: wire.KindBadArgument, Msg: fmt.Sprintf("%v is the longest: wait again for what isn't there then", s.cfg.MaxWait)}
	}
	return d, nil
}

// flag reads a parameter that is there or not, or says which: ?async, ?async=0.
func flag(r *http.Request, name string) (bool, error) {
	q := r.URL.Query()
	if q.Get(name) == "" {
		return q.Has(name), nil
	}
	on, err := strconv.ParseBool(q.Get(name))
	if err != nil {
		return false, &wire.Error{Op: "read request", Name: name, Kind: wire.KindBadArgument, Msg: fmt.Sprintf("%q is neither true nor false", q.Get(name))}
	}
	return on, nil
}

// only refuses parameters that mean nothing: somebody relies on them.
func only(q url.Values, names ...string) error {
	for name := range q {
		if !slices.Contains(names, name) {
			return &wire.Error{Op: "read request", Name: name, Kind: wire.KindBadArgument, Msg: "there is no such parameter; there are " + strings.Join(names, ", ")}
		}
	}
	return nil
}

func writeValue(w http.ResponseWriter, v wire.Value) error {
	typ := v.Type
	if v.IsJSON() {
		typ = "application/json"
		if len(v.Body) == 0 {
			v.Body = []byte("null")
		}
	}
	w.Header().Set("Content-Type", typ)
	// Whatever a function returns, no browser runs it as a page of ours.
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Content-Security-Policy", "sandbox")
	_, err := w.Write(v.Body)
	return ignoreGone(err)
}

// A run is a run as callers get it.
type run struct {
	Run      wire.RunID      `json:"run"`
	Name     string          `json:"name"`
	Status   wire.Status     `json:"status"`
	Value    json.RawMessage `json:"value,omitempty"`
	Base64   []byte          `json:"base64,omitempty"`
	Type     string          `json:"type,omitempty"`
	Error    *body           `json:"error,omitempty"`
	Worker   string          `json:"worker,omitempty"`
	Started  time.Time       `json:"started,omitzero"`
	TookMS   float64         `json:"took_ms"`
	Attempts int             `json:"attempts,omitempty"`
	Nodes    []node          `json:"nodes,omitempty"`
}

// A node is a node's timing as callers get it.
type node struct {
	Node    string    `json:"node"`
	Worker  string    `json:"worker,omitempty"`
	Started time.Time `json:"started,omitzero"`
	TookMS  float64   `json:"took_ms"`
}

// showRun tells how a run stands, and waits for its end if asked to.
func (s *Server) showRun(w http.ResponseWriter, r *http.Request) error {
	id := wire.RunID(r.PathValue("run"))
	if err := wire.CheckRunID(id); err != nil {
		return err
	}
	wait, err := s.wait(r, 0)
	if err != nil {
		return err
	}
	// A run that isn't there is not waited for, unless it ends at this very moment.
	for _, wait := range []time.Duration{min(wait, time.Second), wait - time.Second} {
		if wait <= 0 {
			break
		}
		ctx, cancel := context.WithTimeout(r.Context(), wait)
		result, err := s.client.Broker().Await(ctx, id)
		cancel()
		if err == nil {
			return writeRun(w, &result)
		}
		if _, err := s.client.Broker().RunState(r.Context(), id); err != nil {
			return err
		}
	}
	result, err := s.client.Result(r.Context(), id)
	if err == nil {
		return writeRun(w, &result)
	}
	if wire.KindOf(err) != wire.KindUnknown {
		return err
	}
	info, err := s.client.Broker().RunState(r.Context(), id)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, run{
		Run: id, Name: info.Name, Status: info.Status, Worker: info.Worker, Started: info.Started, Attempts: info.Attempts, Nodes: nodesOf(info.Nodes),
	})
}

func writeRun(w http.ResponseWriter, r *cloudburst.Result) error {
	shown := run{
		Run: r.Run, Name: r.Name, Status: r.Status, Worker: r.Worker, Started: r.Started, TookMS: ms(r.Took), Attempts: r.Attempts, Nodes: nodesOf(r.Nodes),
	}
	if r.Past != "" {
		w.Header().Set(wire.HeaderSession, r.Past)
	}
	switch v := r.Value; {
	case r.Err != nil:
		shown.Error = &body{Code: codes[r.Err.Kind].code, Message: r.Err.Error(), Hint: codes[r.Err.Kind].hint, Stack: r.Err.Stack}
		if r.Err.Kind == wire.KindTimeout {
			shown.Error.Hint = "the function took longer than it may: give it more time, when it is deployed" // it has ended
		}
	case r.Status != wire.StatusOK:
	case v.IsJSON() && len(v.Body) == 0:
		shown.Value = json.RawMessage("null")
	case v.IsJSON() && json.Valid(v.Body):
		shown.Value = v.Body
	default:
		shown.Base64, shown.Type = v.Body, v.Type
	}
	return writeJSON(w, http.StatusOK, shown)
}

func nodesOf(timings []wire.NodeTiming) []node {
	var nodes []node
	for _, t := range timings {
		nodes = append(nodes, node{t.Node, t.Worker, t.Started, ms(t.Took)})
	}
	return nodes
}

func (s *Server) cancelRun(w http.ResponseWriter, r *http.Request) error {
	id := wire.RunID(r.PathValue("run"))
	if err := wire.CheckRunID(id); err != nil {
		return err
	}
	if err := s.client.Cancel(r.Context(), id); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// signalRun sends a run a signal; no body is null.
func (s *Server) signalRun(w http.ResponseWriter, r *http.Request) error {
	id := wire.RunID(r.PathValue("run"))
	if err := wire.CheckRunID(id); err != nil {
		return err
	}
	value, err := s.value(w, r)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), waitFor)
	defer cancel()
	if err := s.client.Signal(ctx, id, r.PathValue("name"), value); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
