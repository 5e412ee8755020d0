package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudburst-nats/cloudburst"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// No acknowledged value goes back when the only server is killed (kill -9) at a random
// moment, whatever the lattice, and no call runs again once its result is stored.
// RESTARTS says how many kills there are in each row of the table.
var _ = Describe("Restarts of the only server", Label("crash"), func() {
	kills := 2
	if text := os.Getenv("RESTARTS"); text != "" {
		kills, _ = strconv.Atoi(text)
	}
	limit := patience + time.Duration(kills)*30*time.Second

	DescribeTable("take nothing back", func(ctx SpecContext, sync string, callers int) {
		// Each is handed calls that the other has run, which the server has forgotten.
		r := newRestarts(ctx, sync, exec.Command(os.Args[0]), exec.Command(os.Args[0]))
		r.load(ctx, callers)
		for range kills {
			r.kill(ctx)
			r.check(ctx)
		}
		r.end()
		Expect(r.wrong).To(BeEmpty())
		GinkgoWriter.Printf("%d kills, %d calls acknowledged, %d executions\n", kills, r.acked(), len(r.ran))
	},
		Entry("with a sequential caller", "default", 1, SpecTimeout(limit)),
		Entry("with concurrent callers", "default", 8, SpecTimeout(limit)),
		Entry("with a sequential caller, and every write on the disk", "always", 1, SpecTimeout(limit)),
		Entry("with concurrent callers, and every write on the disk", "always", 8, SpecTimeout(limit)),
	)

	It("are seen to run calls again where repeats aren't looked for", func(ctx SpecContext) {
		worker := exec.Command(bin.faultyTests)
		worker.Env = append(os.Environ(), "CLOUDBURST_FAULTS=repeat")
		r := newRestarts(ctx, "default", worker)
		r.load(ctx, 8)
		for try := 0; len(r.wrong) == 0; try++ {
			Expect(try).To(BeNumerically("<", 20), "kills after which no call ran again")
			r.kill(ctx)
			r.check(ctx)
		}
		r.end()
		Expect(r.wrong[0]).To(ContainSubstring("again"))
	}, SpecTimeout(2*patience))
})

// A step is one call of a caller: callers count their calls.
type step struct {
	Caller, N int
}

func (s step) key(kind string) string { return fmt.Sprintf("%s:%d", kind, s.Caller) }

// odd and even are the last calls so far that were made at level lww and at a causal level.
func (s step) odd() int  { return s.N - 1 + s.N%2 }
func (s step) even() int { return s.N - s.N%2 }

// restarts is a server that is killed, workers that live on, and callers.
type restarts struct {
	addr, store, sync string
	server            *process
	client            *cloudburst.Client

	gate    sync.RWMutex // held for writing while nobody may call
	last    []atomic.Int64
	callers sync.WaitGroup
	stop    context.CancelFunc

	mu     sync.Mutex           // guards what follows
	stored map[string]time.Time // by the call: when its result was seen stored
	ran    []execution
	wrong  []string
}

type execution struct {
	call string
	at   time.Time
}

func newRestarts(ctx context.Context, sync string, workers ...*exec.Cmd) *restarts {
	GinkgoHelper()
	r := &restarts{addr: freePort(), store: GinkgoT().TempDir(), sync: sync, stored: make(map[string]time.Time)}
	r.start(ctx)
	for _, worker := range workers {
		r.follow(ctx, worker)
	}
	var err error
	r.client, err = cloudburst.Connect(ctx, "nats://"+r.addr)
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(r.client.Close)
	return r
}

// follow starts a worker, and notes what it runs.
func (r *restarts) follow(ctx context.Context, worker *exec.Cmd) {
	GinkgoHelper()
	if worker.Env == nil {
		worker.Env = os.Environ()
	}
	worker.Env = append(worker.Env, roleEnv+"=steps", urlEnv+"="+r.addr)
	w, _ := launch(ctx, "ready", worker)
	go func() {
		for line := range w.lines {
			text, ok := strings.CutPrefix(line, "ran ")
			call, at, _ := strings.Cut(text, " ")
			ns, err := strconv.ParseInt(at, 10, 64)
			if !ok || err != nil {
				continue
			}
			r.mu.Lock()
			r.ran = append(r.ran, execution{call, time.Unix(0, ns)})
			r.mu.Unlock()
		}
	}()
}

func (r *restarts) start(ctx context.Context) {
	GinkgoHelper()
	cmd := as("server", r.addr, r.store)
	cmd.Env = append(cmd.Env, syncEnv+"="+r.sync)
	r.server, _ = launch(ctx, "ready", cmd)
}

