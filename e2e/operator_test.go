package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudburst-nats/cloudburst"
	"github.com/cloudburst-nats/cloudburst/broker"
)

// An operator may work on the platform's streams with the nats CLI while it is used. A
// ledger is kept all the time, and after each spec it must be right, calls and DAG runs
// must come to their end, and the doctor must find nothing.
var _ = Describe("An operator with the nats CLI", Label("operator"), Ordered, func() {
	var o operated
	sum := func(ctx context.Context, args string) func() string {
		return func() string { return try(ctx, o.addr, "req", "--raw", "cb.fn.sum", args, "--timeout", "2s") }
	}
	result := func(ctx context.Context, run string) func() string {
		return func() string { return try(ctx, o.addr, "kv", "get", "--raw", "cb_results", run) }
	}

	BeforeAll(func(ctx SpecContext) {
		o = operate(ctx, exec.Command(bin.cloudburst))
		o.keep(ctx, "nats://"+o.addr, 30*time.Second)
	}, NodeTimeout(patience))

	AfterEach(func(ctx SpecContext) {
		Eventually(ctx, func() string { return try(ctx, o.addr, "req", "--raw", "cb.fn.compose", "4", "--timeout", "2s") }).Should(Equal("25"))
		o.goesOn(ctx)
		o.audit(ctx)
		Eventually(ctx, o.doctor).WithContext(ctx).Should(BeEmpty())
	}, NodeTimeout(patience))

	It("may write nonsense into a registry, and a graph", func(ctx SpecContext) {
		o.nats(ctx, "kv", "put", "cb_dags", "nonsense", "no graph")
		Eventually(ctx, func() string { return o.doctor(ctx) }).Should(ContainSubstring("nonsense"))
		o.nats(ctx, "kv", "put", "cb_dags", "twice", `{"nodes":[{"name":"square"},{"name":"increment"}],"edges":[{"from":"square","to":"increment"}]}`)
		Eventually(ctx, func() string { return try(ctx, o.addr, "req", "--raw", "cb.fn.twice", "3", "--timeout", "2s") }).Should(Equal("10"))
		o.nats(ctx, "kv", "del", "cb_dags", "nonsense", "-f")
	}, SpecTimeout(patience))

	It("may delete a pool's consumer", func(ctx SpecContext) {
		o.nats(ctx, "pub", "--jetstream", "cb.call.square", "7", "-H", "Nats-Msg-Id:kept")
		o.nats(ctx, "consumer", "rm", "CB_CALLS_examples", "workers", "-f")
		o.nats(ctx, "consumer", "rm", "CB_CALLS_desk", "workers", "-f")
		Eventually(ctx, result(ctx, "kept")).Should(Equal("49"))
	}, SpecTimeout(patience))

	It("may delete any stream or bucket", func(ctx SpecContext) {
		names := []string{
			"CB_CALLS_examples", "CB_CALLS_desk", "CB_RUNS", "CB_DEAD", "CB_TIMERS", "CB_MESSAGES",
			"KV_cb_results", "KV_cb_workers", "KV_state",
		}
		for _, name := range names {
			o.nats(ctx, "stream", "rm", name, "-f")
		}
		for _, name := range names {
			Eventually(ctx, func() string { return try(ctx, o.addr, "stream", "ls", "--all", "--names") }).Should(ContainSubstring(name))
		}
	}, SpecTimeout(patience))

	It("may edit streams, buckets and consumers", func(ctx SpecContext) {
		o.nats(ctx, "stream", "edit", "CB_BLOBS", "--description", "by hand", "-f")
		o.nats(ctx, "kv", "edit", "ledger", "--description", "by hand") // drops atomic publish, too
		o.nats(ctx, "consumer", "edit", "CB_CALLS_desk", "workers", "--max-deliver", "3", "--wait", "20s", "-f")
	}, SpecTimeout(patience)) // the last spec looks what became of that

	It("may purge and delete state, and the workers see it", func(ctx SpecContext) {
		ab := sum(ctx, `[{"$ref":"a"},{"$ref":"b"}]`)
		for _, remove := range [][]string{
			{"req", "$JS.API.STREAM.PURGE.KV_state", ""},
			{"kv", "purge", "state", "a", "-f"},
			{"kv", "del", "state", "b", "-f"},
			{"kv", "del", "state", "-f"}, // the whole bucket
		} {
			Eventually(ctx, func() string { return try(ctx, o.addr, "kv", "put", "state", "a", "1") }).Should(Equal("1"))
			Eventually(ctx, func() string { return try(ctx, o.addr, "kv", "put", "state", "b", "2") }).Should(Equal("2"))
			Eventually(ctx, ab).Should(Equal("3"))
			o.nats(ctx, remove...)
			Eventually(ctx, ab).Should(ContainSubstring("no such key"), "after nats %v", remove)
		}
	}, SpecTimeout(patience))

	It("may purge calls and results", func(ctx SpecContext) {
		o.nats(ctx, "consumer", "pause", "CB_CALLS_examples", "workers", "1h", "-f")
		o.nats(ctx, "pub", "--jetstream", "cb.call.square", "8", "-H", "Nats-Msg-Id:purged")
		o.nats(ctx, "req", "$JS.API.STREAM.PURGE.CB_CALLS_examples", "")
		o.nats(ctx, "pub", "--jetstream", "cb.call.square", "9", "-H", "Nats-Msg-Id:later")
		o.nats(ctx, "consumer", "resume", "CB_CALLS_examples", "workers", "-f")
		Eventually(ctx, result(ctx, "later")).Should(Equal("81"))
		Expect(result(ctx, "purged")()).To(ContainSubstring("not found"), "what was purged is gone")
		o.nats(ctx, "req", "$JS.API.STREAM.PURGE.KV_cb_results", "")
		Expect(result(ctx, "later")()).To(ContainSubstring("not found"))
		o.nats(ctx, "req", "$JS.API.STREAM.PURGE.CB_CALLS_desk", "") // calls under way have been handed out
	}, SpecTimeout(patience))

	It("may put a backup in the place of a bucket", func(ctx SpecContext) {
		o.nats(ctx, "kv", "put", "state", "saved", "5")
		dir := o.backup(ctx, "KV_state")
		o.nats(ctx, "kv", "put", "state", "saved", "6")
		Eventually(ctx, sum(ctx, `[{"$ref":"saved"},1]`)).Should(Equal("7"))
		o.replace(ctx, "KV_state", dir)
		Eventually(ctx, sum(ctx, `[{"$ref":"saved"},1]`)).Should(Equal("6"))
	}, SpecTimeout(patience))

	It("may put a backup in the place of a stream of calls", func(ctx SpecContext) {
		o.nats(ctx, "consumer", "pause", "CB_CALLS_examples", "workers", "1h", "-f")
		o.nats(ctx, "pub", "--jetstream", "cb.call.square", "11", "-H", "Nats-Msg-Id:saved")
		dir := o.backup(ctx, "CB_CALLS_examples")
		o.replace(ctx, "CB_CALLS_examples", dir)
		o.nats(ctx, "consumer", "resume", "CB_CALLS_examples", "workers", "-f")
		Eventually(ctx, result(ctx, "saved")).Should(Equal("121"), "what waited in the backup runs")
	}, SpecTimeout(patience))

	It("may copy a stream under another name, and delete the first", func(ctx SpecContext) {
		o.nats(ctx, "pub", "--jetstream", "cb.call.square", `"no number"`, "-H", "Nats-Msg-Id:buried")
		Eventually(ctx, result(ctx, "buried")).Should(ContainSubstring("bad argument"))
		o.nats(ctx, "req", "$JS.API.STREAM.CREATE.OLD", `{"name":"OLD","sources":[{"name":"CB_DEAD"}],"storage":"file"}`)
		copied := func() string { return try(ctx, o.addr, "stream", "get", "OLD", "--last-for", "cb.dead.square") }
		Eventually(ctx, copied).Should(ContainSubstring("no number"))
		o.nats(ctx, "stream", "rm", "CB_DEAD", "-f")
		Eventually(ctx, func() string { return try(ctx, o.addr, "stream", "ls", "--all", "--names") }).Should(ContainSubstring("CB_DEAD"))
		Expect(copied()).To(ContainSubstring("no number"))
	}, SpecTimeout(patience))

	It("finds edits kept, and what a promise rests on put right", func(ctx SpecContext) {
		info := func(args ...string) func() string {
			return func() string { return try(ctx, o.addr, append(args, "--json")...) }
		}
		Expect(info("stream", "info", "CB_BLOBS")()).To(ContainSubstring("by hand"))
		Eventually(ctx, info("stream", "info", "KV_ledger")).Should(And(ContainSubstring("by hand"), MatchRegexp(`"allow_atomic": ?true`)))
		Eventually(ctx, info("consumer", "info", "CB_CALLS_desk", "workers")).Should(
			And(MatchRegexp(`"ack_wait": ?20000000000`), Not(MatchRegexp(`"max_deliver": ?3`))))
	}, SpecTimeout(patience))
})

