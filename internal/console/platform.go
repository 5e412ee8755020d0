package console

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cloudburst-nats/cloudburst"
	"github.com/cloudburst-nats/cloudburst/autoscaler"
	"github.com/cloudburst-nats/cloudburst/internal/cli"
)

// jsonWorker is a worker as scripts get it.
type jsonWorker struct {
	ID            string    `json:"id"`
	Pool          string    `json:"pool"`
	Host          string    `json:"host"`
	PID           int       `json:"pid"`
	Slots         int       `json:"slots"`
	Busy          int       `json:"busy"`
	Blocked       int       `json:"blocked"`   // without a slot: they wait for others
	Functions     []string  `json:"functions"` // the first hundred, if there are more
	FunctionCount int       `json:"function_count"`
	Started       time.Time `json:"started"`
	Calls         uint64    `json:"calls"`
	Failures      uint64    `json:"failures"`
	Retries       uint64    `json:"retries"`
	Restarts      uint64    `json:"restarts"`
	Pinned        int64     `json:"pinned"`
	CacheBytes    int64     `json:"cache_bytes"`
	CacheKeys     int       `json:"cache_keys"`
}

// servedNames says in a few words what a worker serves.
func servedNames(w jsonWorker) string {
	names := strings.Join(w.Functions, ", ")
	if w.FunctionCount > len(w.Functions) {
		return fmt.Sprintf("%d: %s", w.FunctionCount, names)
	}
	return names
}

func (c *console) worker() *cobra.Command {
	ls := &cobra.Command{
		Use:   "ls",
		Short: "List the workers that are there",
		Example: `  cloudburst worker ls
  cloudburst worker ls -o json | jq 'map(.slots - .busy) | add'`,
		Args: cobra.NoArgs,
		RunE: c.on(askWithin, func(ctx context.Context, client *cloudburst.Client, _ []string) error {
			workers, err := client.Broker().Workers(ctx)
			if err != nil {
				return err
			}
			var shown []jsonWorker
			for _, w := range workers {
				shown = append(shown, jsonWorker{
					ID: w.ID, Pool: w.Pool, Host: w.Host, PID: w.PID, Slots: w.Slots, Busy: w.Busy, Blocked: w.Blocked, Functions: w.Functions, FunctionCount: w.FunctionCount, Started: w.Started,
					Calls: w.Calls, Failures: w.Failures, Retries: w.Retries, Restarts: w.Restarts, Pinned: w.Pinned,
					CacheBytes: w.CacheBytes, CacheKeys: w.CacheKeys,
				})
			}
			return list(c, shown, "No workers: calls are stored and wait. `cloudburst server --examples` runs one.",
				[]any{"id", "pool", "host", "pid", "busy", "slots", "calls", "failures", "retries", "cached", "started", "functions"},
				func(w jsonWorker) []any {
					return []any{
						w.ID, w.Pool, w.Host, w.PID, w.Busy, w.Slots, w.Calls, w.Failures, w.Retries,
						size(w.CacheBytes), ago(w.Started), clip(servedNames(w), 40),
					}
				})
		}),
	}
	return cli.Group("worker", "List and run workers", `A worker is a process that runs calls of one pool, as many at once as it has
slots. It shows its numbers every three seconds; ten seconds after it was last
heard it is gone from the list, and its calls have gone to others before.`, ls, c.runWorker())
}

// jsonPool is a pool as scripts get it.
type jsonPool struct {
	Pool        string `json:"pool"`
	Pending     uint64 `json:"pending"`     // calls that no worker has taken yet
	InHand      int    `json:"in_hand"`     // calls that workers have
	Redelivered int    `json:"redelivered"` // of those: handed out before
	Workers     int    `json:"workers"`
	Wants       int    `json:"wants"` // workers that could take all of it at once
	Slots       int    `json:"slots"`
	Functions   int    `json:"functions"`
}

func (c *console) pool() *cobra.Command {
	ls := &cobra.Command{
		Use:   "ls",
		Short: "List the pools and what waits in them",
		Example: `  cloudburst pool ls
  cloudburst pool ls -o json | jq -r '.[] | select(.pending > 1000).pool'`,
		Args: cobra.NoArgs,
		RunE: c.on(askWithin, c.listPools),
	}
	return cli.Group("pool", "List pools and what waits in them", `A pool is a queue of calls and the workers that take them. It is what scales: more
workers for one pool, more pools for more queues. WANTS is how many workers could
take all that waits at once.`, ls)
}

func (c *console) listPools(ctx context.Context, client *cloudburst.Client, _ []string) error {
	b := client.Broker()
	names, err := b.Pools(ctx)
	if err != nil {
		return err
	}
	workers, err := b.Workers(ctx)
	if err != nil {
		return err
	}
	functions, err := b.Functions(ctx)
	if err != nil {
		return err
	}
	shown := make([]jsonPool, len(names))
	for i, name := range names {
		lag, err := b.Lag(ctx, name)
		if err != nil {
			return err
		}
		p := jsonPool{Pool: name, Pending: lag.Pending, InHand: lag.AckPending, Redelivered: lag.Redelivered}
		for _, w := range workers {
			if w.Pool == name {
				p.Workers++
				p.Slots += w.Slots
			}
		}
		for _, f := range functions {
			if f.Pool == name {
				p.Functions++
			}
		}
		policy := autoscaler.Policy{}
		if p.Workers > 0 {
			policy.Slots = p.Slots / p.Workers
		}
		p.Wants = autoscaler.Workers(policy, autoscaler.Measurement{Pending: p.Pending, InHand: p.InHand})
		shown[i] = p
	}
	return list(c, shown, "No pools: a worker makes its own when it starts.",
		[]any{"pool", "pending", "in hand", "redelivered", "workers", "wants", "slots", "functions"},
		func(p jsonPool) []any {
			return []any{p.Pool, p.Pending, p.InHand, p.Redelivered, p.Workers, p.Wants, p.Slots, p.Functions}
		})
}
