package cloudburst

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/cloudburst-nats/cloudburst/broker"
	"github.com/cloudburst-nats/cloudburst/consistency"
	"github.com/cloudburst-nats/cloudburst/wire"
	"github.com/cloudburst-nats/cloudburst/workers/runtime"
)

type callOptions struct {
	run   RunID
	level string
	token *Token
	wait  func() time.Duration // nil for now
	lazy  bool
}

// A CallOption changes the calls made through a client derived by With.
type CallOption func(*callOptions)

// WithRunID names the run. A second call with the same id, function and argument doesn't
// run: it waits for the first one's result, or gets it if the run has ended. So a program
// that doesn't know whether it has called may safely call again, for as long as results
// are kept (an hour). A call with the same id and another function or argument fails with
// ErrConflict. Such a call costs two more round trips to the storage than one without an
// id. Letters, digits and "-_=/.".
func WithRunID(id RunID) CallOption { return func(o *callOptions) { o.run = id } }

// After has the calls run no sooner than this long after they are stored, which
// takes nothing but a message on the server meanwhile. It isn't for anything finer
// than 250 ms, which is the least.
func After(d time.Duration) CallOption {
	return func(o *callOptions) { o.wait = func() time.Duration { return d } }
}

// At is After for a point in time, by this machine's clock; one that has passed is now.
func At(t time.Time) CallOption {
	return func(o *callOptions) { o.wait = func() time.Duration { return time.Until(t) } }
}

// WaitForWorker has the calls wait for their results also while no worker serves the pool
// of the function. Without it Call fails with ErrNoWorker after two seconds of that.
func WaitForWorker() CallOption { return func(o *callOptions) { o.lazy = true } }

// The consistency levels: what a run is promised about its reads (the paper's
// section 5). docs/consistency.md tells which to choose.
const (
	LWW           = string(consistency.LWW)           // the later write wins; reads may go back in time
	Repeatable    = string(consistency.Repeatable)    // within a run, a key doesn't change but by the run itself
	CausalKey     = string(consistency.CausalKey)     // concurrent writes of a key are kept; a key doesn't go back within a run
	Causal        = string(consistency.Causal)        // and what is shown on a worker shows all that it depends on
	SessionCausal = string(consistency.SessionCausal) // and so across all workers that a run touches
)

// WithLevel asks for a consistency level, one of the constants above: it takes
// the place of the function's or DAG's own. A call that names another fails with
// ErrBadArgument.
func WithLevel(level string) CallOption { return func(o *callOptions) { o.level = level } }

// WithToken has the calls see what the token's earlier calls have seen and
// written, whichever worker they run on and whatever their level, and takes note
// of what they see: reads don't go back from one call to the next, and a caller
// reads its own writes.
func WithToken(t *Token) CallOption { return func(o *callOptions) { o.token = t } }

// With returns a client on the same connection whose calls have the options.
func (c *Client) With(opts ...CallOption) *Client {
	derived := *c
	for _, opt := range opts {
		opt(&derived.call)
	}
	return &derived
}

// Call runs a function or DAG and waits for its result: paper section 3. No
// argument, one, or several (which travel as a JSON array); each is anything
// that encodes as JSON, a Value, a reference (Ref) or a *Future of another
// call. R is what the result decodes into; Value takes it as it is.
//
// A function that makes a call with its own context gives up its slot until the result is
// there. So calls may be inside of each other, 64 of them, in a pool of any size; one more
// fails with an error that says so. The same holds for Future.Wait and Session.Recv. Under
// another context, such as context.Background(), the call keeps its function's slot: a pool
// whose slots all wait so stands still until the functions' time-outs.
//
// It fails with ErrUnknown, ErrBusy, ErrTooLarge, ErrBadArgument or
// ErrUnavailable if the call could not be made, with ErrTimeout if ctx ended
// first (the run goes on), with ErrNoWorker if no worker serves the function's pool (the
// call is stored, and runs once one does), and with the function's own *Error otherwise.
func Call[R any](ctx context.Context, c *Client, name string, args ...any) (R, error) {
	var zero R
	call, err := c.newCall(ctx, name, args)
	if err != nil {
		return zero, err
	}
	r, err := c.result(ctx, call)
	if none, ok := errors.AsType[*wire.Error](err); ok && none.Kind == wire.KindNoWorker {
		more := *none
		more.Msg += "; a call with WaitForWorker waits for one"
		err = &more
	}
	if err != nil {
		return zero, err
	}
	return decode[R](ctx, c, r)
}

