package commands

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/cloudburst-nats/cloudburst/bench"
	"github.com/cloudburst-nats/cloudburst/bench/poolsim"
)

func benchLocality(c *console) *cobra.Command {
	var cfg bench.LocalityConfig
	cmd := &cobra.Command{
		Use:   "locality",
		Short: "Measure functions on data that is cached where they run",
		Long: `Measures the paper's experiment: a function sums ten arrays of numbers, 80 KB to
80 MB in all, which its arguments refer to, on a worker that has them cached and on
one that caches nothing, beside the same function reading them from JetStream's
object store, and from Redis where redis-server is installed. Then it calls a pool
of worker processes with references by Zipf's law, with placement on and off, and
prints how many it found in its caches. It takes some minutes.`,
		Example: "  cloudburst-bench locality --for 2s",
		Args:    cobra.NoArgs,
		RunE: run(func(ctx context.Context) error {
			cfg.JSON = c.json()
			return bench.Locality(ctx, cfg, c.stdout)
		}),
	}
	flags := cmd.Flags()
	flags.IntSliceVar(&cfg.Elements, "elements", nil, "lengths of the arrays (default 1000,10000,100000,1000000)")
	flags.DurationVar(&cfg.For, "for", 0, "how long each contender is measured at each length (default 4s)")
	flags.IntVar(&cfg.Workers, "workers", 0, "worker processes that share the keys (default 6)")
	flags.IntVar(&cfg.Keys, "keys", 0, "keys of 1 KB that they share (default 20000)")
	flags.IntVar(&cfg.Calls, "calls", 0, "calls that are counted (default 30000)")
	flags.BoolVar(&cfg.SkipArrays, "skip-arrays", false, "leave out the sums")
	flags.BoolVar(&cfg.SkipZipf, "skip-zipf", false, "leave out the pool")
	storeFlag(cmd, &cfg.Store)
	return cmd
}

func benchPlacement(c *console) *cobra.Command {
	cfg := bench.PlacementConfig{Simulation: poolsim.Simulation{Seed: 1}}
	cmd := &cobra.Command{
		Use:   "placement",
		Short: "Simulate where calls with references run",
		Long: `Simulates, in a minute and without a server, a pool that is called with references
by Zipf's law while workers come and die, with placement on and off. It prints how
many references were found in the caches, and how much busier than the mean the
busiest worker was.`,
		Example: `  cloudburst-bench placement
  cloudburst-bench placement --workers 100 --keys 10000 --refs 2`,
		Args: cobra.NoArgs,
		RunE: run(func(context.Context) error {
			cfg.JSON = c.json()
			return bench.Placement(cfg, c.stdout)
		}),
	}
	flags := cmd.Flags()
	flags.Uint64Var(&cfg.Seed, "seed", cfg.Seed, "another one is another run")
	flags.IntVar(&cfg.Workers, "workers", 0, "workers at any time (default 1000)")
	flags.IntVar(&cfg.Slots, "slots", 0, "slots of each (default 16)")
	flags.IntVar(&cfg.Keys, "keys", 0, "keys there are (default 100000)")
	flags.IntVar(&cfg.Cache, "cache", 0, "keys that a worker's cache holds (default 500)")
	flags.IntVar(&cfg.Refs, "refs", 0, "references in each call (default 1)")
	flags.Float64Var(&cfg.Load, "load", 0, "share of the slots that is busy if all is cached (default 0.3)")
	flags.Float64Var(&cfg.Zipf, "zipf", 0, "exponent (default 1)")
	flags.IntVar(&cfg.Calls, "calls", 0, "calls that are counted (default 300000)")
	flags.IntVar(&cfg.Warm, "warm", 0, "calls before those (default 1500000)")
	flags.DurationVar(&cfg.Churn, "churn", 0, "how often a worker dies and another comes (default 1s)")
	return cmd
}
