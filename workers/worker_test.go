package workers

import (
	"context"
	"errors"
	goruntime "runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloudburst-nats/cloudburst/consistency"
	"github.com/cloudburst-nats/cloudburst/kvlattice"
	"github.com/cloudburst-nats/cloudburst/kvlattice/latticetest"
	"github.com/cloudburst-nats/cloudburst/wire"
	"github.com/cloudburst-nats/cloudburst/workers/runtime"
	"github.com/cloudburst-nats/cloudburst/workers/runtime/native"
)

// rig is a worker over a bucket in memory, with a queue of one call.
type rig struct {
	*Worker
	store  *kvlattice.Store
	bucket *latticetest.Memory
	graphs fakeGraphs
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{bucket: latticetest.NewMemory()}
	r.store = kvlattice.New(kvlattice.Config{Writer: "w1"}, r.bucket, nil)
	r.Worker = New(Config{ID: "w1", Pool: "p", Source: "s", AckWait: 30 * time.Millisecond}, oneStore{r.store}, nil, values{}, &r.graphs, nil)
	return r
}

type oneStore struct{ st *kvlattice.Store }

func (s oneStore) Store(context.Context, string) (consistency.State, error) { return s.st, nil }

// Jobs that waited for a future have given up their slots: no more of them run
// at once than the worker has slots.
func TestJobsThatWaitedRunBySlots(t *testing.T) {
	r := newRig(t)
	r.back = make(chan struct{}, 2)
	r.values = values{"other": {Status: wire.StatusOK, Value: wire.Value{Body: []byte("1")}}}
	var running, most atomic.Int32
	r.host(wire.Function{Name: "f"}, func(context.Context, *runtime.Call) (wire.Value, error) {
		most.Store(max(most.Load(), running.Add(1)))
		for range 100 {
			goruntime.Gosched()
		}
		running.Add(-1)
		return wire.Value{}, nil
	})
	var ended sync.WaitGroup
	slots := newSlots(50)
	for i := range 50 {
		d := newDelivery()
		r.Take(wire.Call{Name: "f", Run: wire.RunID(strconv.Itoa(i)), Attempt: 1, Args: wire.Value{Body: []byte(`{"$run":"other"}`)}}, d, slots)
		ended.Go(func() {
			if end := <-d.ended; end != "finish" {
				t.Error(end)
			}
		})
	}
	ended.Wait()
	slots.wait(0)
	if most.Load() > 2 {
		t.Errorf("%d functions ran at once, with 2 slots", most.Load())
	}
}

// ledger admits calls by their runs, and takes none for one that was handed out often.
type ledger map[wire.RunID]wire.Verdict

func (ledger) Begin(context.Context, *wire.Call) (wire.Trials, error) { return wire.Trials{}, nil }
func (ledger) Survived(*wire.Call, wire.Trials)                       {}

func (l ledger) Admit(_ context.Context, call *wire.Call) (wire.Verdict, error) {
	call.Digest = "of " + string(call.Run)
	return l[call.Run], nil
}

// A call whose run has ended is acknowledged and not run; one whose run is under way
// elsewhere comes back.
func TestOnlyWhatIsAdmittedRuns(t *testing.T) {
	r := newRig(t)
	r.cfg.Ledger = ledger{"ended": wire.Ended, "elsewhere": wire.LookUp, "new": wire.RunIt}
	var ran atomic.Int32
	r.host(wire.Function{Name: "f"}, func(context.Context, *runtime.Call) (wire.Value, error) {
		ran.Add(1)
		return wire.Value{}, nil
	})
	for run, want := range map[wire.RunID]string{"ended": "ack", "elsewhere": "nak 400ms", "new": "finish"} {
		d := newDelivery()
		r.Take(wire.Call{Name: "f", Run: run, Seq: 7, Attempt: 3}, d, newSlots(1))
		if got := <-d.ended; got != want {
			t.Errorf("run %s: %s, want %s", run, got, want)
		}
		if d.result != nil && d.result.Digest != "of new" {
			t.Errorf("the result's fingerprint is %q", d.result.Digest)
		}
	}
	if ran.Load() != 1 {
		t.Errorf("ran %d of one call", ran.Load())
	}
}

