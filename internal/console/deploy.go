package console

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/cloudburst-nats/cloudburst"
	"github.com/cloudburst-nats/cloudburst/internal/cli"
)

// forever is for what ends when it is interrupted.
const forever = time.Duration(math.MaxInt64)

func (c *console) deploy() *cobra.Command {
	var d cloudburst.Deployment
	var memory cli.Bytes
	cmd := &cobra.Command{
		Use:   "deploy NAME FILE|DIR",
		Short: "Deploy a function, or a new version of it",
		Long: `Deploys a WebAssembly module, a Python file, or a directory of Python files (or a
zip of one) as a function. Every worker of the pool compiles or imports it first,
and makes the call of --check if there is one: what fails is refused, and the
version that there is goes on. When the command returns every worker runs new
calls with the new version; calls in hand end with theirs.

Python: "def handler(cloudburst, x)" in the file, or another one that --entry
names. WebAssembly: a WASI program that reads its argument on its standard input
and writes its result to its standard output needs nothing else; see
docs/wasm.md and docs/python.md for how to read and write state.`,
		Example: `  cloudburst fn deploy square square.py
  cloudburst fn deploy square square.wasm --timeout 5s --memory 32MiB --check 5 --want 25
  cloudburst fn deploy report ./report --entry main:report --concurrency 4
  cloudburst fn deploy sums awk.wasm --arg '{s+=$1} END {print s}'`,
		Args: cobra.ExactArgs(2),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 0 {
				return c.completeFirst(c.functionNames)(cmd, args, prefix)
			}
			return nil, cobra.ShellCompDirectiveDefault
		},
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if d.Image, err = cloudburst.ReadImage(args[1]); err != nil {
				return err
			}
			d.Name, d.Memory = args[0], int64(memory)
			const store = 2 * time.Minute // and name it, beside what the workers do
			within := cloudburst.Function{Size: int64(len(d.Image))}.LoadWithin() + store
			return c.on(within, func(ctx context.Context, client *cloudburst.Client, _ []string) error {
				return c.runDeploy(ctx, client, d)
			})(cmd, args)
		},
	}
	cmd.Annotations = map[string]string{goesOn: "either nothing has changed, or the new version takes all new calls: `cloudburst fn show NAME` tells"}
	deployFlags(cmd, &d, &memory)
	return cmd
}

func (c *console) runDeploy(ctx context.Context, client *cloudburst.Client, d cloudburst.Deployment) error {
	began := time.Now()
	stop := c.showProgress(&d)
	f, err := client.Deploy(ctx, d)
	stop()
	if err != nil {
		return err
	}
	return c.show(jsonFunctionOf(f, 0), func() error {
		_, err := fmt.Fprintf(c.Stdout, "%s: version %d, %s of %s in pool %s, took %s\n", f.Name, f.Version, size(f.Size), f.Runtime, f.Pool, short(time.Since(began)))
		c.notef("Try: cloudburst call%s %s …", c.at(), f.Name)
		return err
	})
}

// progressEach is after how long a deployment that goes on is told of, again and again.
const progressEach = 5 * time.Second

// showProgress tells of a deployment that takes long, until stop is called.
func (c *console) showProgress(d *cloudburst.Deployment) (stop func()) {
	var now atomic.Pointer[cloudburst.Progress]
	d.Progress = func(p cloudburst.Progress) { now.Store(&p) }
	name, began, done := d.Name, time.Now(), make(chan struct{})
	var telling sync.WaitGroup
	telling.Go(func() {
		tick := time.NewTicker(progressEach)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			p := now.Load()
			switch took := time.Since(began).Round(time.Second); {
			case p == nil:
			case p.Step == "store":
				c.notef("Storing %s: %s of %s, %v so far.", name, size(p.Done), size(p.Total), took)
			case p.Step == "prepare":
				c.notef("The workers get %s ready (%s), %v so far; a large module compiles for a minute and longer.", name, size(p.Total), took)
			default:
				c.notef("The workers take up %s, %v so far.", name, took)
			}
		}
	})
	return func() { close(done); telling.Wait() }
}

