package faults

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/cloudburst-nats/cloudburst"
	"github.com/cloudburst-nats/cloudburst/bench/process"
	"github.com/cloudburst-nats/cloudburst/broker"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// The parts that processes play.
const (
	RoleNode   = "faults-node"
	RoleWorker = "faults-worker"
)

// nodePart is what a server is told.
type nodePart struct {
	Name    string               `json:"name"`
	Listen  string               `json:"listen"`
	Store   string               `json:"store"`
	Cluster broker.ClusterConfig `json:"cluster"`
}

// workerPart is what a worker is told.
type workerPart struct {
	URL  string        `json:"url"`
	Skew time.Duration `json:"skew"` // by how much its clock is ahead
}

// Serve plays a part until ctx ends. It writes a line to out once it is up.
func Serve(ctx context.Context, role, arg string, out io.Writer) error {
	serve := map[string]func(context.Context, string, func()) error{RoleNode: serveNode, RoleWorker: serveWorker}[role]
	if serve == nil {
		return &wire.Error{Op: "play", Kind: wire.KindBadArgument, Name: role, Msg: "no such role"}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	err := serve(ctx, arg, func() {
		if _, err := fmt.Fprintln(out, process.Ready); err != nil {
			cancel(err)
		}
	})
	if cause := context.Cause(ctx); errors.Is(err, context.Canceled) && errors.Is(cause, context.Canceled) {
		return nil
	}
	return err
}

func serveNode(ctx context.Context, arg string, ready func()) error {
	var p nodePart
	if err := json.Unmarshal([]byte(arg), &p); err != nil {
		return err
	}
	// The first servers wait for each other, which is not for ready to wait for.
	ready()
	server, err := cloudburst.Start(ctx, cloudburst.ServerConfig{
		Name: p.Name, Listen: p.Listen, Store: p.Store, Cluster: &p.Cluster, MaxStore: maxStore, Topology: topology,
	})
	if err != nil {
		return err
	}
	<-ctx.Done()
	return server.Close()
}

// The functions of the load.
const (
	pool      = "faults"
	namespace = "faults"

	echo  = "faults-echo"
	tally = "faults-tally"
	node  = "faults-node"
)

func serveWorker(ctx context.Context, arg string, ready func()) error {
	var p workerPart
	if err := json.Unmarshal([]byte(arg), &p); err != nil {
		return err
	}
	client, err := cloudburst.Connect(ctx, p.URL, cloudburst.WithName("faults worker"))
	if err != nil {
		return err
	}
	defer client.Close()
	w := cloudburst.NewWorker(client, cloudburst.Pool(pool), cloudburst.Namespace(namespace), cloudburst.Slots(32),
		cloudburst.Clock(func() time.Time { return time.Now().Add(p.Skew) }))
	cloudburst.Handle(w, echo, func(_ context.Context, _ *cloudburst.Session, v int) (int, error) { return v, nil })
	cloudburst.Handle(w, tally, countCall)
	cloudburst.Handle(w, node, countNode)
	served := make(chan error, 1)
	go func() { served <- w.Serve(ctx) }()
	select {
	case <-w.Ready():
		ready()
		return <-served
	case err := <-served:
		return err
	}
}

// countCall counts itself and leaves a record of its own.
func countCall(ctx context.Context, s *cloudburst.Session, order int) (int, error) {
	if err := s.Counter("calls").Add(ctx, 1); err != nil {
		return 0, err
	}
	return order, s.Put(ctx, orderKey(order), order)
}

func orderKey(order int) string { return fmt.Sprint("order:", order) }

// countNode counts itself and adds up what it is given.
func countNode(ctx context.Context, s *cloudburst.Session, in []int) (int, error) {
	sum := 1
	for _, v := range in {
		sum += v
	}
	return sum, s.Counter("nodes").Add(ctx, 1)
}

// diamond is the DAG of the load: of v it makes 2v+5, in four executions.
func diamond() *cloudburst.Graph {
	g := &cloudburst.Graph{Name: "faults-diamond", Level: cloudburst.SessionCausal}
	for _, name := range []string{"top", "left", "right", "bottom"} {
		g.Nodes = append(g.Nodes, cloudburst.Node{Name: name, Function: node})
	}
	g.Nodes[0].As = "0"
	g.Edges = []cloudburst.Edge{
		{From: "top", To: "left", Arg: "0"},
		{From: "top", To: "right", Arg: "0"},
		{From: "left", To: "bottom", Arg: "0"},
		{From: "right", To: "bottom", Arg: "1"},
	}
	return g
}

func diamondOf(v int) int { return 2*v + 5 }

// urls joins addresses into a URL list.
func urls(addrs []string) string { return "nats://" + strings.Join(addrs, ",nats://") }