// A result that can't be stored is stored later. The call isn't run again: its caller
// may have heard of the result.
func TestAResultIsStoredOnceItCanBe(t *testing.T) {
	r := newRig(t)
	var ran atomic.Int32
	r.host(wire.Function{Name: "f"}, func(context.Context, *runtime.Call) (wire.Value, error) {
		ran.Add(1)
		return wire.Value{}, nil
	})
	d := newDelivery()
	d.failTimes = storeTries - 1
	r.Take(wire.Call{Name: "f", Run: "r", Seq: 7, Attempt: 1}, d, newSlots(1))
	if end := <-d.ended; end != "finish" || ran.Load() != 1 {
		t.Errorf("ended with %q after %d executions", end, ran.Load())
	}
}

// A call that is in hand is not run beside itself when it is handed out again, and can
// be once it has been handed back.
func TestACallIsInHandOnce(t *testing.T) {
	r := newRig(t)
	var ran atomic.Int32
	began, goOn := make(chan struct{}, 2), make(chan error)
	r.host(wire.Function{Name: "f", Attempts: 2}, func(context.Context, *runtime.Call) (wire.Value, error) {
		ran.Add(1)
		began <- struct{}{}
		return wire.Value{}, <-goOn
	})
	call := wire.Call{Name: "f", Run: "r", Seq: 7, Attempt: 1}
	first, second, third := newDelivery(), newDelivery(), newDelivery()
	r.Take(call, first, newSlots(1))
	<-began
	twice := newSlots(1)
	r.Take(call, second, twice)
	twice.wait(0)
	goOn <- errors.New("once more")
	if end := <-first.ended; !strings.HasPrefix(end, "nak") {
		t.Fatal(end)
	}
	call.Attempt = 2
	r.Take(call, third, newSlots(1))
	<-began
	goOn <- nil
	if end := <-third.ended; end != "finish" || ran.Load() != 2 || len(second.ended) != 0 {
		t.Errorf("ended with %q after %d executions; the delivery of a call in hand was settled %d times", end, ran.Load(), len(second.ended))
	}
}

type values map[wire.RunID]wire.Result

func (v values) Unpack(_ context.Context, val wire.Value) (wire.Value, error) { return val, nil }

func (v values) Ended(_ context.Context, run wire.RunID) bool { _, ok := v[run]; return ok }

func (v values) WasCancelled(context.Context, wire.RunID) (bool, error) { return false, nil }

func (v values) Cancel(context.Context, wire.RunID) error { return nil }

func (v values) Past(_ context.Context, text string) (string, error) { return text, nil }

func (v values) Await(ctx context.Context, run wire.RunID) (wire.Result, error) {
	if r, ok := v[run]; ok {
		return r, nil
	}
	<-ctx.Done()
	return wire.Result{}, context.Cause(ctx)
}

type fakeGraphs struct {
	run func(ctx context.Context, call wire.Call, host Host) (Outcome, error)
}

func (g *fakeGraphs) Run(ctx context.Context, call wire.Call, host Host) (Outcome, error) {
	return g.run(ctx, call, host)
}

// delivery records what became of a call.
type delivery struct {
	failFinish, failBury error
	failTimes            int   // how often storing the result fails before it doesn't
	tooLarge             error // what storing a result that is no failure returns

	mu     sync.Mutex
	beats  chan struct{}
	result *wire.Result
	buried *wire.Error
	ended  chan string // "ack", "nak <wait>", "finish"
}

func newDelivery() *delivery {
	return &delivery{ended: make(chan string, 4), beats: make(chan struct{}, 100)}
}

func (d *delivery) Ack() error { d.ended <- "ack"; return nil }

func (d *delivery) Nak(wait time.Duration) error { d.ended <- "nak " + wait.String(); return nil }

func (d *delivery) InProgress() error { d.beats <- struct{}{}; return nil }

func (d *delivery) Finish(_ context.Context, r *wire.Result, then func(error)) {
	if d.tooLarge != nil && r.Status == wire.StatusOK {
		then(d.tooLarge)
		return
	}
	d.mu.Lock()
	d.result = r
	fails := d.failTimes > 0
	if fails {
		d.failTimes--
	}
	d.mu.Unlock()
	if fails {
		then(errors.New("the server was killed"))
		return
	}
	if d.failFinish == nil {
		d.ended <- "finish"
	}
	then(d.failFinish)
}

func (d *delivery) Bury(_ context.Context, err *wire.Error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.failBury == nil {
		d.buried = err
	}
	return d.failBury
}

// slots count what is taken of them; none is free before a call is handed to Take.
type slots struct {
	mu    sync.Mutex
	taken int
	free  *sync.Cond
}

