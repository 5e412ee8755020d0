package httpapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/cloudburst-nats/cloudburst"
	"github.com/cloudburst-nats/cloudburst/broker"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// A place is a key of a namespace, as one caller sees it.
type place struct {
	state *cloudburst.State
	key   string
	token *cloudburst.Token // nil if the caller has none
}

// place returns what a request names. With the header Cb-Session, the caller's
// calls will see what this request has seen or written.
func (s *Server) place(r *http.Request) (place, error) {
	ns, key := r.PathValue("ns"), r.PathValue("key")
	if err := wire.CheckName("namespace", ns); err != nil {
		return place{}, err
	}
	if key == "" {
		return place{}, &wire.Error{Op: "read request", Kind: wire.KindBadName, Msg: "a key is missing: /v1/kv/NAMESPACE/KEY"}
	}
	client := s.client
	var token *cloudburst.Token
	if text := r.Header.Get(wire.HeaderSession); text != "" {
		var err error
		if token, err = cloudburst.ParseToken(text); err != nil {
			return place{}, err
		}
		client = client.With(cloudburst.WithToken(token))
	}
	return place{client.State().In(ns), key, token}, nil
}

// answer puts the caller's token, with what was done now, into the response.
func (p *place) answer(w http.ResponseWriter) {
	if p.token != nil {
		w.Header().Set(wire.HeaderSession, p.token.String())
	}
}

// existing is place for a namespace that there is: to open one is to make it.
func (s *Server) existing(r *http.Request) (place, error) {
	p, err := s.place(r)
	if err != nil {
		return place{}, err
	}
	return p, s.namespace(r)
}

// namespace returns an error unless there is the namespace that a request names.
func (s *Server) namespace(r *http.Request) error {
	ns := r.PathValue("ns")
	if err := wire.CheckName("namespace", ns); err != nil {
		return err
	}
	if _, known := s.namespaces.Load(ns); known {
		return nil
	}
	all, err := s.client.Broker().Namespaces(r.Context())
	if err != nil {
		return err
	}
	if !slices.Contains(all, ns) {
		return &wire.Error{Op: "open namespace", Name: ns, Kind: wire.KindUnknown, Msg: "there is no such namespace"}
	}
	s.namespaces.Store(ns, true)
	return nil
}

func (s *Server) listNamespaces(w http.ResponseWriter, r *http.Request) error {
	all, err := s.client.Broker().Namespaces(r.Context())
	if err != nil {
		return err
	}
	if all == nil {
		all = []string{}
	}
	return writeJSON(w, http.StatusOK, map[string][]string{"namespaces": all})
}

const (
	keysAtOnce = 1000   // one page of a list, unless the request says
	keysAtMost = 10_000 // one page of a list
)

func (s *Server) listKeys(w http.ResponseWriter, r *http.Request) error {
	n, err := limit(r, keysAtOnce, keysAtMost)
	if err != nil {
		return err
	}
	if err := s.namespace(r); err != nil {
		return err
	}
	bucket, err := s.client.Broker().OpenBucket(r.Context(), r.PathValue("ns"))
	if err != nil {
		return err
	}
	q := r.URL.Query()
	page := struct {
		Keys []string `json:"keys"`
		Next string   `json:"next,omitempty"`
	}{Keys: []string{}}
	keys, next, err := bucket.KeysPage(r.Context(), q.Get("prefix"), q.Get("after"), n)
	if err != nil {
		return err
	}
	page.Keys, page.Next = append(page.Keys, keys...), next
	return writeJSON(w, http.StatusOK, page)
}

func (s *Server) getKey(w http.ResponseWriter, r *http.Request) error {
	p, err := s.existing(r)
	if err != nil {
		return err
	}
	v, found, err := p.state.Get(r.Context(), p.key)
	if err != nil {
		return err
	}
	if !found {
		return &wire.Error{Op: "get", Kind: wire.KindUnknown, Msg: fmt.Sprintf("there is no key %q in %s", p.key, r.PathValue("ns"))}
	}
	p.answer(w)
	return writeValue(w, v)
}

func (s *Server) putKey(w http.ResponseWriter, r *http.Request) error {
	p, err := s.place(r)
	if err != nil {
		return err
	}
	v, err := s.value(w, r)
	if err != nil {
		return err
	}
	if v.IsJSON() && !json.Valid(v.Body) {
		return &wire.Error{Op: "put", Name: p.key, Kind: wire.KindBadArgument, Msg: "the body is not valid JSON: send it with the Content-Type that it has"}
	}
	if err := p.state.Put(r.Context(), p.key, v); err != nil {
		return err
	}
	p.answer(w)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (s *Server) deleteKey(w http.ResponseWriter, r *http.Request) error {
	p, err := s.existing(r)
	if err != nil {
		return err
	}
	if err := p.state.Delete(r.Context(), p.key); err != nil {
		return err
	}
	p.answer(w)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// A dag is a DAG as callers get it.
type dag struct {
	Name    string          `json:"name"`
	Version string          `json:"version"`
	Pool    string          `json:"pool"`
	Graph   json.RawMessage `json:"graph"`
	Applied time.Time       `json:"applied"`
}

func dagOf(rec broker.DAGRecord) dag {
	return dag{rec.Name, rec.Version, rec.Pool, rec.Spec, rec.Applied}
}

func (s *Server) listDAGs(w http.ResponseWriter, r *http.Request) error {
	recs, err := s.client.Broker().DAGs(r.Context())
	if err != nil {
		return err
	}
	shown := make([]dag, len(recs))
	for i, rec := range recs {
		shown[i] = dagOf(rec)
	}
	return writeJSON(w, http.StatusOK, map[string][]dag{"dags": shown})
}

func (s *Server) showDAG(w http.ResponseWriter, r *http.Request) error {
	rec, err := s.client.Broker().DAG(r.Context(), r.PathValue("name"))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, dagOf(rec))
}

// graphAtMost is more than the largest graph that is valid takes.
const graphAtMost = 16 << 20

func (s *Server) applyDAG(w http.ResponseWriter, r *http.Request) error {
	name := r.PathValue("name")
	text, err := s.read(w, r, graphAtMost)
	if err != nil {
		return err
	}
	g, err := cloudburst.ParseGraph(text)
	if err != nil {
		return err
	}
	switch g.Name {
	case "":
		g.Name = name
	case name:
	default:
		return &wire.Error{Op: "apply dag", Name: g.Name, Kind: wire.KindBadArgument, Msg: "the graph bears another name than the address: " + name}
	}
	if err := s.client.ApplyDAG(r.Context(), g); err != nil {
		return err
	}
	return s.showDAG(w, r)
}

func (s *Server) removeDAG(w http.ResponseWriter, r *http.Request) error {
	if err := s.client.RemoveDAG(r.Context(), r.PathValue("name")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
