package commands

import (
	"context"
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cloudburst-nats/cloudburst/bench/anomalies"
	"github.com/cloudburst-nats/cloudburst/internal/cli"
)

func benchConsistency(c *console) *cobra.Command {
	var cfg anomalies.Config
	cmd := &cobra.Command{
		Use:   "consistency",
		Short: "Measure the consistency levels, and check what they promise",
		Long: `Runs the consistency experiment of the Cloudburst paper: random DAGs whose nodes
read and write keys that a Zipf distribution draws, the same ones at each level, on
worker processes. It prints what each level costs beside lww, checks what every
read was shown against the level's promise, and counts the anomalies at lww that
the other levels exclude. If a promise was broken, it prints the shortest history
that shows it, and the exit code is 1.

It takes some minutes, on a server of its own.`,
		Example: `  cloudburst-bench consistency
  cloudburst-bench consistency --requests 50 --keys 200 --kill-every 2s
  cloudburst-bench consistency --levels lww,repeatable -o json > consistency.json`,
		Args: cobra.NoArgs,
		RunE: run(func(ctx context.Context) error {
			if !c.json() {
				cfg.Progress = c.stderr
			}
			r, err := anomalies.Run(ctx, cfg)
			if err != nil {
				return err
			}
			return errors.Join(r.Write(c.stdout, c.json()), r.Err())
		}),
	}
	flags := cmd.Flags()
	flags.StringSliceVar(&cfg.Levels, "levels", nil, "only these: "+strings.Join(anomalies.Levels(), ", "))
	flags.IntVar(&cfg.Requests, "requests", 0, "requests of each client at each level (default 500)")
	flags.IntVar(&cfg.Clients, "clients", 0, "how many call at once (default 8)")
	flags.IntVar(&cfg.Workers, "workers", 0, "worker processes (default 3)")
	flags.IntVar(&cfg.Keys, "keys", 0, "how many keys there are (default 1000000)")
	flags.Float64Var(&cfg.Zipf, "zipf", 0, "exponent of the distribution that draws keys (default 1)")
	flags.IntVar(&cfg.DAGs, "dags", 0, "how many DAGs there are (default 250)")
	flags.IntVar(&cfg.Rounds, "rounds", 0, "how often the levels take turns (default 5)")
	flags.Uint64Var(&cfg.Seed, "seed", 1, "another seed makes other DAGs and other keys")
	flags.DurationVar(&cfg.KillEvery, "kill-every", 0, "kill a worker (kill -9) every so often and start it again (default never)")
	flags.DurationVar(&cfg.Lag, "lag", 0, "have every second worker hear of writes that much later (default at once)")
	flags.StringVar(&cfg.History, "history", "", "existing directory to leave the histories in")
	flags.StringVar(&cfg.URL, "nats", "", "URL of a platform that is there already, to run on (default a server of its own)")
	storeFlag(cmd, &cfg.Store)
	cli.Complete(cmd, "levels", cobra.FixedCompletions(anomalies.Levels(), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}
