package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// Deploying a function that comes as an image:
//
//	cb.worker.<id>.prepare   request: get the code ready, and say what is wrong with it
//	cb.worker.<id>.adopt     request: answer once new calls run this version
//
// A request without a body is answered at once: the worker is there.
//
// The image is stored, every worker of the pool prepares it, then the registry
// names the new version, then every worker says that it has taken it up. What a
// worker finds wrong with an image ends the deployment before anything changed.
const (
	workerPrepare = ".prepare"
	workerAdopt   = ".adopt"

	// adoptWait is more than a worker that lost the notice of a change needs to find it.
	adoptWait = 10 * time.Second
	// aliveEach is how often a worker that hasn't answered yet is asked whether it lives.
	aliveEach = time.Second
	// requestsAtOnce bounds the deployments that one worker prepares at a time.
	requestsAtOnce = 4
)

func versionKey(name string, version int) string { return name + "." + strconv.Itoa(version) }

// PrepareFunction has every live worker of the function's pool get its code
// ready. It returns what a worker found wrong with it, and KindUnavailable if no
// worker of the pool answers. Workers have as long as wire.Function.LoadWithin says; if none
// is ready by then that is an error of KindTimeout.
func (b *Broker) PrepareFunction(ctx context.Context, f wire.Function) error {
	waiting, cancel := context.WithTimeout(ctx, f.LoadWithin())
	defer cancel()
	heard, err := b.askWorkers(waiting, f, workerPrepare)
	switch {
	case err != nil:
		return err
	case heard == 0 && waiting.Err() != nil && ctx.Err() == nil:
		return &wire.Error{Op: "deploy", Name: f.Name, Kind: wire.KindTimeout, Msg: fmt.Sprintf("no worker of pool %q was ready with its %d MiB within %v: deploy it again, since workers keep what they have compiled, or make it smaller", f.Pool, f.Size>>20, f.LoadWithin())}
	case heard == 0:
		return b.nobodyDeploys(ctx, f)
	}
	return nil
}

// nobodyDeploys says why no worker takes a deployment, and what helps.
func (b *Broker) nobodyDeploys(ctx context.Context, f wire.Function) error {
	r := newRegistry()
	if err := r.read(ctx, b); err != nil {
		return err
	}
	if err := r.canDeploy(f); err != nil {
		return named("deploy", err)
	}
	start := fmt.Sprintf("`cloudburst worker run --pool %s` starts one", f.Pool)
	if f.Pool == DeployedPool {
		start = "`cloudburst worker run` starts one, and `cloudburst server` has one inside"
	}
	return &wire.Error{Op: "deploy", Name: f.Name, Kind: wire.KindUnavailable, Msg: fmt.Sprintf("no worker of pool %q answers: %s", f.Pool, start)}
}

// AdoptFunction returns once every live worker of the function's pool runs new
// calls with this version or a later one. One that doesn't answer in time is
// left to find the version by itself.
func (b *Broker) AdoptFunction(ctx context.Context, f wire.Function) error {
	ctx, cancel := context.WithTimeout(ctx, adoptWait)
	defer cancel()
	_, err := b.askWorkers(ctx, f, workerAdopt)
	return err
}

// askWorkers asks all workers of the function's pool and returns how many have
// answered, and the first of their errors.
func (b *Broker) askWorkers(ctx context.Context, f wire.Function, what string) (heard int, failed error) {
	all, err := b.Workers(ctx)
	if err != nil {
		return 0, err
	}
	all = slices.DeleteFunc(all, func(w WorkerInfo) bool { return w.Pool != f.Pool || !w.Deploys })
	body, err := json.Marshal(f)
	if err != nil {
		return 0, err
	}
	type answer struct {
		msg *nats.Msg
		err error
	}
	answers := make(chan answer, len(all))
	for _, w := range all {
		go func() {
			msg, err := b.askWorker(ctx, subjectWorker+w.ID+what, body)
			answers <- answer{msg, err}
		}()
	}
	for range all {
		a := <-answers // each within ctx
		switch {
		case errors.Is(a.err, nats.ErrNoResponders), errors.Is(a.err, context.DeadlineExceeded):
			continue // it is gone, or as good as
		case a.err != nil:
			failed = errors.Join(failed, apiError("deploy", f.Name, a.err))
			continue
		}
		heard++
		if len(a.msg.Data) == 0 || failed != nil {
			continue
		}
		e := new(wire.Error)
		if err := json.Unmarshal(a.msg.Data, e); err != nil {
			e = &wire.Error{Op: "deploy", Name: f.Name, Kind: wire.KindInvalid, Msg: "a worker refused it: " + clipString(string(a.msg.Data), 300)}
		}
		failed = e
	}
	return heard, failed
}

