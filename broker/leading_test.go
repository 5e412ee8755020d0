package broker

import (
	"context"
	"fmt"
	"testing"

	"github.com/cloudburst-nats/cloudburst/kvlattice"
)

// What a replica's reads lack of a followed key is told, whoever leads: a fence is
// the leader's, and a new leader has everything read again.
func TestFeedOfReplicasMissesNothing(t *testing.T) {
	t.Parallel()
	servers := startCluster(t)
	topology := Topology{Replicas: 3, CallsBytes: 1 << 20, ResultsBytes: 1 << 20}
	b := connectAll(t, topology, servers...)
	var k *Bucket
	until(t, func(ctx context.Context) (err error) {
		k, err = b.OpenBucket(ctx, "state")
		return err
	})
	updates := k.listen(t)
	if err := k.Follow("k"); err != nil {
		t.Fatal(err)
	}
	rev := uint64(0)
	put := func() {
		t.Helper()
		until(t, func(ctx context.Context) error {
			got, err := k.PutBase(ctx, "k", kvlattice.Entry{Body: fmt.Append(nil, rev)}, rev)
			if err == nil {
				rev = got
			}
			return err
		})
	}
	put()
	// A message says nothing of those before it; that its leader still leads does.
	told := false
	for u := next(t, updates); u.AsOf < rev; u = next(t, updates) {
		if u.Key == "k" {
			told = u.Entry.Rev == rev && u.AsOf == 0
		}
	}
	if !told {
		t.Errorf("nobody told of revision %d before it was said to be told", rev)
	}
	fence, err := k.Fence(t.Context())
	if err != nil || fence < rev {
		t.Fatalf("the fence is %d (%v) and %d is stored", fence, err, rev)
	}

	until(t, func(ctx context.Context) error {
		_, err := b.nc.RequestWithContext(ctx, "$JS.API.STREAM.LEADER.STEPDOWN."+k.stream, nil)
		return apiError("step down", k.stream, err)
	})
	for u := next(t, updates); !u.Lost; u = next(t, updates) {
		if u.AsOf > rev {
			t.Errorf("%+v", u)
		}
	}
	put()
	for u := next(t, updates); u.AsOf < rev; {
		u = next(t, updates)
	}
}
