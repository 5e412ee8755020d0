package console

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"github.com/cloudburst-nats/cloudburst/broker"
	"github.com/cloudburst-nats/cloudburst/deployments"
	"github.com/cloudburst-nats/cloudburst/internal/cli"
	"github.com/cloudburst-nats/cloudburst/internal/lifecycle"
	"github.com/cloudburst-nats/cloudburst/internal/loopback"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// clustered is what `cloudburst cluster` was asked for.
type clustered struct {
	hosting
	nodes               int
	listen, http, store string
	maxStore            cli.Bytes
	examples            bool
	level               string
	exe                 string // for tests; default this program
}

// A member is one server of a cluster on this machine.
type member struct {
	name, listen, route, http, store string
}

func (c *console) cluster() *cobra.Command {
	var s clustered
	cmd := &cobra.Command{
		Use:   "cluster",
		Short: "Run a platform of three servers on this machine",
		Long: `Runs three servers ("cloudburst server") as processes of their own, joined into
one NATS cluster that keeps everything in three copies: any one of them may die,
and calls go on. One that dies is started again. It is a cluster to try and to
break; across machines, run "cloudburst server --cluster-listen" on each of them.

SIGTERM and Ctrl-C drain all of them. Killed, it takes them with it; they go on from
--store when it is started again.`,
		Example: `  cloudburst cluster --examples
  cloudburst cluster --listen 127.0.0.1:4333 --http 127.0.0.1:8080 --store /tmp/three`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if s.nodes < 3 || s.nodes > 5 || s.nodes%2 == 0 {
				return cli.Usagef(cmd, "--servers %d: 3 or 5, so that most of them are left when one dies", s.nodes)
			}
			if c.conn.given() {
				return cli.Usagef(cmd, "--nats and --context are for servers elsewhere: this starts its own")
			}
			if c.topo.Replicas > s.nodes {
				return cli.Usagef(cmd, "--replicas %d: more copies than servers (%d)", c.topo.Replicas, s.nodes)
			}
			if s.store == "" {
				return cli.Usagef(cmd, "--store: want a directory")
			}
			if err := s.checkHosting(cmd); err != nil {
				return err
			}
			log, err := c.log(cmd, s.level)
			if err != nil {
				return err
			}
			return c.runCluster(cmd.Context(), s, log)
		},
	}
	flags := cmd.Flags()
	flags.IntVar(&s.nodes, "servers", 3, "how many servers: 3 or 5")
	flags.StringVar(&s.listen, "listen", strings.TrimPrefix(defaultURL, "nats://"), "address of the first for NATS clients, on this machine; the others take the next ports, and port 0 picks free ones")
	flags.StringVar(&s.http, "http", "", "address of the first for HTTP; the others take the next ports (default: none)")
	flags.StringVar(&s.store, "store", "cloudburst-cluster", "directory that each has one of its own in")
	flags.Var(&s.maxStore, "max-store", "how much of the disk each may take, such as 10GiB (default three quarters of what is free)")
	flags.BoolVar(&s.examples, "examples", false, "serve the example functions too")
	cli.Complete(cmd, "servers", cobra.FixedCompletions([]string{"3", "5"}, cobra.ShellCompDirectiveNoFileComp))
	cli.Complete(cmd, "listen", cobra.NoFileCompletions)
	cli.Complete(cmd, "http", cobra.NoFileCompletions)
	cli.Complete(cmd, "store", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return nil, cobra.ShellCompDirectiveFilterDirs
	})
	s.addFlags(cmd, "images in each one's directory")
	c.topo.addFlags(cmd)
	addLevel(cmd, &s.level)
	return cmd
}

// runCluster keeps the servers running until ctx ends, and then drains them.
func (c *console) runCluster(ctx context.Context, s clustered, log *logrus.Entry) (err error) {
	if s.exe == "" {
		if s.exe, err = os.Executable(); err != nil {
			return fmt.Errorf("find this program: %w", err)
		}
	}
	if c.topo.Replicas == 0 {
		c.topo.Replicas = 3
	}
	members, err := s.members()
	if err != nil {
		return err
	}
	each, urls := make(map[string]int), make([]string, len(members))
	args := make(map[string][]string)
	for i, m := range members {
		each[m.name], urls[i] = 1, "nats://"+m.listen
		args[m.name] = append([]string{s.exe}, c.memberArgs(s, m, members)...)
	}
	fleet := deployments.NewFleet(deployments.FleetConfig{
		Command: func(name string) []string { return args[name] }, Pools: each, Output: c.Stderr, Log: log,
	})
	group := lifecycle.New(ctx)
	defer func() { err = errors.Join(err, group.Stop()) }()
	group.Floor().Start(fleet.Run)
	if err := awaitCluster(ctx, members, s.nodes*s.workers()); err != nil || ctx.Err() != nil {
		return err
	}
	fmt.Fprintf(c.Stdout, "%d servers keep everything on %d of them, in %s:\n", len(members), c.topo.Replicas, s.store)
	for _, m := range members {
		fmt.Fprintf(c.Stdout, "  %s  nats://%s", m.name, m.listen)
		if m.http != "" {
			fmt.Fprintf(c.Stdout, "  http://%s", m.http)
		}
		fmt.Fprintln(c.Stdout)
	}
	c.announce(served{examples: s.examples}, strings.Join(urls, ","), "Cloudburst serves on all of them")
	select {
	case <-ctx.Done():
		draining(log)
	case <-group.Failed():
	}
	return nil
}

