package retwis

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"github.com/cloudburst-nats/cloudburst"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// Pool is the pool that serves the clone's functions.
const Pool = "retwis"

// DefaultNamespace is the bucket of the clone's state unless another is named.
const DefaultNamespace = "retwis"

// Config describes a run of the clone. All but Client may be left zero: that
// is the paper's experiment.
type Config struct {
	// Client is where it runs: it serves the functions and calls them.
	Client *cloudburst.Client
	// Level is the consistency level of all calls. Default LWW.
	Level string
	// Namespace is the bucket of the clone's state, which must not hold a clone
	// yet. Default "retwis".
	Namespace string

	// Users is how many people there are, default 1,000, and Follows how many
	// others each of them follows, default 50. With Graph, both come from there.
	Users, Follows int
	// Graph is a file of friendships, one a line ("a b"), plain or gzipped,
	// between people who then follow each other. Empty: generate.
	Graph string
	// Posts is how many posts are written, half of them replies. Default 5,000.
	Posts int
	// Timelines is how many timelines are read between them. Default 4 for each
	// post: reads are 80 % of the mix.
	Timelines int
	// Seed makes other people and another mix. The same seed makes the same.
	Seed uint64

	// Callers is how many calls are under way at once. Default 64. More raise
	// the throughput until the machine is busy, and then only the latency.
	Callers int
	// Slots is how many calls the worker runs at once. Default: the worker's.
	Slots int
	// Served says that workers elsewhere serve the functions, in pool Pool, with
	// Namespace as theirs. Default: Run serves them.
	Served bool
	// Answers has readers look for what the replies that they are shown answer, and
	// the report count those that answer nothing that can be read.
	Answers bool

	// JSON prints the report as one JSON object, and nothing else.
	JSON bool
	// Hold, if set, is called at the end of a run that verified, while the
	// functions are still served: for a look around.
	Hold func(context.Context)
}

func (c Config) withDefaults() Config {
	setDefault(&c.Users, 1000)
	setDefault(&c.Follows, 50)
	setDefault(&c.Posts, 5000)
	setDefault(&c.Timelines, 4*c.Posts)
	setDefault(&c.Callers, 64)
	if c.Namespace == "" {
		c.Namespace = DefaultNamespace
	}
	return c
}

func setDefault(n *int, to int) {
	if *n == 0 {
		*n = to
	}
}

// Validate returns everything that is wrong with the configuration.
func (c Config) Validate() error {
	c = c.withDefaults()
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, &wire.Error{Op: "retwis", Kind: wire.KindBadArgument, Msg: fmt.Sprintf(format, args...)})
	}
	if c.Client == nil {
		bad("no client to run on")
	}
	for _, n := range []struct {
		what string
		n    int
	}{
		{"users", c.Users},
		{"follows", c.Follows},
		{"posts", c.Posts},
		{"timeline reads", c.Timelines},
		{"callers", c.Callers},
		{"slots", c.Slots},
	} {
		if n.n < 0 {
			bad("%d %s: can't be negative", n.n, n.what)
		}
	}
	if c.Graph == "" && c.Follows >= c.Users {
		bad("%d users can follow %d others at most, not %d", c.Users, c.Users-1, c.Follows)
	}
	return errors.Join(errs...)
}

// Run serves the clone, has its users register, follow, post, reply and read,
// prints what that took, and checks the state against a sequential model of
// what was acknowledged. It returns an error if anything differs, or if a call
// failed; differences are printed, the first ten of them. The worker has ended
// when it returns, and the state stays.
func Run(ctx context.Context, cfg Config, out io.Writer) (err error) {
	if err := cfg.Validate(); err != nil {
		return err
	}
	cfg = cfg.withDefaults()
	g, err := cfg.people()
	if err != nil {
		return err
	}
	if err := cfg.checkEmpty(ctx); err != nil {
		return err
	}
	stop, err := cfg.serve(ctx)
	if err != nil {
		return err
	}
	// Callers have ended by then, so that a drained worker leaves nobody waiting.
	defer func() { err = errors.Join(err, stop()) }()
	ops := mix(cfg.rng(2), len(g.names), cfg.Posts, cfg.Timelines)
	r := &report{Users: len(g.names), Follows: g.edges(), Callers: cfg.Callers}
	d := newDriver(cfg.Client, g, ops)
	d.level, d.answers = cfg.Level, cfg.Answers
	if err := cfg.run(ctx, r, d, out); err != nil {
		return err
	}
	if cfg.Hold != nil {
		cfg.Hold(ctx)
	}
	return nil
}

// run drives, verifies and reports.
func (c Config) run(ctx context.Context, r *report, d *driver, out io.Writer) error {
	shown := out
	if c.JSON {
		shown = io.Discard
	}
	say(shown, "%s people, %s follows; %s posts (half replies), %s timeline reads, %d at a time\n",
		count(r.Users), count(r.Follows), count(c.Posts), count(c.Timelines), c.Callers)
	began := time.Now()
	if err := d.drive(ctx, r, shown); err != nil {
		return err
	}
	m := replay(d.graph, d.ops, d.runs, d.acked)
	p := begin(shown, "verify", len(m.sets)+len(m.profiles)+len(m.posts))
	var err error
	r.Verdict, err = check(ctx, m, stored{c.Client.State().In(c.Namespace)}, c.Callers, p.step)
	p.end()
	if err != nil {
		return err
	}
	r.Verdict.Wrong = append(r.Verdict.Wrong, d.wrong...)
	if r.Stored, err = c.stored(ctx); err != nil {
		return err
	}
	r.Took = time.Since(began).Seconds()
	if c.JSON {
		err = r.writeJSON(out)
	} else {
		err = r.write(out)
	}
	return errors.Join(err, outcome(d, r.Verdict))
}

