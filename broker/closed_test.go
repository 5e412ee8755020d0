package broker

import (
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// A connection that is closed for good is noticed by all who wait on it.
func TestConnectionClosedForGood(t *testing.T) {
	p := newPlatform(t)
	p.register("f")
	lost := p.connect("lost")
	call, err := lost.Start(t.Context(), wire.Call{Name: "f"})
	if err != nil {
		t.Fatal(err)
	}
	defer call.Close()
	if err := call.Stored(t.Context()); err != nil {
		t.Fatal(err)
	}
	pulling := make(chan error, 1)
	puller := lost.NewPuller(DefaultPool, 1, func(*Delivery) {})
	go func() { pulling <- puller.Run(t.Context()) }()
	lost.nc.Close()
	if _, err := call.Wait(t.Context()); wire.KindOf(err) != wire.KindUnavailable {
		t.Errorf("who waits for a result got %v", err)
	}
	if err := <-pulling; wire.KindOf(err) != wire.KindUnavailable {
		t.Errorf("the puller got %v", err)
	}
	if _, err := lost.put(t.Context(), nats.NewMsg(CallSubject("f"))); err == nil {
		t.Error("a later publish was acknowledged")
	}
}

// While a server is silent the puller asks once: a server honours all requests
// that it finds when it wakes, and there are but so many slots.
func TestSilentServerIsAskedOnce(t *testing.T) {
	t.Parallel()
	server, err := StartServer(t.Context(), ServerConfig{Listen: "127.0.0.1:0", Store: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Shutdown)
	p := &platform{t: t, server: server}
	p.Broker = p.connect("first")
	if err := p.EnsurePlatform(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.register("f")
	line := stallable(t, strings.TrimPrefix(server.URL(), "nats://"))
	worker, err := Connect(t.Context(), Config{URL: line.addr})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(worker.Close)
	const slots = 2
	var taken atomic.Int32
	took := make(chan struct{}, 100)
	puller := worker.NewPuller(DefaultPool, slots, func(*Delivery) { taken.Add(1); took <- struct{}{} })
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- puller.Run(ctx) }()
	if err := worker.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	line.stall()
	<-time.After(3 * pullSilence) // long enough to lose patience more than once
	for range 20 {
		if err := p.Dispatch(t.Context(), wire.Call{Name: "f", Run: wire.NewRunID()}); err != nil {
			t.Fatal(err)
		}
	}
	line.resume()
	for range slots {
		<-took
	}
	<-time.After(pullHeartbeat)
	if n := taken.Load(); n > slots {
		t.Errorf("%d calls in hand, with %d slots", n, slots)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// A stallableWire is a TCP proxy that can stop passing anything on.
type stallableWire struct {
	addr string
	gate sync.RWMutex // held for writing while it is stalled
}

func (w *stallableWire) stall()  { w.gate.Lock() }
func (w *stallableWire) resume() { w.gate.Unlock() }

func stallable(t *testing.T, to string) *stallableWire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &stallableWire{addr: "nats://" + l.Addr().String()}
	var open sync.WaitGroup
	t.Cleanup(func() { l.Close(); open.Wait() })
	open.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				in.Close()
				return
			}
			open.Go(func() { w.pass(in, out) })
			open.Go(func() { w.pass(out, in) })
		}
	})
	return w
}

func (w *stallableWire) pass(from io.Reader, to io.WriteCloser) {
	defer to.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		w.gate.RLock()
		_, err = to.Write(buf[:n])
		w.gate.RUnlock()
		if err != nil {
			return
		}
	}
}
