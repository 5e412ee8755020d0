package workers

import (
	"context"
	"errors"
	"io"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/cloudburst-nats/cloudburst/consistency"
	"github.com/cloudburst-nats/cloudburst/wire"
	"github.com/cloudburst-nats/cloudburst/workers/runtime"
)

// Config describes a Worker.
type Config struct {
	// ID is this incarnation: unique for each start of each process.
	ID string
	// Pool names the pool whose calls it runs.
	Pool string
	// Source names the incarnation of the pool's calls stream that the worker began
	// with; a call may name another. Counters are exact per source and sequence.
	Source string
	// Slots is how many calls it runs at once. Default 64.
	Slots int
	// InHand is how many calls it has begun and not ended at most: those that run, and those
	// that wait for calls of their own, which take memory and no slot. Beyond it only calls
	// that those wait for begin. As many others are kept until there is room; still others
	// are handed out again later. Default 2048, and at least Slots and wire.MaxDepth together.
	InHand int
	// AckWait is after how long without a sign of life a call is handed out
	// again. The worker gives one every third of it. Default 5 s.
	AckWait time.Duration
	// Namespace is where functions keep their state unless they name another
	// bucket. Default "state".
	Namespace string
	// Find returns the version of a function that a name such as square@3 pins, and
	// its code. Nil finds none.
	Find func(function string) (wire.Function, runtime.Function, bool)
	// Functions are what functions may call. Nil is none.
	Functions runtime.Functions
	// Post carries messages between functions. Nil: there are none.
	Post Post
	// Output returns what takes the log of one execution. It is called for each, so it
	// is cheap until something is written. Nil drops logs.
	Output func(call *wire.Call, of *wire.Function) io.Writer
	// HasNamespace says whether there is a namespace that an argument refers to. Nil:
	// there is any.
	HasNamespace func(ctx context.Context, ns string) (bool, error)
	// References is told of the keys that arguments refer to. Nil: nobody is.
	References References
	// Ledger knows of earlier calls. Nil: there are none.
	Ledger Ledger
	// Settled returns up to which sequence the calls of a source have ended for good. Nil:
	// none has.
	Settled func(ctx context.Context, source string) (uint64, error)
	// Now tells the servers' time. Default time.Now.
	Now func() time.Time
	// Log is told of failures and of starting and stopping. Nil is silent.
	Log *logrus.Entry
}

// References follows which keys the arguments of calls refer to.
type References interface {
	// Cached says whether the key is in memory.
	Cached(namespace, key string) bool
	// Used tells that a reference was resolved, whether the key was cached then, and
	// how long its value is.
	Used(namespace, key string, cached bool, bytes int)
}

// A Ledger knows what became of earlier calls.
type Ledger interface {
	// Admit says whether a call is to be run. Of a repeat it tells the caller what the
	// run has come to. It may set the call's Digest.
	Admit(ctx context.Context, call *wire.Call) (wire.Verdict, error)
	// Begin notes that a call begins to run, and returns how its earlier executions ended.
	Begin(ctx context.Context, call *wire.Call) (wire.Trials, error)
	// Survived notes that the worker hands a call back that has begun. It doesn't wait.
	Survived(call *wire.Call, t wire.Trials)
}

// A Delivery is a call in hand: one handing-out by the pool's queue.
type Delivery interface {
	// Ack settles the call.
	Ack() error
	// Nak has the call handed out again after the given wait.
	Nak(wait time.Duration) error
	// InProgress is the sign of life.
	InProgress() error
	// Finish stores the result, tells the caller, and then acknowledges the
	// call. It returns at once and calls then when that is done.
	Finish(ctx context.Context, r *wire.Result, then func(error))
	// Bury stores the call and its error as a dead letter.
	Bury(ctx context.Context, err *wire.Error) error
}

// Values looks up what a call's arguments stand for.
type Values interface {
	// Unpack returns a value that travelled as chunks.
	Unpack(ctx context.Context, v wire.Value) (wire.Value, error)
	// Await returns the result of a run once there is one.
	Await(ctx context.Context, run wire.RunID) (wire.Result, error)
	// Past returns what the call's Past stands for.
	Past(ctx context.Context, text string) (string, error)
	// Ended says whether the run is known to have ended.
	Ended(ctx context.Context, run wire.RunID) bool
	// WasCancelled says whether somebody has cancelled the run, if that isn't too long ago.
	WasCancelled(ctx context.Context, run wire.RunID) (bool, error)
	// Cancel ends a run.
	Cancel(ctx context.Context, run wire.RunID) error
}

// Graphs runs calls of DAGs and of their nodes.
type Graphs interface {
	// Run executes the call on host, as far as this worker can. It returns
	// done when the whole run has ended, with its value.
	Run(ctx context.Context, call wire.Call, host Host) (Outcome, error)
}

