package commands

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cloudburst-nats/cloudburst/bench/anomalies"
	"github.com/cloudburst-nats/cloudburst/bench/paper"
	"github.com/cloudburst-nats/cloudburst/internal/cli"
)

// The experiments of the paper. Their tables have what the paper saw beside them.

func benchComposition(c *console) *cobra.Command {
	var cfg paper.CompositionConfig
	cmd := &cobra.Command{
		Use:   "composition",
		Short: "Measure two functions composed, in six ways",
		Long: `Measures square(increment(x)) over two worker processes: as a DAG, fused and with a
hop, called one after the other, with one function calling the other, and, without
Cloudburst, as a chain of plain NATS micro services and with the state handed on in
a plain KV bucket. The paper's section 6.1.1.`,
		Example: "  cloudburst-bench composition --calls 1000",
		Args:    cobra.NoArgs,
		RunE: run(func(ctx context.Context) error {
			cfg.JSON = c.json()
			return paper.Composition(ctx, cfg, c.stdout)
		}),
	}
	flags := cmd.Flags()
	flags.IntVar(&cfg.Calls, "calls", 0, "calls of each way one by one, and as many in parallel (default 1000)")
	flags.IntVar(&cfg.Callers, "callers", 0, "how many call in parallel (default 8)")
	flags.IntVar(&cfg.Rounds, "rounds", 0, "how often the ways take turns (default 5)")
	storeFlag(cmd, &cfg.Store)
	return cmd
}

func benchGossip(c *console) *cobra.Command {
	var cfg paper.GossipConfig
	cmd := &cobra.Command{
		Use:   "gossip",
		Short: "Measure an average by messages and from state",
		Long: `Measures how long functions that run at the same time take to agree on their
average to within 5 % by sending each other messages, and how long a leader takes
to gather their values from state. The paper's section 6.1.3.`,
		Example: "  cloudburst-bench gossip --actors 10 --repeats 200",
		Args:    cobra.NoArgs,
		RunE: run(func(ctx context.Context) error {
			cfg.JSON = c.json()
			return paper.Gossip(ctx, cfg, c.stdout)
		}),
	}
	flags := cmd.Flags()
	flags.IntVar(&cfg.Actors, "actors", 0, "how many have a value each (default 10)")
	flags.IntVar(&cfg.Repeats, "repeats", 0, "averages of each way (default 200)")
	flags.IntVar(&cfg.Workers, "workers", 0, "worker processes (default 2)")
	flags.Uint64Var(&cfg.Seed, "seed", 1, "another seed draws other values")
	storeFlag(cmd, &cfg.Store)
	return cmd
}

func benchPrediction(c *console) *cobra.Command {
	var cfg paper.PredictionConfig
	cmd := &cobra.Command{
		Use:   "prediction",
		Short: "Measure what a pipeline of three stages costs as a DAG",
		Long: `Measures a prediction pipeline, which resizes an image, runs a small convolutional
network with random weights, and keeps the likeliest classes: as plain functions in
one process, as a DAG on one worker, and over three. The paper's section 6.3.1.`,
		Example: "  cloudburst-bench prediction --images 200",
		Args:    cobra.NoArgs,
		RunE: run(func(ctx context.Context) error {
			cfg.JSON = c.json()
			return paper.Prediction(ctx, cfg, c.stdout)
		}),
	}
	flags := cmd.Flags()
	flags.IntVar(&cfg.Images, "images", 0, "images that each way classifies (default 200)")
	flags.IntVar(&cfg.Rounds, "rounds", 0, "how often the ways take turns (default 5)")
	flags.Uint64Var(&cfg.Seed, "seed", 1, "another seed draws other images")
	storeFlag(cmd, &cfg.Store)
	return cmd
}

func benchRetwis(c *console) *cobra.Command {
	var cfg paper.RetwisConfig
	cmd := &cobra.Command{
		Use:   "retwis",
		Short: "Measure the Twitter clone with more and more workers",
		Long: `Measures the Twitter clone of 'cloudburst demo retwis' on one, two and four worker
processes, at levels lww and causal: calls a second, how they scale, how long reads
and posts take, and how often a reader was shown what a causal level excludes. Half
of the posts are replies, and four of five calls read. The state is verified in the
end. The paper's section 6.3.2.`,
		Example: "  cloudburst-bench retwis --workers 1,2 --users 200 --follows 20 --posts 1000",
		Args:    cobra.NoArgs,
		RunE: run(func(ctx context.Context) error {
			cfg.JSON = c.json()
			if !cfg.JSON {
				cfg.Progress = c.stderr
			}
			return paper.Retwis(ctx, cfg, c.stdout)
		}),
	}
	flags := cmd.Flags()
	flags.IntSliceVar(&cfg.Workers, "workers", nil, "numbers of worker processes (default 1,2,4)")
	flags.StringSliceVar(&cfg.Levels, "levels", nil, "only these: "+strings.Join(anomalies.Levels(), ", ")+" (default lww,causal)")
	flags.IntVar(&cfg.Users, "users", 0, "people (default 1000)")
	flags.IntVar(&cfg.Follows, "follows", 0, "how many others each follows (default 50)")
	flags.IntVar(&cfg.Posts, "posts", 0, "posts, half of them replies; there are four reads for each (default 5000)")
	flags.IntVar(&cfg.Callers, "callers", 0, "how many call at once (default 64)")
	storeFlag(cmd, &cfg.Store)
	cli.Complete(cmd, "levels", cobra.FixedCompletions(anomalies.Levels(), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}
