package anomalies

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/cloudburst-nats/cloudburst"
	"github.com/cloudburst-nats/cloudburst/bench/process"
	"github.com/cloudburst-nats/cloudburst/consistency/history"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// A part is what a worker process is told to play.
type part struct {
	URL      string   `json:"url"`
	Pool     string   `json:"pool"`
	File     string   `json:"file"` // that executions are appended to
	Workload workload `json:"workload"`
}

// Serve plays a worker of the experiment until ctx ends; arg is what Config.Worker
// was given. It writes a line to out once it is up.
func Serve(ctx context.Context, arg string, out io.Writer) (err error) {
	var p part
	if err := json.Unmarshal([]byte(arg), &p); err != nil {
		return &wire.Error{Op: "play " + Role, Kind: wire.KindBadArgument, Name: arg, Msg: err.Error(), Err: err}
	}
	file, err := openHistory(p.File)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	client, err := cloudburst.Connect(ctx, p.URL, cloudburst.WithName("bench "+p.Pool))
	if err != nil {
		return err
	}
	defer client.Close()
	w := cloudburst.NewWorker(client, cloudburst.Pool(p.Pool), cloudburst.Namespace(namespaceOf(cloudburst.LWW)))
	m := &mix{
		worker: fmt.Sprintf("%s-%08x", p.Pool, rand.Uint32()), workload: p.Workload,
		zipf: newZipf(p.Workload.Keys, p.Workload.Zipf), history: history.NewRecorder(file),
	}
	cloudburst.Handle(w, function(p.Pool), m.execute)
	served := make(chan error, 1)
	go func() { served <- w.Serve(ctx) }()
	select {
	case <-w.Ready():
		if _, err := fmt.Fprintln(out, process.Ready); err != nil {
			return err
		}
		return <-served
	case err := <-served:
		return err
	}
}

// openHistory opens the file of a worker's executions for more. A line that its
// killed predecessor had begun is cut off: nothing of that execution was stored.
func openHistory(path string) (*os.File, error) {
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("read history: %w", err)
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open history: %w", err)
	}
	if err := file.Truncate(int64(bytes.LastIndexByte(data, '\n') + 1)); err != nil {
		return nil, errors.Join(fmt.Errorf("cut history: %w", err), file.Close())
	}
	return file, nil
}

// A mix is the function that all nodes run, in one process.
type mix struct {
	worker   string // this process's, and no other's
	workload workload
	zipf     zipf
	history  *history.Recorder
	executed atomic.Uint64
}

// A request is the argument of a run.
type request struct {
	Number int    `json:"number"`
	Level  string `json:"level"`
}

// An input is the argument of a node: the run's if it is a source, else what
// one or two nodes before it returned.
type input struct {
	Node    int      `json:"node"`
	Sink    bool     `json:"sink"`
	Request *request `json:"request"`
	Left    *output  `json:"left"`
	Right   *output  `json:"right"`
}

// An output is what a node returns.
type output struct {
	Request   *request `json:"request"`
	Execution string   `json:"execution"`
	// Made are all executions whose results have gone into this one, and itself.
	Made []string `json:"made"`
}

// execute runs one node: it reads, perhaps writes, and records both.
func (m *mix) execute(ctx context.Context, s *cloudburst.Session, in input) (output, error) {
	e := history.Execution{
		Run: string(s.Run()), Node: nodeName(in.Node), Worker: m.worker, Attempt: s.Attempt(), Start: time.Now().UnixNano(),
	}
	out := output{Request: in.Request}
	for _, from := range []*output{in.Left, in.Right} {
		if from != nil {
			out.Request = from.Request
			out.Made = append(out.Made, from.Made...)
			e.Upstream = append(e.Upstream, from.Execution)
		}
	}
	if out.Request == nil {
		return out, &wire.Error{Kind: wire.KindBadArgument, Msg: "neither a request nor a result"}
	}
	e.Level = out.Request.Level
	e.ID = fmt.Sprintf("%s/%s/%d/%s.%d", e.Run, e.Node, e.Attempt, m.worker, m.executed.Add(1))
	state := &view{s.In(namespaceOf(e.Level)), e.Level, &e}
	todo := m.workload.work(m.zipf, out.Request.Number, in.Node, len(e.Upstream), in.Sink)
	if err := state.do(ctx, todo); err != nil {
		return out, err
	}
	e.End = time.Now().UnixNano()
	if err := m.history.Record(e); err != nil {
		return out, fmt.Errorf("record: %w", err)
	}
	slices.Sort(out.Made)
	out.Execution, out.Made = e.ID, append(slices.Compact(out.Made), e.ID)
	return out, nil
}

// A view is the state as an execution sees it, which notes what it is shown.
type view struct {
	state     *cloudburst.State
	level     string
	execution *history.Execution
}

func (v *view) do(ctx context.Context, todo work) error {
	for _, key := range todo.reads {
		if err := v.read(ctx, key); err != nil {
			return err
		}
	}
	if todo.write == "" {
		return nil
	}
	// At a causal level a write replaces what its run was shown: that is part of
	// the history.
	if causal(v.level) {
		if err := v.read(ctx, todo.write); err != nil {
			return err
		}
	}
	id := v.execution.ID + "#" + strconv.Itoa(len(v.execution.Ops))
	v.execution.Ops = append(v.execution.Ops, history.Op{Key: todo.write, Write: id})
	return v.state.Put(ctx, todo.write, id)
}

// read notes what is shown of a key.
func (v *view) read(ctx context.Context, key string) error {
	op, err := readOp(ctx, v.state, v.level, key)
	if err == nil {
		v.execution.Ops = append(v.execution.Ops, op)
	}
	return err
}

// readOp reads a key: at the causal levels all versions, which may be concurrent,
// at the others one.
func readOp(ctx context.Context, state *cloudburst.State, level, key string) (history.Op, error) {
	var shown []cloudburst.Value
	var err error
	if causal(level) {
		shown, err = state.Versions(ctx, key)
	} else {
		var one cloudburst.Value
		var found bool
		if one, found, err = state.Get(ctx, key); found {
			shown = append(shown, one)
		}
	}
	op := history.Op{Key: key}
	for _, value := range shown {
		var id string
		if err := value.Decode(&id); err != nil {
			return op, fmt.Errorf("key %s: %w", key, err)
		}
		op.Read = append(op.Read, id)
	}
	return op, err
}

func causal(level string) bool {
	return level == cloudburst.CausalKey || level == cloudburst.Causal || level == cloudburst.SessionCausal
}
