package console

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/cloudburst-nats/cloudburst"
	"github.com/cloudburst-nats/cloudburst/broker"
	"github.com/cloudburst-nats/cloudburst/internal/cli"
)

// jsonFunction is a function as scripts get it.
type jsonFunction struct {
	Name       string    `json:"name"`
	Pool       string    `json:"pool"`
	Runtime    string    `json:"runtime"`
	About      string    `json:"about"`
	TimeoutMS  float64   `json:"timeout_ms"`
	Attempts   int       `json:"attempts"`
	BackoffMS  float64   `json:"backoff_ms"`
	Level      string    `json:"level"`
	Atomic     bool      `json:"transactional"`
	Workers    int       `json:"workers"` // that serve it now
	Registered time.Time `json:"registered"`

	// Of one that was deployed.
	Version     int      `json:"version,omitempty"`
	Image       string   `json:"image,omitempty"`
	Size        int64    `json:"size,omitempty"`
	Entry       string   `json:"entry,omitempty"`
	Args        []string `json:"args,omitempty"`
	Memory      int64    `json:"memory,omitempty"`
	Concurrency int      `json:"concurrency,omitempty"`
	Check       string   `json:"check,omitempty"`
	Want        string   `json:"want,omitempty"`

	// Broken is why the entry can't be used; of such a one only the name is known.
	Broken string `json:"broken,omitempty"`
}

func jsonFunctionOf(f cloudburst.Function, workers int) jsonFunction {
	l := f.Limits()
	return jsonFunction{
		Name: f.Name, Pool: f.Pool, Runtime: f.Runtime, About: f.About, TimeoutMS: ms(l.Timeout), Attempts: l.Attempts,
		BackoffMS: ms(l.Backoff), Level: levelOf(f.Level), Atomic: f.Transactional, Workers: workers, Registered: f.Registered,
		Version: f.Version, Image: f.Image, Size: f.Size, Entry: f.Entry, Args: f.Args, Memory: f.Memory, Concurrency: f.Concurrency, Check: f.Check, Want: f.Want,
	}
}

func (c *console) fn() *cobra.Command {
	ls := &cobra.Command{
		Use:   "ls",
		Short: "List the functions that can be called",
		Long: `Lists the functions, where they run and within which limits. WORKERS is how many
serve a function now; with none, calls of it are stored and wait.`,
		Example: `  cloudburst fn ls
  cloudburst fn ls -o json | jq -r '.[] | select(.workers == 0).name'`,
		Args: cobra.NoArgs,
		RunE: c.on(askWithin, c.listFunctions),
	}
	rm := &cobra.Command{
		Use:         "rm NAME...",
		Annotations: map[string]string{goesOn: "some functions may be removed: `cloudburst fn ls` tells"},
		Short:       "Remove functions",
		Long: `Removes functions: calls of them are refused from now on, and those that wait
fail. A function that a DAG uses stays. A worker that serves it brings it back
when it starts, so stop that first.`,
		Example:           "  cloudburst fn rm square",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: c.completeAll(c.functionNames),
		RunE: c.on(askWithin, func(ctx context.Context, client *cloudburst.Client, args []string) error {
			return c.removeAll(args, func(name string) error {
				return c.suggest(ctx, client, c.functionNames, name, client.Broker().RemoveFunction(ctx, name))
			})
		}),
	}
	return cli.Group("fn", "Deploy, list and remove functions", `A function is code with a name, run by the workers of one pool. WebAssembly and
Python are deployed to workers that run, such as the one in "cloudburst server";
Go functions come with the program that serves them: see "cloudburst server
--examples", or the package documentation for how to write one.`, c.deploy(), ls, c.showFunction(), c.logs(), c.rollback(), rm)
}

func (c *console) listFunctions(ctx context.Context, client *cloudburst.Client, _ []string) error {
	fns, err := client.Broker().Functions(ctx)
	if err != nil {
		return err
	}
	serving, err := servingNow(ctx, client)
	if err != nil {
		return err
	}
	shown := make([]jsonFunction, len(fns))
	for i, f := range fns {
		shown[i] = jsonFunctionOf(f, serving(&f))
	}
	broken, err := brokenIn(ctx, client, broker.BucketFunctions)
	if err != nil {
		return err
	}
	for _, e := range broken {
		i := slices.IndexFunc(shown, func(f jsonFunction) bool { return f.Name == e.Key })
		if i < 0 {
			i, shown = len(shown), append(shown, jsonFunction{Name: e.Key})
		}
		shown[i].Broken = e.Reason
	}
	return list(c, shown, "No functions. `cloudburst fn deploy` adds one, `cloudburst server --examples` serves some.",
		[]any{"name", "runtime", "version", "pool", "level", "workers", "timeout", "attempts", "about"},
		func(f jsonFunction) []any {
			version := any("")
			if f.Version > 0 {
				version = f.Version
			}
			if f.Broken != "" {
				f.About = "broken: " + f.Broken
			}
			return []any{f.Name, f.Runtime, version, f.Pool, f.Level, f.Workers, short(time.Duration(f.TimeoutMS * float64(time.Millisecond))), blank(f.Attempts), clip(f.About, 70)}
		})
}

// brokenIn lists the entries of a registry that can't be used.
func brokenIn(ctx context.Context, client *cloudburst.Client, bucket string) ([]cloudburst.BrokenEntry, error) {
	all, err := client.Broken(ctx)
	return slices.DeleteFunc(all, func(e cloudburst.BrokenEntry) bool { return e.Bucket != bucket }), err
}

// servingNow returns what tells how many workers serve a function.
func servingNow(ctx context.Context, client *cloudburst.Client) (func(*cloudburst.Function) int, error) {
	workers, err := client.Broker().Workers(ctx)
	if err != nil {
		return nil, err
	}
	return func(f *cloudburst.Function) (n int) {
		for _, w := range workers {
			if w.Serves(f.Pool, f.Name) {
				n++
			}
		}
		return n
	}, nil
}

// removed is what scripts get of a removal.
type removed struct {
	Removed []string `json:"removed"`
}

// removeAll removes one after the other, and says which before it fails.
func (c *console) removeAll(names []string, remove func(name string) error) error {
	done := removed{Removed: []string{}}
	var failed error
	for _, name := range names {
		if failed = remove(name); failed != nil {
			break
		}
		done.Removed = append(done.Removed, name)
	}
	err := c.show(done, func() error {
		for _, name := range done.Removed {
			fmt.Fprintf(c.Stdout, "%s removed\n", name)
		}
		return nil
	})
	if failed != nil {
		return failed
	}
	return err
}
