// Package commands is the cloudburst-bench command: a subcommand for each benchmark,
// which reads its flags, runs it, and prints what it measured.
package commands

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/cloudburst-nats/cloudburst/bench"
	"github.com/cloudburst-nats/cloudburst/internal/cli"
)

// program is the command's name.
const program = "cloudburst-bench"

// Run carries out one command line, without the program's name, and returns the exit
// code. It ends early when ctx does.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	c := &console{stdout: stdout, stderr: stderr}
	root := c.root()
	root.SetArgs(append([]string{}, args...)) // nil would mean this process's own
	return cli.Report(ctx, stderr, program, root.ExecuteContext(ctx))
}

// console is one command line under way.
type console struct {
	stdout, stderr io.Writer
	output         string
}

// json says whether scripts read the output.
func (c *console) json() bool { return c.output == "json" }

func (c *console) root() *cobra.Command {
	root := cli.Group(program, "Measure Cloudburst, and try to break it", `Measures what Cloudburst takes beside what NATS itself takes for the same work, in
one run on one machine, and prints both and their ratio. Each benchmark brings a
server of its own. -o json prints one object a row.`,
		benchCall(c), benchHotKey(c), benchConsistency(c), benchFaults(c), benchDeploy(c), benchRuntimes(c), benchPull(c),
		benchPrograms(c), benchAutoscale(c), benchFleet(c), benchLocality(c), benchPlacement(c), benchGrowth(c), benchSoak(c),
		benchComposition(c), benchGossip(c), benchPrediction(c), benchRetwis(c), benchAll(c), benchRole())
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetOut(c.stdout)
	root.SetErr(c.stderr)
	root.PersistentFlags().StringVarP(&c.output, "output", "o", "table", "table for people, json for scripts")
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		if c.output != "table" && c.output != "json" {
			return cli.Usagef(cmd, "-o %s: there are table and json", c.output)
		}
		return nil
	}
	cli.Complete(root, "output", cobra.FixedCompletions([]string{"table", "json"}, cobra.ShellCompDirectiveNoFileComp))
	cli.Finish(root)
	return root
}

// run makes a benchmark a command's action.
func run(benchmark func(context.Context) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, _ []string) error { return benchmark(cmd.Context()) }
}

func storeFlag(cmd *cobra.Command, store *string) {
	cmd.Flags().StringVar(store, "store", "",
		"existing directory to keep the data under meanwhile (default the system's temporary one)")
}

// benchRole is how a benchmark starts its other processes.
func benchRole() *cobra.Command {
	return &cobra.Command{
		Use:     "role ROLE ARG",
		Short:   "Play a part in a benchmark of several processes",
		Example: "  cloudburst-bench role server /tmp/store",
		Hidden:  true,
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return bench.Role(cmd.Context(), args, cmd.OutOrStdout())
		},
	}
}
