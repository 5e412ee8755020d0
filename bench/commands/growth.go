package commands

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/cloudburst-nats/cloudburst/bench"
	"github.com/cloudburst-nats/cloudburst/internal/cli"
)

func benchGrowth(c *console) *cobra.Command {
	var cfg bench.GrowthConfig
	cmd := &cobra.Command{
		Use:   "growth",
		Short: "Measure how cost grows with functions, waiting calls and keys",
		Long: `Measures calls, memory and what is around them with few and with many functions in
a pool, calls that wait in a pool, and keys in a namespace, each size on a server of
its own, and how many times the first size each figure is. Server and worker are
processes of their own. All sizes together take some minutes.`,
		Example: `  cloudburst-bench growth
  cloudburst-bench growth --case functions --functions 10,1000
  cloudburst-bench growth --case backlog --backlog 0,100000 -o json`,
		Args: cobra.NoArgs,
		RunE: run(func(ctx context.Context) error {
			cfg.JSON = c.json()
			return bench.Growth(ctx, cfg, c.stdout)
		}),
	}
	flags := cmd.Flags()
	flags.StringSliceVar(&cfg.Cases, "case", nil, "only these: functions, backlog, keys")
	flags.IntSliceVar(&cfg.Functions, "functions", nil, "functions in the pool (default 10,1000,10000)")
	flags.IntSliceVar(&cfg.Backlog, "backlog", nil, "calls that wait (default 0,1000000)")
	flags.IntSliceVar(&cfg.Keys, "keys", nil, "keys in the namespace (default 1000,1000000)")
	flags.IntVar(&cfg.Calls, "calls", 0, "operations of each kind, one by one (default 2000)")
	storeFlag(cmd, &cfg.Store)
	cli.Complete(cmd, "case", cobra.FixedCompletions([]string{bench.GrowFunctions, bench.GrowBacklog, bench.GrowKeys}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}
