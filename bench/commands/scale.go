package commands

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/cloudburst-nats/cloudburst/autoscaler"
	"github.com/cloudburst-nats/cloudburst/bench"
	"github.com/cloudburst-nats/cloudburst/bench/fleetsim"
	"github.com/cloudburst-nats/cloudburst/internal/cli"
)

func benchAutoscale(c *console) *cobra.Command {
	var cfg bench.AutoscaleConfig
	cmd := &cobra.Command{
		Use:   "autoscale",
		Short: "Measure how workers follow a step of load",
		Long: `Steps the load from one busy slot's worth of calls to sixteen, and back, and
measures how long the autoscaler takes to have the slots, to have nothing wait, and
to be back at the minimum after the stable window. No call may be lost meanwhile.
It scales the slots of one worker, and worker processes of four slots each.`,
		Example: "  cloudburst-bench autoscale --stable 10s",
		Args:    cobra.NoArgs,
		RunE: run(func(ctx context.Context) error {
			cfg.JSON = c.json()
			return bench.Autoscale(ctx, cfg, c.stdout)
		}),
	}
	flags := cmd.Flags()
	flags.StringSliceVar(&cfg.Cases, "case", nil, "only these: slots, processes")
	flags.DurationVar(&cfg.Stable, "stable", 0, "stable window, after which workers go (default 10s)")
	flags.DurationVar(&cfg.Hold, "hold", 0, "how long the load stays high (default 10s)")
	storeFlag(cmd, &cfg.Store)
	cli.Complete(cmd, "case", cobra.FixedCompletions([]string{bench.ScaleSlots, bench.ScaleProcesses}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func benchFleet(c *console) *cobra.Command {
	cfg := bench.FleetConfig{Simulation: fleetsim.Simulation{Seed: 1, Policy: autoscaler.Policy{Min: 1, Slots: 4}}}
	cmd := &cobra.Command{
		Use:   "fleet",
		Short: "Simulate a day of bursts against the autoscaler",
		Long: `Replays a day of bursty arrivals, in seconds and without a server, against the
autoscaler and against two fleets of a fixed size: what the bursts want, and what
is wanted on average. It shows how long after a burst began the workers were there,
how long calls waited, and what it cost beside an oracle that pays for exactly the
workers that the load wants at each moment.`,
		Example: `  cloudburst-bench fleet
  cloudburst-bench fleet --seed 7 --slots 1 --start 5s --drain 5s`,
		Args: cobra.NoArgs,
		RunE: run(func(context.Context) error {
			cfg.JSON = c.json()
			return bench.Fleet(cfg, c.stdout)
		}),
	}
	flags := cmd.Flags()
	flags.Uint64Var(&cfg.Seed, "seed", cfg.Seed, "another one is another day")
	flags.Float64Var(&cfg.Base, "rate", 0, "calls a second between bursts, on average (default 40)")
	flags.IntVar(&cfg.Policy.Slots, "slots", cfg.Policy.Slots, "slots of a worker")
	flags.IntVar(&cfg.Policy.Min, "min", cfg.Policy.Min, "workers at least")
	flags.IntVar(&cfg.Policy.Max, "max", 0, "workers at most (default any number)")
	for _, d := range []struct {
		to    *time.Duration
		name  string
		usage string
	}{
		{&cfg.Length, "for", "length of the day (default 24h)"},
		{&cfg.Service, "takes", "mean time of a call (default 250ms)"},
		{&cfg.BurstEvery, "every", "mean time between bursts (default 30m)"},
		{&cfg.Start, "start", "how long a worker takes to start (default 1s)"},
		{&cfg.Stop, "stop", "how long a worker takes to drain (default 1s)"},
		{&cfg.Policy.Stable, "stable", "stable window (default 1m)"},
		{&cfg.Policy.Panic, "panic", "panic window (default 6s)"},
		{&cfg.Policy.Drain, "drain", "within how long what waits should be taken (default 1s)"},
	} {
		flags.DurationVar(d.to, d.name, 0, d.usage)
	}
	return cmd
}
