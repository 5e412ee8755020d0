package broker

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// timersOf starts two Timers, on a pool that listens to function f and to node n of DAG d.
func timersOf(t *testing.T) *Broker {
	t.Helper()
	b := connect(t, startServer(t, ServerConfig{Listen: "none"}), Topology{})
	if err := everything(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	for range cap(ended) {
		go func() { ended <- b.NewTimers().Run(ctx) }()
	}
	t.Cleanup(func() {
		stop()
		for range cap(ended) {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	})
	return b
}

// taken takes calls of the pool, one at a time.
func taken(t *testing.T, b *Broker) <-chan *Delivery {
	t.Helper()
	calls := make(chan *Delivery, 10)
	var p *Puller
	p = b.NewPuller("default", 10, func(d *Delivery) {
		calls <- d
		p.Release()
	})
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return calls
}

func TestCallsAreHandedOutLater(t *testing.T) {
	b := timersOf(t)
	calls := taken(t, b)
	began := time.Now()
	call := wire.Call{
		Run: "r.1", Name: "d", DAG: "d@1", Node: "n", Item: 2, Items: 3, Args: wire.Value{Body: []byte("5")},
		Level: "lww", Epoch: 1, Depth: 2, Wait: 400 * time.Millisecond,
	}
	for range 3 { // repeated, it is one
		if err := b.Dispatch(t.Context(), call); err != nil {
			t.Fatal(err)
		}
	}
	got := <-calls
	if took := time.Since(began); took < 390*time.Millisecond {
		t.Errorf("handed out after %v, want 400ms", took)
	}
	c := got.Call
	if c.Run != call.Run || c.Name != "d" || c.DAG != "d@1" || c.Step() != "n.2" || c.Items != 3 || string(c.Args.Body) != "5" ||
		c.Level != "lww" || c.Epoch != 1 || c.Depth != 2 || c.Attempt != 1 {
		t.Errorf("got %+v, want %+v", c, call)
	}
	// Another one is the next that comes, so the first didn't come twice.
	call.Item = 1
	if err := b.Dispatch(t.Context(), call); err != nil {
		t.Fatal(err)
	}
	if next := <-calls; next.Call.Step() != "n.1" {
		t.Errorf("then came %+v", next.Call)
	}
	info, err := b.js.Stream(t.Context(), StreamTimers)
	if err != nil {
		t.Fatal(err)
	}
	for ; info.CachedInfo().State.Msgs > 0; <-time.After(10 * time.Millisecond) { // acknowledged a moment later
		if _, err := info.Info(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// The servers' clock says when a wait ends, however wrong the clock of this machine is.
func TestWaitsGoByTheServersClock(t *testing.T) {
	b := timersOf(t)
	for _, ahead := range []time.Duration{-time.Minute, time.Hour} {
		b.clock.tell(time.Now().Add(ahead))
		call := wire.Call{Run: "r", Name: "f", Wait: time.Minute}
		before := b.Now()
		msg, err := b.timerOf(t.Context(), nats.NewMsg("cb.call.f"), &call)
		if err != nil {
			t.Fatal(err)
		}
		at, err := time.Parse("@at "+time.RFC3339Nano, msg.Header.Get(headerSchedule))
		if err != nil || at.Before(before.Add(call.Wait)) || at.After(b.Now().Add(call.Wait)) {
			t.Errorf("servers that are %v ahead are to hand it out at %v, %v, which is in %v", ahead, at, err, at.Sub(before))
		}
	}
}

func TestTheShortestWait(t *testing.T) {
	b := timersOf(t)
	calls := taken(t, b)
	began := time.Now()
	if err := b.Dispatch(t.Context(), wire.Call{Run: "r", Name: "d", DAG: "d@1", Node: "n", Wait: time.Nanosecond}); err != nil {
		t.Fatal(err)
	}
	<-calls
	if took := time.Since(began); took < MinWait-10*time.Millisecond {
		t.Errorf("handed out after %v, want %v", took, MinWait)
	}
}

// TestARunThatWaitsCanBeCancelled looks at a call that waits for its time.
func TestARunThatWaitsCanBeCancelled(t *testing.T) {
	b := timersOf(t)
	if err := b.RegisterFunctions(t.Context(), []wire.Function{{Name: "f"}}); err != nil {
		t.Fatal(err)
	}
	p, err := b.Start(t.Context(), wire.Call{Run: "r", Name: "f", Wait: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := p.Stored(t.Context()); err != nil {
		t.Fatal(err)
	}
	if info, err := b.RunState(t.Context(), "r"); err != nil || info.Status != wire.StatusPending || info.Name != "f" {
		t.Errorf("RunState = %+v, %v, want f pending", info, err)
	}
	if err := b.Cancel(t.Context(), "r"); err != nil {
		t.Fatal(err)
	}
	if r, err := b.Result(t.Context(), "r"); err != nil || r.Status != wire.StatusCancelled || wire.KindOf(r.Err) != wire.KindCancelled {
		t.Errorf("Result = %+v, %v, want cancelled", r, err)
	}
	if timer, err := b.last(t.Context(), StreamTimers, timerSubject(&wire.Call{Run: "r"})); err != nil || timer != nil {
		t.Errorf("the timer is still there: %v, %v", timer, err)
	}
	if err := b.Cancel(t.Context(), "r"); wire.KindOf(err) != wire.KindConflict {
		t.Errorf("Cancel again = %v, want a conflict", err)
	}
}

func TestCallsOfNobodyAreRefusedAtOnce(t *testing.T) {
	b := timersOf(t)
	if _, err := b.Start(t.Context(), wire.Call{Name: "nobody", Wait: time.Hour}); wire.KindOf(err) != wire.KindUnknown {
		t.Errorf("Start = %v, want unknown", err)
	}
}

// TestTimersGiveUp has a function go before the time of its call.
func TestTimersGiveUp(t *testing.T) {
	b := timersOf(t)
	timers := b.NewTimers()
	call := &nats.Msg{Subject: CallSubject("gone"), Header: nats.Header{wire.HeaderRun: {"r"}}}
	if err := timers.giveUp(t.Context(), call); err != nil {
		t.Fatal(err)
	}
	if r, err := b.Result(t.Context(), "r"); err != nil || r.Name != "gone" || wire.KindOf(r.Err) != wire.KindUnknown {
		t.Errorf("Result = %+v, %v, want an unknown function", r, err)
	}
}

func TestInputsOnce(t *testing.T) {
	b := timersOf(t)
	once := wire.Input{Value: wire.Value{Body: []byte("1")}, Once: true}
	if _, err := b.PutInput(t.Context(), "r", "n", "$signal", once); err != nil {
		t.Fatal(err)
	}
	if _, err := b.PutInput(t.Context(), "r", "n", "$signal", once); wire.KindOf(err) != wire.KindConflict {
		t.Errorf("the second is %v, want a conflict", err)
	}
	seq, err := b.PutInput(t.Context(), "r", "n", "x", wire.Input{Skipped: true})
	if err != nil {
		t.Fatal(err)
	}
	inputs, err := b.Inputs(t.Context(), "r", "n", seq)
	if err != nil || len(inputs) != 2 || !inputs["x"].Skipped || inputs["$signal"].Skipped || string(inputs["$signal"].Body) != "1" {
		t.Errorf("Inputs = %+v, %v", inputs, err)
	}
}
