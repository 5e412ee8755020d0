package console

import (
	"context"
	"errors"

	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"

	"github.com/cloudburst-nats/cloudburst"
	"github.com/cloudburst-nats/cloudburst/broker"
)

// errUnhealthy is what the command ends with when it has found something broken; what
// that is has been shown by then.
var errUnhealthy = errors.New("something is broken: see above")

func (c *console) doctor() *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Look for what is broken",
		Long: `Looks at the platform's streams, its pools, the entries of its registries, its
sizes, what workers say of themselves, timers and dead letters, and lists what is
broken: streams and consumers that somebody deleted, entries that can't be read,
functions that no runtime runs, DAGs that name what isn't there. It changes nothing.

The exit code is 0 if nothing is broken, else 1. A warning, such as a pool without
workers, doesn't count.`,
		Example: `  cloudburst doctor
  cloudburst doctor -o json | jq -r '.[] | select(.health == "broken") | .detail'`,
		Args: cobra.NoArgs,
		RunE: c.on(askWithin, c.examine),
	}
}

func (c *console) examine(ctx context.Context, client *cloudburst.Client, _ []string) error {
	found, err := client.Broker().Examine(ctx)
	if err != nil {
		return err
	}
	broken, err := client.Broken(ctx)
	if err != nil && len(found) == 0 {
		return err
	}
	for _, e := range broken {
		what := "function"
		if e.Bucket == broker.BucketDAGs {
			what = "DAG"
		}
		found = append(found, broker.Finding{What: what, Name: e.Key, Health: broker.HealthBroken, Detail: e.Reason})
	}
	err = list(c, found, "", []any{"what", "name", "health", "detail"}, func(f broker.Finding) []any {
		colour := green
		switch f.Health {
		case broker.HealthWarning:
			colour = yellow
		case broker.HealthBroken:
			colour = red
		}
		return []any{f.What, f.Name, c.paint(colour, f.Health), text.WrapSoft(f.Detail, 100)}
	})
	for _, f := range found {
		if err == nil && f.Health == broker.HealthBroken {
			err = errUnhealthy
		}
	}
	return err
}