// Leaders may be told to step down, one after the other.
var _ = Describe("An operator of a cluster", Label("operator", "cluster"), func() {
	It("may have the leaders of streams and consumers step down", func(ctx SpecContext) {
		cmd := exec.Command(bin.cloudburst, "cluster", "--listen", "127.0.0.1:0", "--store", GinkgoT().TempDir(), "--examples")
		_, line := launch(ctx, "cloudburst call --nats", cmd)
		urls := regexp.MustCompile(`nats://\S+`).FindString(line)
		o := operated{addr: strings.TrimPrefix(urls, "nats://")}
		o.keep(ctx, urls, patience)
		for _, what := range [][]string{
			{"consumer", "cluster", "step-down", "CB_CALLS_desk", "workers"},
			{"stream", "cluster", "step-down", "CB_CALLS_desk"},
			{"stream", "cluster", "step-down", "KV_ledger"},
			{"stream", "cluster", "step-down", "KV_cb_results"},
			{"stream", "cluster", "step-down", "CB_RUNS"},
			{"stream", "cluster", "step-down", "KV_cb_workers"},
			{"consumer", "cluster", "step-down", "CB_CALLS_examples", "workers"},
			{"stream", "cluster", "step-down", "CB_CALLS_examples"},
		} {
			Eventually(ctx, func() error { // there may be no leader yet
				_, err := command(ctx, o.addr, append(what, "-f")...)
				return err
			}).Should(Succeed())
			o.goesOn(ctx)
		}
		o.audit(ctx)
		Eventually(ctx, o.doctor).WithContext(ctx).Should(BeEmpty())
	}, SpecTimeout(patience))
})

