package brokertest_test

import (
	"context"
	"testing"
	"time"

	"github.com/cloudburst-nats/cloudburst/broker/brokertest"
	"github.com/cloudburst-nats/cloudburst/kvlattice"
	"github.com/cloudburst-nats/cloudburst/wire"
)

func TestAcknowledgedWritesSurvive(t *testing.T) {
	for name, fail := range map[string]func(*brokertest.Platform){
		"restart": (*brokertest.Platform).Restart,
		"kill":    (*brokertest.Platform).Kill,
		"cut":     func(p *brokertest.Platform) { p.Cut(); p.Heal() },
	} {
		t.Run(name, func(t *testing.T) {
			p := brokertest.Start(t)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			bucket, err := p.Broker().OpenBucket(ctx, "state")
			if err != nil {
				t.Fatal(err)
			}
			const n = 200
			var last uint64
			for range n {
				if last, err = bucket.PutBase(ctx, "k", kvlattice.Entry{Body: []byte("v")}, last); err != nil {
					t.Fatal(err)
				}
			}
			fail(p)
			var snap kvlattice.Snapshot
			for {
				if snap, err = bucket.Read(ctx, "k", 0); wire.KindOf(err) != wire.KindUnavailable || ctx.Err() != nil {
					break
				}
			}
			if err != nil || snap.Base == nil || snap.Base.Rev != last {
				t.Fatalf("after %s: base %+v, %v, want revision %d", name, snap.Base, err, last)
			}
		})
	}
}

func TestCutRefusesUntilHealed(t *testing.T) {
	p := brokertest.Start(t)
	p.Cut()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := p.Broker().EnsurePlatform(ctx); err == nil {
		t.Fatal("a broker without a network reached the server")
	}
	p.Heal()
	if err := p.Connect("other").EnsurePlatform(t.Context()); err != nil {
		t.Fatal(err)
	}
}
