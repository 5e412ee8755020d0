package console

import (
	"context"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/cloudburst-nats/cloudburst"
	"github.com/cloudburst-nats/cloudburst/broker"
)

// completeWithin is how long somebody who pressed Tab waits at most.
const completeWithin = time.Second

// A lister asks the platform for names.
type lister func(ctx context.Context, client *cloudburst.Client) ([]string, error)

// completeFirst completes the first argument with what list finds, and those
// after it not at all; completeAll completes all.
func (c *console) completeFirst(list lister) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveDefault // perhaps an @file
		}
		return c.names(cmd, list), cobra.ShellCompDirectiveNoFileComp
	}
}

func (c *console) completeAll(list lister) cobra.CompletionFunc {
	return func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		return c.names(cmd, list), cobra.ShellCompDirectiveNoFileComp
	}
}

// names runs a lister; a server that can't be reached has no names.
func (c *console) names(cmd *cobra.Command, list lister) []string {
	ctx, cancel := context.WithTimeout(cmd.Context(), completeWithin)
	defer cancel()
	client, err := c.connect(ctx, completeWithin)
	if err != nil {
		return nil
	}
	defer client.Close()
	found, err := list(ctx, client)
	if err != nil {
		return nil
	}
	return found
}

func (c *console) completeContexts(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return contexts(c.contextDir()), cobra.ShellCompDirectiveNoFileComp
}

// callables lists what can be called: functions, then DAGs.
func (c *console) callables(ctx context.Context, client *cloudburst.Client) ([]string, error) {
	names, err := c.functionNames(ctx, client)
	if err != nil {
		return nil, err
	}
	dags, err := c.dagNames(ctx, client)
	return append(names, dags...), err
}

func (c *console) functionNames(ctx context.Context, client *cloudburst.Client) ([]string, error) {
	fns, err := client.Broker().Functions(ctx)
	return namesOf(fns, func(f cloudburst.Function) string { return f.Name }), err
}

func (c *console) dagNames(ctx context.Context, client *cloudburst.Client) ([]string, error) {
	dags, err := client.Broker().DAGs(ctx)
	return namesOf(dags, func(d broker.DAGRecord) string { return d.Name }), err
}

func (c *console) runIDs(ctx context.Context, client *cloudburst.Client) ([]string, error) {
	runs, err := client.Broker().Runs(ctx, broker.RunFilter{Limit: 50})
	return namesOf(runs, func(r broker.RunInfo) string { return string(r.Run) }), err
}

func (c *console) letters(ctx context.Context, client *cloudburst.Client) ([]string, error) {
	dead, err := client.Broker().Dead(ctx, broker.DeadFilter{Limit: 50})
	return namesOf(dead, func(l broker.DeadLetter) string { return strconv.FormatUint(l.Seq, 10) }), err
}

// namespaces lists the buckets that hold state. They are found by the streams
// behind them: a look must not make one.
func (c *console) namespaces(ctx context.Context, client *cloudburst.Client) ([]string, error) {
	return client.Broker().Namespaces(ctx)
}

func namesOf[T any](items []T, name func(T) string) []string {
	names := make([]string, len(items))
	for i, item := range items {
		names[i] = name(item)
	}
	return names
}