// Host is a worker, as a graph sees it: it runs functions in the call's slot.
type Host interface {
	Hosts(function string) bool
	Invoke(ctx context.Context, step Step, args wire.Value) (wire.Value, error)
	// Flush returns once everything that was written so far is stored.
	Flush(ctx context.Context) error
	// Worker names the worker, for timings.
	Worker() string
	// Past returns what the run has seen so far, for the calls that come next.
	Past() string
	// Restartable says that the run, whose first call this is, may begin again.
	Restartable() error
}

// A Step is one execution of a function within a call.
type Step struct {
	Node     string // of a DAG, or an item of one; empty for a function called by itself
	Function string
	Limits   wire.Limits // fields over 0 override the function's
	Level    string      // of consistency; empty is the function's
	// Await, instead of a Function, is a run whose result is the step's.
	Await wire.RunID
}

// An Outcome is what became of a DAG's call.
type Outcome struct {
	Done  bool // the run has ended
	Value wire.Value
	Nodes []wire.NodeTiming
	Past  string // what the run that has ended had seen
	Again string // why the run begins again; empty if it doesn't
	Kept  bool   // the run that has ended has state, which goes with its end
}

// A Worker runs the calls of one pool. Create it with New, Host functions,
// then Run it and hand it calls with Take.
type Worker struct {
	cfg     Config
	stores  consistency.Stores
	pins    consistency.Pins
	peers   consistency.Peers
	values  Values
	graphs  Graphs
	observe *observer

	hosting   sync.RWMutex // guards functions; its entries never change
	functions map[string]*hosted

	// spare takes jobs to goroutines that have nothing to do. They are kept for
	// their stacks, which a new goroutine would have to grow for every call.
	spare  chan *job
	waits  atomic.Int64  // the acknowledgement wait, as it is now
	rhythm chan struct{} // told when it has changed
	// back holds the places of jobs that run again after they had given up their slots.
	back    chan struct{}
	blocked atomic.Int64 // jobs that have given up their slots

	mu        sync.Mutex // guards what follows
	jobs      map[*job]struct{}
	inHand    map[uint64]*job // by the sequence of the call, until it is handed back
	held      int             // jobs that have begun, and not ended their last step
	parked    []*job          // those that wait to begin, the deepest first
	cancelled map[wire.RunID]time.Time
	dags      map[string]*counters // of the runs that ended here; one for each DAG name that was ever registered
	idle      chan struct{}        // closed when draining and no job is left
	draining  bool
}

// New returns a worker that hosts nothing yet.
func New(cfg Config, stores consistency.Stores, peers consistency.Peers, values Values, graphs Graphs, events Events) *Worker {
	if cfg.AckWait <= 0 {
		cfg.AckWait = 5 * time.Second
	}
	if cfg.Namespace == "" {
		cfg.Namespace = "state"
	}
	if cfg.Slots <= 0 {
		cfg.Slots = 64
	}
	if cfg.InHand <= 0 {
		cfg.InHand = 2048
	}
	cfg.InHand = max(cfg.InHand, cfg.Slots+wire.MaxDepth)
	w := &Worker{
		cfg: cfg, stores: stores, peers: peers, values: values, graphs: graphs,
		observe:   &observer{log: cfg.Log, events: events},
		functions: make(map[string]*hosted),
		spare:     make(chan *job),
		back:      make(chan struct{}, cfg.Slots),
		jobs:      make(map[*job]struct{}),
		inHand:    make(map[uint64]*job),
		cancelled: make(map[wire.RunID]time.Time),
		dags:      make(map[string]*counters),
		idle:      make(chan struct{}),
		rhythm:    make(chan struct{}, 1),
	}
	w.waits.Store(int64(cfg.AckWait))
	return w
}

// Pins returns the versions that the worker keeps for runs that have gone on to
// other workers.
func (w *Worker) Pins() *consistency.Pins { return &w.pins }

// Run gives signs of life for the calls in hand until ctx ends, then waits
// until the last of them is settled. Calls that were taken run to their end,
// within their own time-outs, whatever happens to ctx. Only those that wait for
// others for long are left to other workers.
func (w *Worker) Run(ctx context.Context) error {
	w.observe.started(w)
	beat := time.NewTicker(w.ackWait() / 3)
	defer beat.Stop()
	stop := ctx.Done()
	var stopped <-chan time.Time
	for {
		select {
		case <-stop:
			stop = nil
			stopped = time.After(blockedWhileStopping)
			w.drain()
		case <-stopped:
			w.leaveBlocked()
			stopped = time.After(blockedWhileStopping)
		case <-w.idle:
			close(w.spare)
			w.observe.drained(w)
			return nil
		case <-w.rhythm:
			beat.Reset(w.ackWait() / 3)
			w.beat(time.Now()) // the last sign may be older than the new wait allows
		case now := <-beat.C:
			w.beat(now)
		}
	}
}

