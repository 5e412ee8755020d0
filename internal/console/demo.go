package console

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/cloudburst-nats/cloudburst"
	"github.com/cloudburst-nats/cloudburst/examples/retwis"
	"github.com/cloudburst-nats/cloudburst/internal/cli"
)

func (c *console) demo() *cobra.Command {
	var cfg retwis.Config
	var keep bool
	e := embedded{listen: "none", sync: "default"}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run a Twitter clone under load and verify every post",
		Long: `Runs Retwis, the Twitter clone that the Cloudburst paper measures: people
register, follow, post, reply and read their timelines; then every post that was
acknowledged is checked to be on every timeline that it belongs to, once. If it
isn't, the exit code is 1.

It runs on a server of its own, in a temporary directory, unless --nats or
--context point to another. --keep stays up at the end, for a look inside.`,
		Example: `  cloudburst demo
  cloudburst demo --keep
  cloudburst demo --graph friendships.txt.gz --posts 2000
  cloudburst demo --nats nats://127.0.0.1:4222 --seed 7 -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, flag := range []string{"listen", "store"} {
				if c.conn.given() && cmd.Flags().Changed(flag) {
					return cli.Usagef(cmd, "--%s is for the server inside: with --nats or --context there is none", flag)
				}
			}
			if keep && !cmd.Flags().Changed("listen") {
				e.listen = defaultURL[len("nats://"):]
			}
			cfg.JSON = c.json()
			return c.runDemo(cmd.Context(), cfg, e, keep)
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&keep, "keep", false, "leave the server up at the end, and print commands to look inside")
	flags.StringVar(&cfg.Graph, "graph", "", "file of friendships, one \"a b\" a line, plain or gzipped, instead of generated ones")
	flags.IntVar(&cfg.Users, "users", 0, "how many people there are (default 1000)")
	flags.IntVar(&cfg.Follows, "follows", 0, "how many others each of them follows (default 50)")
	flags.IntVar(&cfg.Posts, "posts", 0, "how many posts are written, half of them replies (default 5000)")
	flags.IntVar(&cfg.Timelines, "timelines", 0, "how many timelines are read (default 4 for each post)")
	flags.StringVar(&cfg.Level, "level", "", "consistency level of the calls (default lww); at session-causal nobody is shown a timeline without its posts")
	flags.Uint64Var(&cfg.Seed, "seed", 0, "another seed makes other people and another mix")
	flags.IntVar(&cfg.Callers, "callers", 0, "how many calls are under way at once (default 64)")
	flags.StringVar(&e.listen, "listen", e.listen, "address for NATS clients while it runs; with --keep "+defaultURL[len("nats://"):])
	flags.StringVar(&e.store, "store", "", "directory of the data, kept at the end (default a temporary one)")
	c.topo.addFlags(cmd)
	return cmd
}

func (c *console) runDemo(ctx context.Context, cfg retwis.Config, e embedded, keep bool) (err error) {
	if e.store == "" && !c.conn.given() {
		if e.store, err = os.MkdirTemp("", "cloudburst-demo-"); err != nil {
			return fmt.Errorf("make a directory for the data: %w", err)
		}
		defer func() { err = errors.Join(err, os.RemoveAll(e.store)) }()
	}
	inside := &e
	if c.conn.given() {
		inside = nil
	}
	node, _, err := c.startNode(ctx, inside, false, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, node.Close()) }()
	cfg.Client = cloudburst.NewClient(node.Broker(), nil)
	if keep {
		cfg.Hold = func(ctx context.Context) {
			out := c.Stdout
			if c.json() {
				out = c.Stderr
			}
			url := first(node.URL(), c.conn.url)
			fmt.Fprintf(out, "\nThe server stays up until Ctrl-C%s. Look inside:\n", at(url))
			for _, command := range retwis.Inspect(url) {
				fmt.Fprintln(out, " ", command)
			}
			<-ctx.Done()
		}
	}
	return retwis.Run(ctx, cfg, c.Stdout)
}

func at(url string) string {
	if url == "" {
		return ""
	}
	return " at " + url
}