// result makes a call and waits for its result. Outside of functions, where no slot is to be
// given up, the call needs no closure and stays off the heap.
func (c *Client) result(ctx context.Context, call wire.Call) (r wire.Result, err error) {
	if !runtime.Inside(ctx) {
		return c.broker.Call(ctx, call)
	}
	return c.resultInside(ctx, call)
}

func (c *Client) resultInside(ctx context.Context, call wire.Call) (r wire.Result, err error) {
	err = runtime.Block(ctx, func() (err error) {
		r, err = c.broker.Call(ctx, call)
		return err
	})
	return r, err
}

// Go calls a function or DAG and returns once the call is stored: from then on
// it will run, whatever happens to the caller, and once a worker serves the function's
// pool: the future waits for that. Close the future if nobody waits for it.
func Go[R any](ctx context.Context, c *Client, name string, args ...any) (*Future[R], error) {
	call, err := c.newCall(ctx, name, args)
	if err != nil {
		return nil, err
	}
	p, err := c.broker.Start(ctx, call)
	if err != nil {
		return nil, err
	}
	if err := p.Stored(ctx); err != nil {
		p.Close()
		return nil, err
	}
	return &Future[R]{run: p.Run, client: c, pending: p}, nil
}

// Attach returns a future of a run that somebody else started. Its Wait is ErrUnknown if
// nothing is found of such a run for some seconds.
func Attach[R any](c *Client, run RunID) *Future[R] {
	return &Future[R]{run: run, client: c}
}

// A Future is the result of a run that may not have ended yet. It can be an
// argument of another call, whose worker then waits for it.
type Future[R any] struct {
	run     RunID
	client  *Client
	pending *broker.Pending // nil when attached
}

// Run returns the run's id, by which its result can be found later.
func (f *Future[R]) Run() RunID { return f.run }

// Wait returns the result; see Call for the errors. It may be called again.
func (f *Future[R]) Wait(ctx context.Context) (R, error) {
	var zero R
	var r wire.Result
	err := runtime.Block(ctx, func() (err error) {
		if f.pending != nil {
			r, err = f.pending.Wait(ctx)
		} else {
			r, err = f.client.broker.Await(ctx, f.run)
		}
		return err
	})
	if err != nil {
		return zero, err
	}
	return decode[R](ctx, f.client, r)
}

// Close stops listening for the result. The run goes on.
func (f *Future[R]) Close() {
	if f.pending != nil {
		f.pending.Close()
	}
}

// MarshalJSON makes a future an argument: {"$run": "<id>"}.
func (f *Future[R]) MarshalJSON() ([]byte, error) { return json.Marshal(wire.Ref{Run: f.run}) }

// A Reference stands for a value that the worker looks up before the function
// runs; it travels as {"$ref": "<key>"}. See Ref and RefIn.
type Reference = wire.Ref

// Ref is an argument that stands for a key of the function's namespace: the
// worker resolves it from its cache before the function runs (the paper's
// CloudburstReference).
func Ref(key string) Reference { return Reference{Key: key} }

// RefIn is Ref for a key of another namespace.
func RefIn(namespace, key string) Reference { return Reference{Key: key, Namespace: namespace} }

func (c *Client) newCall(ctx context.Context, name string, args []any) (wire.Call, error) {
	if err := wire.CheckName("function", name); err != nil {
		return wire.Call{}, err
	}
	if err := consistency.Check(c.call.level); err != nil {
		return wire.Call{}, err
	}
	v, err := wire.Args(args...)
	if err != nil {
		return wire.Call{}, err
	}
	past, err := c.carried(ctx)
	if err != nil {
		return wire.Call{}, err
	}
	depth, err := runtime.Nested(ctx, name)
	if err != nil {
		return wire.Call{}, err
	}
	call := wire.Call{Name: name, Run: c.call.run, Depth: depth, Level: c.call.level, Past: past, Args: v, Patient: c.call.lazy}
	if c.call.wait != nil {
		call.Wait = max(c.call.wait(), 0)
	}
	return call, nil
}

// decode reads a result into what the caller asked for.
func decode[R any](ctx context.Context, c *Client, r wire.Result) (R, error) {
	var out R
	if err := c.brought(ctx, r.Past); err != nil {
		return out, err
	}
	if r.Status != wire.StatusOK {
		if r.Err == nil {
			return out, &wire.Error{Op: "call", Name: r.Name, Kind: wire.KindFunction, Msg: "ended " + string(r.Status)}
		}
		return out, r.Err
	}
	err := r.Value.Decode(&out)
	return out, err
}
