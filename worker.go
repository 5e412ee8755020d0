package cloudburst

import (
	"bytes"
	"context"
	"encoding/json"
	"reflect"
	"sync"
	"time"

	"github.com/cloudburst-nats/cloudburst/broker"
	"github.com/cloudburst-nats/cloudburst/deployments"
	"github.com/cloudburst-nats/cloudburst/wire"
	"github.com/cloudburst-nats/cloudburst/workers/runtime"
	"github.com/cloudburst-nats/cloudburst/workers/runtime/native"
)

// A Worker serves functions from the program's own binary. All workers of one
// pool serve the same functions and share its calls. Make one with NewWorker,
// add functions with Handle, then Serve.
type Worker struct {
	client *Client
	cfg    deployments.WorkerConfig
	ready  chan struct{}
}

// A WorkerOption changes a worker.
type WorkerOption func(*deployments.WorkerConfig)

// Pool names the pool that the worker serves. Default "default". Programs that
// serve different functions need different pools.
func Pool(name string) WorkerOption { return func(c *deployments.WorkerConfig) { c.Pool = name } }

// Slots is how many calls run at once. Default 64. More slots cost memory for
// what the calls hold, and nothing while they are free.
func Slots(n int) WorkerOption { return func(c *deployments.WorkerConfig) { c.Slots = n } }

// InHand bounds the calls that the worker has in hand: those that run in its slots, and
// those that wait for calls that they made, without slots. Default 2048; the least is the
// slots and 64 more. More costs the memory of what waits. Beyond the bound the worker takes
// only calls that those in hand wait for. It leaves others to be handed out again later,
// and logs that.
func InHand(n int) WorkerOption { return func(c *deployments.WorkerConfig) { c.InHand = n } }

// SlotsBetween lets an autoscaler change how many calls run at once while the worker
// serves: between least and most. Without it the slots stay what they are.
func SlotsBetween(least, most int) WorkerOption {
	return func(c *deployments.WorkerConfig) { c.MinSlots, c.MaxSlots = least, most }
}

// CacheBytes bounds the worker's cache of each namespace, so a worker whose functions use
// several may cache several times as much. Default 256 MiB.
func CacheBytes(n int64) WorkerOption {
	return func(c *deployments.WorkerConfig) { c.CacheBytes = n }
}

// WithoutPlacement has the worker run each call that it pulls, wherever the keys are
// that the call's arguments refer to, and tell no other worker which it has. It is
// for comparison: with one worker in a pool it makes no difference.
func WithoutPlacement() WorkerOption {
	return func(c *deployments.WorkerConfig) { c.WithoutPlacement = true }
}

// Clock is what the worker's machine takes for the time. It plays no part: writes are
// ordered by the log that holds the calls. Default time.Now. Tests set a wrong clock to
// show that.
func Clock(now func() time.Time) WorkerOption {
	return func(c *deployments.WorkerConfig) { c.Now = now }
}

// Namespace is the bucket that the worker's functions keep their state in
// unless they name another. Default "state".
func Namespace(name string) WorkerOption {
	return func(c *deployments.WorkerConfig) { c.Namespace = name }
}

// NewWorker returns a worker that serves nothing yet. It starts nothing.
func NewWorker(c *Client, opts ...WorkerOption) *Worker {
	w := &Worker{client: c, ready: make(chan struct{})}
	w.cfg = deployments.WorkerConfig{
		Namespace: broker.DefaultNamespace, Log: c.log,
		Ready: sync.OnceFunc(func() { close(w.ready) }),
	}
	for _, opt := range opts {
		opt(&w.cfg)
	}
	return w
}

// Serve registers the worker's functions and runs their calls until ctx ends,
// then finishes the calls in hand and returns. It returns an error at once if
// a function can't be registered: a bad name, a name that belongs to another
// pool, or a pool that has functions which this worker doesn't serve.
func (w *Worker) Serve(ctx context.Context) error {
	if w.cfg.Library != nil {
		return serveDeployed(ctx, w.client.broker, w.cfg)
	}
	return deployments.RunWorker(ctx, w.client.broker, w.cfg)
}

// Ready is closed once the worker's functions can be called.
func (w *Worker) Ready() <-chan struct{} { return w.ready }

// A FunctionOption changes how a function is run.
type FunctionOption func(*wire.Function)

// Timeout bounds one execution. Default 60 s.
func Timeout(d time.Duration) FunctionOption { return func(f *wire.Function) { f.Timeout = d } }

// Attempts is how often a call that fails is run in all. Default 3.
func Attempts(n int) FunctionOption { return func(f *wire.Function) { f.Attempts = n } }