func deployFlags(cmd *cobra.Command, d *cloudburst.Deployment, memory *cli.Bytes) {
	flags := cmd.Flags()
	flags.StringVar(&d.Runtime, "runtime", "", "python or wasm (default: as the file looks)")
	flags.StringVar(&d.Entry, "entry", "", "what of it is called: of Python function or module:function, of WebAssembly an export (default handler, or _start)")
	flags.StringArrayVar(&d.Args, "arg", nil, "an argument of its command line, argv or sys.argv; once for each")
	flags.StringVar(&d.Pool, "pool", "", `the workers that run it (default "deployed")`)
	flags.IntVar(&d.Concurrency, "concurrency", 0, "instances at most on one worker (default some for each core)")
	flags.DurationVar(&d.Timeout, "timeout", 0, "how long one execution may take (default 1m)")
	flags.IntVar(&d.Attempts, "attempts", 0, "how often a call that fails is run in all (default 3)")
	flags.DurationVar(&d.Backoff, "backoff", 0, "the wait before the second attempt, doubled from there (default 100ms)")
	flags.Var(memory, "memory", "memory of each instance, such as 64MiB (default 128MiB, of Python 256MiB)")
	flags.StringVar(&d.Level, "level", "", "consistency level of calls that name none")
	flags.BoolVar(&d.Transactional, "transactional", false, "store all that a call writes at once or not at all, and once")
	flags.StringVar(&d.About, "about", "", "a line of description")
	flags.StringVar(&d.Check, "check", "", "argument of a call that has to go well, as JSON; its writes are dropped")
	flags.StringVar(&d.Want, "want", "", "what the call of --check has to return, as JSON")
	cli.Complete(cmd, "runtime", cobra.FixedCompletions([]string{cloudburst.Python, cloudburst.Wasm}, cobra.ShellCompDirectiveNoFileComp))
	cli.Complete(cmd, "level", cobra.FixedCompletions(levels(), cobra.ShellCompDirectiveNoFileComp))
	for _, name := range []string{"entry", "arg", "pool", "concurrency", "timeout", "attempts", "backoff", "memory", "about", "check", "want"} {
		cli.Complete(cmd, name, cobra.NoFileCompletions)
	}
}

// at returns the flags that point a command to the platform of this one.
func (c *console) at() string {
	ours, _ := c.whereFlags("")
	return ours
}

func (c *console) rollback() *cobra.Command {
	var to int
	cmd := &cobra.Command{
		Use:   "rollback NAME",
		Short: "Have an earlier version of a function take all new calls",
		Long: `Has the version before the present one, or that of --to, take all new calls, at
once: nothing is uploaded or compiled. Later versions stay, to go forward to.`,
		Example: `  cloudburst fn rollback square
  cloudburst fn rollback square --to 3`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: c.completeFirst(c.functionNames),
		RunE: c.on(askWithin, func(ctx context.Context, client *cloudburst.Client, args []string) error {
			f, err := client.Rollback(ctx, args[0], to)
			if err != nil {
				return c.suggest(ctx, client, c.functionNames, args[0], err)
			}
			return c.show(jsonFunctionOf(f, 0), func() error {
				_, err := fmt.Fprintf(c.Stdout, "%s: version %d takes new calls\n", f.Name, f.Version)
				return err
			})
		}),
	}
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error {
		if to < 1 && cmd.Flags().Changed("to") {
			return cli.Usagef(cmd, "--to %d: versions are numbered from 1", to)
		}
		return nil
	}
	cmd.Annotations = map[string]string{goesOn: "it may be done: `cloudburst fn show NAME` tells which version takes new calls"}
	cmd.Flags().IntVar(&to, "to", 0, "the version (default the one before)")
	cli.Complete(cmd, "to", cobra.NoFileCompletions)
	return cmd
}

// jsonVersions is a function with its versions as scripts get it.
type jsonVersions struct {
	jsonFunction
	Versions []jsonFunction `json:"versions"`
}

func (c *console) showFunction() *cobra.Command {
	return &cobra.Command{
		Use:   "show NAME",
		Short: "Show a function and its versions",
		Example: `  cloudburst fn show square
  cloudburst fn show square -o json | jq '.versions[].version'`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: c.completeFirst(c.functionNames),
		RunE: c.on(askWithin, func(ctx context.Context, client *cloudburst.Client, args []string) error {
			f, err := client.Function(ctx, args[0])
			if err != nil {
				return c.suggest(ctx, client, c.functionNames, args[0], err)
			}
			versions, err := client.Versions(ctx, args[0])
			if err != nil {
				return err
			}
			serving, err := servingNow(ctx, client)
			if err != nil {
				return err
			}
			shown := jsonVersions{jsonFunction: jsonFunctionOf(f, serving(&f)), Versions: []jsonFunction{}}
			for _, v := range versions {
				shown.Versions = append(shown.Versions, jsonFunctionOf(v, 0))
			}
			return c.show(shown, func() error { return c.functionText(&f, &shown) })
		}),
	}
}