func newSlots(taken int) *slots {
	s := &slots{taken: taken}
	s.free = sync.NewCond(&s.mu)
	return s
}

func (s *slots) Release() { s.add(-1) }
func (s *slots) Retake()  { s.add(1) }

func (s *slots) add(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken += n
	s.free.Broadcast()
}

// wait returns once no more than so many are taken.
func (s *slots) wait(taken int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.taken > taken {
		s.free.Wait()
	}
}

// take runs one call to its end and returns how it ended.
func (r *rig) take(t *testing.T, call wire.Call, d *delivery) string {
	t.Helper()
	if call.Attempt == 0 {
		call.Attempt = 1
	}
	if call.Run == "" {
		call.Run = "run"
	}
	slots := newSlots(1)
	r.Take(call, d, slots)
	end := <-d.ended
	slots.wait(0)
	return end
}

func (r *rig) host(spec wire.Function, fn func(ctx context.Context, c *runtime.Call) (wire.Value, error)) {
	r.Host(spec, native.Func(fn))
}

func TestCallIsRunFlushedAndFinished(t *testing.T) {
	r := newRig(t)
	r.host(wire.Function{Name: "f"}, func(ctx context.Context, c *runtime.Call) (wire.Value, error) {
		if err := c.State.Put(ctx, "", "k", c.Args); err != nil {
			return wire.Value{}, err
		}
		if _, found, _ := r.store.Get(ctx, "k"); found {
			return wire.Value{}, errors.New("a write was visible before the function returned")
		}
		own, found, err := c.State.Get(ctx, "", "k")
		if !found || err != nil {
			return wire.Value{}, errors.New("the function can't read its own write")
		}
		return own, nil
	})
	d := newDelivery()
	if end := r.take(t, wire.Call{Name: "f", Args: wire.Value{Body: []byte("7")}}, d); end != "finish" {
		t.Fatalf("ended with %q (buried: %v), want finish", end, d.buried)
	}
	if d.result.Status != wire.StatusOK || string(d.result.Value.Body) != "7" || d.result.Worker != "w1" || d.result.Attempts != 1 {
		t.Errorf("result = %+v", d.result)
	}
	if v, found, err := r.store.Get(t.Context(), "k"); !found || string(v.Body) != "7" || err != nil {
		t.Errorf("state after the call = %s, %v, %v, want 7", v.Body, found, err)
	}
}

func TestFailures(t *testing.T) {
	boom := errors.New("boom")
	for _, tt := range []struct {
		name    string
		attempt int
		spec    wire.Function
		fn      func(ctx context.Context, c *runtime.Call) (wire.Value, error)
		end     string
		kind    wire.Kind // of the dead letter; 0: none
	}{
		{"retried with backoff", 1, wire.Function{}, fails(boom), "nak 100ms", 0},
		{"backoff doubles", 2, wire.Function{}, fails(boom), "nak 200ms", 0},
		{"buried after the last attempt", 3, wire.Function{}, fails(boom), "finish", wire.KindFunction},
		{"its own attempts", 1, wire.Function{Attempts: 1}, fails(boom), "finish", wire.KindFunction},
		{"permanent at once", 1, wire.Function{}, fails(&wire.Error{Kind: wire.KindPermanent, Msg: "no"}), "finish", wire.KindPermanent},
		{"bad argument at once", 1, wire.Function{}, fails(&wire.Error{Kind: wire.KindBadArgument}), "finish", wire.KindBadArgument},
		{"panic", 3, wire.Function{}, func(context.Context, *runtime.Call) (wire.Value, error) { panic("argh") }, "finish", wire.KindPanic},
		{"time-out of one that listens", 3, wire.Function{Timeout: time.Millisecond}, func(ctx context.Context, _ *runtime.Call) (wire.Value, error) {
			<-ctx.Done()
			return wire.Value{}, ctx.Err()
		}, "finish", wire.KindTimeout},
		{"another function's missing server is this one's failure", 3, wire.Function{}, fails(&wire.Error{Kind: wire.KindUnavailable}), "finish", wire.KindFunction},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t)
			tt.spec.Name = "f"
			r.host(tt.spec, func(ctx context.Context, c *runtime.Call) (wire.Value, error) {
				if err := c.State.Put(ctx, "", "k", wire.Value{Body: []byte("1")}); err != nil {
					return wire.Value{}, err
				}
				return tt.fn(ctx, c)
			})
			d := newDelivery()
			if end := r.take(t, wire.Call{Name: "f", Attempt: tt.attempt}, d); end != tt.end {
				t.Fatalf("ended with %q, want %q", end, tt.end)
			}
			if _, found, err := r.store.Get(t.Context(), "k"); found || err != nil {
				t.Errorf("a failed call left a write behind (%v)", err)
			}
			if tt.kind == 0 {
				if d.buried != nil {
					t.Errorf("buried with %v, want another attempt", d.buried)
				}
				return
			}
			if wire.KindOf(d.buried) != tt.kind || d.result.Status != wire.StatusFailed || d.result.Err.Kind != tt.kind {
				t.Errorf("buried with %v, result %+v, want kind %v", d.buried, d.result, tt.kind)
			}
			if tt.kind == wire.KindPanic && !strings.Contains(d.buried.Stack, "worker_test.go") {
				t.Errorf("the panic's stack doesn't show where: %s", d.buried.Stack)
			}
		})
	}
}

