package workers

import (
	"cmp"
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/cloudburst-nats/cloudburst/consistency"
	"github.com/cloudburst-nats/cloudburst/wire"
	"github.com/cloudburst-nats/cloudburst/workers/runtime"
)

// A job is one delivery on its way through a worker. The goroutine that runs
// it owns it, but for what the worker's mutex guards. When a function doesn't
// return though its time is up, that goroutine is left behind with it, and the
// one that gave it up owns the job.
type job struct {
	w      *Worker
	call   wire.Call
	d      Delivery
	place  place
	begin  chan struct{} // closed when it may begin; nil: at once. See admission
	held   bool          // it has begun, and not ended its last step; guarded by w.mu
	began  time.Time
	ctx    context.Context //nolint:containedctx // ends with the job, which is one goroutine's
	cancel context.CancelCauseFunc

	left    atomic.Bool // given up on: its goroutine no longer owns it
	session *consistency.Session
	past    string            // what the run had seen before
	limits  wire.Limits       // of the step that ran last
	took    time.Duration     // in functions
	nodes   []wire.NodeTiming // of a call that failed
	trials  *wire.Trials      // of a call that was handed out often; nil for others

	received []Mailbox // of the steps that received messages
}

var _ Host = (*job)(nil)

// run takes the job through its life and frees its slot.
func (j *job) run() {
	j.park()
	out, err := j.execute()
	if j.left.Load() {
		return
	}
	j.settle(out, err)
}

// settle frees the slot and ends the delivery.
func (j *job) settle(out Outcome, err error) {
	j.place.end()
	j.w.ended(j)
	if missing := (*notHostedError)(nil); err != nil && errors.As(context.Cause(j.ctx), &missing) {
		err = missing // the worker has left it to another
	}
	switch {
	case err == nil && !out.Done:
		if out.Again != "" {
			j.w.observe.restarted(j, out.Again)
		}
		j.end() // the run goes on elsewhere
	case err == nil:
		j.past = out.Past
		j.finish(&wire.Result{Status: wire.StatusOK, Value: out.Value, Nodes: out.Nodes, Past: j.token(out.Past), Kept: out.Kept})
	case context.Cause(j.ctx) == error(errCancelled): //nolint:errorlint // this very cause, no other cancellation
		j.finish(&wire.Result{Status: wire.StatusCancelled, Err: errorOf(err, j.call.Name)})
	default:
		j.nodes = out.Nodes
		j.fail(err)
	}
}

// execute runs the call's function, or its part of a DAG, up to the point
// where all its effects but the result are stored.
func (j *job) execute() (Outcome, error) {
	if admitted, err := j.admit(); err != nil || !admitted {
		return Outcome{}, err
	}
	if err := j.alive(); err != nil {
		return Outcome{}, err
	}
	if err := j.watch(); err != nil {
		return Outcome{}, err
	}
	if err := consistency.Check(j.call.Level); err != nil {
		return Outcome{}, err
	}
	if j.call.Past != "" {
		past, err := j.w.values.Past(j.ctx, j.call.Past)
		if err != nil {
			return Outcome{}, err
		}
		j.past = past
	}
	args, err := j.w.values.Unpack(j.ctx, j.call.Args)
	if err != nil {
		return Outcome{}, err
	}
	if j.call.Node != "" || !j.w.Hosts(j.call.Name) {
		call := j.call
		call.Args = args
		return j.w.graphs.Run(j.ctx, call, j)
	}
	value, err := j.Invoke(j.ctx, Step{Function: j.call.Name}, args)
	if err == nil {
		err = j.Flush(j.ctx)
	}
	return Outcome{Done: true, Value: value, Past: j.Past()}, err
}

// admit says whether the call is to be run: it isn't if its run has ended.
func (j *job) admit() (bool, error) {
	if j.w.cfg.Ledger == nil {
		return true, nil
	}
	verdict, err := j.w.cfg.Ledger.Admit(context.WithoutCancel(j.ctx), &j.call)
	switch {
	case err != nil:
		return false, &storageError{err}
	case verdict == wire.LookUp:
		return false, errUnderWay
	}
	return verdict == wire.RunIt, nil
}

// alive is errCancelled if somebody has cancelled the run.
func (j *job) alive() error {
	if err := context.Cause(j.ctx); err != nil || time.Since(j.call.Stored) < rememberCancelled {
		return err
	}
	cancelled, err := j.w.values.WasCancelled(j.ctx, j.call.Run)
	if cancelled {
		j.cancel(errCancelled)
		return errCancelled
	}
	return err
}

// Hosts says whether the worker hosts the function.
func (j *job) Hosts(function string) bool { return j.w.Hosts(function) }

