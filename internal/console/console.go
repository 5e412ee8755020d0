// Package console is the cloudburst command: every subcommand, what it prints
// and the code it exits with. It holds no logic of the platform: a command reads
// its arguments, asks the client library or the broker, and shows the answer.
//
// Three rules hold for all commands. What was asked for goes to standard output
// and nothing else does: as a table for people, or with -o json as one object or
// array whose fields stay, times in RFC 3339 and durations in milliseconds. What
// went wrong goes to standard error, with the way out, and hints do too. The
// exit code tells kinds of failures apart; see exit.go.
package console

import (
	"context"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/cloudburst-nats/cloudburst"
	"github.com/cloudburst-nats/cloudburst/broker"
	"github.com/cloudburst-nats/cloudburst/internal/cli"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// Env is what a command sees of the process around it.
type Env struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Getenv         func(string) string
}

// Run carries out one command line, without the program's name, and returns the
// exit code. It ends early when ctx does: a server then drains.
func Run(ctx context.Context, args []string, env Env) int {
	c := &console{Env: env}
	root := c.root()
	root.SetArgs(append([]string{}, args...)) // nil would mean this process's own
	return cli.Report(ctx, c.Stderr, "cloudburst", root.ExecuteContext(ctx))
}

// console is one command line under way.
type console struct {
	Env
	conn    connection
	topo    topology
	output  string
	timeout time.Duration // 0: the command's own
}

// How long a command takes at most, unless --timeout says otherwise.
const (
	askWithin    = 10 * time.Second // the platform, about itself
	callWithin   = time.Minute      // a function
	changeWithin = time.Minute      // the platform, to change all its streams
)

// The groups of the root's help.
const (
	groupUse   = "use"
	groupLook  = "look"
	groupSetUp = "setup"
)

const rootLong = `Cloudburst runs stateful functions on NATS JetStream. A function is called by
publishing a message, keeps its state in key-value buckets, and may be a node of
a DAG. "cloudburst server" is all there is to install: NATS is inside.

The server is found by --nats, else --context, else NATS_URL, else NATS_CONTEXT
or the context that the nats CLI has selected, else nats://127.0.0.1:4222.

Exit codes: 0 done; 1 the function failed, or anything not below; 2 the command
line, a name or an argument is wrong; 3 not found; 4 the server can't be reached, or
no worker is there, and the call is stored for one; 5 timed out; 6 busy: the backlog
is full; 7 refused: it exists otherwise, is invalid or too large; 130 interrupted.`

func (c *console) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "cloudburst",
		Short: "Stateful functions on NATS JetStream",
		Long:  rootLong,
		Example: `  cloudburst server --examples     # in one terminal
  cloudburst call square 5         # in another: 25
  cloudburst demo                  # a Twitter clone, verified`,
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if c.output != "table" && c.output != "json" {
				return cli.Usagef(cmd, "-o %s: there are table and json", c.output)
			}
			return nil
		},
	}
	root.SetIn(c.Stdin)
	root.SetOut(c.Stdout) // before completion is added, which keeps it
	root.SetErr(c.Stderr)
	c.conn.addFlags(root)
	flags := root.PersistentFlags()
	flags.StringVarP(&c.output, "output", "o", "table", "table for people, json for scripts")
	flags.DurationVar(&c.timeout, "timeout", 0, "how long to wait for an answer (default 10s; of a function 1m)")
	cli.Complete(root, "output", cobra.FixedCompletions([]string{"table", "json"}, cobra.ShellCompDirectiveNoFileComp))
	cli.Complete(root, "context", c.completeContexts)

	root.AddGroup(
		&cobra.Group{ID: groupUse, Title: "Use:"},
		&cobra.Group{ID: groupLook, Title: "Look inside:"},
		&cobra.Group{ID: groupSetUp, Title: "Run:"},
	)
	add := func(group string, cmds ...*cobra.Command) {
		for _, cmd := range cmds {
			cmd.GroupID = group
		}
		root.AddCommand(cmds...)
	}
	add(groupSetUp, c.server(), c.cluster(), c.gateway(), c.demo(), c.version())
	add(groupUse, c.call(), c.result(), c.fn(), c.dag(), c.kv())
	add(groupLook, c.runs(), c.dead(), c.worker(), c.pool(), c.platform(), c.doctor())
	root.SetHelpCommandGroupID(groupSetUp)
	root.SetCompletionCommandGroupID(groupSetUp)
	root.InitDefaultCompletionCmd("completion") // some argument, or it isn't made
	root.InitDefaultHelpCmd()
	cli.Finish(root)
	// A command that holds others runs only to complain of a wrong one.
	root.SetUsageTemplate(strings.Replace(root.UsageTemplate(), "{{if .Runnable}}", "{{if not .HasAvailableSubCommands}}", 1))
	return root
}

// An action is what a command does on the platform.
type action func(ctx context.Context, client *cloudburst.Client, args []string) error

// on has an action run with a client, for limited time.
func (c *console) on(within time.Duration, do action) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		if c.timeout < 0 {
			return cli.Usagef(cmd, "--timeout %s: less than 0", c.timeout)
		}
		within := within
		if c.timeout > 0 {
			within = c.timeout
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), within)
		defer cancel()
		client, err := c.connect(ctx, within)
		if err != nil {
			return explain(cmd, within, err)
		}
		defer client.Close()
		if err = do(ctx, client, args); err == nil {
			return nil
		}
		if cmd.Context().Err() == nil {
			err = diagnose(cmd.Context(), client, err)
		}
		return explain(cmd, within, err)
	}
}

// diagnose looks whether what can't be found or doesn't answer is the platform
// as a whole, and says so then.
func diagnose(ctx context.Context, client *cloudburst.Client, err error) error {
	if kind := wire.KindOf(err); kind != wire.KindUnknown && kind != wire.KindUnavailable {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	streams := client.Broker().JetStream().StreamNames(ctx)
	for name := range streams.Name() {
		if name == broker.StreamRuns {
			return err
		}
	}
	msg := "JetStream is not enabled on this NATS server, or doesn't answer: " + err.Error()
	if streams.Err() == nil {
		msg = "there is NATS, and nothing of ours on it yet: `cloudburst server --nats URL` sets it up"
	}
	return &wire.Error{Op: "find Cloudburst on", Kind: wire.KindUnavailable, Name: client.Broker().Conn().ConnectedUrlRedacted(), Msg: msg, Err: err}
}

// isTerminal says whether people read what is written to w.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
