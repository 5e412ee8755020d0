package console

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/cloudburst-nats/cloudburst"
	"github.com/cloudburst-nats/cloudburst/broker"
	"github.com/cloudburst-nats/cloudburst/internal/cli"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// jsonLetter is a dead letter as scripts get it; the value is its argument,
// which a list leaves out.
type jsonLetter struct {
	Seq      uint64     `json:"seq"`
	Run      wire.RunID `json:"run"`
	Name     string     `json:"name"`
	DAG      string     `json:"dag,omitempty"`
	Node     string     `json:"node,omitempty"`
	Level    string     `json:"level,omitempty"`
	Attempts int        `json:"attempts"`
	Worker   string     `json:"worker,omitempty"`
	Buried   time.Time  `json:"buried"`
	Error    *jsonError `json:"error"`
	Args     *jsonValue `json:"args,omitempty"`
}

func letterOf(l broker.DeadLetter) jsonLetter {
	return jsonLetter{
		Seq: l.Seq, Run: l.Run, Name: l.Name, DAG: l.DAG, Node: l.Node, Level: l.Level,
		Attempts: l.Attempts, Worker: l.Worker, Buried: l.Buried, Error: jsonFailure(l.Err),
	}
}

func (c *console) dead() *cobra.Command {
	return cli.Group("dead", "List, look into and replay dead letters",
		`A dead letter is a call that failed for good: its last attempt failed, or it was
told that retrying is useless. It is kept for a week with its argument, its error
and, of a panic, the stack. Once the reason is mended, replay it.`, c.deadList(), c.deadShow(), c.deadReplay())
}

func (c *console) deadList() *cobra.Command {
	var filter broker.DeadFilter
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List dead letters, newest first",
		Example: `  cloudburst dead ls
  cloudburst dead ls --name square --limit 5`,
		Args:    cobra.NoArgs,
		PreRunE: func(cmd *cobra.Command, _ []string) error { return checkLimit(cmd, filter.Limit) },
		RunE: c.on(askWithin, func(ctx context.Context, client *cloudburst.Client, _ []string) error {
			letters, err := client.Broker().Dead(ctx, filter)
			if err != nil {
				return err
			}
			var shown []jsonLetter
			for _, l := range letters {
				shown = append(shown, letterOf(l))
			}
			return list(c, shown, "No dead letters.",
				[]any{"seq", "name", "node", "buried", "attempts", "run", "error"},
				func(l jsonLetter) []any {
					return []any{l.Seq, l.Name, l.Node, ago(l.Buried), l.Attempts, l.Run, clip(l.Error.Message, 60)}
				})
		}),
	}
	cmd.Flags().StringVar(&filter.Name, "name", "", "only of this function or DAG")
	cmd.Flags().IntVar(&filter.Limit, "limit", 50, "how many at most")
	cli.Complete(cmd, "name", c.completeAll(c.callables))
	return cmd
}

func (c *console) deadShow() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "show SEQ",
		Short:   "Show a dead letter, with its argument and stack",
		Example: "  cloudburst dead show 17",
		Args:    cobra.ExactArgs(1), ValidArgsFunction: c.completeFirst(c.letters),
	}
	cmd.RunE = c.on(askWithin, func(ctx context.Context, client *cloudburst.Client, args []string) error {
		seqs, err := sequences(cmd, args)
		if err != nil {
			return err
		}
		l, err := client.Broker().DeadLetter(ctx, seqs[0])
		if err != nil {
			return err
		}
		if l.Args, err = client.Broker().Unpack(ctx, l.Args); err != nil {
			return err
		}
		shown := letterOf(l)
		value := jsonOf(l.Args)
		shown.Args = &value
		return c.show(shown, func() error {
			text := string(l.Args.Body)
			if !utf8.ValidString(text) {
				text = size(int64(len(text))) + " of " + first(l.Args.Type, "bytes")
			}
			return c.fields(
				field{"seq", l.Seq}, field{"run", l.Run}, field{"name", l.Name}, field{"dag", l.DAG}, field{"node", l.Node}, field{"level", l.Level},
				field{"buried", l.Buried.Local().Format(time.RFC3339) + ", " + ago(l.Buried)},
				field{"attempts", l.Attempts}, field{"worker", l.Worker}, field{"argument", text},
				field{"error", c.paint(red, l.Err.Error())}, field{"stack", l.Err.Stack},
			)
		})
	})
	return cmd
}

func (c *console) deadReplay() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "replay SEQ...",
		Short: "Call dead letters again",
		Long: `Makes the calls of dead letters again, with the same arguments, and removes the
letters. A call of a function or DAG becomes a new run; a call of a DAG's node
goes on with the run that it stopped.`,
		Example: `  cloudburst dead replay 17
  cloudburst dead ls --name square -o json | jq '.[].seq' | xargs cloudburst dead replay`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: c.completeAll(c.letters),
		Annotations:       map[string]string{goesOn: "letters that are no longer listed by `cloudburst dead ls` were called again"},
	}
	cmd.RunE = c.on(askWithin, func(ctx context.Context, client *cloudburst.Client, args []string) error {
		seqs, err := sequences(cmd, args)
		if err != nil {
			return err
		}
		type replayed struct {
			Seq uint64     `json:"seq"`
			Run wire.RunID `json:"run"`
		}
		done := []replayed{}
		var failed error
		for _, seq := range seqs { // one that can't be called again doesn't hold up the others
			run, err := client.Broker().Replay(ctx, seq)
			if failed = errors.Join(failed, err); err != nil && ctx.Err() != nil {
				break
			}
			if err == nil {
				done = append(done, replayed{seq, run})
			}
		}
		err = c.show(done, func() error {
			for _, d := range done {
				fmt.Fprintf(c.Stdout, "%d called again: cloudburst result %s --wait 1m\n", d.Seq, d.Run)
			}
			return nil
		})
		if failed != nil {
			return failed
		}
		return err
	})
	return cmd
}

func sequences(cmd *cobra.Command, args []string) ([]uint64, error) {
	seqs := make([]uint64, len(args))
	for i, arg := range args {
		seq, err := strconv.ParseUint(arg, 10, 64)
		if err != nil || seq == 0 {
			return nil, cli.Usagef(cmd, "%q is not the number of a dead letter; `cloudburst dead ls` lists them", arg)
		}
		seqs[i] = seq
	}
	return seqs, nil
}
