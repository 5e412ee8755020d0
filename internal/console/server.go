package console

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"github.com/cloudburst-nats/cloudburst"
	"github.com/cloudburst-nats/cloudburst/autoscaler"
	"github.com/cloudburst-nats/cloudburst/broker"
	"github.com/cloudburst-nats/cloudburst/deployments"
	"github.com/cloudburst-nats/cloudburst/examples/basic"
	"github.com/cloudburst-nats/cloudburst/internal/cli"
	"github.com/cloudburst-nats/cloudburst/internal/httpapi"
	"github.com/cloudburst-nats/cloudburst/internal/lifecycle"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// embedded is the server inside the process, as flags say it.
type embedded struct {
	listen, store, sync string
	allowRemote         bool
	maxStore            cli.Bytes
	name                string
	cluster             broker.ClusterConfig
}

// flags are those that mean nothing to a server elsewhere.
func (e *embedded) flags() []string {
	return []string{"listen", "store", "sync", "allow-remote", "max-store", "server-name", "cluster-name", "cluster-listen", "routes", "cluster-advertise"}
}

// addClusterFlags adds those of a server that is one of several.
func (e *embedded) addClusterFlags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&e.name, "server-name", "", "its own name among the servers of a cluster (default cloudburst)")
	flags.StringVar(&e.cluster.Listen, "cluster-listen", "", "address for the other servers of a cluster, such as 0.0.0.0:6222 (default: it is alone)")
	flags.StringSliceVar(&e.cluster.Routes, "routes", nil, "where the other servers are, host:port of their --cluster-listen; its own may be among them")
	flags.StringVar(&e.cluster.Name, "cluster-name", "", "the cluster's name, the same for all its servers (default cloudburst)")
	flags.StringVar(&e.cluster.Advertise, "cluster-advertise", "", "where the others find it, if that isn't --cluster-listen")
	for _, name := range []string{"server-name", "cluster-listen", "routes", "cluster-name", "cluster-advertise"} {
		cli.Complete(cmd, name, cobra.NoFileCompletions)
	}
}

// checkCluster refuses what says half of a cluster.
func (e *embedded) checkCluster(cmd *cobra.Command) error {
	if e.cluster.Listen == "" {
		for _, name := range []string{"routes", "cluster-name", "cluster-advertise"} {
			if cmd.Flags().Changed(name) {
				return cli.Usagef(cmd, "--%s is of a cluster: say with --cluster-listen where the other servers reach this one", name)
			}
		}
		return nil
	}
	if e.name == "" {
		return cli.Usagef(cmd, "--cluster-listen: the servers of a cluster need names of their own, --server-name n1")
	}
	if len(e.cluster.Routes) == 0 {
		return cli.Usagef(cmd, "--cluster-listen: say with --routes where the other servers are")
	}
	for _, route := range e.cluster.Routes {
		if _, _, err := net.SplitHostPort(route); err != nil {
			return cli.Usagef(cmd, "--routes %s: want host:port", route)
		}
	}
	if e.cluster.Listen == e.listen {
		return cli.Usagef(cmd, "--cluster-listen %s: clients connect there (--listen); servers need another port", e.cluster.Listen)
	}
	return nil
}

// checkPlace refuses a server inside that nobody could reach, or that has no place for
// its data, or can't keep as many copies as it is told to.
func (e *embedded) checkPlace(cmd *cobra.Command, c *console) error {
	switch {
	case c.conn.given():
		return nil
	case e.listen == "none":
		return cli.Usagef(cmd, "--listen none: nobody could connect; port 0 picks a free one")
	case e.listen == "":
		return cli.Usagef(cmd, "--listen: want host:port, such as %s", strings.TrimPrefix(defaultURL, "nats://"))
	case e.store == "":
		return cli.Usagef(cmd, "--store: want a directory")
	case e.cluster.Listen == "" && c.topo.Replicas > 1:
		return cli.Usagef(cmd, "--replicas %d: a server that is alone keeps one copy; join several with --cluster-listen and --routes, or try `cloudburst cluster`", c.topo.Replicas)
	}
	return nil
}

