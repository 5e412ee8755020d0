package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cloudburst-nats/cloudburst"
	"github.com/cloudburst-nats/cloudburst/broker"
	"github.com/cloudburst-nats/cloudburst/wire"
)

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

// runsAtMost is how many runs one page of a list has at most.
const runsAtMost = 1000

// listRuns lists runs: those that wait or run, then the newest.
func (s *Server) listRuns(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	filter := broker.RunFilter{Name: q.Get("name"), Status: wire.Status(q.Get("status"))}
	var err error
	if filter.Limit, err = limit(r, 50, runsAtMost); err != nil {
		return err
	}
	all := []string{"pending", "running", "ok", "failed", "cancelled"}
	if filter.Status != "" && !slices.Contains(all, string(filter.Status)) {
		return parameterError("status", string(filter.Status), errors.New("there are "+strings.Join(all, ", ")))
	}
	if filter.Name != "" {
		if err := wire.CheckName("function", filter.Name); err != nil {
			return err
		}
	}
	if text := q.Get("after"); text != "" {
		if filter.Before, err = strconv.ParseUint(text, 10, 64); err != nil || filter.Before == 0 {
			return parameterError("after", text, errors.New("it is what the page before has as next"))
		}
	}
	list, next, err := s.client.Broker().RunsPage(r.Context(), filter)
	if err != nil {
		return err
	}
	page := struct {
		Runs []run  `json:"runs"`
		Next string `json:"next,omitempty"`
	}{Runs: make([]run, len(list))}
	for i := range list {
		page.Runs[i] = runOf(&list[i])
	}
	if next > 0 {
		page.Next = strconv.FormatUint(next, 10)
	}
	return writeJSON(w, http.StatusOK, page)
}

// runOf is a run without its value.
func runOf(info *broker.RunInfo) run {
	shown := run{
		Run: info.Run, Name: info.Name, Status: info.Status, Worker: info.Worker, Started: info.Started, TookMS: ms(info.Took), Attempts: info.Attempts, Nodes: nodesOf(info.Nodes),
	}
	if info.Err != nil {
		shown.Error = new(failure(info.Err, true))
		shown.Error.Stack = "" // the run alone has it
	}
	return shown
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
	return writeJSON(w, http.StatusOK, runOf(&info))
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
		shown.Error = new(failure(r.Err, true))
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