// askWorker returns a worker's answer, or ErrNoResponders if it isn't there: before
// it was asked, or, as it may be killed while it works, at any time after.
func (b *Broker) askWorker(ctx context.Context, subject string, body []byte) (*nats.Msg, error) {
	asking, cancel := context.WithCancelCause(ctx)
	var watching sync.WaitGroup
	defer watching.Wait()
	defer cancel(nil)
	watching.Go(func() {
		tick := time.NewTicker(aliveEach)
		defer tick.Stop()
		for missed := 0; missed < 2; { // once is a worker that connects again
			select {
			case <-asking.Done():
				return
			case <-tick.C:
			}
			if _, err := b.nc.RequestWithContext(asking, subject, nil); errors.Is(err, nats.ErrNoResponders) {
				missed++
			} else if err == nil {
				missed = 0
			}
		}
		cancel(nats.ErrNoResponders)
	})
	msg, err := b.nc.RequestWithContext(asking, subject, body)
	if err != nil && asking.Err() != nil {
		err = context.Cause(asking)
	}
	return msg, err
}

// ServeDeployments has a worker answer PrepareFunction and AdoptFunction until
// ctx ends. Both functions may be called concurrently. It calls ready once it hears
// requests: a worker that is announced before could miss one.
func (b *Broker) ServeDeployments(ctx context.Context, worker string, prepare, adopt func(context.Context, wire.Function) error, ready func()) error {
	if err := wire.CheckName("worker", worker); err != nil {
		return err
	}
	slots := make(chan struct{}, requestsAtOnce)
	serve := func(do func(context.Context, wire.Function) error) nats.MsgHandler {
		return func(msg *nats.Msg) {
			switch {
			case msg.Reply == "":
				return // nobody asks
			case len(msg.Data) == 0:
				_ = msg.Respond(nil) // who asks will ask again
				return
			}
			select {
			case slots <- struct{}{}:
			case <-ctx.Done():
				return
			}
			go func() {
				defer func() { <-slots }()
				b.answerDeployment(ctx, msg, do)
			}()
		}
	}
	for what, do := range map[string]func(context.Context, wire.Function) error{workerPrepare: prepare, workerAdopt: adopt} {
		sub, err := b.nc.Subscribe(subjectWorker+worker+what, serve(do))
		if err != nil {
			return apiError("serve deployments", worker, err)
		}
		defer b.unsubscribe(sub)
	}
	ready()
	<-ctx.Done()
	for range requestsAtOnce { // none is answered after we return
		slots <- struct{}{}
	}
	return nil
}

func (b *Broker) answerDeployment(ctx context.Context, msg *nats.Msg, do func(context.Context, wire.Function) error) {
	var f wire.Function
	err := json.Unmarshal(msg.Data, &f)
	if err == nil {
		err = do(ctx, f)
	}
	var body []byte
	if err != nil {
		var e *wire.Error
		if !errors.As(err, &e) {
			e = &wire.Error{Op: "deploy", Name: f.Name, Kind: wire.KindUnavailable, Msg: err.Error()}
		}
		if body, err = json.Marshal(e); err != nil {
			body = []byte(err.Error())
		}
	}
	if err := msg.Respond(body); err != nil {
		b.observe.replyFailed(f.Name, err)
	}
}

// PublishFunction makes the function's next version of it and has it take all
// new calls. It returns the registration with its version. KindConflict if the
// name is a DAG's, or a function's that came with a worker or is in another pool,
// or if the pool serves functions that came with its workers.
func (b *Broker) PublishFunction(ctx context.Context, f wire.Function) (wire.Function, error) {
	if f.Pool == "" {
		f.Pool = DeployedPool
	}
	if err := errors.Join(wire.CheckName("function", f.Name), wire.CheckName("pool", f.Pool)); err != nil {
		return wire.Function{}, err
	}
	err := b.change(ctx, "deploy", f.Pool, func(r *registry) error {
		var err error
		f, err = r.publish(f)
		return err
	})
	return f, err
}

// RollBack has an earlier version take all new calls: the given one, or for 0 the
// one before that which takes them now. KindUnknown if there is none.
func (b *Broker) RollBack(ctx context.Context, name string, version int) (f wire.Function, err error) {
	if err := wire.CheckName("function", name); err != nil {
		return f, err
	}
	err = b.change(ctx, "roll back", "", func(r *registry) error {
		f, err = r.rollBack(name, version)
		return err
	})
	return f, err
}

// FunctionVersions lists all versions of a function that was deployed, the oldest
// first; KindUnknown if there is no such function, none for one that came with a worker.
func (b *Broker) FunctionVersions(ctx context.Context, name string) ([]wire.Function, error) {
	if _, err := b.Function(ctx, name); err != nil {
		return nil, err
	}
	r := newRegistry()
	if err := r.read(ctx, b); err != nil {
		return nil, err
	}
	return r.versionsOf(name), nil
}

func (r *registry) versionsOf(name string) []wire.Function {
	var list []wire.Function
	for _, f := range r.deployed {
		if f.Name == name {
			list = append(list, f)
		}
	}
	slices.SortFunc(list, func(x, y wire.Function) int { return x.Version - y.Version })
	return list
}