func (e *embedded) addFlags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&e.listen, "listen", strings.TrimPrefix(defaultURL, "nats://"), "address for NATS clients; port 0 picks a free one")
	flags.StringVar(&e.store, "store", "cloudburst-data", "directory that everything is kept in")
	flags.StringVar(&e.sync, "sync", "default", "when writes are forced to the disk: default (every 2 min), always, or an interval such as 10s")
	flags.BoolVar(&e.allowRemote, "allow-remote", false, "listen where other machines reach it, though whoever does may do anything")
	flags.Var(&e.maxStore, "max-store", "how much of the disk may be taken, such as 10GiB (default three quarters of what is free)")
	cli.Complete(cmd, "sync", cobra.FixedCompletions([]string{"default", "always", "10s"}, cobra.ShellCompDirectiveNoFileComp))
	cli.Complete(cmd, "store", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return nil, cobra.ShellCompDirectiveFilterDirs
	})
}

func (e *embedded) config(log *logrus.Entry) *broker.ServerConfig {
	cfg := &broker.ServerConfig{
		Name: e.name, Listen: e.listen, Store: e.store, Sync: e.sync, AllowRemote: e.allowRemote, MaxStore: int64(e.maxStore), Log: log,
	}
	if e.cluster.Listen != "" {
		cfg.Cluster = &e.cluster
	}
	return cfg
}

// A served is what `cloudburst server` was asked for.
type served struct {
	embedded
	hosting
	processes
	begin    int                // worker processes of each pool, with --workers
	policy   *autoscaler.Policy // of their number, if it is left to the load
	examples bool
	http     string
	level    string
	remote   bool // there is no server inside, whatever was said of one elsewhere
	parent   bool // it ends with the process that started it
}

// hosting says which deployed functions a process runs.
type hosting struct {
	pools  []string
	slots  int
	images string // directory
	python string // interpreter
}

func (h *hosting) addFlags(cmd *cobra.Command, images string) {
	flags := cmd.Flags()
	flags.StringSliceVar(&h.pools, "pool", []string{cloudburst.DeployedPool}, "pools whose deployed functions it runs; none for none")
	flags.IntVar(&h.slots, "slots", 0, "calls that run at once in each pool (default 64)")
	flags.StringVar(&h.python, "python", "", "the Python that runs functions in Python, such as venv/bin/python (default python3 on the PATH)")
	flags.StringVar(&h.images, "images", "", "directory for the code of functions (default "+images+")")
	cli.Complete(cmd, "pool", cobra.NoFileCompletions)
	cli.Complete(cmd, "slots", cobra.NoFileCompletions)
	cli.Complete(cmd, "images", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return nil, cobra.ShellCompDirectiveFilterDirs
	})
}

// checkHosting refuses what no worker could serve.
func (h *hosting) checkHosting(cmd *cobra.Command) error {
	if h.slots < 0 {
		return cli.Usagef(cmd, "--slots %d: less than 0; 0 is the default", h.slots)
	}
	for _, pool := range h.pools {
		if err := wire.CheckName("pool", pool); err != nil {
			return cli.Usagef(cmd, "--pool: %w", err)
		}
		if pool == "none" && len(h.pools) > 1 {
			return cli.Usagef(cmd, "--pool %s: none is for no pool at all", strings.Join(h.pools, ","))
		}
	}
	if h.images != "" {
		if err := os.MkdirAll(h.images, 0o700); err != nil {
			return cli.Usagef(cmd, "--images %s: %w", h.images, err)
		}
	}
	return h.checkPython(cmd)
}

