package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudburst-nats/cloudburst"
	"github.com/cloudburst-nats/cloudburst/internal/loopback"
)

const nodes = 3

func nodeName(i int) string { return fmt.Sprint("n", i+1) }

// skewed is a cluster of `cloudburst server`s, each with a clock of its own, and callers.
type skewed struct {
	clocks         [nodes]string // CLOUDBURST_CLOCK of each
	fault          string        // CLOUDBURST_FAULTS of all
	listen, routes [nodes]string
	stores         string
	servers        [nodes]*process
	clients        [nodes]*cloudburst.Client // each of one server
	callers        []*skewedCaller
	calling        sync.WaitGroup
	end            context.CancelFunc

	mu    sync.Mutex // guards wrong
	wrong []string
}

// notes is a function that writes how far a caller is to all kinds of state that are
// ordered by time.
const notes = `
def handler(cloudburst, step):
    who, n = step["who"], step["n"]
    cloudburst.put("register:" + who, n)
    cloudburst.zset("zset:" + who).put("last", n)
    cloudburst.map("map:" + who).put("last", n)
    return {"who": who, "n": n + 1}
`

// startSkewed starts the servers and deploys what callers call: note, pay, which is a
// transaction in another pool, and hop, which is both, one after the other.
func startSkewed(ctx context.Context, clocks [nodes]string, fault string) *skewed {
	GinkgoHelper()
	Expect(bin.skewed).To(BeAnExistingFile(), "make test-clocks builds it")
	s := &skewed{clocks: clocks, fault: fault, stores: GinkgoT().TempDir()}
	for i := range nodes {
		for _, addr := range []*string{&s.listen[i], &s.routes[i]} {
			var err error
			*addr, err = loopback.FreeAddr("127.0.0.1")
			Expect(err).NotTo(HaveOccurred())
		}
	}
	var starting sync.WaitGroup
	for i := range nodes { // they wait for each other
		starting.Go(func() {
			defer GinkgoRecover()
			s.start(ctx, i)
		})
	}
	starting.Wait()
	for i := range nodes {
		var err error
		s.clients[i], err = cloudburst.Connect(ctx, "nats://"+s.listen[i])
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(s.clients[i].Close)
	}
	c := s.clients[0]
	Expect(c.Broker().EnsureNamespace(ctx, cloudburst.DefaultNamespace)).To(Succeed())
	for _, d := range []cloudburst.Deployment{
		{Name: "note", Pool: "deployed"},
		{Name: "pay", Pool: "other", Transactional: true},
	} {
		d.Runtime, d.Image, d.Concurrency = "python", []byte(notes), 1
		Eventually(ctx, func() error {
			_, err := c.Deploy(ctx, d)
			return err
		}).Should(Succeed())
	}
	Expect(c.ApplyDAG(ctx, &cloudburst.Graph{
		Name: "hop", Nodes: []cloudburst.Node{{Name: "note"}, {Name: "pay"}}, Edges: []cloudburst.Edge{{From: "note", To: "pay"}},
	})).To(Succeed())
	Eventually(ctx, func() string { return behind(ctx, s.urls()) }).Should(BeEmpty())
	return s
}

func (s *skewed) urls() string { return "nats://" + strings.Join(s.listen[:], ",nats://") }

// start starts a server, whose clock begins anew.
func (s *skewed) start(ctx context.Context, i int) {
	GinkgoHelper()
	cmd := exec.Command(bin.skewed, "server", "--with-parent", "--server-name", nodeName(i), "--listen", s.listen[i],
		"--cluster-listen", s.routes[i], "--routes", strings.Join(s.routes[:], ","), "--store", filepath.Join(s.stores, nodeName(i)),
		"--replicas", "3", "--ack-wait", "1s", "--pool", "deployed,other", "--backlog-size", "64MiB", "--results-size", "64MiB")
	cmd.Env = append(os.Environ(), "CLOUDBURST_CLOCK="+s.clocks[i], "CLOUDBURST_FAULTS="+s.fault)
	s.servers[i], _ = launch(ctx, s.listen[i], cmd)
}

// kill kills a server (kill -9), starts it again, and waits until it has all copies.
func (s *skewed) kill(ctx context.Context, i int) {
	GinkgoHelper()
	By("killing " + nodeName(i))
	s.servers[i].kill()
	s.start(ctx, i)
	Eventually(ctx, func() string { return behind(ctx, s.urls()) }).Should(BeEmpty())
}

// move gives a random stream, or a pool's consumer, another leader.
func (s *skewed) move(ctx context.Context) {
	GinkgoHelper()
	streams := []string{"CB_CALLS_deployed", "CB_CALLS_other", "KV_state", "KV_cb_results", "CB_RUNS"}
	stream := streams[rand.IntN(len(streams))]
	s.lead(ctx, stream, rand.IntN(nodes))
	if strings.HasPrefix(stream, "CB_CALLS") {
		Eventually(ctx, func() error {
			return s.api(ctx, "CONSUMER.LEADER.STEPDOWN."+stream+".workers", nil)
		}).Should(Succeed())
	}
}

