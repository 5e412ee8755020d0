package commands

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cloudburst-nats/cloudburst"
	"github.com/cloudburst-nats/cloudburst/bench"
	"github.com/cloudburst-nats/cloudburst/bench/deployed"
	"github.com/cloudburst-nats/cloudburst/internal/cli"
)

func benchCall(c *console) *cobra.Command {
	var cfg bench.Config
	cmd := &cobra.Command{
		Use:   "call",
		Short: "Measure calls, DAGs, reads and writes",
		Long: `Measures a call, a DAG of two nodes, a cached read and a write against their
floors: the same messages on bare streams, without Cloudburst. It takes some
minutes, on a server of its own, and wants a machine that does nothing else.`,
		Example: `  cloudburst-bench call
  cloudburst-bench call --transport inprocess --rounds 3
  cloudburst-bench call -o json > call.json`,
		Args: cobra.NoArgs,
		RunE: run(func(ctx context.Context) error {
			cfg.JSON = c.json()
			return bench.Call(ctx, cfg, c.stdout)
		}),
	}
	flags := cmd.Flags()
	flags.StringSliceVar(&cfg.Transports, "transport", nil, "only these: "+strings.Join(bench.Transports(), ", "))
	flags.IntVar(&cfg.Serial, "serial", 0, "operations timed one by one in a round (default 2000)")
	flags.IntVar(&cfg.Rounds, "rounds", 0, "how often the contenders take turns (default 5)")
	flags.IntVar(&cfg.Count, "count", 0, "operations that measure throughput in a round (default 20000)")
	flags.IntVar(&cfg.InFlight, "in-flight", 0, "how many of them are under way at once (default 64)")
	storeFlag(cmd, &cfg.Store)
	cli.Complete(cmd, "transport", cobra.FixedCompletions(bench.Transports(), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func benchHotKey(c *console) *cobra.Command {
	var cfg bench.HotKeyConfig
	cmd := &cobra.Command{
		Use:   "hotkey",
		Short: "Measure many writers of one key",
		Long: `Measures how often a second many writers add to one key: by merging, and by
reading it and writing it back if nobody wrote since. The sum is checked.`,
		Example: "  cloudburst-bench hotkey --writers 8 --for 2s",
		Args:    cobra.NoArgs,
		RunE: run(func(ctx context.Context) error {
			cfg.JSON = c.json()
			return bench.HotKey(ctx, cfg, c.stdout)
		}),
	}
	flags := cmd.Flags()
	flags.IntVar(&cfg.Writers, "writers", 0, "how many write at once (default 8)")
	flags.DurationVar(&cfg.For, "for", 0, "how long each contender writes in a round (default 2s)")
	flags.IntVar(&cfg.Rounds, "rounds", 0, "how often the contenders take turns (default 3)")
	storeFlag(cmd, &cfg.Store)
	return cmd
}

func benchDeploy(c *console) *cobra.Command {
	var cfg deployed.RolloutConfig
	cmd := &cobra.Command{
		Use:   "deploy",
		Short: "Measure deploying new versions under load",
		Long: `Deploys version after version of a function while calls of it go on at a steady
rate. Every answer is checked: none may fail, and a call that began after a
deployment had returned must be answered by that version or a later one.`,
		Example: "  cloudburst-bench deploy --deploys 50 --rate 1000",
		Args:    cobra.NoArgs,
		RunE: run(func(ctx context.Context) error {
			cfg.JSON = c.json()
			return deployed.Rollout(ctx, cfg, c.stdout)
		}),
	}
	flags := cmd.Flags()
	flags.IntVar(&cfg.Deploys, "deploys", 0, "versions of each runtime (default 50)")
	flags.IntVar(&cfg.Rate, "rate", 0, "calls a second (default 1000)")
	flags.IntVar(&cfg.Workers, "workers", 0, "workers that share them (default 2)")
	flags.StringSliceVar(&cfg.Runtimes, "runtime", nil, "only these: wasm, python")
	storeFlag(cmd, &cfg.Store)
	cli.Complete(cmd, "runtime", cobra.FixedCompletions([]string{cloudburst.Wasm, cloudburst.Python}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func benchRuntimes(c *console) *cobra.Command {
	var cfg deployed.RuntimesConfig
	cmd := &cobra.Command{
		Use:   "runtimes",
		Short: "Measure one function on each runtime",
		Long: `Measures a function that squares a number as Go of the worker's own program, as
WebAssembly and as Python, and beside them a program that is executed for each
call: first call, cold, warm, calls a second, and memory.`,
		Example: "  cloudburst-bench runtimes --rounds 5",
		Args:    cobra.NoArgs,
		RunE: run(func(ctx context.Context) error {
			cfg.JSON = c.json()
			return deployed.Runtimes(ctx, cfg, c.stdout)
		}),
	}
	flags := cmd.Flags()
	flags.IntVar(&cfg.Calls, "calls", 0, "calls timed one by one in a round (default 1000)")
	flags.IntVar(&cfg.InFlight, "in-flight", 0, "calls at once, for throughput (default 64)")
	flags.IntVar(&cfg.Rounds, "rounds", 0, "how often the contenders take turns (default 5)")
	flags.IntVar(&cfg.Colds, "colds", 0, "functions of each that are called for the first time (default 10)")
	flags.BoolVar(&cfg.Apart, "apart", false, "server and worker as processes of their own, as when they are deployed")
	storeFlag(cmd, &cfg.Store)
	return cmd
}

func benchPull(c *console) *cobra.Command {
	var cfg deployed.PullConfig
	size := cli.Bytes(0)
	cmd := &cobra.Command{
		Use:   "pull",
		Short: "Measure the first call of a large function",
		Long: `Measures the first call of a large function on a worker with an empty disk, beside
reading its image from the object store.`,
		Example: "  cloudburst-bench pull --size 10MB",
		Args:    cobra.NoArgs,
		RunE: run(func(ctx context.Context) error {
			cfg.JSON, cfg.Size = c.json(), int(size)
			return deployed.Pull(ctx, cfg, c.stdout)
		}),
	}
	flags := cmd.Flags()
	flags.Var(&size, "size", "of the image (default 10MB)")
	flags.IntVar(&cfg.Rounds, "rounds", 0, "how often (default 9)")
	storeFlag(cmd, &cfg.Store)
	return cmd
}

func benchPrograms(c *console) *cobra.Command {
	var cfg deployed.ProgramsConfig
	cmd := &cobra.Command{
		Use:   "programs",
		Short: "Measure four programs as WebAssembly and as C",
		Long: `Measures n-body, fannkuch-redux, mandelbrot and binary-trees, of the benchmarks
game, in the runtime of deployed functions beside what this machine's C compiler
makes of them. They must print the same. It needs cc.`,
		Example: "  cloudburst-bench programs --rounds 5",
		Args:    cobra.NoArgs,
		RunE: run(func(ctx context.Context) error {
			cfg.JSON = c.json()
			return deployed.Programs(ctx, cfg, c.stdout)
		}),
	}
	cmd.Flags().IntVar(&cfg.Rounds, "rounds", 0, "how often they take turns (default 5)")
	return cmd
}
