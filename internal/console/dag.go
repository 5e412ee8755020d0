package console

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cloudburst-nats/cloudburst"
	"github.com/cloudburst-nats/cloudburst/broker"
	"github.com/cloudburst-nats/cloudburst/dagengine"
	"github.com/cloudburst-nats/cloudburst/internal/cli"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// jsonDAG is a DAG as scripts get it; its graph is what `dag apply` reads.
type jsonDAG struct {
	Name      string          `json:"name"`
	Version   string          `json:"version"`
	Pool      string          `json:"pool"`
	About     string          `json:"about"`
	Level     string          `json:"level"`
	Applied   time.Time       `json:"applied"`
	Functions []string        `json:"functions"`
	Graph     json.RawMessage `json:"graph,omitempty"`
	// Broken is why the entry can't be used; of some such only the name is known.
	Broken string `json:"broken,omitempty"`
}

const dagLong = `A DAG is a named graph of functions: an edge carries a result into an argument.
It is called as a function is. A file that "dag apply" reads:

  name: compose
  about: square(increment(x))
  nodes:
    - name: increment          # runs the function of that name
    - name: square
  edges:
    - {from: increment, to: square}

Several edges into a node say where: {from: a, to: join, arg: left} fills a field
of an object, arg: "0" a place of an array. A constant is a node's
with: {left: 5}; a node may have its own timeout, attempts and backoff.

An edge carries something only if its condition holds: when: {field: ok, is: true}
or {field: ok, not: true}. A node with each: true runs once for each item of a list,
one with dag: NAME runs another DAG, one with wait: 1h runs that much later, and
one with signal: NAME once "runs signal" has sent it that.`

func (c *console) dag() *cobra.Command {
	return cli.Group("dag", "Define, list, draw and remove DAGs", dagLong, c.dagApply(), c.dagList(), c.dagShow(), c.dagRemove())
}

func (c *console) dagApply() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "apply FILE",
		Short: "Define a DAG, or a new version of one",
		Long: `Reads a DAG from a YAML or JSON file (- is standard input) and defines it, or a
new version of it: runs that have begun go on with theirs. Everything that is
wrong with it is reported at once, functions that don't exist included.`,
		Example: `  cloudburst dag apply compose.yaml
  cloudburst dag show compose -o json | jq .graph | cloudburst dag apply -`,
		Args: cobra.ExactArgs(1),
	}
	cmd.RunE = c.on(askWithin, func(ctx context.Context, client *cloudburst.Client, args []string) error {
		data, err := c.readFile(args[0])
		if err != nil {
			return cli.Usagef(cmd, "read %s: %w", args[0], err)
		}
		g, err := dagengine.Parse(data)
		if err != nil {
			return inFile(args[0], err)
		}
		plan, err := dagengine.Compile(g)
		if err != nil {
			return err
		}
		if err := client.ApplyDAG(ctx, g); err != nil {
			return err
		}
		return c.show(map[string]string{"name": g.Name, "version": plan.Version()}, func() error {
			_, err := fmt.Fprintf(c.Stdout, "%s applied\n", plan.ID())
			return err
		})
	})
	cmd.Annotations = map[string]string{goesOn: "it may be applied: `cloudburst dag show NAME` tells"}
	c.topo.addIgnored(cmd.Flags(), ignoredSizes...)
	return cmd
}

// inFile says in which file a graph is that can't be read.
func inFile(path string, err error) error {
	if e, ok := err.(*wire.Error); ok && e.Name == "" && path != "-" { //nolint:errorlint // one that is wrapped says more
		named := *e
		named.Name = path
		return &named
	}
	return err
}

func (c *console) readFile(path string) ([]byte, error) {
	if path == "-" {
		return io.ReadAll(c.Stdin)
	}
	return os.ReadFile(path)
}

func (c *console) dagList() *cobra.Command {
	return &cobra.Command{
		Use:   "ls",
		Short: "List the DAGs that can be called",
		Example: `  cloudburst dag ls
  cloudburst dag ls -o json | jq -r '.[].name'`,
		Args: cobra.NoArgs,
		RunE: c.on(askWithin, func(ctx context.Context, client *cloudburst.Client, _ []string) error {
			records, err := client.Broker().DAGs(ctx)
			if err != nil {
				return err
			}
			var shown []jsonDAG
			for _, rec := range records {
				g, err := dagengine.Parse(rec.Spec)
				if err != nil {
					continue // it is among the broken
				}
				dag := dagOf(rec, g)
				dag.Graph = nil
				shown = append(shown, dag)
			}
			broken, err := brokenIn(ctx, client, broker.BucketDAGs)
			if err != nil {
				return err
			}
			for _, e := range broken {
				i := slices.IndexFunc(shown, func(d jsonDAG) bool { return d.Name == e.Key })
				if i < 0 {
					i, shown = len(shown), append(shown, jsonDAG{Name: e.Key})
				}
				shown[i].Broken = e.Reason
			}
			return list(c, shown, "No DAGs. `cloudburst dag --help` shows how to write one.",
				[]any{"name", "version", "level", "pool", "functions", "applied", "about"},
				func(d jsonDAG) []any {
					if d.Broken != "" {
						d.About = "broken: " + d.Broken
					}
					return []any{d.Name, d.Version, d.Level, d.Pool, clip(strings.Join(d.Functions, ", "), 50), ago(d.Applied), clip(d.About, 60)}
				})
		}),
	}
}

