package deployments

import (
	"context"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/sirupsen/logrus"

	"github.com/cloudburst-nats/cloudburst/broker"
	"github.com/cloudburst-nats/cloudburst/consistency"
	"github.com/cloudburst-nats/cloudburst/dagengine"
	"github.com/cloudburst-nats/cloudburst/internal/lifecycle"
	"github.com/cloudburst-nats/cloudburst/wire"
	"github.com/cloudburst-nats/cloudburst/workers"
	"github.com/cloudburst-nats/cloudburst/workers/placement"
	"github.com/cloudburst-nats/cloudburst/workers/runtime"
)

// WorkerConfig describes one worker of one pool.
type WorkerConfig struct {
	// Pool is the pool it serves. Default "default".
	Pool string
	// Slots is how many calls run at once. Default 64.
	Slots int
	// MinSlots and MaxSlots bound what it may be told to go to while it runs.
	// Default Slots, both: it is told nothing.
	MinSlots, MaxSlots int
	// InHand is how many calls it has in hand at most, with those that wait for calls of
	// their own and take no slot. Default 2048: see workers.Config.
	InHand int
	// Namespace is the bucket of its functions' state. Default "state".
	Namespace string
	// CacheBytes bounds its cache, for each namespace. Default 256 MiB.
	CacheBytes int64
	// WithoutPlacement has it run every call that it pulls: see placer.
	WithoutPlacement bool
	// Functions are what it serves: all functions of the pool.
	Functions []Hosted
	// Library, if set, has it serve what is deployed to the pool instead.
	Library *LibraryConfig
	// Python is the interpreter of deployed functions in Python. Default "python3".
	Python string
	// Now is the clock of the worker's machine, which plays no part: writes are ordered
	// by the log. Default time.Now. Tests set a wrong one to show that.
	Now func() time.Time
	// Stored returns what is taken for the time at which a call was stored, which the
	// server told. Nil is that time. Tests have servers' clocks differ with it.
	Stored func(told time.Time) time.Time
	// Ready, if set, is called once its functions can be called.
	Ready func()
	// Log is told of what it meets. Nil is silent.
	Log *logrus.Entry
}

// Hosted is a function and the code that runs it.
type Hosted struct {
	Spec wire.Function
	Code runtime.Function
}

// DefaultSlots is how many calls a worker runs at once unless it is told.
const DefaultSlots = 64

// announceEvery is how often a worker shows that it is alive, and its numbers.
const announceEvery = time.Second

// RunWorker registers the worker's functions, runs their calls until ctx ends,
// then finishes what is in hand and returns. What can't be registered is an
// error at once.
func RunWorker(ctx context.Context, b *broker.Broker, cfg WorkerConfig) error {
	var p *parts
	err := patiently(ctx, patience, false, cfg.Log, func() (err error) {
		p, err = newParts(ctx, b, cfg.withDefaults())
		return err
	})
	if err != nil {
		return err
	}
	return p.run(ctx)
}

