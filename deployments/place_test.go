package deployments

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/cloudburst-nats/cloudburst/broker"
	"github.com/cloudburst-nats/cloudburst/broker/brokertest"
	"github.com/cloudburst-nats/cloudburst/wire"
	"github.com/cloudburst-nats/cloudburst/workers/placement"
	"github.com/cloudburst-nats/cloudburst/workers/runtime"
	"github.com/cloudburst-nats/cloudburst/workers/runtime/native"
)

// A placed is a worker whose function "who" counts its calls in the state, and
// returns the worker's name.
type placed struct {
	*parts
	name    string
	b       *broker.Broker
	entered chan struct{} // told of each call, if it is not full
	gate    chan struct{} // each call waits for it, once it is set
	stop    context.CancelFunc
	ended   chan error
}

func startPlaced(t *testing.T, p *brokertest.Platform, name string, cfg WorkerConfig) *placed {
	t.Helper()
	w := &placed{
		name: name, b: p.Connect(name), entered: make(chan struct{}, 1), gate: make(chan struct{}),
		ended: make(chan error, 1),
	}
	close(w.gate)
	code := native.Func(func(ctx context.Context, call *runtime.Call) (wire.Value, error) {
		if err := call.State.AddCounter(ctx, call.Namespace, "count", 1); err != nil {
			return wire.Value{}, err
		}
		select {
		case w.entered <- struct{}{}:
		default:
		}
		select {
		case <-w.gate:
		case <-ctx.Done():
		}
		return wire.JSON(name)
	})
	cfg.Functions = []Hosted{{Spec: wire.Function{Name: "who", Pool: broker.DefaultPool, Runtime: "native"}, Code: code}}
	ready := make(chan struct{})
	cfg.Ready = func() { close(ready) }
	var err error
	if w.parts, err = newParts(t.Context(), w.b, cfg.withDefaults()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	w.stop = cancel
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.ended <- w.run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	<-ready
	return w
}

// peers waits until the workers know each other.
func peers(t *testing.T, workers ...*placed) {
	t.Helper()
	for _, w := range workers {
		eventually(t, w.name+" knows the others", func() bool {
			w.placer.mu.Lock()
			defer w.placer.mu.Unlock()
			return w.placer.view.Peers() == len(workers)-1
		})
	}
}

// who calls the function with a reference, and returns which worker ran it.
func who(t *testing.T, b *broker.Broker, key string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	call, err := b.Start(ctx, wire.Call{Name: "who", Run: wire.NewRunID(), Args: wire.Value{Body: fmt.Appendf(nil, `{"$ref":%q}`, key)}})
	if err != nil {
		t.Error(err)
		return ""
	}
	defer call.Close()
	r, err := call.Wait(ctx)
	var name string
	if err == nil {
		err = r.Value.Decode(&name)
	}
	if err != nil {
		t.Errorf("%+v: %v", r, err)
	}
	return name
}

func put(t *testing.T, w *placed, key string) {
	t.Helper()
	session, err := w.stores.Store(t.Context(), broker.DefaultNamespace)
	if err != nil {
		t.Fatal(err)
	}
	store, ok := session.(interface {
		Put(ctx context.Context, key string, v wire.Value) error
	})
	if !ok {
		t.Fatalf("%T puts nothing", session)
	}
	if err := store.Put(t.Context(), key, wire.Value{Body: []byte(`"value"`)}); err != nil {
		t.Fatal(err)
	}
}

func count(t *testing.T, w *placed) int64 {
	t.Helper()
	l, _, err := w.stores.opened(broker.DefaultNamespace).Read(t.Context(), "count", 0)
	if err != nil {
		t.Fatal(err)
	}
	var n int64
	if err := l.Value().Decode(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// settle calls with one key after the other until every worker has taken a call
// over, for which they keep room from then on, and then with "k". It returns the
// worker that has it, and how many calls there were.
func settle(t *testing.T, b *broker.Broker, workers ...*placed) (home *placed, calls int64) {
	t.Helper()
	put(t, workers[0], "k")
	for all := false; !all; calls++ {
		if calls == 500 {
			t.Fatal("500 calls with references, and a worker has taken none over")
		}
		key := fmt.Sprint("k", calls)
		put(t, workers[0], key)
		who(t, b, key)
		all = true
		for _, w := range workers {
			all = all && w.placer.taken.Load() > 0
		}
	}
	name := who(t, b, "k")
	for _, w := range workers {
		if w.name == name {
			return w, calls + 1
		}
	}
	t.Fatalf("there is no worker %q", name)
	return nil, 0
}

func TestPlacement(t *testing.T) {
	t.Parallel()
	p := brokertest.Start(t)
	a, b, c := startPlaced(t, p, "a", WorkerConfig{}), startPlaced(t, p, "b", WorkerConfig{}), startPlaced(t, p, "c", WorkerConfig{})
	peers(t, a, b, c)
	_, calls := settle(t, p.Broker(), a, b, c)
	refs := func() (hits, misses uint64) {
		for _, w := range []*placed{a, b, c} {
			hits += w.placer.hits.Load()
			misses += w.placer.misses.Load()
		}
		return hits, misses
	}
	// A worker that is busy for a moment has its calls run elsewhere, and from then
	// on the key is in two places: so it may take several keys until one stays.
	for round, stays := 0, false; !stays; round++ {
		if round == 10 {
			t.Fatal("none of 10 keys had 30 calls in one place")
		}
		key := fmt.Sprint("round", round)
		put(t, a, key)
		home := who(t, p.Broker(), key)
		hits, misses := refs()
		stays = true
		for range 30 {
			name := who(t, p.Broker(), key)
			stays = stays && name == home
		}
		calls += 31
		now, missed := refs()
		if stays && (now-hits != 30 || missed != misses) {
			t.Errorf("%d references were found in the cache of %s and %d not, want 30 and 0", now-hits, home, missed-misses)
		}
	}
	if n := count(t, a); n != calls {
		t.Errorf("%d calls counted, want %d", n, calls)
	}
}

// A worker that took a call and dies leaves it to the stream, as if it had pulled it.
func TestTakerDies(t *testing.T) {
	t.Parallel()
	p := brokertest.Start(t, brokertest.WithTopology(broker.Topology{AckWait: time.Second}))
	a, b := startPlaced(t, p, "a", WorkerConfig{}), startPlaced(t, p, "b", WorkerConfig{})
	peers(t, a, b)
	home, calls := settle(t, p.Broker(), a, b)
	other := a
	if home == a {
		other = b
	}
	select { // what settle left
	case <-home.entered:
	default:
	}
	home.gate = make(chan struct{}) // nothing is in hand
	taken := home.placer.taken.Load()
	names := make(chan string)
	for range 20 { // some of them are pulled by the other
		go func() { names <- who(t, p.Broker(), "k") }()
	}
	eventually(t, "the home takes a call", func() bool { return home.placer.taken.Load() > taken })
	<-home.entered
	home.b.Close() // it can say nothing more, nor hear
	for range 20 {
		if name := <-names; name != other.name {
			t.Errorf("%s ran a call, want %s, which is left", name, other.name)
		}
	}
	close(home.gate)
	if n := count(t, other); n != calls+20 {
		t.Errorf("%d calls counted, want %d", n, calls+20)
	}
	if lag, err := p.Broker().Lag(t.Context(), broker.DefaultPool); err != nil || lag.Pending > 0 {
		t.Errorf("left in the pool: %+v, %v", lag, err)
	}
}

// A worker that drains gives what it holds to the others, and loses no call.
func TestTakerDrains(t *testing.T) {
	t.Parallel()
	p := brokertest.Start(t)
	a, b := startPlaced(t, p, "a", WorkerConfig{}), startPlaced(t, p, "b", WorkerConfig{})
	peers(t, a, b)
	home, calls := settle(t, p.Broker(), a, b)
	names := make(chan string)
	for range 100 {
		go func() { names <- who(t, p.Broker(), "k") }()
	}
	home.stop()
	for range 100 {
		<-names
	}
	if err := <-home.ended; err != nil {
		t.Errorf("the worker ended with: %v", err)
	}
	home.ended <- nil
	other := a
	if home == a {
		other = b
	}
	if name := who(t, p.Broker(), "k"); name != other.name {
		t.Errorf("%s ran a call, want %s", name, other.name)
	}
	if n := count(t, other); n != calls+101 {
		t.Errorf("%d calls counted, want %d", n, calls+101)
	}
}

func TestWithoutPlacement(t *testing.T) {
	t.Parallel()
	p := brokertest.Start(t)
	a, b := startPlaced(t, p, "a", WorkerConfig{WithoutPlacement: true}), startPlaced(t, p, "b", WorkerConfig{WithoutPlacement: true})
	put(t, a, "k")
	ran := make(map[string]int)
	for range 200 {
		ran[who(t, p.Broker(), "k")]++
	}
	if len(ran) != 2 || a.placer.taken.Load()+b.placer.taken.Load() > 0 {
		t.Errorf("calls by worker: %v, want some by each, which it pulled itself", ran)
	}
}

// A worker that is stopped in mid-air hears an offer and says nothing. The call is
// handed out again, and what it counts is counted once, though both may run it.
func TestTakerIsMute(t *testing.T) {
	t.Parallel()
	p := brokertest.Start(t)
	a := startPlaced(t, p, "a", WorkerConfig{})
	put(t, a, "k")
	offers := make(chan *nats.Msg, 10)
	mute := p.Connect("mute")
	if _, err := mute.Conn().ChanSubscribe("cb.at.mute", offers); err != nil {
		t.Fatal(err)
	}
	s := placement.Summary{
		Worker: "mute", N: 1, Full: true, Slots: 64,
		Keys: map[placement.Key]int64{placement.KeyOf(broker.DefaultNamespace, "k"): 1 << 20},
	}
	// It is alive until it is offered a call.
	var telling sync.WaitGroup
	defer telling.Wait()
	quiet, hush := context.WithCancel(t.Context())
	defer hush()
	telling.Go(func() {
		for quiet.Err() == nil && len(offers) == 0 {
			if err := mute.PublishPlacement(broker.DefaultPool, s); err != nil {
				t.Error(err)
			}
			select {
			case <-time.After(50 * time.Millisecond):
			case <-quiet.Done():
			}
		}
	})
	peers(t, a, a) // one other
	if name := who(t, p.Broker(), "k"); name != "a" {
		t.Errorf("%q ran the call", name)
	}
	select {
	case <-offers:
	default:
		t.Error("the call was not offered to the worker that has its key")
	}
	if n := count(t, a); n != 1 || a.placer.refused.Load() != 1 {
		t.Errorf("%d calls counted, %d offers in vain; want 1 and 1", n, a.placer.refused.Load())
	}
	// It counts as gone until it is heard again: the next call isn't held up by it.
	if name := who(t, p.Broker(), "k"); name != "a" || len(offers) > 0 {
		t.Errorf("%q ran the next call, offered %d times", name, len(offers))
	}
}
