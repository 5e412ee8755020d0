package broker

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// One leads at a time; when it goes, whether it says so or not, another does.
func TestOneLeadsAtATime(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	var leading atomic.Int32
	type term struct {
		who string
		end func()
	}
	terms := make(chan term)
	lead := func(ctx context.Context, b *Broker, who string) error {
		return b.Lead(ctx, "scale", func(held context.Context) error {
			if n := leading.Add(1); n != 1 {
				t.Errorf("%d lead at once", n)
			}
			over := make(chan struct{})
			select {
			case terms <- term{who, func() { close(over) }}:
			case <-held.Done():
			}
			select {
			case <-held.Done():
			case <-over:
			}
			leading.Add(-1)
			return held.Err()
		})
	}
	var all sync.WaitGroup
	stop := map[string]context.CancelFunc{}
	brokers := map[string]*Broker{"a": p.connect("a"), "b": p.connect("b")}
	for who, b := range brokers {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		stop[who] = cancel
		all.Go(func() {
			if err := lead(ctx, b, who); err != nil && !errors.Is(err, ErrClosed) { // as one that died
				t.Errorf("%s: %v", who, err)
			}
		})
	}
	first := <-terms
	stop[first.who]() // it retires: the other follows soon
	second := <-terms
	if second.who == first.who {
		t.Fatalf("%s leads twice", first.who)
	}
	// It dies without a word: its connection is gone, and its key lapses.
	third := make(chan string, 1)
	c := p.connect("c")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	all.Go(func() {
		if err := lead(ctx, c, "c"); err != nil {
			t.Errorf("c: %v", err)
		}
	})
	all.Go(func() { third <- (<-terms).who })
	brokers[second.who].nc.Close()
	if who := <-third; who != "c" {
		t.Errorf("%q leads after %s has died, want c", who, second.who)
	}
	stop[second.who]()
	cancel()
	all.Wait()
}

func TestLeadEndsWithItsWork(t *testing.T) {
	p := newPlatform(t)
	mine := errors.New("mine")
	if err := p.Lead(t.Context(), "x", func(context.Context) error { return mine }); !errors.Is(err, mine) {
		t.Errorf("got %v, want the work's own error", err)
	}
	if err := p.Lead(t.Context(), "no name", nil); wire.KindOf(err) != wire.KindBadName {
		t.Errorf("a bad name: %v", err)
	}
}

// However often the slots change, every call is taken once, and none waits for
// its time-out; and when they are fewer, fewer are taken.
func TestPullerChangesItsSlots(t *testing.T) {
	p := newPlatform(t)
	p.register("echo")
	const calls = 3000
	var mu sync.Mutex
	seen := make(map[uint64]int)
	acked := make(chan int, calls)
	var puller *Puller
	puller = p.NewPuller(DefaultPool, 16, func(d *Delivery) {
		go func() {
			mu.Lock()
			seen[d.Call.Seq]++
			mu.Unlock()
			if err := d.Ack(); err != nil {
				t.Error(err)
			}
			puller.Release()
			acked <- d.Call.Attempt
		}()
	})
	p.start(puller.Run)
	rng := rand.New(rand.NewPCG(1, 2))
	late := 0
	for i := range calls {
		if err := p.Dispatch(t.Context(), wire.Call{Name: "echo", Run: wire.RunID(fmt.Sprint("r", i))}); err != nil {
			t.Fatal(err)
		}
		if i%50 == 0 {
			puller.SetSlots(rng.IntN(20)) // none, too
		}
	}
	puller.SetSlots(3)
	for range calls {
		if attempt := <-acked; attempt > 1 {
			late++
		}
	}
	for seq, n := range seen {
		if n != 1 {
			t.Errorf("call %d was run %d times", seq, n)
		}
	}
	if late > calls/100 {
		t.Errorf("%d of %d calls were on their way when the slots changed, and had to be handed out again", late, calls)
	}
}

