package paper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/cloudburst-nats/cloudburst"
	"github.com/cloudburst-nats/cloudburst/bench/process"
	"github.com/cloudburst-nats/cloudburst/examples/gossip"
	"github.com/cloudburst-nats/cloudburst/examples/retwis"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// Role is the part that a worker process plays: `cloudburst-bench role` with it and
// its argument has to call Serve.
const Role = "paper-worker"

// A part is what a worker process is told.
type part struct {
	URL    string
	Serves string // one of the names in Serve
	Slots  int    // 0: the worker's default
}

// What workers serve.
const (
	servesNear    = "near" // first functions of a composition
	servesFar     = "far"  // second ones
	servesGossip  = "gossip"
	servesRetwis  = "retwis"
	servesPredict = "predict" // all stages
	servesResize  = "resize"  // one stage
	servesModel   = "model"
	servesCombine = "combine"
)

// Serve plays a worker until ctx ends, and writes a line to out once it is ready.
func Serve(ctx context.Context, arg string, out io.Writer) error {
	var p part
	if err := json.Unmarshal([]byte(arg), &p); err != nil {
		return &wire.Error{Op: "role", Kind: wire.KindBadArgument, Name: Role, Msg: err.Error(), Err: err}
	}
	pool, register := serving(p.Serves)
	if register == nil {
		return &wire.Error{Op: "role", Kind: wire.KindBadArgument, Name: p.Serves, Msg: "nothing of the paper's is called that"}
	}
	client, err := cloudburst.Connect(ctx, p.URL, cloudburst.WithName("bench worker "+p.Serves))
	if err != nil {
		return err
	}
	defer client.Close()
	opts := []cloudburst.WorkerOption{cloudburst.Pool(pool), cloudburst.Namespace(namespace)}
	if p.Slots > 0 {
		opts = append(opts, cloudburst.Slots(p.Slots))
	}
	w := cloudburst.NewWorker(client, opts...)
	if err := register(w, client); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	served := make(chan error, 1)
	go func() { served <- w.Serve(ctx) }()
	select {
	case err := <-served:
		return err
	case <-w.Ready():
	}
	if _, err := fmt.Fprintln(out, process.Ready); err != nil {
		stop()
		return errors.Join(err, <-served)
	}
	return <-served
}

// namespace is where the experiments keep state.
const namespace = "paper"

// serving returns a worker's pool and what adds its functions; nil if there is no
// such worker.
func serving(name string) (pool string, register func(*cloudburst.Worker, *cloudburst.Client) error) {
	functions := func(add func(*cloudburst.Worker)) func(*cloudburst.Worker, *cloudburst.Client) error {
		return func(w *cloudburst.Worker, _ *cloudburst.Client) error { add(w); return nil }
	}
	switch name {
	case servesNear:
		return name, serveNear
	case servesFar:
		return name, serveFar
	case servesGossip:
		return gossip.Pool, functions(gossip.Register)
	case servesRetwis:
		return retwis.Pool, functions(retwis.Handle)
	case servesPredict:
		return name, functions(func(w *cloudburst.Worker) { handleStages(w, "", servesResize, servesModel, servesCombine) })
	case servesResize, servesModel, servesCombine:
		return name, functions(func(w *cloudburst.Worker) { handleStages(w, far, name) })
	}
	return "", nil
}
