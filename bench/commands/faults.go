package commands

import (
	"context"
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cloudburst-nats/cloudburst/bench/faults"
	"github.com/cloudburst-nats/cloudburst/internal/cli"
)

func benchFaults(c *console) *cobra.Command {
	var cfg faults.Config
	cmd := &cobra.Command{
		Use:   "faults",
		Short: "Break a cluster under load, and check that nothing is lost",
		Long: `Starts three servers and some workers as processes of their own, calls functions
and DAGs and writes state, and breaks one part after the other meanwhile: kills it,
stops it, cuts it off, restarts it, slows it down, fills its disk. In the end
everything that was acknowledged has to be there, once. It prints how long a call
took at most during each kind of fault; if anything was lost, the exit code is 1.

With --levels the consistency experiment runs beside it and checks what the levels
promise.`,
		Example: `  cloudburst-bench faults
  cloudburst-bench faults --faults 39 --calls 100000 --writes 100000 --levels 200
  cloudburst-bench faults --kinds node-kill,quorum --faults 6`,
		Args: cobra.NoArgs,
		RunE: run(func(ctx context.Context) error {
			if !c.json() {
				cfg.Progress = c.stderr
			}
			r, err := faults.Run(ctx, cfg)
			if err != nil {
				return err
			}
			return errors.Join(r.Write(c.stdout, c.json()), r.Err())
		}),
	}
	flags := cmd.Flags()
	flags.IntVar(&cfg.Faults, "faults", 0, "how many faults there are (default one of each kind)")
	flags.StringSliceVar(&cfg.Kinds, "kinds", nil, "only these: "+strings.Join(faults.Kinds(), ", "))
	flags.IntVar(&cfg.Calls, "calls", 0, "calls at least (default 2000)")
	flags.IntVar(&cfg.DAGs, "dags", 0, "DAG runs at least (default 200)")
	flags.IntVar(&cfg.Writes, "writes", 0, "writes at least (default 2000)")
	flags.IntVar(&cfg.Callers, "callers", 0, "how many call, and how many write, at once (default 16)")
	flags.IntVar(&cfg.Workers, "workers", 0, "worker processes (default 3)")
	flags.IntVar(&cfg.Levels, "levels", 0, "requests of each client at each level of the consistency experiment (default: it isn't run)")
	flags.DurationVar(&cfg.For, "for", 0, "how long a fault lasts (default 3s)")
	flags.Uint64Var(&cfg.Seed, "seed", 1, "another seed breaks other parts")
	storeFlag(cmd, &cfg.Store)
	cli.Complete(cmd, "kinds", cobra.FixedCompletions(faults.Kinds(), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}