func TestPullerWithFewerSlotsTakesFewer(t *testing.T) {
	p := newPlatform(t)
	p.register("echo")
	taken := make(chan *Delivery, 100)
	puller := p.NewPuller(DefaultPool, 16, func(d *Delivery) { taken <- d })
	p.start(puller.Run)
	eventually(t, "it asks", func() bool { lag, err := p.Lag(t.Context(), DefaultPool); return err == nil && lag.Waiting > 0 })
	puller.SetSlots(2) // though it has asked for sixteen
	eventually(t, "it asks for less", func() bool {
		puller.mu.Lock()
		defer puller.mu.Unlock()
		return puller.credit == 2
	})
	for i := range 10 {
		if err := p.Dispatch(t.Context(), wire.Call{Name: "echo", Run: wire.RunID(fmt.Sprint("r", i))}); err != nil {
			t.Fatal(err)
		}
	}
	<-taken
	<-taken
	eventually(t, "the others wait", func() bool { lag, err := p.Lag(t.Context(), DefaultPool); return err == nil && lag.Pending == 8 })
	puller.SetSlots(10)
	for range 8 {
		<-taken
	}
	if busy := puller.Busy(); busy != 10 {
		t.Errorf("%d are busy, want 10", busy)
	}
}

func TestSlotsAreSetFromAfar(t *testing.T) {
	p := newPlatform(t)
	asked := make(chan int, 10)
	p.start(func(ctx context.Context) error {
		return p.ServeSlots(ctx, "w1", func(n int) int { asked <- n; return min(n, 8) })
	})
	eventually(t, "the worker listens", func() bool {
		n, err := p.SetSlots(t.Context(), "w1", 16)
		if err == nil && (n != 8 || <-asked != 16) {
			t.Errorf("got %d, want the 8 that it may have", n)
		}
		return err == nil
	})
	for _, body := range []string{"", "x", "{}", `{"slots":"a"}`} {
		msg, err := p.nc.Request(subjectSlots+"w1", []byte(body), time.Second)
		if err != nil || len(asked) > 0 {
			t.Errorf("%q set slots, or %v", body, err)
		} else if string(msg.Data) == "" {
			t.Errorf("%q was answered by nothing", body)
		}
	}
	if _, err := p.SetSlots(t.Context(), "w2", 1); wire.KindOf(err) != wire.KindUnavailable {
		t.Errorf("a worker that isn't there: %v", err)
	}
}

func TestMeter(t *testing.T) {
	p := newPlatform(t)
	p.register("echo")
	m := p.NewMeter()
	p.start(m.Run)
	workers := []WorkerInfo{{ID: "w1", Pool: DefaultPool, Functions: []string{"echo"}}, {ID: "w2", Pool: "other", Functions: []string{"echo"}}}
	measure := func() PoolLoad {
		t.Helper()
		load, err := m.Measure(t.Context(), DefaultPool, workers)
		if err != nil {
			t.Fatal(err)
		}
		return load
	}
	if load := measure(); load.Arrivals != 0 || load.Service != 0 || load.Pending != 0 {
		t.Errorf("of a pool that nobody called: %+v", load)
	}
	for range 10 {
		p.publish(wire.Call{Name: "echo"})
	}
	stats := map[string]FunctionStats{"echo": {Calls: 4, Took: time.Second}, "dag": {Calls: 1, Took: time.Hour}}
	eventually(t, "the workers are heard, and the calls are counted", func() bool {
		for _, w := range []string{"w1", "w2"} { // again: the meter may not listen yet
			if err := p.PublishStats(w, stats); err != nil {
				t.Fatal(err)
			}
		}
		// The consumer counts a stored call a moment after the call is acknowledged.
		if lag, err := p.Lag(t.Context(), DefaultPool); err != nil || lag.Pending != 10 {
			return false
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		return len(m.heard) == 2
	})
	load := measure()
	if load.Arrivals <= 0 || load.Service != 250*time.Millisecond || load.Pending != 10 {
		t.Errorf("after 10 calls, of which 4 took a second: %+v", load)
	}
	if load := measure(); load.Arrivals != 0 || load.Service != 250*time.Millisecond {
		t.Errorf("after a pause: %+v, want no arrivals, and the time that it had", load)
	}
	if _, err := m.Measure(t.Context(), "none", nil); wire.KindOf(err) != wire.KindUnknown {
		t.Errorf("a pool that there is not: %v", err)
	}
}