// lead sees to it that a server leads a stream.
func (s *skewed) lead(ctx context.Context, stream string, i int) {
	GinkgoHelper()
	By("having " + nodeName(i) + " lead " + stream)
	Eventually(ctx, func() error {
		info, err := s.clients[i].Broker().JetStream().Stream(ctx, stream)
		if err != nil {
			return err
		}
		if leader := info.CachedInfo().Cluster.Leader; leader != nodeName(i) {
			err = s.api(ctx, "STREAM.LEADER.STEPDOWN."+stream, map[string]any{"placement": map[string]any{"preferred": nodeName(i)}})
			return errors.Join(fmt.Errorf("%q leads %s", leader, stream), err)
		}
		return nil
	}).Should(Succeed())
}

// api makes a request of the JetStream API.
func (s *skewed) api(ctx context.Context, subject string, body any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	within, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	reply, err := s.clients[0].Broker().Conn().RequestWithContext(within, "$JS.API."+subject, text)
	if err != nil {
		return err
	}
	var answer struct{ Error *struct{ Description string } }
	if err := json.Unmarshal(reply.Data, &answer); err != nil {
		return err
	}
	if answer.Error != nil {
		return errors.New(answer.Error.Description)
	}
	return nil
}

// A skewedCaller makes one call after the other, and looks after each what is stored.
type skewedCaller struct {
	name    string
	clients []*cloudburst.Client // that take turns
	acked   atomic.Int64
}

// call starts the callers: at each level one that has a token and calls through all servers,
// and one that hasn't and calls through one.
func (s *skewed) call(ctx context.Context) {
	GinkgoHelper()
	ctx, s.end = context.WithCancel(ctx)
	DeferCleanup(s.stop)
	for i, level := range levels {
		at := cloudburst.WithLevel(level)
		plain := &skewedCaller{name: level, clients: []*cloudburst.Client{s.clients[i%nodes].With(at)}}
		tokened := &skewedCaller{name: level + "-token"}
		token := cloudburst.WithToken(cloudburst.NewToken())
		for _, c := range s.clients {
			tokened.clients = append(tokened.clients, c.With(at, token))
		}
		s.callers = append(s.callers, plain, tokened)
	}
	for _, c := range s.callers {
		s.calling.Go(func() {
			for n := 1; ctx.Err() == nil; {
				n = s.step(ctx, c, n)
			}
		})
	}
}

func (s *skewed) stop() {
	s.end()
	s.calling.Wait()
}

// step makes a caller's next call, and returns the number of the one after that.
func (s *skewed) step(ctx context.Context, c *skewedCaller, n int) (next int) {
	function := []string{"note", "pay", "hop"}[rand.IntN(3)]
	type step struct {
		Who string `json:"who"`
		N   int    `json:"n"`
	}
	client := c.clients[n%len(c.clients)]
	if s.fault == "" { // with it, a call that is handed out again isn't taken for the one that has its id
		client = client.With(cloudburst.WithRunID(cloudburst.RunID(fmt.Sprintf("%s-%d", c.name, n))))
	}
	var done step
	err := s.patiently(ctx, func() (err error) {
		done, err = cloudburst.Call[step](ctx, client, function, step{c.name, n})
		return err
	})
	if err != nil {
		s.report(ctx, "%s, call %d of %s: %v", c.name, n, function, err)
		return n
	}
	want := done.N - 1
	state := c.clients[(n+1)%len(c.clients)].State()
	err = s.patiently(ctx, func() error {
		got, err := stored(ctx, state, c.name)
		if err == nil && got != [3]int{want, want, want} {
			err = fmt.Errorf("%w: %v is stored", errOther, got) // for good, or a copy is behind
		}
		return err
	})
	if err != nil {
		s.report(ctx, "%s, call %d of %s: %v", c.name, want, function, err)
		return done.N
	}
	c.acked.Add(1)
	return done.N
}

var errOther = errors.New("another call's write")

// stored returns what a caller's state holds.
func stored(ctx context.Context, state *cloudburst.State, who string) (all [3]int, err error) {
	register, err := cloudburst.Get[int](ctx, state, "register:"+who)
	score, _, err2 := state.OrderedSet("zset:"+who).Score(ctx, "last")
	field, err3 := cloudburst.Get[int](ctx, &state.Map("map:"+who).State, "last")
	return [3]int{register, int(score), field}, errors.Join(err, err2, err3)
}

// patiently does something again for a minute while servers are away or behind.
func (s *skewed) patiently(ctx context.Context, do func() error) error {
	for began := time.Now(); ; {
		err := do()
		again := errors.Is(err, cloudburst.ErrUnavailable) || errors.Is(err, cloudburst.ErrBusy) || errors.Is(err, errOther)
		if !again || time.Since(began) > time.Minute {
			return err
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return err
		}
	}
}

// report notes what is wrong, but not what the end of the spec interrupts.
func (s *skewed) report(ctx context.Context, format string, args ...any) {
	if ctx.Err() != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wrong = append(s.wrong, fmt.Sprintf(format, args...))
}

func (s *skewed) seen() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.wrong)
}

// goesOn waits until every caller has had two more calls acknowledged, or one is wronged.
func (s *skewed) goesOn(ctx context.Context) {
	GinkgoHelper()
	for _, c := range s.callers {
		was := c.acked.Load()
		Eventually(ctx, func() bool { return c.acked.Load() > was+1 || len(s.seen()) > 0 }).Should(BeTrue(), "calls of %s", c.name)
	}
}

func (s *skewed) acked() (calls int64) {
	for _, c := range s.callers {
		calls += c.acked.Load()
	}
	return calls
}
