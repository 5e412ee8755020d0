package commands

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cloudburst-nats/cloudburst/bench/soak"
)

func benchSoak(c *console) *cobra.Command {
	var cfg soak.Config
	cmd := &cobra.Command{
		Use:   "soak",
		Short: "Run a mixed load for long, and fail if anything grows",
		Long: `Runs calls of all kinds against a server and two workers in this process, and
measures the heap, the goroutines and the subjects of each stream meanwhile. It fails if
the median of the last fifth of the samples is higher than that of the second fifth.
With --kept as long as --for it must fail: then results rise all the time.`,
		Example: `  cloudburst-bench soak
  cloudburst-bench soak --for 5m --latencies
  cloudburst-bench soak --for 1m -o json`,
		Args: cobra.NoArgs,
		RunE: run(func(ctx context.Context) error {
			cfg.JSON = c.json()
			cfg.Progress = func(line string) { fmt.Fprintln(c.stderr, line) }
			return soak.Run(ctx, cfg, c.stdout)
		}),
	}
	flags := cmd.Flags()
	flags.DurationVar(&cfg.For, "for", 0, "how long (default 30m)")
	flags.IntVar(&cfg.Samples, "samples", 0, "how often everything is measured (default 60)")
	flags.IntVar(&cfg.Rate, "rate", 0, "operations of each kind a second (default 25)")
	flags.DurationVar(&cfg.Kept, "kept", 0, "how long results and the like are kept (default a tenth of --for)")
	flags.BoolVar(&cfg.Latencies, "latencies", false, "fail if latencies grow, too")
	storeFlag(cmd, &cfg.Store)
	return cmd
}