// drive runs the phases one after the other, so that every follow is in place
// before the first post, and adds their rows to the report.
func (d *driver) drive(ctx context.Context, r *report, shown io.Writer) error {
	for _, phase := range []struct {
		title string
		n     int
		kinds []kind
		do    func(context.Context, int) error
	}{
		{"register", len(d.graph.names), []kind{kindRegister}, d.register},
		{"follow", len(d.graph.names), []kind{kindFollow}, d.follow},
		{"mix", len(d.ops), []kind{kindPost, kindReply, kindTimeline}, d.step},
	} {
		p := begin(shown, phase.title, phase.n)
		err := each(ctx, phase.n, r.Callers, func(ctx context.Context, i int) error {
			defer p.step()
			return phase.do(ctx, i)
		})
		took := p.end()
		if err != nil {
			return fmt.Errorf("%s: %w", phase.title, err)
		}
		for _, k := range phase.kinds {
			if t := d.tally[k]; t != nil {
				r.Calls = append(r.Calls, newRow(k, t, took))
			}
		}
	}
	r.Ahead, r.Orphans = d.ahead, d.orphans
	return nil
}

// outcome returns what makes the run fail.
func outcome(d *driver, v verdict) error {
	var errs []error
	if n := len(v.Wrong); n > 0 {
		errs = append(errs, fmt.Errorf("retwis: the state differs from the reference in %s places", count(n)))
	}
	failed := 0
	for _, t := range d.tally {
		failed += t.errors
	}
	if failed > 0 {
		errs = append(errs, fmt.Errorf("retwis: %s calls failed, the first: %w", count(failed), d.first))
	}
	return errors.Join(errs...)
}

// people returns the graph that the configuration asks for.
func (c Config) people() (*socialGraph, error) {
	if c.Graph != "" {
		return load(c.Graph)
	}
	return generate(c.rng(1), c.Users, c.Follows), nil
}

// rng returns a source of randomness for one purpose.
func (c Config) rng(purpose uint64) *rand.Rand { return rand.New(rand.NewPCG(c.Seed, purpose)) }

// checkEmpty refuses a namespace with a clone in it, whose posts would be on
// the timelines too.
func (c Config) checkEmpty(ctx context.Context) error {
	_, found, err := c.Client.State().In(c.Namespace).Get(ctx, key("user", 0))
	if err == nil && found {
		err = &wire.Error{
			Op: "retwis", Name: c.Namespace, Kind: wire.KindConflict,
			Msg: "the namespace has a clone in it already: name another, or use a fresh store",
		}
	}
	return err
}

// serve starts a worker, unless there are others, and returns once the clone can be
// called. stop drains it.
func (c Config) serve(ctx context.Context) (stop func() error, err error) {
	if c.Served {
		return func() error { return nil }, Apply(ctx, c.Client)
	}
	opts := []cloudburst.WorkerOption{cloudburst.Pool(Pool), cloudburst.Namespace(c.Namespace)}
	if c.Slots > 0 {
		opts = append(opts, cloudburst.Slots(c.Slots))
	}
	w := cloudburst.NewWorker(c.Client, opts...)
	Handle(w)
	// It outlives ctx until the callers have seen that end.
	serving, cancel := context.WithCancel(context.WithoutCancel(ctx))
	served := make(chan error, 1)
	go func() { served <- w.Serve(serving) }()
	stop = func() error {
		cancel()
		return <-served
	}
	select {
	case <-w.Ready():
	case err := <-served:
		cancel()
		return nil, fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
		return nil, errors.Join(context.Cause(ctx), stop())
	}
	if err := Apply(ctx, c.Client); err != nil {
		return nil, errors.Join(err, stop())
	}
	return stop, nil
}

// stored returns the bytes that each stream holds.
func (c Config) stored(ctx context.Context) (map[string]int64, error) {
	sizes := make(map[string]int64)
	streams := c.Client.Broker().JetStream().ListStreams(ctx)
	for info := range streams.Info() {
		sizes[info.Config.Name] = int64(info.State.Bytes) //nolint:gosec // a disk holds less
	}
	if err := streams.Err(); err != nil {
		return nil, fmt.Errorf("list streams: %w", err)
	}
	return sizes, nil
}

// Inspect returns commands for the nats CLI that look inside the clone on a
// server, or use it. An empty url leaves the CLI's default.
func Inspect(url string) []string {
	nats := "nats "
	if url != "" {
		nats += "--server " + url + " "
	}
	// Keys are stored with ':' as =3A, since a subject can't hold it everywhere.
	return []string{
		nats + `req cb.fn.timeline '{"user": 0, "limit": 3}'`,
		nats + `req cb.fn.post '{"user": 0, "text": "hello from the shell"}'`,
		nats + `kv get ` + DefaultNamespace + ` followers=3A0 --raw`,
		nats + `micro stats timeline`,
		nats + `stream ls --all`,
	}
}