// Worker names the worker.
func (j *job) Worker() string { return j.w.cfg.ID }

// Invoke runs one function in this job's slot, within its time-out.
func (j *job) Invoke(ctx context.Context, step Step, args wire.Value) (wire.Value, error) {
	if step.Await != "" {
		return j.contained(ctx, step)
	}
	h := j.w.hosted(step.Function)
	if h == nil {
		return wire.Value{}, NotHosted(step.Function, nil)
	}
	j.limits = override(h.limits, step.Limits)
	if err := j.open(step, h.spec.Level); err != nil {
		return wire.Value{}, err
	}
	args, each, err := j.resolve(ctx, h.code, args)
	if err != nil {
		return wire.Value{}, err
	}
	if h.spec.Transactional {
		// What nodes before it wrote in this slot is theirs, not the transaction's.
		if err := j.Flush(ctx); err != nil {
			return wire.Value{}, err
		}
		if v, found, err := j.committed(ctx, step.Node); err != nil || found {
			return v, err
		}
	}
	value, err := j.within(ctx, h, step, args, each)
	if err != nil || !h.spec.Transactional {
		return value, err
	}
	value, err = j.session.Commit(ctx, j.w.cfg.Namespace, j.record(step.Node), value)
	return value, storeError(err)
}

// resolve looks up what the arguments refer to, and returns them as the code takes
// them: in one document, or one by one.
func (j *job) resolve(ctx context.Context, code runtime.Function, args wire.Value) (whole wire.Value, each []wire.Value, err error) {
	look := func(r wire.Ref) (wire.Value, error) { return j.look(ctx, r) }
	if _, lists := code.(runtime.Lister); lists {
		each, err = wire.ResolveEach(args, look)
		return wire.Value{}, each, err
	}
	whole, err = wire.Resolve(args, look)
	return whole, nil, err
}

// record names what a node's commit is recorded under.
func (j *job) record(node string) string { return string(j.call.Run) + "/" + node }

// committed returns the result of an earlier execution of the node that committed.
func (j *job) committed(ctx context.Context, node string) (wire.Value, bool, error) {
	if !j.call.Again() && j.call.Epoch == 0 {
		return wire.Value{}, false, nil // if there were one after all, the commit would find it
	}
	v, found, err := j.session.Committed(ctx, j.w.cfg.Namespace, j.record(node))
	return v, found, storeError(err)
}

// within runs a function within its time-out.
func (j *job) within(ctx context.Context, h *hosted, step Step, args wire.Value, each []wire.Value) (wire.Value, error) {
	cause := h.timeout
	if j.limits.Timeout != h.limits.Timeout {
		cause = timeoutError(step.Function, j.limits.Timeout)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, j.limits.Timeout, cause)
	defer cancel()
	ctx = runtime.Within(ctx, j.call.Depth, &j.place)
	began, waited := time.Now(), j.place.waited()
	ctx = runtime.WithStamps(ctx, j.session)
	returned := context.AfterFunc(ctx, func() { j.leave(context.Cause(ctx)) })
	mail := &mail{job: j, node: step.Node}
	call := &runtime.Call{
		Run: j.call.Run, Function: step.Function, Node: step.Node, Attempt: j.call.Attempt, Args: args, Each: each,
		Namespace: j.w.cfg.Namespace, State: j.session, Functions: j.w.cfg.Functions, Mail: mail,
	}
	if j.w.cfg.Output != nil {
		call.Log = j.w.cfg.Output(&j.call, &h.spec)
	}
	value, err := h.code.Invoke(ctx, call)
	took := time.Since(began)
	h.stats.waited.Add(int64(j.place.waited() - waited))
	box := mail.close()
	if !returned() {
		j.left.Store(true) // leave may not have come to it yet
		h.stats.count(took, context.Cause(ctx))
		return wire.Value{}, errLeft
	}
	j.took += took
	if box != nil {
		j.received = append(j.received, box)
	}
	if broken := j.session.Broken(); broken != nil { // whatever the function made of it
		return wire.Value{}, broken
	}
	if _, missing := errors.AsType[*notHostedError](err); missing {
		return wire.Value{}, err // its code can't be had here now
	}
	if away := j.session.Away(); err != nil && away != nil {
		return wire.Value{}, &storageError{away}
	}
	if err != nil {
		if cause := context.Cause(ctx); cause != nil && (errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)) {
			err = cause // the function handed on what ended its context
		}
		err = functionError(err, step.Function)
	}
	h.stats.count(took, err)
	return value, err
}

// errLeft unwinds the goroutine of a job that was given up on.
var errLeft = errors.New("given up on")

