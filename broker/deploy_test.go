package broker

import (
	"context"
	"testing"
	"time"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// A worker that dies while it prepares an image doesn't hold the deployment up
// until that would have had to be done; one that takes its time isn't given up.
func TestDeploymentGivesUpWorkersThatDie(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	f := wire.Function{Name: "f", Pool: "pool"}
	asked := make(chan struct{}, 1)
	serve := func(name string, prepare func(context.Context, wire.Function) error) *Broker {
		t.Helper()
		b := p.connect(name)
		ready := make(chan struct{})
		p.start(func(ctx context.Context) error {
			return b.ServeDeployments(ctx, name, prepare, prepare, func() { close(ready) })
		})
		<-ready
		if err := b.Announce(t.Context(), WorkerInfo{ID: name, Pool: f.Pool, Deploys: true}); err != nil {
			t.Fatal(err)
		}
		return b
	}
	dies := serve("dies", func(ctx context.Context, _ wire.Function) error {
		asked <- struct{}{}
		<-ctx.Done()
		return nil
	})
	ended := make(chan error, 1)
	prepare := func() {
		ctx, cancel := context.WithTimeout(t.Context(), wire.Function{}.LoadWithin()/2)
		defer cancel()
		err := p.PrepareFunction(ctx, f)
		if ctx.Err() != nil {
			t.Error("it was given up only when its time was over")
		}
		ended <- err
	}
	go prepare()
	<-asked
	dies.Close()
	wantKind(t, <-ended, wire.KindUnavailable)

	serve("works", func(ctx context.Context, _ wire.Function) error {
		select {
		case <-time.After(3 * aliveEach):
			asked <- struct{}{}
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	})
	if prepare(); len(asked) == 0 {
		t.Error("nobody waited for the worker that takes its time")
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
