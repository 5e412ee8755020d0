package console

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cloudburst-nats/cloudburst"
	"github.com/cloudburst-nats/cloudburst/internal/cli"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// jsonNode is a node's timing as scripts get it.
type jsonNode struct {
	Node    string    `json:"node"`
	Worker  string    `json:"worker,omitempty"`
	Started time.Time `json:"started"`
	TookMS  float64   `json:"took_ms"`
}

func jsonNodes(timings []wire.NodeTiming) []jsonNode {
	var nodes []jsonNode
	for _, t := range timings {
		nodes = append(nodes, jsonNode{t.Node, t.Worker, t.Started, ms(t.Took)})
	}
	return nodes
}

// jsonError is a failure as scripts get it.
type jsonError struct {
	Kind    string `json:"kind"`
	Message string `json:"message"`
	Stack   string `json:"stack,omitempty"`
}

func jsonFailure(e *wire.Error) *jsonError {
	if e == nil {
		return nil
	}
	return &jsonError{e.Kind.String(), e.Error(), e.Stack}
}

// jsonResult is a run and its result as scripts get it.
type jsonResult struct {
	Run    wire.RunID  `json:"run"`
	Name   string      `json:"name"`
	Status wire.Status `json:"status"`
	jsonValue
	Error    *jsonError `json:"error,omitempty"`
	Worker   string     `json:"worker,omitempty"`
	Started  time.Time  `json:"started,omitzero"`
	TookMS   float64    `json:"took_ms"`
	Attempts int        `json:"attempts,omitempty"`
	Nodes    []jsonNode `json:"nodes,omitempty"`
}