func fails(err error) func(context.Context, *runtime.Call) (wire.Value, error) {
	return func(context.Context, *runtime.Call) (wire.Value, error) { return wire.Value{}, err }
}

func TestTimeoutStopsWaitingForOneThatDoesNotListen(t *testing.T) {
	r := newRig(t)
	forever := make(chan struct{})
	defer close(forever)
	r.host(wire.Function{Name: "f", Timeout: time.Millisecond, Attempts: 1}, func(context.Context, *runtime.Call) (wire.Value, error) {
		<-forever
		return wire.Value{}, nil
	})
	d := newDelivery()
	if end := r.take(t, wire.Call{Name: "f"}, d); end != "finish" || wire.KindOf(d.buried) != wire.KindTimeout {
		t.Errorf("ended with %q, buried with %v, want a time-out", end, d.buried)
	}
}

func TestStorageFailureIsRetriedWithGrowingWaits(t *testing.T) {
	r := newRig(t)
	r.host(wire.Function{Name: "f", Attempts: 1}, func(ctx context.Context, c *runtime.Call) (wire.Value, error) {
		return wire.Value{}, c.State.Put(ctx, "", "k", wire.Value{Body: []byte("1")})
	})
	waits := []string{"nak 1s", "nak 2s", "nak 4s", "nak 4s", "nak 4s", "nak 4s", "nak 4s", "nak 4s", "nak 4s"}
	for attempt := 1; attempt < 10; attempt++ {
		r.bucket.Fault(func(latticetest.Op) latticetest.Outcome { return latticetest.Fails })
		d := newDelivery()
		if end := r.take(t, wire.Call{Name: "f", Attempt: attempt}, d); end != waits[attempt-1] || d.buried != nil {
			t.Fatalf("attempt %d ended with %q, buried %v, want another attempt", attempt, end, d.buried)
		}
	}
	r.bucket.Fault(nil)
	if end := r.take(t, wire.Call{Name: "f", Attempt: 10}, newDelivery()); end != "finish" {
		t.Errorf("ended with %q once the storage was back", end)
	}
}

// A function that can't read hasn't failed by itself, whatever it makes of that.
func TestReadThatFailsIsRetried(t *testing.T) {
	r := newRig(t)
	r.host(wire.Function{Name: "f", Attempts: 1}, func(ctx context.Context, c *runtime.Call) (wire.Value, error) {
		if _, _, err := c.State.Get(ctx, "", "k"); err != nil {
			return wire.Value{}, errors.New("boom")
		}
		return wire.Value{}, nil
	})
	r.host(wire.Function{Name: "careless", Attempts: 1}, func(ctx context.Context, c *runtime.Call) (wire.Value, error) {
		_, _, _ = c.State.Get(ctx, "", "k")
		return wire.Value{}, nil
	})
	r.bucket.Fault(func(latticetest.Op) latticetest.Outcome { return latticetest.Fails })
	d := newDelivery()
	if end := r.take(t, wire.Call{Name: "f"}, d); end != "nak 1s" || d.buried != nil {
		t.Errorf("ended with %q, buried %v, want another attempt", end, d.buried)
	}
	if end := r.take(t, wire.Call{Name: "careless"}, newDelivery()); end != "finish" {
		t.Errorf("one that does without ended with %q", end)
	}
	r.bucket.Fault(nil)
	if end := r.take(t, wire.Call{Name: "f"}, newDelivery()); end != "finish" {
		t.Errorf("ended with %q once the storage was back", end)
	}
}