func (c WorkerConfig) withDefaults() WorkerConfig {
	if c.Pool == "" {
		c.Pool = broker.DefaultPool
		if c.Library != nil {
			c.Pool = broker.DeployedPool
		}
	}
	if c.Slots <= 0 {
		c.Slots = DefaultSlots
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.MaxSlots <= 0 {
		c.MinSlots, c.MaxSlots = c.Slots, c.Slots
	}
	c.MinSlots = max(min(c.MinSlots, c.MaxSlots), 0)
	c.Slots = min(max(c.Slots, c.MinSlots), c.MaxSlots)
	if c.Namespace == "" {
		c.Namespace = broker.DefaultNamespace
	}
	return c
}

// parts is everything around one worker.
type parts struct {
	b         *broker.Broker
	cfg       WorkerConfig
	id        string
	began     time.Time
	catalogue *broker.Catalogue
	stores    *stores
	worker    *workers.Worker
	library   *library // nil when the functions are the worker's own
	puller    *broker.Puller
	placer    *placer
	asking    sync.WaitGroup // calls whose stream is being asked for
	slots     atomic.Int64
	marks     *broker.Watermarks
	origin    *origin
	news      chan struct{} // that it serves other functions
}

func newParts(ctx context.Context, b *broker.Broker, cfg WorkerConfig) (*parts, error) {
	if err := b.EnsurePlatform(ctx); err != nil {
		return nil, err
	}
	if err := checkPool(ctx, b, cfg); err != nil {
		return nil, err
	}
	specs := make([]wire.Function, len(cfg.Functions))
	for i, f := range cfg.Functions {
		specs[i] = f.Spec
		specs[i].Pool = cfg.Pool
	}
	if err := b.RegisterFunctions(ctx, specs); err != nil {
		return nil, err
	}
	if cfg.Library != nil {
		if err := b.EnsurePool(ctx, cfg.Pool, nil); err != nil {
			return nil, err
		}
	}
	marks := b.NewWatermarks()
	_, source, err := marks.Pool(ctx, cfg.Pool)
	if err != nil {
		return nil, err
	}
	p := &parts{b: b, cfg: cfg, id: "w-" + uuid.NewString()[:13], began: time.Now(), news: make(chan struct{}, 1)}
	p.catalogue = b.NewCatalogue()
	p.marks, p.origin = marks, newOrigin(marks, cfg.Pool, source)
	p.stores = newStores(b, marks, p.id, cfg)
	if _, err := p.stores.Store(ctx, cfg.Namespace); err != nil {
		return nil, err
	}
	engine := dagengine.NewEngine(b, b, &plans{catalogue: p.catalogue, b: b}, pasts{})
	conf := workers.Config{
		ID: p.id, Pool: cfg.Pool, Source: source, Slots: cfg.MaxSlots, InHand: cfg.InHand, AckWait: b.AckWait(cfg.Pool), Namespace: cfg.Namespace, Log: cfg.Log,
		Functions: callable{b}, Post: post{b}, Ledger: b, Now: b.Now, Settled: marks.Settled,
	}
	p.placer = newPlacer(b, p)
	conf.References, conf.HasNamespace = p.placer, p.stores.has
	if cfg.Library != nil {
		conf.Output = p.output
		p.library = newLibrary(b, p.catalogue, cfg.Pool, *cfg.Library, p.news)
		conf.Find = p.library.find
	}
	p.worker = workers.New(conf, p.stores, b, b, graphs{engine, p.catalogue, cfg.Pool}, events{b})
	for i, f := range cfg.Functions {
		p.worker.Host(specs[i], f.Code)
	}
	if p.library != nil {
		p.library.worker = p.worker
	}
	p.slots.Store(int64(cfg.Slots))
	p.puller = b.NewPuller(cfg.Pool, cfg.Slots, p.placer.arrived)
	p.puller.Reserve(placement.Room)
	return p, nil
}

// take runs a call that has a slot.
func (p *parts) take(d *broker.Delivery) {
	d.Worker = p.id
	if p.origin.sure(&d.Call) {
		p.begin(d)
		return
	}
	p.asking.Go(func() {
		if err := p.origin.ask(context.Background(), &d.Call); err == nil {
			p.begin(d)
			return
		}
		// It can't be told which stream the call is of: it is handed out again.
		if err := d.Nak(reviseWait); err != nil && p.cfg.Log != nil {
			p.cfg.Log.WithError(err).Debug("could not hand a call back; it is handed out again by itself")
		}
		p.puller.Release()
	})
}

// begin runs a call whose stream is known.
func (p *parts) begin(d *broker.Delivery) {
	d.Call.Stored = storedAt(d.Call.Stored, p.cfg.Now)
	if p.cfg.Stored != nil {
		d.Call.Stored = p.cfg.Stored(d.Call.Stored)
	}
	p.worker.Take(d.Call, d, p.puller)
}

// checkPool refuses a worker that lacks functions of its pool: calls of them
// would reach it and go round.
func checkPool(ctx context.Context, b *broker.Broker, cfg WorkerConfig) error {
	if err := wire.CheckName("pool", cfg.Pool); err != nil {
		return err
	}
	if cfg.Library == nil && len(cfg.Functions) == 0 {
		return &wire.Error{Op: "serve", Kind: wire.KindBadArgument, Name: cfg.Pool, Msg: "the worker serves no functions: add some with Handle"}
	}
	known, err := b.Functions(ctx)
	if err != nil {
		return err
	}
	mine := make(map[string]bool)
	for _, f := range cfg.Functions {
		if err := consistency.Check(f.Spec.Level); err != nil {
			return err
		}
		if mine[f.Spec.Name] {
			return &wire.Error{Op: "serve", Kind: wire.KindConflict, Name: f.Spec.Name, Msg: "handled twice by this worker"}
		}
		mine[f.Spec.Name] = true
	}
	var missing []string
	for _, f := range known {
		if f.Pool == cfg.Pool && !mine[f.Name] && (cfg.Library == nil || !f.Deployed()) {
			missing = append(missing, f.Name)
		}
	}
	if len(missing) > 0 {
		return &wire.Error{
			Op: "serve", Kind: wire.KindConflict, Name: cfg.Pool,
			Msg: "the pool also has " + strings.Join(missing, ", ") + ", which this worker doesn't serve: give the worker a pool of its own, or remove them with `cloudburst fn rm`",
		}
	}
	return nil
}

// run starts the parts from the ground up and ends them in reverse.
func (p *parts) run(ctx context.Context) error {
	// The lower floors outlive ctx: a draining worker still needs them.
	group := lifecycle.New(ctx)
	lower, middle, asked, upper := group.Floor(), group.Floor(), group.Floor(), group.Floor()
	lower.Start(p.stores.Run)
	lower.Start(p.catalogue.Run)
	lower.Start(func(ctx context.Context) error { return p.b.Cancelled(ctx, p.worker.Cancel) })
	lower.Start(p.follow)
	lower.Start(func(ctx context.Context) error {
		pins := p.worker.Pins()
		return p.b.ServePins(ctx, p.id, pins.Find, pins.Release)
	})
	if p.cfg.MaxSlots > p.cfg.MinSlots {
		lower.Start(func(ctx context.Context) error { return p.b.ServeSlots(ctx, p.id, p.setSlots) })
	}
	announced := make(chan struct{})
	announce := func() {
		lower.Start(func(ctx context.Context) error { return p.announce(ctx, announced) })
	}
	if p.library == nil {
		announce()
	} else {
		lower.Start(p.library.run)
		lower.Start(func(ctx context.Context) error {
			return p.b.ServeDeployments(ctx, p.id, p.library.prepare, p.library.adopt, announce)
		})
	}
	defer p.b.OnSizes(func(t broker.Topology) { p.worker.SetAckWait(t.AckWait) })()
	middle.Start(p.worker.Run)
	asked.Start(func(ctx context.Context) error {
		<-ctx.Done()
		p.asking.Wait() // what was pulled reaches the worker before that drains
		return nil
	})
	select {
	case <-announced: // a deployment asks the workers that it finds
	case <-ctx.Done():
	case <-group.Failed():
	}
	select {
	case <-p.catalogue.Ready():
		upper.Start(p.puller.Run)
		if !p.cfg.WithoutPlacement {
			upper.Start(p.placer.run)
		}
		if p.cfg.Ready != nil {
			p.cfg.Ready()
		}
	case <-ctx.Done():
	case <-group.Failed():
	}
	select {
	case <-ctx.Done():
		_ = group.Stop() // it was told to end: what fails meanwhile is no failure of the worker
		return nil
	case <-group.Failed():
		return group.Stop()
	}
}

// setSlots changes how many calls it runs at once, within its bounds, and has that
// announced.
func (p *parts) setSlots(n int) int {
	n = min(max(n, p.cfg.MinSlots), p.cfg.MaxSlots)
	if p.slots.Swap(int64(n)) != int64(n) {
		p.puller.SetSlots(n)
		select {
		case p.news <- struct{}{}:
		default: // it is about to be announced
		}
	}
	return n
}

// announce shows the worker's life and numbers until ctx ends. It closes first once
// it has tried for the first time.
func (p *parts) announce(ctx context.Context, first chan<- struct{}) error {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	info := broker.WorkerInfo{ID: p.id, Pool: p.cfg.Pool, Host: host, PID: os.Getpid(), Started: p.began, Deploys: p.library != nil}
	if p.cfg.MaxSlots > p.cfg.MinSlots {
		info.MinSlots, info.MaxSlots = p.cfg.MinSlots, p.cfg.MaxSlots
	}
	tick := time.NewTicker(announceEvery)
	defer tick.Stop()
	var told time.Time
	for beat := 0; ; beat++ {
		numbers := p.numbers(&info)
		// A worker that can't be heard is not stopped by that: calls are what counts.
		if err := p.b.PublishStats(p.id, numbers); err != nil && p.cfg.Log != nil {
			p.cfg.Log.WithError(err).Debug("could not publish stats")
		}
		if time.Since(told) >= broker.MemberTTL/3-announceEvery/2 {
			told = time.Now()
			if err := p.b.Announce(ctx, info); err != nil && ctx.Err() == nil && p.cfg.Log != nil {
				p.cfg.Log.WithError(err).Debug("could not announce the worker")
			}
			if beat == 0 {
				close(first)
			}
			p.origin.look(ctx)
		}
		select {
		case <-ctx.Done():
			return p.b.Retire(context.WithoutCancel(ctx), p.id)
		case <-p.news:
			told = time.Time{}
		case <-tick.C:
		}
	}
}

// numbers brings info up to date and returns the numbers of each function.
func (p *parts) numbers(info *broker.WorkerInfo) map[string]broker.FunctionStats {
	numbers := make(map[string]broker.FunctionStats)
	info.Calls, info.Failures = 0, 0
	for name, s := range p.worker.Stats() {
		numbers[name] = broker.FunctionStats{Calls: s.Calls, Errors: s.Errors, Took: s.Took, Waited: s.Waited, LastError: s.LastError}
		if p.worker.Hosts(name) {
			info.Calls += s.Calls
			info.Failures += s.Errors
		}
	}
	info.Slots = int(p.slots.Load())
	info.Blocked = p.worker.Blocked()
	info.Busy, info.Retries, info.Restarts = p.puller.Busy(), p.worker.Retries(), p.worker.Restarts()
	info.Functions = info.Functions[:0]
	for _, f := range p.worker.Functions() {
		info.Functions = append(info.Functions, f.Name)
	}
	_, info.Pinned = p.worker.Pins().Size()
	info.CacheBytes, info.CacheKeys = p.stores.cached()
	info.Placement = p.placer.numbers()
	return numbers
}

// follow hears what is deleted of the worker's pool, and of the registry, until ctx
// ends. A registry that was made anew is told of the worker's functions again.
func (p *parts) follow(ctx context.Context) error {
	calls, registry := broker.CallsStream(p.cfg.Pool), make(chan struct{}, 1)
	var registering sync.WaitGroup
	defer registering.Wait()
	registering.Go(func() { p.register(ctx, registry) })
	return p.b.FollowDeletions(ctx, func(stream, _ string) {
		switch stream {
		case calls:
			p.origin.deleted()
			p.puller.Missed()
		case "KV_" + broker.BucketFunctions:
			select {
			case registry <- struct{}{}:
			default: // it is about to be done
			}
		}
	})
}

// register registers the worker's functions whenever it is told, until ctx ends.
func (p *parts) register(ctx context.Context, told <-chan struct{}) {
	specs := make([]wire.Function, len(p.cfg.Functions))
	for i, f := range p.cfg.Functions {
		specs[i] = f.Spec
		specs[i].Pool = p.cfg.Pool
	}
	var again <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-told:
		case <-again:
		}
		again = nil
		if err := p.b.RegisterFunctions(ctx, specs); err != nil && ctx.Err() == nil {
			again = time.After(time.Second) // the bucket may not be there yet
		}
	}
}
