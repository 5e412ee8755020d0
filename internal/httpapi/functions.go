package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/cloudburst-nats/cloudburst"
	"github.com/cloudburst-nats/cloudburst/broker"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// A function is a function as callers get it.
type function struct {
	Name          string     `json:"name"`
	Version       int        `json:"version,omitempty"`
	Pool          string     `json:"pool"`
	Runtime       string     `json:"runtime"`
	Entry         string     `json:"entry,omitempty"`
	Args          []string   `json:"args,omitempty"`
	About         string     `json:"about,omitempty"`
	Level         string     `json:"level,omitempty"`
	Transactional bool       `json:"transactional"`
	TimeoutMS     float64    `json:"timeout_ms"`
	BackoffMS     float64    `json:"backoff_ms"`
	Attempts      int        `json:"attempts"`
	Memory        int64      `json:"memory,omitempty"`
	Concurrency   int        `json:"concurrency,omitempty"`
	Image         string     `json:"image,omitempty"`
	Size          int64      `json:"size,omitempty"`
	Registered    time.Time  `json:"registered"`
	Versions      []function `json:"versions,omitempty"`
}

func functionOf(f cloudburst.Function) function {
	l := f.Limits()
	return function{
		Name: f.Name, Version: f.Version, Pool: f.Pool, Runtime: f.Runtime, Entry: f.Entry, Args: f.Args, About: f.About, Level: f.Level,
		Transactional: f.Transactional, TimeoutMS: ms(l.Timeout), BackoffMS: ms(l.Backoff), Attempts: l.Attempts,
		Memory: f.Memory, Concurrency: f.Concurrency, Image: f.Image, Size: f.Size, Registered: f.Registered,
	}
}

func (s *Server) listFunctions(w http.ResponseWriter, r *http.Request) error {
	fns, err := s.client.Functions(r.Context())
	if err != nil {
		return err
	}
	shown := make([]function, len(fns))
	for i, f := range fns {
		shown[i] = functionOf(f)
	}
	return writeJSON(w, http.StatusOK, map[string][]function{"functions": shown})
}

func (s *Server) showFunction(w http.ResponseWriter, r *http.Request) error {
	name := r.PathValue("name")
	f, err := s.client.Function(r.Context(), name)
	if err != nil {
		return err
	}
	versions, err := s.client.Versions(r.Context(), name)
	if err != nil {
		return err
	}
	shown := functionOf(f)
	for _, v := range versions {
		shown.Versions = append(shown.Versions, functionOf(v))
	}
	return writeJSON(w, http.StatusOK, shown)
}

// deploy takes the body as the image of a new version: PUT /v1/fn/{name}.
func (s *Server) deploy(w http.ResponseWriter, r *http.Request) error {
	d, err := deployment(r.PathValue("name"), r.URL.Query())
	if err != nil {
		return err
	}
	if d.Image, err = s.read(w, r, broker.MaxImage); err != nil {
		return err
	}
	f, err := s.client.Deploy(r.Context(), d)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusCreated, functionOf(f))
}

// deployReaders read the parameters of a deployment.
var deployReaders = map[string]func(*cloudburst.Deployment, string) error{
	"runtime": func(d *cloudburst.Deployment, v string) error { d.Runtime = v; return nil },
	"entry":   func(d *cloudburst.Deployment, v string) error { d.Entry = v; return nil },
	"arg":     func(d *cloudburst.Deployment, v string) error { d.Args = append(d.Args, v); return nil },
	"pool":    func(d *cloudburst.Deployment, v string) error { d.Pool = v; return nil },
	"level":   func(d *cloudburst.Deployment, v string) error { d.Level = v; return nil },
	"about":   func(d *cloudburst.Deployment, v string) error { d.About = v; return nil },
	"check":   func(d *cloudburst.Deployment, v string) error { d.Check = v; return nil },
	"want":    func(d *cloudburst.Deployment, v string) error { d.Want = v; return nil },
	"timeout": func(d *cloudburst.Deployment, v string) error { return readDuration(&d.Timeout, v) },
	"backoff": func(d *cloudburst.Deployment, v string) error { return readDuration(&d.Backoff, v) },

	"attempts":      func(d *cloudburst.Deployment, v string) error { return readNumber(&d.Attempts, v) },
	"concurrency":   func(d *cloudburst.Deployment, v string) error { return readNumber(&d.Concurrency, v) },
	"memory":        func(d *cloudburst.Deployment, v string) (err error) { d.Memory, err = wire.ParseSize(v); return err },
	"transactional": func(d *cloudburst.Deployment, v string) (err error) { d.Transactional, err = parseFlag(v); return err },
}

func deployParameters() []string { return slices.Sorted(maps.Keys(deployReaders)) }

func readDuration(into *time.Duration, text string) error {
	var err error
	if *into, err = time.ParseDuration(text); err != nil {
		return errNoDuration
	}
	return nil
}

func readNumber(into *int, text string) error {
	var err error
	if *into, err = strconv.Atoi(text); err != nil {
		return errors.New("it is a whole number")
	}
	return nil
}

// deployment reads what the query says of a version.
func deployment(name string, q url.Values) (cloudburst.Deployment, error) {
	d := cloudburst.Deployment{Name: name}
	for _, key := range deployParameters() {
		if !q.Has(key) {
			continue
		}
		values := q[key]
		if key != "arg" { // of which there may be several
			values = values[:1]
		}
		for _, v := range values {
			if err := deployReaders[key](&d, v); err != nil {
				return d, parameterError(key, v, err)
			}
		}
	}
	return d, nil
}

func (s *Server) removeFunction(w http.ResponseWriter, r *http.Request) error {
	if err := s.client.RemoveFunction(r.Context(), r.PathValue("name")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (s *Server) rollBack(w http.ResponseWriter, r *http.Request) error {
	to := 0
	if text := r.URL.Query().Get("to"); text != "" {
		var err error
		if to, err = strconv.Atoi(text); err != nil || to < 1 {
			return parameterError("to", text, errors.New("a version is a number from 1 on"))
		}
	}
	f, err := s.client.Rollback(r.Context(), r.PathValue("name"), to)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, functionOf(f))
}

// logs sends a function's log, a JSON object a line.
func (s *Server) logs(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	filter := cloudburst.LogFilter{Function: r.PathValue("name"), Run: wire.RunID(q.Get("run")), Last: 100}
	var err error
	if filter.Follow, err = flag(r, "follow"); err != nil {
		return err
	}
	if text := q.Get("last"); text != "" {
		if filter.Last, err = strconv.Atoi(text); err != nil || filter.Last < 0 {
			return parameterError("last", text, errors.New("it is a number of lines; 0 is all"))
		}
	}
	if _, err := s.client.Function(r.Context(), filter.Function); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	go func() { // ends with the request, or has it end with the server
		select {
		case <-ending(r):
			cancel()
		case <-ctx.Done():
		}
	}()
	w.Header().Set("Content-Type", "application/x-ndjson")
	flush := http.NewResponseController(w)
	if filter.Follow { // the caller is told at once, though there may be no line yet
		if err := flush.Flush(); err != nil {
			return ignoreGone(err)
		}
	}
	enc, begun := json.NewEncoder(w), filter.Follow
	err = s.client.Logs(ctx, filter, func(l cloudburst.LogLine) error {
		begun = true
		if err := enc.Encode(l); err != nil {
			return err
		}
		if filter.Follow {
			return flush.Flush()
		}
		return nil
	})
	if err == nil || !begun {
		return err
	}
	if ctx.Err() == nil {
		panic(http.ErrAbortHandler) // the status is sent: the caller sees that lines are missing
	}
	return nil
}