func TestUnstoredEndingsAreRetried(t *testing.T) {
	r := newRig(t)
	r.host(wire.Function{Name: "ok"}, fails(nil))
	r.host(wire.Function{Name: "bad", Attempts: 1}, fails(errors.New("boom")))
	unstored := newDelivery()
	unstored.failFinish = errors.New("disk full")
	if end := r.take(t, wire.Call{Name: "ok"}, unstored); end != "nak 1s" {
		t.Errorf("a result that was not stored ended with %q", end)
	}
	unburied := newDelivery()
	unburied.failBury = errors.New("disk full")
	if end := r.take(t, wire.Call{Name: "bad"}, unburied); end != "nak 1s" || unburied.result != nil {
		t.Errorf("a dead letter that was not stored ended with %q, result %v", end, unburied.result)
	}
}

func TestResultThatIsTooLargeIsTheFunctionsFailure(t *testing.T) {
	r := newRig(t)
	r.host(wire.Function{Name: "f"}, fails(nil))
	d := newDelivery()
	d.tooLarge = &wire.Error{Kind: wire.KindTooLarge, Msg: "65 MiB, 64 at most"}
	if end := r.take(t, wire.Call{Name: "f"}, d); end != "finish" || wire.KindOf(d.buried) != wire.KindTooLarge || d.result.Status != wire.StatusFailed {
		t.Errorf("ended with %q, buried with %v, result %+v", end, d.buried, d.result)
	}
}

func TestWriteOfAnotherKindIsTheFunctionsFailure(t *testing.T) {
	r := newRig(t)
	if _, err := r.store.Merge(t.Context(), "k", kvlattice.NewSet()); err != nil {
		t.Fatal(err)
	}
	r.host(wire.Function{Name: "f"}, func(ctx context.Context, c *runtime.Call) (wire.Value, error) {
		return wire.Value{}, c.State.AddCounter(ctx, "", "k", 1)
	})
	d := newDelivery()
	if end := r.take(t, wire.Call{Name: "f"}, d); end != "finish" || wire.KindOf(d.buried) != wire.KindLattice {
		t.Errorf("ended with %q, buried with %v", end, d.buried)
	}
}

func TestCallAfterTheEndIsLeftToOthers(t *testing.T) {
	r := newRig(t)
	r.host(wire.Function{Name: "f"}, fails(nil))
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := r.Run(ctx); err != nil {
		t.Fatal(err)
	}
	d, slots := newDelivery(), newSlots(1)
	r.Take(wire.Call{Name: "f", Run: "x", Attempt: 1}, d, slots)
	if slots.taken != 0 || len(d.ended) != 0 {
		t.Errorf("slots taken: %d, ended: %d", slots.taken, len(d.ended))
	}
}

func TestNotHostedGoesToAnotherWorker(t *testing.T) {
	r := newRig(t)
	r.graphs.run = func(ctx context.Context, _ wire.Call, host Host) (Outcome, error) {
		_, err := host.Invoke(ctx, Step{Node: "n", Function: "elsewhere"}, wire.Value{})
		return Outcome{}, err
	}
	d := newDelivery()
	if end := r.take(t, wire.Call{Name: "dag", Node: "n", Attempt: 9}, d); end != "nak 30s" || d.buried != nil {
		t.Errorf("ended with %q, buried %v", end, d.buried)
	}
}

func TestGraphCallEndsWhereTheGraphSays(t *testing.T) {
	r := newRig(t)
	r.host(wire.Function{Name: "f"}, func(_ context.Context, c *runtime.Call) (wire.Value, error) { return c.Args, nil })
	done := false
	r.graphs.run = func(ctx context.Context, call wire.Call, host Host) (Outcome, error) {
		v, err := host.Invoke(ctx, Step{Node: "n", Function: "f"}, call.Args)
		if err == nil {
			err = host.Flush(ctx)
		}
		return Outcome{Done: done, Value: v}, err
	}
	d := newDelivery()
	if end := r.take(t, wire.Call{Name: "dag", Args: wire.Value{Body: []byte("3")}}, d); end != "ack" || d.result != nil {
		t.Errorf("a run that goes on ended with %q, result %v", end, d.result)
	}
	done = true
	d = newDelivery()
	if end := r.take(t, wire.Call{Name: "dag", Args: wire.Value{Body: []byte("3")}}, d); end != "finish" || string(d.result.Value.Body) != "3" {
		t.Errorf("a run that is done ended with %q, result %+v", end, d.result)
	}
}

