package console

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cloudburst-nats/cloudburst"
	"github.com/cloudburst-nats/cloudburst/broker"
	"github.com/cloudburst-nats/cloudburst/internal/cli"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// jsonRun is how a run stands as scripts get it.
type jsonRun struct {
	Run      wire.RunID  `json:"run"`
	Name     string      `json:"name"`
	Status   wire.Status `json:"status"`
	Started  time.Time   `json:"started,omitzero"`
	TookMS   float64     `json:"took_ms"`
	Worker   string      `json:"worker,omitempty"`
	Attempts int         `json:"attempts,omitempty"`
	Restarts int         `json:"restarts,omitempty"`
	Error    string      `json:"error,omitempty"`
	Nodes    []jsonNode  `json:"nodes,omitempty"`
	// Waits is what it waits for, if none of its calls waits in a pool or runs.
	Waits []broker.Wait `json:"waits,omitempty"`
}

func runOf(r broker.RunInfo) jsonRun {
	return jsonRun{
		Run: r.Run, Name: r.Name, Status: r.Status, Started: r.Started, TookMS: ms(r.Took),
		Worker: r.Worker, Attempts: r.Attempts, Restarts: r.Restarts, Error: r.Error, Nodes: jsonNodes(r.Nodes), Waits: r.Waits,
	}
}

// waitText says in a few words what a run waits for.
func waitText(waits []broker.Wait) string {
	texts := make([]string, len(waits))
	for i, w := range waits {
		at := ""
		if w.Node != "" {
			at = " of " + w.Node
		}
		switch w.For {
		case "timer":
			texts[i] = "timer" + at + ", in " + max(time.Until(w.Until), 0).Round(time.Second).String()
		case "signal":
			texts[i] = "signal " + w.Name + at + " (" + ago(w.Since) + ")"
		default:
			texts[i] = "inputs" + at + " from " + w.Name + " (" + ago(w.Since) + ")"
		}
	}
	return strings.Join(texts, "; ")
}

func (c *console) runs() *cobra.Command {
	return cli.Group("runs", "List, look into, signal and cancel runs",
		`A run is one execution of a function or DAG. It is pending until a worker takes
it, then running, then ok, failed or cancelled; what is known of it is kept for
an hour after it ended.`, c.runsList(), c.runsShow(), c.runsSignal(), c.runsCancel())
}

func statuses() []string {
	return []string{string(wire.StatusPending), string(wire.StatusRunning), string(wire.StatusOK), string(wire.StatusFailed), string(wire.StatusCancelled)}
}