// checkPython refuses what would only be found when the first function is deployed.
func (h *hosting) checkPython(cmd *cobra.Command) error {
	if h.python == "" {
		return nil
	}
	path, err := exec.LookPath(h.python)
	if err == nil {
		path, err = filepath.Abs(path) // for processes that run elsewhere
	}
	if err != nil {
		return cli.Usagef(cmd, "--python %q: %v; give the path of a Python, 3.8 or later", h.python, err)
	}
	h.python = path
	return nil
}

// serving returns a worker for each pool.
func (h *hosting) serving(client *cloudburst.Client) []*cloudburst.Worker {
	var workers []*cloudburst.Worker
	for _, pool := range h.pools {
		if pool != "none" {
			workers = append(workers, cloudburst.NewWorker(client, cloudburst.Deployed(h.images), cloudburst.PythonAt(h.python), cloudburst.Pool(pool), cloudburst.Slots(h.slots)))
		}
	}
	return workers
}

func (c *console) server() *cobra.Command {
	var s served
	cmd := &cobra.Command{
		Use:   "server",
		Short: "Run a platform: NATS, gateway and janitor in one process",
		Long: `Runs everything that a platform is: a NATS server that keeps its data in
--store, the gateway that answers "nats req cb.fn.NAME", and the janitor. With
--workers it runs the functions in processes of their own, as many as are asked for
or, with "auto", as the load wants: it starts more at once when calls pile up, and
ends some when fewer would have done for --workers-stable. With
--nats (or --context) there is no server inside: it uses the one it is pointed
at. It runs the functions that are deployed to it ("cloudburst fn deploy"), and
with --http it can be used by HTTP. With --examples it also serves echo,
increment, square and sum, and the DAG compose = square(increment(x)).

Sizes (--replicas, --backlog-size and the like) are the platform's, which keeps
them: the first server writes them down, and one that is given others later changes
them for all. "cloudburst platform" shows them, "cloudburst platform set" changes
them without a restart. Without flags, everything stays as it is.

SIGTERM and Ctrl-C drain it: what is being run ends first. Killed at any moment,
it goes on from its store when it is started again, and its worker processes end by
themselves. On the power's failure the
writes since the last --sync may be lost; --sync always loses none.`,
		Example: `  cloudburst server --examples
  cloudburst server --http :8080
  cloudburst server --workers auto --workers-max 8 --slots 16
  cloudburst server --listen 127.0.0.1:4333 --store /var/lib/cloudburst --sync always
  cloudburst server --nats nats://n1,nats://n2,nats://n3 --replicas 3 --creds app.creds`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if c.conn.given() {
				for _, flag := range s.flags() {
					if cmd.Flags().Changed(flag) {
						return cli.Usagef(cmd, "--%s is for the server inside: with --nats or --context there is none", flag)
					}
				}
			}
			if err := errors.Join(s.checkCluster(cmd), s.checkPlace(cmd, c), s.checkHosting(cmd)); err != nil {
				return err
			}
			if s.workers != "auto" {
				for _, flag := range []string{"workers-min", "workers-max", "workers-stable"} {
					if cmd.Flags().Changed(flag) {
						return cli.Usagef(cmd, "--%s is of --workers auto", flag)
					}
				}
			}
			if s.workers != "" {
				var err error
				if s.begin, s.policy, err = s.check(cmd, slotsOf(s.slots)); err != nil {
					return err
				}
			}
			log, err := c.log(cmd, s.level)
			if err != nil {
				return err
			}
			ctx := cmd.Context()
			if s.parent {
				ctx = c.withParent(ctx)
			}
			return c.serve(ctx, s, log)
		},
	}
	s.embedded.addFlags(cmd)
	s.addClusterFlags(cmd)
	s.hosting.addFlags(cmd, "images in --store")
	s.processes.addFlags(cmd)
	c.topo.addFlags(cmd)
	s.addHTTP(cmd)
	cmd.Flags().BoolVar(&s.examples, "examples", false, "serve the example functions too")
	addLevel(cmd, &s.level)
	addParent(cmd, &s.parent)
	return cmd
}