// publish adds a version; see PublishFunction.
func (r *registry) publish(f wire.Function) (wire.Function, error) {
	if err := r.canDeploy(f); err != nil {
		return f, err
	}
	f.Version = 1
	if all := r.versionsOf(f.Name); len(all) > 0 {
		f.Version = all[len(all)-1].Version + 1
	}
	r.forget(f.Name, versionsKept-1)
	f.Registered = time.Now().UTC()
	r.drop(BucketFunctions, f.Name)
	r.functions[f.Name], r.deployed[versionKey(f.Name, f.Version)] = f, f
	// The version first: whoever finds the function finds its version too.
	return f, errors.Join(r.put(BucketFunctions, versionKey(f.Name, f.Version), f), r.put(BucketFunctions, f.Name, f))
}

// versionsKept is how many versions of a function there are at most, besides those
// that DAGs pin.
const versionsKept = 100

// forget removes the oldest versions of a function beyond so many.
func (r *registry) forget(name string, keep int) {
	pinned := map[string]bool{r.functions[name].ID(): true}
	for _, rec := range r.versions {
		for _, id := range rec.Functions {
			pinned[id] = true
		}
	}
	all := r.versionsOf(name)
	for _, f := range all[:max(len(all)-keep, 0)] {
		if !pinned[f.ID()] {
			delete(r.deployed, versionKey(name, f.Version))
			r.edits = append(r.edits, edit{bucket: BucketFunctions, key: versionKey(name, f.Version)})
		}
	}
}

func (r *registry) canDeploy(f wire.Function) error {
	if _, taken := r.dags[f.Name]; taken {
		return &wire.Error{Name: f.Name, Kind: wire.KindConflict, Msg: "a DAG has that name"}
	}
	old, known := r.functions[f.Name]
	switch {
	case known && !old.Deployed():
		return &wire.Error{Name: f.Name, Kind: wire.KindConflict, Msg: fmt.Sprintf("the name is that of a function of the workers of pool %q; to deploy one in its place, stop them and remove it: `cloudburst fn rm %s`", old.Pool, f.Name)}
	case known && old.Pool != f.Pool:
		return &wire.Error{Name: f.Name, Kind: wire.KindConflict, Msg: fmt.Sprintf("the function belongs to pool %q; to move it to pool %q, remove it first: `cloudburst fn rm %s`", old.Pool, f.Pool, f.Name)}
	}
	for _, other := range r.functions {
		if other.Pool == f.Pool && !other.Deployed() {
			return &wire.Error{Name: f.Name, Kind: wire.KindConflict, Msg: fmt.Sprintf("pool %q is that of a program which brings its functions, such as %q, with it, and takes no others: leave out --pool to deploy into pool %q, or name a pool of `cloudburst worker run`", f.Pool, other.Name, DeployedPool)}
		}
	}
	return nil
}

func (r *registry) rollBack(name string, version int) (wire.Function, error) {
	now, known := r.functions[name]
	switch _, isDAG := r.dags[name]; {
	case isDAG:
		return wire.Function{}, &wire.Error{Name: name, Kind: wire.KindUnknown, Msg: "it is a DAG, of which only the version that was applied last takes calls: apply the earlier graph again"}
	case !known:
		return wire.Function{}, &wire.Error{Name: name, Kind: wire.KindUnknown, Msg: "there is no such function"}
	case !now.Deployed():
		return wire.Function{}, &wire.Error{Name: name, Kind: wire.KindUnknown, Msg: fmt.Sprintf("it has no versions: it came with a program that serves pool %q, and goes back with that", now.Pool)}
	}
	all := r.versionsOf(name)
	if version == 0 {
		for _, f := range all {
			if f.Version < now.Version {
				version = f.Version
			}
		}
		if version == 0 {
			return wire.Function{}, &wire.Error{Name: name, Kind: wire.KindUnknown, Msg: fmt.Sprintf("version %d takes its calls, and there is none before that", now.Version)}
		}
	}
	f, known := r.deployed[versionKey(name, version)]
	if !known {
		return wire.Function{}, &wire.Error{Name: name, Kind: wire.KindUnknown, Msg: fmt.Sprintf("there is no version %d; there are %s", version, numbersOf(all))}
	}
	if f.Version == now.Version {
		return f, nil
	}
	r.functions[name] = f
	return f, r.put(BucketFunctions, name, f)
}

// numbersOf lists the numbers of versions, the last ones if there are many.
func numbersOf(versions []wire.Function) string {
	const most = 10
	var b strings.Builder
	if len(versions) > most {
		fmt.Fprintf(&b, "%d to ", versions[0].Version)
		versions = versions[len(versions)-most:]
	}
	for i, f := range versions {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(strconv.Itoa(f.Version))
	}
	return b.String()
}