// What looks after deletions can be switched off, and then it is missed.
var _ = Describe("What an operator deletes", Label("operator"), func() {
	It("stays away for good where nobody revives the pool", func(ctx SpecContext) {
		server, err := broker.StartServer(ctx, broker.ServerConfig{Listen: "127.0.0.1:0", Store: GinkgoT().TempDir()})
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(server.Shutdown)
		b, err := broker.Connect(ctx, broker.Config{Server: server})
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(b.Close)
		Expect(b.SetUpPlatform(ctx)).To(Succeed()) // and no node: only workers look after their pool
		addr := strings.TrimPrefix(server.URL(), "nats://")
		client, err := cloudburst.Connect(ctx, server.URL())
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(client.Close)
		consumer := func() error {
			_, err := command(ctx, addr, "consumer", "info", "CB_CALLS_crash", "workers")
			return err
		}

		faulty := exec.Command(bin.faultyTests)
		faulty.Env = append(os.Environ(), roleEnv+"=worker", urlEnv+"="+addr, "CLOUDBURST_FAULTS=revive")
		without, _ := launch(ctx, "ready", faulty)
		Expect(cloudburst.Call[int](ctx, client, "tally", 1)).To(Equal(1))
		_, err = command(ctx, addr, "consumer", "rm", "CB_CALLS_crash", "workers", "-f")
		Expect(err).NotTo(HaveOccurred())
		waits, err := cloudburst.Go[int](ctx, client, "tally", 2)
		Expect(err).NotTo(HaveOccurred())
		Consistently(ctx, consumer).WithTimeout(3 * time.Second).ShouldNot(Succeed())
		without.kill()

		launch(ctx, "ready", as("worker", addr, ""))
		Expect(waits.Wait(ctx)).To(Equal(2))
		_, err = command(ctx, addr, "consumer", "rm", "CB_CALLS_crash", "workers", "-f")
		Expect(err).NotTo(HaveOccurred())
		Expect(cloudburst.Call[int](ctx, client, "tally", 3)).To(Equal(3))
		Expect(consumer()).To(Succeed())
	}, SpecTimeout(patience))

	It("leaves no time for a backup where it is made anew at once", func(ctx SpecContext) {
		server := exec.Command(bin.faulty)
		server.Env = append(os.Environ(), "CLOUDBURST_FAULTS=grace")
		o := operate(ctx, server)
		o.nats(ctx, "kv", "put", "state", "saved", "5")
		dir := o.backup(ctx, "KV_state")
		const atMost = 10 // the restoration may be faster by chance
		for range atMost {
			o.nats(ctx, "stream", "rm", "KV_state", "-f")
			if out, err := command(ctx, o.addr, "stream", "restore", dir, "--no-progress"); err != nil {
				Expect(out).To(ContainSubstring("already exist"))
				return
			}
		}
		Fail("every restoration found its place free")
	}, SpecTimeout(patience))
})