// SetAckWait changes after how long without a sign of life calls are handed out again.
func (w *Worker) SetAckWait(wait time.Duration) {
	w.waits.Store(int64(wait))
	select {
	case w.rhythm <- struct{}{}:
	default: // it is about to look
	}
}

func (w *Worker) ackWait() time.Duration { return time.Duration(w.waits.Load()) }

// blockedWhileStopping is how long a worker that stops lets calls wait for others. It may
// be the only one that could run those.
const blockedWhileStopping = 5 * time.Second

// leaveBlocked leaves the calls that wait for others to another worker.
func (w *Worker) leaveBlocked() {
	w.mu.Lock()
	jobs := slices.Collect(maps.Keys(w.jobs))
	w.mu.Unlock()
	for _, j := range jobs {
		if j.place.isBlocked() {
			j.cancel(NotHosted(j.call.Name, errStops))
		}
	}
}

var errStops = errors.New("it stops, and the call waits for another one")

// Take runs a call on a goroutine of its own, in a slot that it gives back. The call may
// not be settled yet by then. A call that comes after Run has returned, or beyond
// Config.InHand, is left to be handed out again. One that is in hand already is left to
// that execution, which settles both: a server that was killed hands calls out that it has
// forgotten to have handed out.
func (w *Worker) Take(call wire.Call, d Delivery, slots Slots) {
	ctx, cancel := context.WithCancelCause(context.Background())
	j := &job{w: w, call: call, d: d, began: time.Now(), ctx: ctx, cancel: cancel}
	j.place.w, j.place.slots, j.place.free = w, slots, slots.Release
	w.mu.Lock()
	select {
	case <-w.idle: // closed under this lock, once nothing is in hand
		w.mu.Unlock()
		slots.Release()
		return
	default:
	}
	if _, twice := w.inHand[call.Seq]; twice && call.Seq != 0 {
		w.mu.Unlock()
		cancel(nil)
		slots.Release()
		return
	}
	w.inHand[call.Seq] = j
	w.jobs[j] = struct{}{}
	taken := w.admitLocked(j)
	_, dead := w.cancelled[call.Run]
	w.mu.Unlock()
	if !taken {
		j.place.end()
		j.again(j.longer(waitForHost, waitAtMost), w.tooMany(call.Name))
		return
	}
	if dead {
		cancel(errCancelled)
	}
	select {
	case w.spare <- j:
	default:
		go func() { // until Run returns
			j.run()
			for j := range w.spare {
				j.run()
			}
		}()
	}
}

// errCancelled is the cause of a run's context when somebody cancelled it.
var errCancelled = &wire.Error{Kind: wire.KindCancelled, Msg: "the run was cancelled"}

// Cancel ends a run: calls of it in hand lose their context, later ones are
// settled without being run.
func (w *Worker) Cancel(run wire.RunID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cancelled[run] = time.Now()
	for j := range w.jobs {
		if j.call.Run == run {
			j.cancel(errCancelled)
		}
	}
}

// settled forgets a job; the last one of a draining worker ends Run.
func (w *Worker) settled(j *job) {
	j.cancel(nil)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.letGoLocked(j)
	delete(w.jobs, j)
	w.endLocked()
}

// letGo notes that a job's call may be handed out again.
func (w *Worker) letGo(j *job) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.letGoLocked(j)
}

func (w *Worker) letGoLocked(j *job) {
	if w.inHand[j.call.Seq] == j {
		delete(w.inHand, j.call.Seq)
	}
}

// stopping says whether the worker takes no more calls.
func (w *Worker) stopping() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.draining
}

func (w *Worker) drain() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.draining = true
	w.endLocked()
}

func (w *Worker) endLocked() {
	if w.draining && len(w.jobs) == 0 {
		select {
		case <-w.idle:
		default:
			close(w.idle)
		}
	}
}

// Blocked returns how many calls wait for others, without a slot.
func (w *Worker) Blocked() int { return int(w.blocked.Load()) }

// Busy returns how many calls are in hand.
func (w *Worker) Busy() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.jobs)
}

// A cancellation is remembered for so long. Of the run of a call that comes up later, the
// mark is looked for that lasts for a week.
const rememberCancelled = time.Hour

// beat gives signs of life for the calls that run for long.
func (w *Worker) beat(now time.Time) {
	var long []*job
	w.mu.Lock()
	for j := range w.jobs {
		if now.Sub(j.began) >= w.ackWait()/4 {
			long = append(long, j)
		}
	}
	for run, at := range w.cancelled {
		if now.Sub(at) > rememberCancelled {
			delete(w.cancelled, run)
		}
	}
	w.mu.Unlock()
	w.pins.Expire(now)
	for _, j := range long {
		if err := j.d.InProgress(); err != nil {
			w.observe.silent(j, err)
		}
	}
}
