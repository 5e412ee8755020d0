package gossip

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/cloudburst-nats/cloudburst"
)

// Gossip has actors compute the average of values, one each, and returns what
// each takes it to be. The group names the runs: it is used once.
func Gossip(ctx context.Context, c *cloudburst.Client, group string, values []float64) ([]Estimate, error) {
	estimates := make([]Estimate, len(values))
	g, ctx := errgroup.WithContext(ctx)
	for i, v := range values {
		g.Go(func() (err error) {
			run := cloudburst.RunID(address(group, i))
			estimates[i], err = cloudburst.Call[Estimate](ctx, c.With(cloudburst.WithRunID(run)), Actor, Part{group, i, len(values), v})
			return err
		})
	}
	return estimates, g.Wait()
}

// Gather has a leader compute the same average from state.
func Gather(ctx context.Context, c *cloudburst.Client, group string, values []float64) (mean float64, err error) {
	g, ctx := errgroup.WithContext(ctx)
	for i, v := range values {
		part := Part{group, i, len(values), v}
		g.Go(func() (err error) {
			if i == 0 {
				mean, err = cloudburst.Call[float64](ctx, c, Leader, part)
				return err
			}
			_, err = cloudburst.Call[struct{}](ctx, c, Member, part)
			return err
		})
	}
	return mean, g.Wait()
}

// address is the run of an actor, which is its id too: so they know each other
// before they run, and what is sent to one that doesn't yet waits for it.
func address(group string, index int) string { return fmt.Sprintf("%s/%d", group, index) }