func (c *console) call() *cobra.Command {
	var in input
	var out outlet
	var call wire.Call
	var async bool
	cmd := &cobra.Command{
		Use:   "call NAME [ARG...]",
		Short: "Call a function or DAG and print its result",
		Long: `Calls a function or DAG, waits for its result and prints it. The call is stored
before it runs: it runs even if this command is interrupted, or times out, and
"cloudburst result RUN" has its result for an hour. If no worker serves the function's
pool for two seconds it ends with an error, and the call runs once a worker does;
--wait-for-worker waits for that.

An ARG is ` + argumentHelp + `
Several ARGs travel as an array. {"$ref": "KEY"} stands for what is kept under a
key, and {"$run": "RUN"} for the result of another run.`,
		Example: `  cloudburst call square 5
  cloudburst call increment -- -3
  cloudburst call sum '{"$ref": "a"}' '{"$ref": "b"}'
  cloudburst call echo @order.json --async --run-id order-17
  cloudburst call remind order-17 --in 24h --async
  cloudburst call resize @photo.jpg --type image/jpeg --file small.jpg`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: c.completeFirst(c.callables),
	}
	cmd.RunE = c.on(callWithin, func(ctx context.Context, client *cloudburst.Client, args []string) error {
		values, err := c.values(cmd, in, args[1:])
		if err != nil {
			return err
		}
		if call.Args, err = wire.Args(values...); err != nil {
			return err
		}
		call.Name = args[0]
		if err := wire.CheckName("function", call.Name); err != nil {
			return err
		}
		if call.Run == "" {
			call.Run = wire.NewRunID()
		}
		if async {
			return c.callAsync(ctx, client, call)
		}
		r, err := client.Broker().Call(ctx, call)
		if err != nil {
			return c.suggest(ctx, client, c.callables, call.Name, waitsFor(err, call.Run))
		}
		return c.outcome(r, &out)
	})
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error {
		if call.Wait < 0 {
			return cli.Usagef(cmd, "--in %s: less than 0", call.Wait)
		}
		if call.Level != "" && !slices.Contains(levels(), call.Level) {
			return cli.Usagef(cmd, "--level %s: there are %s", call.Level, strings.Join(levels(), ", "))
		}
		return out.check(cmd, c)
	}
	in.addFlags(cmd)
	out.addFlags(cmd)
	flags := cmd.Flags()
	flags.BoolVar(&async, "async", false, "print the run's id once the call is stored, and don't wait")
	flags.DurationVar(&call.Wait, "in", 0, "run it no sooner than this long from now, such as 10s or 24h (250ms is the least)")
	flags.BoolVar(&call.Patient, "wait-for-worker", false, "wait also while no worker serves the function's pool")
	flags.StringVar((*string)(&call.Run), "run-id", "", "name the run: called again with the same id while its result is kept, it still runs once")
	flags.StringVar(&call.Level, "level", "", "consistency level, other than the function's own")
	cli.Complete(cmd, "level", cobra.FixedCompletions(levels(), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// levels are the consistency levels.
func levels() []string {
	return []string{cloudburst.LWW, cloudburst.Repeatable, cloudburst.CausalKey, cloudburst.Causal, cloudburst.SessionCausal}
}

// waitsFor adds to the error of a call, or of a wait, that may yet have a result how to
// get it.
func waitsFor(err error, run wire.RunID) error {
	e, ok := errors.AsType[*wire.Error](err)
	if !ok || e.Kind != wire.KindTimeout && e.Kind != wire.KindNoWorker && (e.Kind != wire.KindUnavailable || !strings.Contains(e.Msg, string(run))) {
		return err
	}
	more := *e
	more.Msg = strings.TrimSuffix(e.Msg, ": look for it later as "+string(run)) + fmt.Sprintf("; `cloudburst result %s --wait 1m` waits for it", run)
	if e.Kind == wire.KindNoWorker {
		more.Msg += ", and `cloudburst call --wait-for-worker` for a worker"
	}
	return &more
}

func (c *console) callAsync(ctx context.Context, client *cloudburst.Client, call wire.Call) error {
	p, err := client.Broker().Start(ctx, call)
	if err != nil {
		return err
	}
	defer p.Close()
	if err := p.Stored(ctx); err != nil {
		return c.suggest(ctx, client, c.callables, call.Name, waitsFor(err, call.Run))
	}
	if none := client.Broker().NoWorker(ctx, call.Name); none != nil {
		if _, err := fmt.Fprintf(c.Stderr, "warning: %v; until then the call waits\n", none); err != nil {
			return err
		}
	}
	return c.show(map[string]any{"run": p.Run, "name": call.Name, "status": wire.StatusPending}, func() error {
		_, err := fmt.Fprintln(c.Stdout, p.Run)
		return err
	})
}

func (c *console) result() *cobra.Command {
	var out outlet
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "result RUN",
		Short: "Print the result of a run",
		Long: `Prints the result of a run by its id, which "call --async" prints and "runs ls"
lists; of a call that was published with NATS alone it is the message's
Nats-Msg-Id, else STREAM-SEQUENCE. A run that has not ended is "not found"
(exit code 3) unless --wait says to wait for it.`,
		Example: `  cloudburst result order-17
  cloudburst result order-17 --wait 30s -o json
  cloudburst result "$(cloudburst call square 5 --async)" --wait 10s`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: c.completeFirst(c.runIDs),
		PreRunE: func(cmd *cobra.Command, _ []string) error {
			if wait < 0 {
				return cli.Usagef(cmd, "--wait %s: less than 0", wait)
			}
			return out.check(cmd, c)
		},
	}
	show := func(ctx context.Context, client *cloudburst.Client, args []string) error {
		run := wire.RunID(args[0])
		r, err := client.Result(ctx, run)
		if wire.KindOf(err) == wire.KindUnknown && wait > 0 {
			waiting, cancel := context.WithTimeout(ctx, wait)
			defer cancel()
			r, err = client.Broker().Await(waiting, run)
		}
		if wire.KindOf(err) == wire.KindTimeout && ctx.Err() == nil {
			return &wire.Error{Op: "result", Name: args[0], Kind: wire.KindTimeout, Msg: fmt.Sprintf("no result within %v; the run goes on, if there is one: `cloudburst runs show %s` tells", wait, run), Err: err}
		}
		if err != nil {
			return err
		}
		return c.outcome(r, &out)
	}
	cmd.Annotations = map[string]string{goesOn: "the run goes on, if there is one"}
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return c.on(askWithin+wait, show)(cmd, args) }
	out.addFlags(cmd)
	cmd.Flags().DurationVar(&wait, "wait", 0, "wait this long for a run that has not ended")
	return cmd
}

// outcome shows a result; one that isn't ok is an error too.
func (c *console) outcome(r wire.Result, out *outlet) error {
	shown := jsonResult{
		Run: r.Run, Name: r.Name, Status: r.Status, Error: jsonFailure(r.Err), Worker: r.Worker,
		Started: r.Started, TookMS: ms(r.Took), Attempts: r.Attempts, Nodes: jsonNodes(r.Nodes),
	}
	if r.Status == wire.StatusOK {
		shown.jsonValue = jsonOf(r.Value)
	}
	err := c.show(shown, func() error {
		if r.Status != wire.StatusOK {
			return nil
		}
		return out.put(c, r.Value)
	})
	if err != nil || r.Status == wire.StatusOK {
		return err
	}
	failure := wire.Error{Kind: wire.KindFunction, Msg: "ended " + string(r.Status)}
	if r.Err != nil {
		failure = *r.Err
	}
	if failure.Name == "" {
		failure.Op, failure.Name = "run", r.Name
	}
	if r.Status == wire.StatusFailed {
		return fmt.Errorf("%w (run %s; `cloudburst dead ls --name %s` has the call)", &failure, r.Run, r.Name)
	}
	return fmt.Errorf("%w (run %s)", &failure, r.Run)
}