func TestReferencesAreResolvedBeforeTheFunctionRuns(t *testing.T) {
	r := newRig(t)
	r.values = values{"r1": {Status: wire.StatusOK, Value: wire.Value{Body: []byte("2")}}, "r2": {Status: wire.StatusFailed, Err: &wire.Error{Kind: wire.KindFunction}}}
	if err := r.store.Put(t.Context(), "k", wire.Value{Body: []byte("1")}); err != nil {
		t.Fatal(err)
	}
	r.host(wire.Function{Name: "f"}, func(_ context.Context, c *runtime.Call) (wire.Value, error) { return c.Args, nil })
	d := newDelivery()
	r.take(t, wire.Call{Name: "f", Args: wire.Value{Body: []byte(`[{"$ref":"k"},{"$run":"r1"},3]`)}}, d)
	if d.result == nil || string(d.result.Value.Body) != "[1,2,3]" {
		t.Errorf("result = %+v, want [1,2,3]", d.result)
	}
	for arg, kind := range map[string]wire.Kind{`{"$ref":"none"}`: wire.KindUnknown, `{"$run":"r2"}`: wire.KindPermanent} {
		d := newDelivery()
		r.take(t, wire.Call{Name: "f", Args: wire.Value{Body: []byte(arg)}}, d)
		if wire.KindOf(d.buried) != kind {
			t.Errorf("argument %s: buried with %v, want kind %v", arg, d.buried, kind)
		}
	}
}

func TestCancelEndsCallsInHandAndThoseToCome(t *testing.T) {
	r := newRig(t)
	entered := make(chan struct{}, 1)
	r.host(wire.Function{Name: "f"}, func(ctx context.Context, _ *runtime.Call) (wire.Value, error) {
		entered <- struct{}{}
		<-ctx.Done()
		return wire.Value{}, ctx.Err()
	})
	d := newDelivery()
	go func() {
		<-entered
		r.Cancel("x")
	}()
	if end := r.take(t, wire.Call{Name: "f", Run: "x"}, d); end != "finish" || d.result.Status != wire.StatusCancelled || d.buried != nil {
		t.Errorf("a call in hand ended with %q, result %+v, buried %v", end, d.result, d.buried)
	}
	d = newDelivery()
	if end := r.take(t, wire.Call{Name: "f", Run: "x"}, d); end != "finish" || d.result.Status != wire.StatusCancelled {
		t.Errorf("a call to come ended with %q, result %+v", end, d.result)
	}
	if len(entered) > 0 {
		t.Error("a cancelled call was run")
	}
}

// A call that is in hand when the acknowledgement wait gets shorter gets its signs of
// life as often as that needs.
func TestSignsOfLifeFollowTheAckWait(t *testing.T) {
	r := newRig(t)
	r.Worker = New(Config{ID: "w1", Pool: "p", Source: "s", AckWait: 24 * time.Hour}, oneStore{r.store}, nil, values{}, &r.graphs, nil)
	until := make(chan struct{})
	r.host(wire.Function{Name: "f"}, func(context.Context, *runtime.Call) (wire.Value, error) {
		<-until
		return wire.Value{}, nil
	})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	d := newDelivery()
	r.Take(wire.Call{Name: "f", Run: "r", Attempt: 1}, d, newSlots(1))
	r.SetAckWait(30 * time.Millisecond)
	for range 3 {
		<-d.beats
	}
	close(until)
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestDrainFinishesWhatIsInHandAndGivesSignsOfLife(t *testing.T) {
	r := newRig(t)
	entered, leave := make(chan struct{}), make(chan struct{})
	r.host(wire.Function{Name: "f"}, func(context.Context, *runtime.Call) (wire.Value, error) {
		close(entered)
		<-leave
		return wire.Value{}, nil
	})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	d := newDelivery()
	r.Take(wire.Call{Name: "f", Run: "x", Attempt: 1}, d, newSlots(1))
	<-entered
	stop()
	<-d.beats // still given while draining
	select {
	case err := <-done:
		t.Fatalf("Run returned (%v) with a call in hand", err)
	default:
	}
	close(leave)
	if end := <-d.ended; end != "finish" {
		t.Errorf("the call in hand ended with %q", end)
	}
	if err := <-done; err != nil || r.Busy() != 0 {
		t.Errorf("Run = %v, busy %d", err, r.Busy())
	}
}