func (c *console) runsList() *cobra.Command {
	var filter broker.RunFilter
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List runs: those that wait or run, then the newest",
		Example: `  cloudburst runs ls
  cloudburst runs ls --status failed --name square
  cloudburst runs ls --status pending -o json | jq length`,
		Args: cobra.NoArgs,
		PreRunE: func(cmd *cobra.Command, _ []string) error {
			if s := string(filter.Status); s != "" && !slices.Contains(statuses(), s) {
				return cli.Usagef(cmd, "--status %s: there are %s", s, strings.Join(statuses(), ", "))
			}
			return checkLimit(cmd, filter.Limit)
		},
		RunE: c.on(askWithin, func(ctx context.Context, client *cloudburst.Client, _ []string) error {
			runs, err := client.Broker().Runs(ctx, filter)
			if err != nil {
				return err
			}
			var shown []jsonRun
			for _, r := range runs {
				shown = append(shown, runOf(r))
			}
			return list(c, shown, "No runs. `cloudburst call NAME` makes one.",
				[]any{"run", "name", "status", "started", "took", "attempts", "error", "waits for"},
				func(r jsonRun) []any {
					return []any{r.Run, r.Name, c.status(r.Status), ago(r.Started), short(fromMS(r.TookMS)), blank(r.Attempts), clip(r.Error, 60), waitText(r.Waits)}
				})
		}),
	}
	flags := cmd.Flags()
	flags.StringVar(&filter.Name, "name", "", "only of this function or DAG")
	flags.StringVar((*string)(&filter.Status), "status", "", "only those that are "+strings.Join(statuses(), ", "))
	flags.IntVar(&filter.Limit, "limit", 50, "how many at most")
	cli.Complete(cmd, "name", c.completeAll(c.callables))
	cli.Complete(cmd, "status", cobra.FixedCompletions(statuses(), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func checkLimit(cmd *cobra.Command, limit int) error {
	if limit < 1 {
		return cli.Usagef(cmd, "--limit %d: at least 1", limit)
	}
	return nil
}

func fromMS(ms float64) time.Duration { return time.Duration(ms * float64(time.Millisecond)) }

// status paints a status.
func (c *console) status(s wire.Status) string {
	switch s {
	case wire.StatusOK:
		return c.paint(green, string(s))
	case wire.StatusFailed, wire.StatusCancelled:
		return c.paint(red, string(s))
	default:
		return c.paint(yellow, string(s))
	}
}

func (c *console) runsShow() *cobra.Command {
	return &cobra.Command{
		Use:   "show RUN",
		Short: "Show how a run stands",
		Long: `Shows how a run stands and, of a DAG, where and when each node ran. Its value is
what "cloudburst result" prints.`,
		Example: `  cloudburst runs show order-17
  cloudburst runs show order-17 -o json | jq -r .status`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: c.completeFirst(c.runIDs),
		RunE: c.on(askWithin, func(ctx context.Context, client *cloudburst.Client, args []string) error {
			r, err := client.Broker().RunState(ctx, wire.RunID(args[0]))
			if err != nil {
				return err
			}
			return c.show(runOf(r), func() error { return c.tellRun(r) })
		}),
	}
}

// signed shows when something was, relative to something else.
func signed(d time.Duration) string {
	if d < 0 { // by the clocks of two machines
		return d.String()
	}
	return "+" + d.String()
}

func (c *console) tellRun(r broker.RunInfo) error {
	when := ""
	if !r.Started.IsZero() {
		when = r.Started.Local().Format(time.RFC3339) + ", " + ago(r.Started)
	}
	err := c.fields(
		field{"run", r.Run}, field{"name", r.Name}, field{"status", c.status(r.Status)}, field{"started", when},
		field{"took", short(r.Took)}, field{"worker", r.Worker}, field{"attempts", blank(r.Attempts)}, field{"restarts", blank(r.Restarts)}, field{"error", r.Error},
		field{"waits for", waitText(r.Waits)},
	)
	if err != nil || len(r.Nodes) == 0 {
		return err
	}
	var rows [][]any
	for _, n := range r.Nodes {
		after := ""
		if !r.Started.IsZero() {
			after = signed(n.Started.Sub(r.Started).Round(10 * time.Microsecond))
		}
		rows = append(rows, []any{n.Node, after, short(n.Took), n.Worker})
	}
	fmt.Fprintln(c.Stdout)
	return c.table([]any{"node", "started", "took", "worker"}, rows)
}

func (c *console) runsSignal() *cobra.Command {
	var in input
	cmd := &cobra.Command{
		Use:         "signal RUN NAME [VALUE]",
		Annotations: map[string]string{goesOn: "the signal may be sent: sent again it is refused then"},
		Short:       "Send a run the signal that a node of it awaits",
		Long: `Brings a value to the node of a DAG's run that awaits a signal of this name
(signal: NAME in the DAG), before or after the node's other arguments are there.
A signal is sent once: a second one is refused (exit code 7).

A VALUE is ` + argumentHelp,
		Example: `  cloudburst runs signal order-17 approve
  cloudburst runs signal order-17 approve '{"by": "eve"}'`,
		Args:              cobra.RangeArgs(2, 3),
		ValidArgsFunction: c.completeFirst(c.runIDs),
	}
	cmd.RunE = c.on(askWithin, func(ctx context.Context, client *cloudburst.Client, args []string) error {
		var value any
		if len(args) == 3 {
			v, err := c.value(cmd, in, args[2])
			if err != nil {
				return err
			}
			value = v
		}
		if err := client.Signal(ctx, wire.RunID(args[0]), args[1], value); err != nil {
			return err
		}
		return c.show(map[string]string{"run": args[0], "signal": args[1]}, func() error {
			_, err := fmt.Fprintf(c.Stdout, "%s sent to %s\n", args[1], args[0])
			return err
		})
	})
	in.addFlags(cmd)
	return cmd
}

func (c *console) runsCancel() *cobra.Command {
	return &cobra.Command{
		Use:         "cancel RUN",
		Annotations: map[string]string{goesOn: "the run may be cancelled: `cloudburst runs show RUN` tells"},
		Short:       "Cancel a run",
		Long: `Asks for a run to end: what it has in hand is given up, what is queued is not run.
What functions that had returned wrote stays. A run that has ended is refused.`,
		Example: `  cloudburst runs cancel order-17
  cloudburst runs ls --status pending --name report -o json | jq -r '.[].run' |
    xargs -n1 cloudburst runs cancel`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: c.completeFirst(c.runIDs),
		RunE: c.on(askWithin, func(ctx context.Context, client *cloudburst.Client, args []string) error {
			if err := client.Cancel(ctx, wire.RunID(args[0])); err != nil {
				return err
			}
			return c.show(map[string]string{"run": args[0], "status": string(wire.StatusCancelled)}, func() error {
				_, err := fmt.Fprintf(c.Stdout, "%s cancelled\n", args[0])
				return err
			})
		}),
	}
}