// load starts callers, each of which makes one call after the other.
func (r *restarts) load(ctx context.Context, callers int) {
	ctx, r.stop = context.WithCancel(ctx)
	DeferCleanup(r.end)
	r.last = make([]atomic.Int64, callers)
	for i := range callers {
		r.callers.Go(func() {
			defer GinkgoRecover()
			token := cloudburst.NewToken() // what a call has written the next one sees, on any worker
			for n := 1; ; n++ {
				r.gate.RLock()
				if ctx.Err() != nil {
					r.gate.RUnlock()
					return
				}
				r.call(ctx, step{i, n}, token)
				r.gate.RUnlock()
			}
		})
	}
}

func (r *restarts) call(ctx context.Context, s step, token *cloudburst.Token) {
	level := cloudburst.LWW
	if s.N%2 == 0 {
		level = cloudburst.CausalKey
	}
	f, err := cloudburst.Go[step](ctx, r.client.With(cloudburst.WithLevel(level), cloudburst.WithToken(token)), "step", s)
	if err == nil {
		defer f.Close()
		_, err = f.Wait(ctx)
	}
	if ctx.Err() != nil {
		return
	}
	Expect(err).NotTo(HaveOccurred(), "call %v", s)
	r.last[s.Caller].Store(int64(s.N))
	if s.N%5 == 0 { // a caller may hear of a result an instant before it is stored
		if _, err := r.client.Result(ctx, f.Run()); err == nil {
			r.mu.Lock()
			r.stored[fmt.Sprintf("%d/%d", s.Caller, s.N)] = time.Now()
			r.mu.Unlock()
		}
	}
}

func (r *restarts) acked() (calls int64) {
	for i := range r.last {
		calls += r.last[i].Load()
	}
	return calls
}

// more waits until every caller has had another call acknowledged.
func (r *restarts) more(ctx context.Context) {
	GinkgoHelper()
	for i := range r.last {
		was := r.last[i].Load()
		Eventually(ctx, r.last[i].Load).WithPolling(time.Millisecond).Should(BeNumerically(">", was), "calls of caller %d", i)
	}
}

// kill kills the server at a random moment of the load, and starts it again.
func (r *restarts) kill(ctx context.Context) {
	GinkgoHelper()
	r.more(ctx)
	select {
	case <-time.After(time.Duration(rand.IntN(200_000)) * time.Microsecond): // the moment is what is tried
	case <-ctx.Done():
	}
	r.server.kill()
	r.start(ctx)
	r.more(ctx)
}