// Backoff is the wait before the second attempt; it doubles from there, up to
// 30 s. Default 100 ms.
func Backoff(d time.Duration) FunctionOption { return func(f *wire.Function) { f.Backoff = d } }

// AtLevel is the consistency level of calls of the function that name none, and
// are not part of a DAG: one of LWW (the default), Repeatable, CausalKey, Causal
// and SessionCausal.
func AtLevel(level string) FunctionOption { return func(f *wire.Function) { f.Level = level } }

// Transactional has all that one execution of the function writes stored at once
// or not at all, and once: an execution that is repeated after a crash finds that
// it has committed, and its result is that of the first. It may write to the
// worker's own namespace only, and at most 999 keys. The record of a commit is
// kept for an hour. On one server a commit takes some milliseconds.
func Transactional() FunctionOption { return func(f *wire.Function) { f.Transactional = true } }

// About is a line of description for people.
func About(text string) FunctionOption { return func(f *wire.Function) { f.About = text } }

// Handle adds a function to the worker under a name. The argument of a call is
// decoded from JSON into A: a value, a struct whose fields are the named
// arguments (or, when the call passes several, take them in order), Value for
// the bytes as they are, struct{} for none, []Value for all arguments one by one, of
// any type: large values that the arguments refer to are then shared with the
// worker's cache instead of copied and decoded, and must not be written to. An argument that doesn't decode
// fails the call with ErrBadArgument.
//
// fn may be called by many goroutines at once. An error is retried with
// backoff unless it is Permanent; so is a panic.
func Handle[A, R any](w *Worker, name string, fn func(ctx context.Context, s *Session, arg A) (R, error), opts ...FunctionOption) {
	spec := wire.Function{Name: name, Pool: w.cfg.Pool, Runtime: "native"}
	for _, opt := range opts {
		opt(&spec)
	}
	client := w.client
	invoke := func(ctx context.Context, call *runtime.Call) (wire.Value, error) {
		var arg A
		if each, lists := any(&arg).(*[]Value); lists {
			*each = call.Each
		} else if err := decodeArgs(call.Args, &arg); err != nil {
			return wire.Value{}, err
		}
		out, err := fn(ctx, &Session{State: State{in: call.State, ns: call.Namespace}, call: call, client: client}, arg)
		if err != nil {
			return wire.Value{}, err
		}
		return wire.JSON(out)
	}
	var code runtime.Function = native.Func(invoke)
	if reflect.TypeFor[A]() == reflect.TypeFor[[]Value]() {
		code = native.ListFunc(invoke)
	}
	w.cfg.Functions = append(w.cfg.Functions, deployments.Hosted{Spec: spec, Code: code})
}

// A Session is one execution of a function: the state as this run sees it, and
// who it is. It ends when the function returns.
type Session struct {
	State
	call   *runtime.Call
	client *Client
}

// Run returns the id of the run.
func (s *Session) Run() RunID { return s.call.Run }

// Attempt tells how often this call has been handed out; 1 is the first time.
func (s *Session) Attempt() int { return s.call.Attempt }

// Client returns the worker's client, to call other functions. Such a call is
// a run of its own: it happens again when this one is retried, unless it is
// given a run id derived from this run's (WithRunID), such as Run()+"/ship".
func (s *Session) Client() *Client { return s.client }

// decodeArgs reads the argument document. Several positional arguments fill a
// struct's exported fields in order.
func decodeArgs(args wire.Value, into any) error {
	body := bytes.TrimSpace(args.Body)
	target := reflect.TypeOf(into).Elem()
	if args.IsJSON() && len(body) > 0 && body[0] == '[' && target.Kind() == reflect.Struct && target != reflect.TypeFor[wire.Value]() {
		if _, own := into.(json.Unmarshaler); !own {
			return decodePositional(args, reflect.ValueOf(into).Elem())
		}
	}
	if len(body) == 0 && target.Kind() == reflect.Struct && target.NumField() == 0 {
		return nil
	}
	return args.Decode(into)
}

func decodePositional(args wire.Value, into reflect.Value) error {
	var list []json.RawMessage
	if err := args.Decode(&list); err != nil {
		return err
	}
	var fields []reflect.Value
	for i := range into.NumField() {
		if into.Type().Field(i).IsExported() {
			fields = append(fields, into.Field(i))
		}
	}
	if len(list) > len(fields) {
		return &wire.Error{Kind: wire.KindBadArgument, Msg: "too many arguments: the function takes " + into.Type().String()}
	}
	for i, raw := range list {
		if err := (wire.Value{Body: raw}).Decode(fields[i].Addr().Interface()); err != nil {
			return err
		}
	}
	return nil
}
