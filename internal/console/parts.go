package console

import (
	"context"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/cloudburst-nats/cloudburst"
	"github.com/cloudburst-nats/cloudburst/internal/cli"
	"github.com/cloudburst-nats/cloudburst/internal/lifecycle"
)

// serve starts workers and returns once all are ready, one has failed, or ctx has ended.
func serve(ctx context.Context, group *lifecycle.Group, floor *lifecycle.Floor, workers []*cloudburst.Worker) {
	for _, w := range workers {
		floor.Start(w.Serve)
	}
	for _, w := range workers {
		select {
		case <-w.Ready():
		case <-group.Failed():
			return
		case <-ctx.Done():
			return
		}
	}
}

// imagesDir is where the code of functions is kept: with the server's store, if
// that is inside, else in the user's cache.
func (c *console) imagesDir(store string) string {
	if store != "" && !c.conn.given() {
		return filepath.Join(store, "images")
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		dir = os.TempDir()
	}
	return filepath.Join(dir, "cloudburst", "images")
}

func (c *console) runWorker() *cobra.Command {
	var h hosting
	var level string
	var parent bool
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run the functions that are deployed to a pool",
		Long: `Runs calls of what is deployed to --pool, in this process. Any number of workers
share a pool's calls; code is pulled from the platform when it is first needed.
SIGTERM and Ctrl-C drain it: what is being run ends first.`,
		Example: `  cloudburst worker run
  cloudburst worker run --nats nats://n1,nats://n2 --pool heavy --slots 4`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := h.checkHosting(cmd); err != nil {
				return err
			}
			log, err := c.log(cmd, level)
			if err != nil {
				return err
			}
			ctx := cmd.Context()
			if parent {
				ctx = c.withParent(ctx)
			}
			client, err := c.connect(ctx, askWithin)
			if err != nil {
				return err
			}
			defer client.Close()
			if h.images == "" {
				h.images = c.imagesDir("")
			}
			workers := h.serving(client)
			if len(workers) == 0 {
				return cli.Usagef(cmd, "--pool none: it would run nothing")
			}
			group := lifecycle.New(ctx)
			serve(ctx, group, group.Floor(), workers)
			log.WithField("pools", h.pools).Info("worker is ready")
			select {
			case <-ctx.Done():
				draining(log)
			case <-group.Failed():
			}
			return group.Stop()
		},
	}
	h.addFlags(cmd, "in the user's cache")
	c.topo.addIgnored(cmd.Flags(), ignoredSizes...)
	addParent(cmd, &parent)
	addLevel(cmd, &level)
	return cmd
}