// An operated platform is one that somebody works on by hand, while a ledger is kept.
type operated struct {
	addr string // of its server, or the first of several
	*ledger
}

// operate starts a server with the examples, from the program that cmd names.
func operate(ctx context.Context, cmd *exec.Cmd) operated {
	GinkgoHelper()
	o := operated{addr: freePort()}
	cmd.Args = append(cmd.Args, "server", "--listen", o.addr, "--store", GinkgoT().TempDir(), "--examples")
	launch(ctx, o.addr, cmd)
	Eventually(ctx, func() string { return try(ctx, o.addr, "micro", "ls") }).Should(ContainSubstring("compose"))
	return o
}

// nats runs the nats CLI, which must succeed.
func (o *operated) nats(ctx context.Context, args ...string) string {
	GinkgoHelper()
	out, err := command(ctx, o.addr, args...)
	Expect(err).NotTo(HaveOccurred(), "nats %v: %s", args, out)
	return out
}

// doctor returns what `cloudburst doctor` finds broken; empty if nothing is.
func (o *operated) doctor(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, bin.cloudburst, "doctor", "-o", "json", "--nats", "nats://"+o.addr).Output()
	if err == nil {
		return ""
	}
	return err.Error() + ": " + string(out)
}

// backup saves a stream in a directory.
func (o *operated) backup(ctx context.Context, stream string) (dir string) {
	GinkgoHelper()
	dir = filepath.Join(GinkgoT().TempDir(), "backup")
	o.nats(ctx, "stream", "backup", stream, dir, "--no-progress")
	return dir
}

// replace puts a backup in the place of a stream. On a machine that is so busy that the
// time for that has passed it does it again.
func (o *operated) replace(ctx context.Context, stream, dir string) {
	GinkgoHelper()
	Eventually(ctx, func() error {
		if out, err := command(ctx, o.addr, "stream", "rm", stream, "-f"); err != nil && !strings.Contains(out, "not found") {
			return fmt.Errorf("remove: %w: %s", err, out)
		}
		if out, err := command(ctx, o.addr, "stream", "restore", dir, "--no-progress"); err != nil {
			return fmt.Errorf("restore: %w: %s", err, out)
		}
		return nil
	}).Should(Succeed())
}

// keep has clerks write the ledger of a platform until the specs end. Each tries at most so
// long to make an entry.
func (o *operated) keep(ctx context.Context, urls string, atMost time.Duration) {
	GinkgoHelper()
	client, err := cloudburst.Connect(ctx, urls)
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(client.Close)
	(&platform{Client: client}).serve(ctx, func(w *cloudburst.Worker) { cloudburst.Handle(w, "enter", enter) },
		cloudburst.Pool("desk"), cloudburst.Namespace("ledger"))
	o.ledger = &ledger{client: client, atMost: atMost, wrong: make(chan error, 100)}
	writing, stop := context.WithCancel(context.WithoutCancel(ctx))
	var clerks sync.WaitGroup
	for i := range o.clerks {
		clerks.Go(func() { o.write(writing, i) })
	}
	DeferCleanup(func() { stop(); clerks.Wait() })
}

