package console

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"

	"github.com/spf13/cobra"

	"github.com/cloudburst-nats/cloudburst"
	"github.com/cloudburst-nats/cloudburst/internal/cli"
)

// parts are what a server process runs beside the platform. They end together,
// when the first fails or end is called, and end waits for them.
type parts struct {
	ctx  context.Context //nolint:containedctx // of the goroutines that it owns
	stop context.CancelFunc
	all  sync.WaitGroup

	mu   sync.Mutex // guards errs
	errs []error
}

// newParts outlives ctx: what drains is ended in turn.
func newParts(ctx context.Context) *parts {
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	return &parts{ctx: ctx, stop: stop}
}

// start runs a part until end.
func (p *parts) start(part func(context.Context) error) {
	p.all.Go(func() {
		defer p.stop()
		if err := part(p.ctx); err != nil && !errors.Is(err, context.Canceled) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.errs = append(p.errs, err)
		}
	})
}

// serve starts workers and returns once all are ready, one has failed, which
// end tells, or ctx has ended.
func (p *parts) serve(ctx context.Context, workers []*cloudburst.Worker) {
	for _, w := range workers {
		p.start(w.Serve)
	}
	for _, w := range workers {
		select {
		case <-w.Ready():
		case <-p.ctx.Done():
			return
		case <-ctx.Done():
			return
		}
	}
}

// failed is closed once a part has ended.
func (p *parts) failed() <-chan struct{} { return p.ctx.Done() }

// end ends the parts and returns what they failed with.
func (p *parts) end() error {
	p.stop()
	p.all.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	return errors.Join(p.errs...)
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
			p := newParts(ctx)
			p.serve(ctx, workers)
			log.WithField("pools", h.pools).Info("worker is ready")
			select {
			case <-ctx.Done():
				draining(log)
			case <-p.failed():
			}
			return p.end()
		},
	}
	h.addFlags(cmd, "in the user's cache")
	c.topo.addIgnored(cmd.Flags(), ignoredSizes...)
	addParent(cmd, &parent)
	addLevel(cmd, &level)
	return cmd
}