// check holds still and compares what was acknowledged with what is there.
func (r *restarts) check(ctx context.Context) {
	GinkgoHelper()
	r.gate.Lock()
	defer r.gate.Unlock()
	Eventually(ctx, func() (uint64, error) {
		lag, err := r.client.Broker().Lag(ctx, "default")
		return lag.Pending + uint64(lag.AckPending), err //nolint:gosec // not negative
	}).WithPolling(5*time.Millisecond).Should(BeZero(), "calls that were handed out again")
	state := r.client.State().In("default")
	var total int64
	for i := range r.last {
		s := step{i, int(r.last[i].Load())}
		total += int64(s.N)
		for kind, read := range lattices {
			if s.N == 0 {
				continue
			}
			if got, want := read(ctx, state, s); got != want {
				r.say("caller %d: %s is %s after the acknowledged call %d, want %s", i, kind, got, s.N, want)
			}
		}
	}
	if n, err := state.Counter("all").Value(ctx); err != nil || n != total {
		r.say("%d calls are counted, %v, of %d", n, err, total)
	}
	v, err := cloudburst.Get[step](ctx, state, "any")
	if last := (step{v.Caller, int(r.last[v.Caller].Load())}); err != nil || v.N != last.odd() {
		r.say("the register of all callers is %v, %v, after the acknowledged call %v", v, err, last)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.ran {
		if stored, ok := r.stored[e.call]; ok && e.at.After(stored) {
			r.wrong = append(r.wrong, fmt.Sprintf("call %s ran again %v after its result was stored", e.call, e.at.Sub(stored)))
		}
	}
}

func (r *restarts) say(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wrong = append(r.wrong, fmt.Sprintf(format, args...))
}

func (r *restarts) end() {
	r.stop()
	r.callers.Wait()
}

// lattices reads what a caller's last step has left in each kind, and what it should be.
var lattices = map[string]func(ctx context.Context, s *cloudburst.State, last step) (got, want string){
	"lww": func(ctx context.Context, s *cloudburst.State, last step) (string, string) {
		v, err := cloudburst.Get[int](ctx, s, last.key("lww"))
		return answer(v, err), answer(last.odd(), nil)
	},
	"causal": func(ctx context.Context, s *cloudburst.State, last step) (string, string) {
		var all []int
		versions, err := s.Versions(ctx, last.key("causal"))
		for _, v := range versions {
			var n int
			if bad := v.Decode(&n); bad != nil {
				err = bad
			}
			all = append(all, n)
		}
		if last.N < 2 {
			return "", ""
		}
		return answer(all, err), answer([]int{last.even()}, nil)
	},
	"counter": func(ctx context.Context, s *cloudburst.State, last step) (string, string) {
		v, err := s.Counter(last.key("counter")).Value(ctx)
		return answer(v, err), answer(last.N, nil)
	},
	"gcounter": func(ctx context.Context, s *cloudburst.State, last step) (string, string) {
		v, err := s.Grow(last.key("gcounter")).Value(ctx)
		return answer(v, err), answer(last.N, nil)
	},
	"max": func(ctx context.Context, s *cloudburst.State, last step) (string, string) {
		v, _, err := s.Max(last.key("max")).Value(ctx)
		return answer(string(v.Body), err), answer(last.N, nil)
	},
	"min": func(ctx context.Context, s *cloudburst.State, last step) (string, string) {
		v, _, err := s.Min(last.key("min")).Value(ctx)
		return answer(string(v.Body), err), answer(-last.N, nil)
	},
	"set": func(ctx context.Context, s *cloudburst.State, last step) (string, string) {
		all, err := cloudburst.Elements[int](ctx, s.Set(last.key("set")))
		return answer(len(all), err), answer(min(last.N, setSize), nil)
	},
	"orset": func(ctx context.Context, s *cloudburst.State, last step) (string, string) {
		all, err := cloudburst.Members[int](ctx, s.ORSet(last.key("orset")))
		if last.N%2 == 0 {
			return answer(all, err), answer([]int{}, nil)
		}
		return answer(all, err), answer([]int{last.N}, nil)
	},
	"zset": func(ctx context.Context, s *cloudburst.State, last step) (string, string) {
		v, _, err := s.OrderedSet(last.key("zset")).Score(ctx, "m")
		return answer(v, err), answer(last.N, nil)
	},
	"map": func(ctx context.Context, s *cloudburst.State, last step) (string, string) {
		m := s.Map(last.key("map"))
		v, err := cloudburst.Get[int](ctx, &m.State, "f")
		if err != nil {
			return answer(v, err), answer(last.N, nil)
		}
		n, err := m.Counter("n").Value(ctx)
		return answer(fmt.Sprint(v, n), err), answer(fmt.Sprint(last.N, last.N), nil)
	},
	"priority": func(ctx context.Context, s *cloudburst.State, last step) (string, string) {
		v, p, _, err := s.Priority(last.key("priority")).Get(ctx)
		return answer(fmt.Sprint(string(v.Body), p), err), answer(fmt.Sprint(strconv.Itoa(last.N), -last.N), nil)
	},
}

// setSize bounds a set that only grows.
const setSize = 50

func answer(v any, err error) string {
	if err != nil {
		return err.Error()
	}
	return fmt.Sprint(v)
}

// takeStep writes every kind of lattice, and says that it has begun.
func takeStep(ctx context.Context, s *cloudburst.Session, at step) (step, error) {
	fmt.Fprintln(os.Stdout, "ran", fmt.Sprintf("%d/%d", at.Caller, at.N), time.Now().UnixNano())
	writes := []func() error{
		func() error { return s.Counter(at.key("counter")).Add(ctx, 1) },
		func() error { return s.Counter("all").Add(ctx, 1) },
		func() error { return s.Grow(at.key("gcounter")).Add(ctx, 1) },
		func() error { return s.Max(at.key("max")).Raise(ctx, at.N) },
		func() error { return s.Min(at.key("min")).Lower(ctx, -at.N) },
		func() error { return s.Set(at.key("set")).Add(ctx, at.N%setSize) },
		func() error {
			if at.N%2 == 1 {
				return s.ORSet(at.key("orset")).Add(ctx, at.N)
			}
			return s.ORSet(at.key("orset")).Remove(ctx, at.N-1)
		},
		func() error { return s.OrderedSet(at.key("zset")).Put(ctx, "m", float64(at.N)) },
		func() error { return s.Map(at.key("map")).Put(ctx, "f", at.N) },
		func() error { return s.Map(at.key("map")).Counter("n").Add(ctx, 1) },
		func() error { return s.Priority(at.key("priority")).Put(ctx, -int64(at.N), at.N) },
	}
	if at.N%2 == 1 {
		writes = append(writes,
			func() error { return s.Put(ctx, at.key("lww"), at.N) },
			func() error { return s.Put(ctx, "any", at) })
	} else { // at a causal level, a register is of another kind
		writes = append(writes, func() error {
			if _, _, err := s.Get(ctx, at.key("causal")); err != nil && wire.KindOf(err) != wire.KindUnknown {
				return err
			}
			return s.Put(ctx, at.key("causal"), at.N)
		})
	}
	for _, write := range writes {
		if err := write(); err != nil {
			return at, err
		}
	}
	return at, nil
}

func playSteps(ctx context.Context) error {
	return playPool(ctx, "default", func(w *cloudburst.Worker) { cloudburst.Handle(w, "step", takeStep) })
}