// A ledger is kept by clerks, each of which makes one entry after the other.
type ledger struct {
	client *cloudburst.Client
	atMost time.Duration // for an entry, before its clerk gives it up
	gate   sync.RWMutex  // held for writing while nobody may begin an entry
	clerks [4]struct{ begun, acked, last atomic.Int64 }
	wrong  chan error
}

// An entry is of a clerk, who counts them.
type entry struct{ Clerk, N int64 }

func (e entry) count() string { return fmt.Sprint("count:", e.Clerk) }
func (e entry) last() string  { return fmt.Sprint("last:", e.Clerk) }

// enter makes an entry: it counts it, and notes that it is the last one.
func enter(ctx context.Context, s *cloudburst.Session, e entry) (int64, error) {
	if err := s.Counter(e.count()).Add(ctx, 1); err != nil {
		return 0, err
	}
	return e.N, s.Put(ctx, e.last(), e.N)
}

// write makes a clerk's entries until ctx ends.
func (l *ledger) write(ctx context.Context, clerk int) {
	for n := int64(1); ctx.Err() == nil; n++ {
		l.gate.RLock()
		l.make(ctx, entry{int64(clerk), n})
		l.gate.RUnlock()
	}
}

// make makes one entry, as often as it takes. The operator may have purged or deleted an
// entry that isn't acknowledged in time.
func (l *ledger) make(ctx context.Context, e entry) {
	clerk := &l.clerks[e.Clerk]
	clerk.begun.Add(1)
	ctx, cancel := context.WithTimeout(ctx, l.atMost)
	defer cancel()
	client := l.client.With(cloudburst.WithRunID(cloudburst.RunID(fmt.Sprintf("entry-%d-%d", e.Clerk, e.N))))
	for ctx.Err() == nil {
		switch got, err := cloudburst.Call[int64](ctx, client, "enter", e); {
		case err == nil && got == e.N:
			clerk.acked.Add(1)
			clerk.last.Store(e.N)
			return
		case err == nil:
			l.wrong <- fmt.Errorf("entry %v has the result %d", e, got)
			return
		}
		select { // a stream that isn't there refuses calls
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// goesOn waits until every clerk has made entries that began after this moment.
func (l *ledger) goesOn(ctx context.Context) {
	GinkgoHelper()
	for i := range l.clerks {
		before := l.clerks[i].acked.Load()
		Eventually(ctx, l.clerks[i].acked.Load).Should(BeNumerically(">", before+1), "entries of clerk %d", i)
	}
}

// audit has the clerks pause, and compares the ledger with what they know: each entry
// that was acknowledged counts once, and the last one has not gone back.
func (l *ledger) audit(ctx context.Context) {
	GinkgoHelper()
	l.gate.Lock()
	defer l.gate.Unlock()
	Expect(l.wrong).To(BeEmpty())
	state := l.client.State().In("ledger")
	begun, acked := int64(0), int64(0)
	for i := range l.clerks {
		e, clerk := entry{Clerk: int64(i)}, &l.clerks[i]
		Eventually(ctx, func() (int64, error) { return state.Counter(e.count()).Value(ctx) }).Should(
			And(BeNumerically(">=", clerk.acked.Load()), BeNumerically("<=", clerk.begun.Load())), "entries of clerk %d", i)
		Eventually(ctx, func() (int64, error) { return cloudburst.Get[int64](ctx, state, e.last()) }).Should(
			And(BeNumerically(">=", clerk.last.Load()), BeNumerically("<=", clerk.begun.Load())), "the last entry of clerk %d", i)
		begun, acked = begun+clerk.begun.Load(), acked+clerk.acked.Load()
	}
	GinkgoWriter.Printf("%d entries, %d without an acknowledgement\n", begun, begun-acked)
}
