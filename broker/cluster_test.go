package broker

import (
	"context"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// startCluster starts three servers that hold each other's streams.
func startCluster(t *testing.T) []*Server {
	t.Helper()
	servers, routes := make([]*Server, 3), make([]string, 3)
	for i := range routes {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		routes[i] = l.Addr().String()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for i := range servers {
		var err error
		servers[i], err = StartServer(t.Context(), ServerConfig{
			Name: fmt.Sprint("n", i+1), Listen: "127.0.0.1:0", Store: t.TempDir(),
			Cluster: &ClusterConfig{Listen: routes[i], Routes: routes},
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(servers[i].Shutdown)
	}
	return servers
}

// until repeats what fails for want of a leader.
func until(t *testing.T, what func(ctx context.Context) error) {
	t.Helper()
	var err error
	for range 120 {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		err = what(ctx)
		cancel()
		if wire.KindOf(err) != wire.KindUnavailable {
			break
		}
		<-time.After(250 * time.Millisecond)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Of three servers any one may stop: calls go on with the others.
func TestClusterOutlivesOneServer(t *testing.T) {
	t.Parallel()
	servers := startCluster(t)
	b := connectAll(t, Topology{Replicas: 3, CallsBytes: 1 << 20, ResultsBytes: 1 << 20}, servers...)
	until(t, b.EnsurePlatform)
	until(t, func(ctx context.Context) error {
		return b.RegisterFunctions(ctx, []wire.Function{{Name: "f", Pool: DefaultPool, Runtime: "native"}})
	})
	taken := make(chan *Delivery, 100)
	puller := b.NewPuller(DefaultPool, 10, func(d *Delivery) { taken <- d })
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- puller.Run(ctx) }()
	call := func(run string) {
		t.Helper()
		until(t, func(ctx context.Context) error { return b.Dispatch(ctx, wire.Call{Name: "f", Run: wire.RunID(run)}) })
		select {
		case d := <-taken:
			if err := d.Ack(); err != nil || string(d.Call.Run) != run {
				t.Fatalf("took %v, %v, want %s", d.Call.Run, err, run)
			}
			puller.Release()
		case <-time.After(time.Minute):
			t.Fatalf("%s is in no worker's hands", run)
		}
	}
	call("before")
	leader, err := b.leader(t.Context(), CallsStream(DefaultPool))
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range servers {
		if leader == fmt.Sprint("n", i+1) {
			s.Shutdown() // the one that all calls pass
		}
	}
	call("without-" + leader)
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func connectAll(t *testing.T, topology Topology, servers ...*Server) *Broker {
	t.Helper()
	url := ""
	for _, s := range servers {
		url += "," + s.URL()
	}
	b, err := Connect(t.Context(), Config{URL: url[1:], Topology: topology})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

// leader names the server that leads a stream's copies.
func (b *Broker) leader(ctx context.Context, stream string) (string, error) {
	s, err := b.js.Stream(ctx, stream)
	if err != nil {
		return "", err
	}
	return s.CachedInfo().Cluster.Leader, nil
}

// A call that is sent again while its first message is being copied is not
// refused: a stream of copies answers so that nobody knows yet what becomes of it.
func TestCallsSentTwiceAtOnce(t *testing.T) {
	t.Parallel()
	b := connectAll(t, Topology{Replicas: 3, CallsBytes: 1 << 20, ResultsBytes: 1 << 20}, startCluster(t)...)
	until(t, b.EnsurePlatform)
	until(t, func(ctx context.Context) error {
		return b.RegisterFunctions(ctx, []wire.Function{{Name: "f", Pool: DefaultPool, Runtime: "native"}})
	})
	var all sync.WaitGroup
	for i := range 200 {
		call := wire.Call{Name: "f", Run: wire.RunID(fmt.Sprint("r", i))}
		for range 2 {
			all.Go(func() {
				if err := b.Dispatch(t.Context(), call); err != nil {
					t.Error(err)
				}
			})
			all.Go(func() {
				p, err := b.Start(t.Context(), call)
				if err != nil {
					t.Error(err)
					return
				}
				defer p.Close()
				if err := p.Stored(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
	}
	all.Wait()
	if lag, err := b.Lag(t.Context(), DefaultPool); err != nil || lag.Pending != 200 {
		t.Errorf("%d calls wait (%v), want 200", lag.Pending, err)
	}
}