// leave gives up on a function whose time is up: the job ends here, and its
// goroutine, whenever the function returns.
func (j *job) leave(cause error) {
	j.left.Store(true)
	j.settle(Outcome{}, cause)
}

func timeoutError(function string, limit time.Duration) *wire.Error {
	return &wire.Error{Op: "run", Name: function, Kind: wire.KindTimeout, Msg: "no answer within " + limit.String() + ", the function's time-out"}
}

// Flush stores what the functions of this job have written so far.
func (j *job) Flush(ctx context.Context) error {
	if j.session == nil {
		return nil
	}
	return storeError(j.session.Flush(ctx))
}

// storeError tells a failure of the storage from one of what was to be stored.
func storeError(err error) error {
	switch kind := wire.KindOf(err); {
	case err == nil:
		return nil
	case kind == 0, kind == wire.KindUnavailable, kind == wire.KindBusy, kind == wire.KindTimeout:
		return &storageError{err}
	default: // too large, or of another kind than the key holds: the function's own doing
		return err
	}
}

// open gives the job its session, or moves it on to the next node.
func (j *job) open(step Step, level string) (err error) {
	if j.session != nil {
		j.session.SetNode(step.Node)
		return nil
	}
	if step.Level != "" {
		level = step.Level
	} else if j.call.Level != "" {
		level = j.call.Level
	}
	promised, err := consistency.ParseLevel(level)
	if err != nil {
		return err
	}
	if promised.Restarts() && j.w.cfg.Settled != nil {
		j.past, err = consistency.Reopen(j.past, func(source string) (uint64, error) {
			floor, err := j.w.cfg.Settled(j.ctx, source)
			return floor, storeError(err)
		})
		if err != nil {
			return err
		}
	}
	j.session, err = consistency.NewSession(consistency.Config{
		Identity: consistency.Identity{
			Writer: j.w.cfg.ID, Log: j.w.cfg.Pool, Source: cmp.Or(j.call.Source, j.w.cfg.Source), Seq: j.call.Seq, Node: step.Node,
			Attempt: j.call.Epoch*epochAttempts + j.call.Attempt,
		},
		Stores: j.w.stores, Level: promised, Stored: j.call.Stored, Now: j.w.cfg.Now,
		Run: string(j.call.Run), Past: j.past, Pins: &j.w.pins, Peers: j.w.peers,
	})
	return err
}

// epochAttempts is more than a call is ever handed out: what a run counts after it
// began again replaces what it counted before.
const epochAttempts = 1_000_000

// Restartable has what the run counts be counted under this call, which is its first.
func (j *job) Restartable() (err error) {
	j.past, err = consistency.Originate(j.past, cmp.Or(j.call.Source, j.w.cfg.Source), j.call.Seq)
	return err
}

// Past returns what the run has seen so far.
func (j *job) Past() string {
	if j.session == nil {
		return j.past
	}
	return j.session.Past()
}

// token returns what the caller's next call carries along. Who called a DAG doesn't know
// what came with the call of its last node.
func (j *job) token(past string) string {
	before := j.call.Past
	if j.call.Node != "" {
		before = ""
	}
	return consistency.Token(past, before)
}

// look returns what a reference stands for.
func (j *job) look(ctx context.Context, ref wire.Ref) (wire.Value, error) {
	if ref.Run != "" {
		return j.future(ctx, ref.Run)
	}
	ns := ref.Namespace
	if ns == "" {
		ns = j.w.cfg.Namespace
	} else if has := j.w.cfg.HasNamespace; has != nil {
		there, err := has(ctx, ns)
		if err == nil && !there {
			err = &wire.Error{Op: "resolve", Name: ns, Kind: wire.KindUnknown, Msg: "no such namespace: the argument refers to a key of it"}
		}
		if err != nil {
			return wire.Value{}, err
		}
	}
	refs := j.w.cfg.References
	cached := refs != nil && refs.Cached(ns, ref.Key)
	v, found, err := j.session.Get(ctx, ns, ref.Key)
	if err == nil && refs != nil {
		refs.Used(ns, ref.Key, cached, len(v.Body))
	}
	if err == nil && !found {
		err = &wire.Error{Op: "resolve", Name: ref.Key, Kind: wire.KindUnknown, Msg: "no such key: the argument refers to it"}
	}
	return v, err
}

func (j *job) limitsOf(name string) wire.Limits {
	if h := j.w.hosted(name); h != nil {
		return h.limits
	}
	return wire.Function{}.Limits()
}

func override(l, by wire.Limits) wire.Limits {
	if by.Timeout > 0 {
		l.Timeout = by.Timeout
	}
	if by.Attempts > 0 {
		l.Attempts = by.Attempts
	}
	if by.Backoff > 0 {
		l.Backoff = by.Backoff
	}
	return l
}