func (c *console) functionText(f *cloudburst.Function, shown *jsonVersions) error {
	l := f.Limits()
	version, memory, instances := "", "", ""
	if f.Deployed() {
		version = fmt.Sprintf("%d, deployed %s", f.Version, ago(f.Registered))
	}
	if f.Memory > 0 {
		memory = size(f.Memory)
	}
	if f.Concurrency > 0 {
		instances = fmt.Sprintf("%d on each worker", f.Concurrency)
	}
	err := c.fields(
		field{"name", f.Name}, field{"about", f.About}, field{"version", version}, field{"runtime", f.Runtime}, field{"entry", f.Entry},
		field{"arguments", commandLine(f.Args)},
		field{"pool", f.Pool}, field{"workers", shown.Workers}, field{"level", shown.Level}, field{"timeout", l.Timeout}, field{"attempts", l.Attempts},
		field{"memory", memory}, field{"instances", instances}, field{"check", f.Check}, field{"wants", f.Want},
	)
	if err != nil || len(shown.Versions) == 0 {
		return err
	}
	var rows [][]any
	for i := range shown.Versions {
		v := shown.Versions[len(shown.Versions)-1-i]
		takes := ""
		if v.Version == f.Version {
			takes = "takes new calls"
		}
		rows = append(rows, []any{v.Version, takes, size(v.Size), v.Image[:min(len(v.Image), 12)], ago(v.Registered), clip(v.About, 50)})
	}
	fmt.Fprintln(c.Stdout)
	return c.table([]any{"version", "", "size", "image", "deployed", "about"}, rows)
}

// commandLine shows a command line as a shell would have it.
func commandLine(args []string) string {
	shown := make([]string, len(args))
	for i, arg := range args {
		if shown[i] = arg; arg == "" || strings.ContainsAny(arg, " \t\n\"'\\$*?") {
			shown[i] = strconv.Quote(arg)
		}
	}
	return strings.Join(shown, " ")
}

func (c *console) logs() *cobra.Command {
	var filter cloudburst.LogFilter
	cmd := &cobra.Command{
		Use:   "logs [NAME]",
		Short: "Show what functions that were deployed have printed",
		Long: `Shows what functions have printed, the oldest line first; they are kept for a
day. Of one call 1 MiB or 10,000 lines are kept at most.`,
		Example: `  cloudburst fn logs square
  cloudburst fn logs square --follow
  cloudburst fn logs --run order-17 -o json`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: c.completeFirst(c.functionNames),
		RunE: c.on(forever, func(ctx context.Context, client *cloudburst.Client, args []string) error {
			if len(args) > 0 {
				filter.Function = args[0]
				if _, err := client.Function(ctx, args[0]); err != nil {
					return c.suggest(ctx, client, c.functionNames, args[0], err)
				}
			}
			enc := json.NewEncoder(c.Stdout)
			enc.SetEscapeHTML(false)
			return client.Logs(ctx, filter, func(l cloudburst.LogLine) error {
				if c.json() {
					return enc.Encode(l)
				}
				_, err := fmt.Fprintf(c.Stdout, "%s %s %s  %s\n", l.Time.Local().Format("15:04:05.000"), l.Function, l.Run, l.Text) //nolint:gosmopolitan // for people here
				return err
			})
		}),
	}
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error {
		if filter.Last < 0 {
			return cli.Usagef(cmd, "--last %d: less than 0", filter.Last)
		}
		return nil
	}
	flags := cmd.Flags()
	flags.StringVar((*string)(&filter.Run), "run", "", "of this run only")
	flags.IntVarP(&filter.Last, "last", "n", 100, "at most so many of the lines there are; 0 is all")
	flags.BoolVarP(&filter.Follow, "follow", "f", false, "go on with what is printed from now on")
	cli.Complete(cmd, "run", func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		return c.names(cmd, c.runIDs), cobra.ShellCompDirectiveNoFileComp
	})
	cli.Complete(cmd, "last", cobra.NoFileCompletions)
	return cmd
}