func (s *served) addHTTP(cmd *cobra.Command) {
	cmd.Flags().StringVar(&s.http, "http", "", "address for HTTP, such as :8080, which is this machine only (default: none)")
	cli.Complete(cmd, "http", cobra.NoFileCompletions)
}

// addLevel adds the flag of how much is logged.
func addLevel(cmd *cobra.Command, level *string) {
	cmd.Flags().StringVar(level, "log", "info", "least severity that is logged: debug, info, warn or error")
	cli.Complete(cmd, "log", cobra.FixedCompletions([]string{"debug", "info", "warn", "error"}, cobra.ShellCompDirectiveNoFileComp))
}

// addParent adds the flag of processes that we start.
func addParent(cmd *cobra.Command, parent *bool) {
	cmd.Flags().BoolVar(parent, "with-parent", false, "end when the standard input does")
	if err := cmd.Flags().MarkHidden("with-parent"); err != nil {
		panic(err) // it is there: the line above
	}
}

func (c *console) gateway() *cobra.Command {
	s := served{remote: true, hosting: hosting{pools: []string{"none"}}}
	cmd := &cobra.Command{
		Use:   "gateway",
		Short: "Answer calls for a platform on NATS servers elsewhere",
		Long: `Runs what a platform needs beside NATS servers and workers: the gateway that
answers "nats req cb.fn.NAME", timers, the janitor and, with --http, HTTP. Any
number of them share the work; of what one has to do, such as removing what is
settled, whoever holds the lease does it. The streams are made if they aren't there:
say --replicas 3 on a cluster. What flags say later is a change of the platform, for
all (see "cloudburst platform"). While the servers are away, or too few to elect a
leader, it waits for them.

SIGTERM and Ctrl-C drain it.`,
		Example: `  cloudburst gateway --nats nats://n1,nats://n2,nats://n3 --replicas 3
  cloudburst gateway --nats nats://n1 --http 0.0.0.0:8080 --allow-remote`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := c.log(cmd, s.level)
			if err != nil {
				return err
			}
			return c.serve(cmd.Context(), s, log)
		},
	}
	c.topo.addFlags(cmd)
	s.addHTTP(cmd)
	cmd.Flags().BoolVar(&s.allowRemote, "allow-remote", false, "listen for HTTP where other machines reach it, though whoever does may do anything")
	addLevel(cmd, &s.level)
	return cmd
}

// serve runs a platform until ctx ends, and then takes it down in order: the
// worker, which finishes what it has, before the server that it needs for that.
func (c *console) serve(ctx context.Context, s served, log *logrus.Entry) (err error) {
	inside := &s.embedded
	if s.remote || c.conn.given() {
		inside = nil
	}
	web, err := listenHTTP(ctx, &s) // first: a port that is taken is no reason to start anything
	if err != nil {
		return err
	}
	if web != nil {
		defer func() { _ = web.Close() }() // it may be closed already
	}
	node, where, err := c.startNode(ctx, inside, s.remote, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, node.Close()) }()
	client := cloudburst.NewClient(node.Broker(), log)
	if s.images == "" {
		s.images = c.imagesDir(s.store)
	}
	var workers []*cloudburst.Worker
	if s.workers == "" {
		workers = s.serving(client)
	}
	if s.examples {
		w := cloudburst.NewWorker(client, cloudburst.Pool(basic.Pool))
		basic.Register(w)
		workers = append(workers, w)
	}
	group := lifecycle.New(ctx)
	parts := group.Floor()
	defer func() { err = errors.Join(err, group.Stop()) }()
	serve(ctx, group, parts, workers)
	if s.workers != "" {
		if err := c.runFleet(ctx, group, &s, node.Broker(), node.URL(), log); err != nil {
			return err
		}
	}
	if s.examples && ctx.Err() == nil && !group.HasFailed() {
		if err := client.ApplyDAG(ctx, basic.Compose()); err != nil {
			return err
		}
	}
	if web != nil {
		gateway := httpapi.New(client, httpapi.Config{Log: log})
		parts.Start(func(ctx context.Context) error { return gateway.Serve(ctx, web) })
	}
	c.announce(s, node.URL(), where)
	select {
	case <-ctx.Done():
		draining(log)
	case <-node.Failed(): // closing it tells
	case <-group.Failed(): // stopping it tells
	}
	return nil
}