// members gives each server its name, its ports and its directory.
func (s *clustered) members() ([]member, error) {
	members := make([]member, s.nodes)
	for i := range members {
		m := member{name: "n" + strconv.Itoa(i+1)}
		m.store = filepath.Join(s.store, m.name)
		var errs [3]error
		m.listen, errs[0] = nth("listen", s.listen, i)
		m.route, errs[1] = routeOf(m.listen)
		if s.http != "" {
			m.http, errs[2] = nth("http", s.http, i)
		}
		if err := errors.Join(errs[:]...); err != nil {
			return nil, err
		}
		members[i] = m
	}
	return members, nil
}

// nth returns the address of a server's: the next ports after the first one's, or a
// free one.
func nth(flag, first string, i int) (string, error) {
	host, text, err := net.SplitHostPort(first)
	port, err2 := strconv.Atoi(text)
	if err != nil || err2 != nil || port < 0 || port+i > 65535 {
		return "", &wire.Error{Op: "start cluster", Kind: wire.KindBadArgument, Name: first, Msg: "--" + flag + ": want host:port"}
	}
	if host == "" {
		host = "127.0.0.1"
	}
	if port == 0 {
		return loopback.FreeAddr(host)
	}
	return net.JoinHostPort(host, strconv.Itoa(port+i)), nil
}

// routeOf returns the address for the other servers: as nats-server does, 2000 above
// that for clients, or a free one where that can't be.
func routeOf(listen string) (string, error) {
	host, text, err := net.SplitHostPort(listen)
	if err != nil {
		return "", err
	}
	if port, err := strconv.Atoi(text); err == nil && port+2000 <= 65535 {
		l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port+2000)))
		if err == nil {
			return l.Addr().String(), l.Close()
		}
	}
	return loopback.FreeAddr(host)
}

// memberArgs are the arguments of one server.
func (c *console) memberArgs(s clustered, m member, all []member) []string {
	routes := make([]string, len(all))
	for i, other := range all {
		routes[i] = other.route
	}
	args := []string{
		"server", "--with-parent", "--server-name", m.name, "--listen", m.listen, "--store", m.store,
		"--cluster-listen", m.route, "--routes", strings.Join(routes, ","), "--pool", strings.Join(s.pools, ","),
		"--slots", strconv.Itoa(s.slots), "--log", s.level,
	}
	if m.http != "" {
		args = append(args, "--http", m.http)
	}
	if s.maxStore > 0 {
		args = append(args, "--max-store", s.maxStore.String())
	}
	if s.python != "" {
		args = append(args, "--python", s.python)
	}
	if s.images != "" {
		args = append(args, "--images", filepath.Join(s.images, m.name))
	}
	if s.examples {
		args = append(args, "--examples")
	}
	return append(args, c.topo.args()...)
}

// awaitCluster returns once every server has answered, and so many workers are there.
func awaitCluster(ctx context.Context, members []member, workers int) error {
	ctx, cancel := context.WithTimeoutCause(ctx, time.Minute, &wire.Error{
		Op: "start cluster", Kind: wire.KindUnavailable, Msg: "the servers were not ready within a minute: see what they logged",
	})
	defer cancel()
	for {
		err := answers(ctx, members, workers)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
				return errors.Join(cause, err)
			}
			return nil // the cluster ends, and says why
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// answers returns nil if every server answers, and the workers are there.
func answers(ctx context.Context, members []member, workers int) error {
	for _, m := range members {
		b, err := broker.Connect(ctx, broker.Config{Name: "cloudburst cluster", URL: "nats://" + m.listen})
		if err != nil {
			return err
		}
		there, err := b.Workers(ctx)
		b.Close()
		if err != nil {
			return err
		}
		if len(there) < workers {
			return fmt.Errorf("%d of %d workers are there", len(there), workers)
		}
	}
	return nil
}

// workers is how many workers each server has.
func (s *clustered) workers() int {
	n := 0
	for _, pool := range s.pools {
		if pool != "none" {
			n++
		}
	}
	if s.examples {
		n++
	}
	return n
}