func dagOf(rec broker.DAGRecord, g *dagengine.Graph) jsonDAG {
	functions := slices.Compact(slices.Sorted(slices.Values(rec.Functions)))
	return jsonDAG{
		Name: rec.Name, Version: rec.Version, Pool: rec.Pool, About: g.About, Level: levelOf(g.Level), Applied: rec.Applied,
		Functions: functions, Graph: rec.Spec,
	}
}

func (c *console) dagShow() *cobra.Command {
	return &cobra.Command{
		Use:   "show NAME",
		Short: "Draw a DAG",
		Long: `Draws a DAG as a tree and lists its nodes. A node that several others feed hangs
below each of them, and its own branches are drawn once.`,
		Example: `  cloudburst dag show compose
  cloudburst dag show compose -o json | jq .graph > compose.json`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: c.completeFirst(c.dagNames),
		RunE: c.on(askWithin, func(ctx context.Context, client *cloudburst.Client, args []string) error {
			rec, err := client.Broker().DAG(ctx, args[0])
			if err != nil {
				return c.suggest(ctx, client, c.dagNames, args[0], err)
			}
			g, err := dagengine.Parse(rec.Spec)
			if err != nil {
				return err
			}
			return c.show(dagOf(rec, g), func() error { return c.draw(rec, g) })
		}),
	}
}

func (c *console) draw(rec broker.DAGRecord, g *dagengine.Graph) error {
	plan, err := dagengine.Compile(g)
	if err != nil {
		return err
	}
	pools := make(map[string]string)
	for pool, nodes := range rec.Subjects {
		for _, node := range nodes {
			pools[node] = pool
		}
	}
	fmt.Fprintf(c.Stdout, "%s", plan.ID())
	if g.About != "" {
		fmt.Fprintf(c.Stdout, ": %s", g.About)
	}
	fmt.Fprintf(c.Stdout, "\nlevel %s\n\n%s\n", levelOf(g.Level), drawTree(plan, g.Edges))
	var rows [][]any
	for _, n := range plan.Order() {
		rows = append(rows, []any{n.Name, runsWhat(n), pools[n.Name], clip(arguments(n, g.Edges), 70), short(n.Timeout), blank(n.Attempts)})
	}
	return c.table([]any{"node", "function", "pool", "arguments", "timeout", "attempts"}, rows)
}

// runsWhat says what a node runs, and when.
func runsWhat(n *dagengine.Node) string {
	what := n.FunctionName()
	if n.DAG != "" {
		what = "dag " + n.DAG
	}
	if n.Each {
		what += " for each"
	}
	if n.Wait > 0 {
		what += " after " + n.Wait.String()
	}
	return what
}

// levelOf is the consistency level that a name stands for; none is the default.
func levelOf(name string) string {
	return cmp.Or(name, cloudburst.LWW)
}

func blank(n int) any {
	if n == 0 {
		return ""
	}
	return n
}

func (c *console) dagRemove() *cobra.Command {
	return &cobra.Command{
		Use:         "rm NAME...",
		Annotations: map[string]string{goesOn: "some DAGs may be removed: `cloudburst dag ls` tells"},
		Short:       "Remove DAGs",
		Long:        "Removes DAGs: calls of them are refused from now on, runs that have begun go on.",
		Example: `  cloudburst dag rm compose
  cloudburst dag ls -o json | jq -r '.[].name' | xargs cloudburst dag rm`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: c.completeAll(c.dagNames),
		RunE: c.on(askWithin, func(ctx context.Context, client *cloudburst.Client, args []string) error {
			return c.removeAll(args, func(name string) error {
				return c.suggest(ctx, client, c.dagNames, name, client.RemoveDAG(ctx, name))
			})
		}),
	}
}

// suggest adds names that are like the one that nobody knows to an error;
// another error, or none, is returned as it is.
func (c *console) suggest(ctx context.Context, client *cloudburst.Client, names lister, name string, err error) error {
	if wire.KindOf(err) != wire.KindUnknown {
		return err
	}
	known, lookErr := names(ctx, client)
	if hint := cli.DidYouMean(cli.Near(name, known)); lookErr == nil && hint != "" {
		return fmt.Errorf("%w%s", err, hint)
	}
	return err
}
