package console

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"github.com/cloudburst-nats/cloudburst/autoscaler"
	"github.com/cloudburst-nats/cloudburst/broker"
	"github.com/cloudburst-nats/cloudburst/deployments"
	"github.com/cloudburst-nats/cloudburst/internal/cli"
	"github.com/cloudburst-nats/cloudburst/internal/lifecycle"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// processes says how many worker processes a server runs for each pool.
type processes struct {
	workers  string // "" runs the functions in the server's own process
	min, max int
	stable   time.Duration
	exe      string // for tests; default this program
}

func (p *processes) addFlags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&p.workers, "workers", "", "worker processes for each pool: a number, or auto, as many as the load wants (default: none, the server runs the functions itself)")
	flags.IntVar(&p.min, "workers-min", 1, "with --workers auto: at least so many; with 0, nothing can be deployed while none runs")
	flags.IntVar(&p.max, "workers-max", max(runtime.NumCPU(), 2), "with --workers auto: at most so many")
	flags.Lookup("workers-max").DefValue = "one a core, two at least"
	flags.DurationVar(&p.stable, "workers-stable", autoscaler.DefaultStable, "with --workers auto: for how long fewer must do before some go")
	cli.Complete(cmd, "workers", cobra.FixedCompletions([]string{"auto", "1", "2", "4"}, cobra.ShellCompDirectiveNoFileComp))
}

// check returns how many workers each pool begins with, and the policy if their
// number is left to the load.
func (p *processes) check(cmd *cobra.Command, slots int) (begin int, policy *autoscaler.Policy, err error) {
	if p.workers != "auto" {
		n, err := strconv.Atoi(p.workers)
		if err != nil || n < 1 || n > 1000 {
			return 0, nil, cli.Usagef(cmd, "--workers %s: a number from 1 to 1000, or auto", p.workers)
		}
		return n, nil, nil
	}
	policy = &autoscaler.Policy{Min: p.min, Max: p.max, Slots: slots, Stable: p.stable}
	if err := policy.Validate(); err != nil {
		return 0, nil, err
	}
	if p.max < 1 {
		return 0, nil, cli.Usagef(cmd, "--workers-max %d: without any worker nothing is run", p.max)
	}
	return p.min, policy, nil
}

// runFleet starts the worker processes of the pools, and the autoscaler, and returns
// once the first workers are ready, a part has failed, or ctx has ended.
func (c *console) runFleet(ctx context.Context, group *lifecycle.Group, s *served, b *broker.Broker, url string, log *logrus.Entry) error {
	exe := s.exe
	if exe == "" {
		var err error
		if exe, err = os.Executable(); err != nil {
			return fmt.Errorf("find this program: %w", err)
		}
	}
	pools := make(map[string]int)
	policies := make(map[string]autoscaler.Policy)
	for _, pool := range s.pools {
		if pool == "none" {
			continue
		}
		pools[pool] = s.begin
		if s.policy != nil {
			policies[pool] = *s.policy
		}
		if err := b.EnsurePool(ctx, pool, nil); err != nil { // it can be measured before it has a worker
			return err
		}
	}
	fleet := deployments.NewFleet(deployments.FleetConfig{
		Command: func(pool string) []string { return append([]string{exe}, c.workerArgs(s, url, pool)...) },
		Pools:   pools, Output: c.Stderr, Log: log,
	})
	parts := group.Floor()
	parts.Start(fleet.Run)
	if s.policy != nil {
		parts.Start(func(ctx context.Context) error {
			return deployments.RunAutoscaler(ctx, b, deployments.ScaleConfig{Pools: policies, Actuator: fleet, Log: log})
		})
	}
	return c.awaitFleet(ctx, group, b, pools)
}

// workerArgs are the arguments of a worker process: it connects as we would, or to
// the server inside.
func (c *console) workerArgs(s *served, url, pool string) []string {
	args := []string{"worker", "run", "--with-parent", "--pool", pool, "--slots", strconv.Itoa(s.slots), "--images", s.images, "--log", s.level}
	if s.python != "" {
		args = append(args, "--python", s.python)
	}
	if !c.conn.given() {
		return append(args, "--nats", url)
	}
	for _, f := range []struct{ name, value string }{
		{"nats", c.conn.url},
		{"context", c.conn.context},
		{"creds", c.conn.creds},
		{"tlsca", c.conn.tlsCA},
		{"tlscert", c.conn.tlsCert},
		{"tlskey", c.conn.tlsKey},
	} {
		if f.value != "" {
			args = append(args, "--"+f.name, f.value)
		}
	}
	return args
}

// awaitFleet returns once every pool has the workers that it begins with.
func (c *console) awaitFleet(ctx context.Context, group *lifecycle.Group, b *broker.Broker, pools map[string]int) error {
	late := time.NewTimer(time.Minute)
	defer late.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		workers, err := b.Workers(ctx)
		if err != nil {
			return err
		}
		missing := 0
		for pool, n := range pools {
			for _, w := range workers {
				if w.Pool == pool {
					n--
				}
			}
			missing += max(n, 0)
		}
		if missing == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil // the server ends, and says why
		case <-group.Failed():
			return nil // stopping it tells
		case <-late.C:
			return &wire.Error{Op: "serve", Kind: wire.KindUnavailable, Msg: fmt.Sprintf("%d worker processes were not ready within a minute: see what they logged", missing)}
		case <-tick.C:
		}
	}
}

// A worker process whose server is gone has nobody to hand its results to: it may
// drain for orphanFor, and ends then, whatever it does.
const orphanFor = 10 * time.Second

// withParent returns a context that ends when the standard input does, which is when
// the process that started this one is gone.
func (c *console) withParent(ctx context.Context) context.Context {
	ctx, orphan := context.WithCancel(ctx)
	// Nothing can interrupt this read: it ends with the process.
	go func() {
		_, _ = io.Copy(io.Discard, c.Stdin) // the end is the end, however it came
		orphan()
		<-time.After(orphanFor)
		os.Exit(1)
	}()
	return ctx
}

// slotsOf returns how many calls a worker runs at once by its flag.
func slotsOf(flag int) int {
	if flag > 0 {
		return flag
	}
	return deployments.DefaultSlots
}

var _ autoscaler.Actuator = (*deployments.Fleet)(nil)