// startNode starts a platform and says in words where it is. Without a server inside
// it is on the one that we are pointed at.
func (c *console) startNode(ctx context.Context, e *embedded, wait bool, log *logrus.Entry) (node *deployments.Node, where string, err error) {
	cfg := deployments.NodeConfig{Log: log}
	if e == nil {
		cfg.Wait = wait
		if cfg.Broker, err = c.resolve(); err != nil {
			return nil, "", err
		}
		cfg.Broker.Name = "cloudburst server"
		where = "Cloudburst serves on the NATS server"
	} else {
		cfg.Server = e.config(log)
		cfg.Hold = e.listen != "none" // somebody can connect, to mend it
		cfg.Broker.Name = "cloudburst server"
	}
	cfg.Broker.Topology = c.topo.Topology
	if node, err = deployments.StartNode(ctx, cfg); err != nil {
		return nil, "", err
	}
	if where == "" {
		store := e.store
		if abs, err := filepath.Abs(store); err == nil {
			store = abs
		}
		where = fmt.Sprintf("Cloudburst listens on %s and keeps its data in %s", node.URL(), store)
	}
	return node, where, nil
}

// listenHTTP opens the port for HTTP, if one was asked for.
func listenHTTP(ctx context.Context, s *served) (net.Listener, error) {
	if s.http == "" {
		return nil, nil
	}
	ln, err := httpapi.Listen(ctx, s.http, s.allowRemote)
	if err == nil {
		s.http = ln.Addr().String()
	}
	return ln, err
}

// announce says where the platform is, and what to try. The line with the
// address is what scripts wait for.
func (c *console) announce(s served, url, where string) {
	at, natsAt := c.whereFlags(url)
	fmt.Fprintf(c.Stdout, "%s (Ctrl-C stops it).\n", where)
	if s.http != "" {
		fmt.Fprintf(c.Stdout, "HTTP is at http://%s, and its description at /v1/openapi.json.\n", s.http)
	}
	fmt.Fprintln(c.Stdout, "Try, in another terminal:")
	tries := [][2]string{
		{"cloudburst demo" + at + " --posts 500", "a Twitter clone on it"},
		{"cloudburst pool ls" + at, "what waits in which pool"},
		{"nats" + natsAt + " stream ls --all", "the platform, with NATS alone"},
	}
	if s.examples {
		tries = [][2]string{
			{"cloudburst call" + at + " square 5", "25"},
			{"nats" + natsAt + " req cb.fn.compose 4", "the same, with NATS alone: square(increment(4))"},
			{"cloudburst fn ls" + at, "what else there is"},
		}
	}
	width := 0
	for _, t := range tries {
		width = max(width, len(t[0]))
	}
	for _, t := range tries {
		fmt.Fprintf(c.Stdout, "  %-*s   # %s\n", width, t[0], t[1])
	}
}

// whereFlags returns the flags that point our commands, and those of the nats
// CLI, to the platform: none where the defaults do.
func (c *console) whereFlags(url string) (ours, natsCLI string) {
	switch {
	case c.conn.context != "" && c.conn.url == "":
		return " --context " + c.conn.context, " --context " + c.conn.context
	case url == "":
		url = c.conn.url
	}
	if url == defaultURL || url == "" {
		return "", ""
	}
	url = broker.RedactURL(url)
	return " --nats " + url, " --server " + url
}
