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

	"github.com/cloudburst-nats/cloudburst/wire"
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
	if call.Patient, err = flag(r, "wait-for-worker"); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), wait)
	defer cancel()
	result, err := s.client.Broker().Call(ctx, call)
	switch {
	case err != nil && r.Context().Err() == nil && ctx.Err() != nil:
		return &runError{run: call.Run, err: &wire.Error{Op: "call", Name: call.Name, Kind: wire.KindTimeout, Msg: fmt.Sprintf("no result within %v: the run goes on", wait)}}
	case wire.KindOf(err) == wire.KindNoWorker:
		return &runError{run: call.Run, err: err}
	case err != nil:
		return err
	case result.Err != nil:
		return &runError{run: result.Run, err: result.Err, ended: true}
	case result.Status != wire.StatusOK:
		return &runError{run: result.Run, err: &wire.Error{Op: "call", Name: call.Name, Kind: wire.KindCancelled, Msg: "the run ended " + string(result.Status)}, ended: true}
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
	call := wire.Call{Name: r.PathValue("name"), Run: wire.RunID(q.Get("run")), Level: q.Get("level"), Past: r.Header.Get(wire.HeaderSession)}
	if err := wire.CheckName("function", call.Name); err != nil {
		return call, err
	}
	if call.Run == "" {
		call.Run, call.Fresh = wire.NewRunID(), true
	} else if err := wire.CheckCallerID(call.Run); err != nil {
		return call, err
	}
	var err error
	if text := q.Get("in"); text != "" {
		if call.Wait, err = time.ParseDuration(text); err != nil || call.Wait < 0 {
			return call, parameterError("in", text, errNoDuration)
		}
	}
	if call.Args, err = s.value(w, r); err != nil {
		return call, err
	}
	if call.Args.IsJSON() && len(call.Args.Body) > 0 && !json.Valid(call.Args.Body) {
		return call, &wire.Error{Op: "call", Name: call.Name, Kind: wire.KindBadArgument, Msg: "the body is not valid JSON: send it with the Content-Type that it has"}
	}
	return call, nil
}

// sendMessage sends a message to an execution, by its id: POST /v1/messages/{to}.
func (s *Server) sendMessage(w http.ResponseWriter, r *http.Request) error {
	value, err := s.value(w, r)
	if err != nil {
		return err
	}
	to := r.PathValue("to")
	if value.IsJSON() && !json.Valid(value.Body) {
		return &wire.Error{Op: "send", Name: to, Kind: wire.KindBadArgument, Msg: "the body is not valid JSON: send it with the Content-Type that it has"}
	}
	ctx, cancel := context.WithTimeout(r.Context(), waitFor)
	defer cancel()
	if err := s.client.Send(ctx, to, value); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
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
		return nil, &wire.Error{Op: "read request", Name: r.URL.Path, Kind: wire.KindTooLarge, Msg: bodyTooLarge(r.ContentLength, most), Err: err}
	}
	if err != nil {
		return nil, &wire.Error{Op: "read request", Kind: wire.KindBadArgument, Msg: err.Error(), Err: err}
	}
	return body, nil
}

func bodyTooLarge(length, most int64) string {
	if length > 0 {
		return fmt.Sprintf("the body is %d bytes; the limit is %d", length, most)
	}
	return fmt.Sprintf("the body is more than %d bytes, which is the limit", most)
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
	answer := started{Run: p.Run}
	if err := s.client.Broker().NoWorker(r.Context(), call.Name); err != nil {
		answer.Warning = err.Error()
	}
	return writeJSON(w, http.StatusAccepted, answer)
}

// started is what is told of a call that nobody waits for.
type started struct {
	Run     wire.RunID `json:"run"`
	Warning string     `json:"warning,omitempty"` // that no worker serves its pool now
}

// wait reads ?wait=, which is a duration.
func (s *Server) wait(r *http.Request, unless time.Duration) (time.Duration, error) {
	text := r.URL.Query().Get("wait")
	if text == "" {
		return unless, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return 0, parameterError("wait", text, errNoDuration)
	}
	if d > s.cfg.MaxWait {
		return 0, parameterError("wait", text, fmt.Errorf("%v is the longest: wait again for what isn't there then", s.cfg.MaxWait))
	}
	return d, nil
}

var errNoDuration = errors.New("it is a duration, such as 30s or 2m")

// flag reads a parameter that is there or not, or says which: ?async, ?async=0.
func flag(r *http.Request, name string) (bool, error) {
	q := r.URL.Query()
	if !q.Has(name) {
		return false, nil
	}
	on, err := parseFlag(q.Get(name))
	if err != nil {
		return false, parameterError(name, q.Get(name), err)
	}
	return on, nil
}

// parseFlag reads the value of a parameter that is there: none is true.
func parseFlag(text string) (bool, error) {
	if text == "" {
		return true, nil
	}
	on, err := strconv.ParseBool(text)
	if err != nil {
		return false, errors.New("it is neither true nor false")
	}
	return on, nil
}

// limit reads ?limit=, how many of a list are wanted.
func limit(r *http.Request, unless, most int) (int, error) {
	text := r.URL.Query().Get("limit")
	if text == "" {
		return unless, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > most {
		return 0, parameterError("limit", text, fmt.Errorf("it is a number from 1 to %d", most))
	}
	return n, nil
}

func parameterError(name, value string, err error) error {
	return &wire.Error{Op: "read parameter", Name: name, Kind: wire.KindBadArgument, Msg: fmt.Sprintf("%v (%q)", err, value), Err: err}
}

// only refuses parameters that mean nothing: somebody relies on them. Of one that is
// given twice, one would mean nothing.
func only(query string, names []string) error {
	q, err := url.ParseQuery(query)
	if err != nil { // url.Values would lack what can't be read
		return &wire.Error{Op: "read parameters", Name: query, Kind: wire.KindBadArgument, Msg: "they can't be read: ';' is written as %3B, and '%' as %25", Err: err}
	}
	for name, values := range q {
		if len(values) > 1 && name != "arg" {
			return &wire.Error{Op: "read parameter", Name: name, Kind: wire.KindBadArgument, Msg: "it is there " + strconv.Itoa(len(values)) + " times, and has one value"}
		}
		switch near := wire.Near(name, slices.Values(names)); {
		case slices.Contains(names, name):
		case len(names) == 0:
			return &wire.Error{Op: "read parameter", Name: name, Kind: wire.KindBadArgument, Msg: "there is no such parameter, nor any other"}
		case len(near) > 0:
			return &wire.Error{Op: "read parameter", Name: name, Kind: wire.KindBadArgument, Msg: "there is no such parameter; did you mean " + strings.Join(near, " or ") + "?"}
		default:
			return &wire.Error{Op: "read parameter", Name: name, Kind: wire.KindBadArgument, Msg: "there is no such parameter; there are " + strings.Join(names, ", ")}
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
