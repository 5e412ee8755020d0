package broker

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// offer hands a delivery over and returns the answer.
func (p *platform) offer(d *Delivery, to string, within time.Duration) Answer {
	p.t.Helper()
	answer := make(chan Answer, 1)
	p.HandOver(d, to, within, func(a Answer, _ int) { answer <- a })
	select {
	case a := <-answer:
		return a
	case <-time.After(time.Minute):
		p.t.Fatal("no answer, and no end of the time for one")
		return Absent
	}
}

// offerThere offers until the other worker listens.
func (p *platform) offerThere(d *Delivery, to string) Answer {
	p.t.Helper()
	for range 2000 {
		if a := p.offer(d, to, time.Minute); a != Absent {
			return a
		}
	}
	p.t.Fatal(to + " never listens")
	return Absent
}

func TestHandOver(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	p.register("square")
	sent := wire.Call{Name: "square", Args: wire.Value{Body: []byte(`{"$ref":"k"}`)}, Level: "repeatable", Reply: "_INBOX.me"}
	sent.Run = p.publish(sent)
	d := p.take()

	other := p.connect("other")
	room := make(chan bool, 1)
	taken := make(chan *Delivery, 1)
	p.start(func(ctx context.Context) error {
		return other.ServeHandovers(ctx, "w2", DefaultPool, func(d *Delivery) (bool, int) {
			if !<-room {
				return false, 64
			}
			taken <- d
			return true, 1
		})
	})
	if a := p.offer(d, "nobody", time.Minute); a != Absent {
		t.Errorf("offered to nobody: %v, want Absent", a)
	}
	room <- false
	if a := p.offerThere(d, "w2"); a != Busy {
		t.Errorf("offered to one without room: %v, want Busy", a)
	}
	room <- true
	if a := p.offer(d, "w2", time.Minute); a != Taken {
		t.Fatalf("offered to one with room: %v, want Taken", a)
	}
	got := <-taken
	if got.Call.Name != "square" || got.Call.Run != sent.Run || got.Call.Attempt != 1 || got.Call.Seq != d.Call.Seq ||
		string(got.Call.Args.Body) != `{"$ref":"k"}` || got.Call.Level != "repeatable" || got.Call.Reply != "_INBOX.me" {
		t.Errorf("took %+v, want what was published: %+v", got.Call, sent)
	}
	// The taker's acknowledgement is the call's.
	if err := got.Ack(); err != nil {
		t.Fatal(err)
	}
	if err := other.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	for tries := 0; ; tries++ {
		lag, err := p.Lag(t.Context(), DefaultPool)
		if err != nil {
			t.Fatal(err)
		}
		if lag.AckPending == 0 && lag.Pending == 0 {
			break
		}
		if tries > 5000 {
			t.Fatalf("the call is still in hand: %+v", lag)
		}
	}
}

// A worker that doesn't answer may have the call or not: it is handed out again, and
// that delivery has a number of its own.
func TestHandOverWithoutAnswer(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	p.register("square")
	run := p.publish(wire.Call{Name: "square", Args: wire.Value{Body: []byte("5")}})
	d := p.take()
	heard := make(chan struct{}, 1)
	mute := p.connect("mute")
	if _, err := mute.nc.Subscribe(subjectAt+"mute", func(*nats.Msg) { heard <- struct{}{} }); err != nil {
		t.Fatal(err)
	}
	if err := mute.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	if a := p.offer(d, "mute", time.Millisecond); a != Silent {
		t.Fatalf("offered to one that doesn't answer: %v, want Silent", a)
	}
	<-heard
	if err := d.Again(); err != nil {
		t.Fatal(err)
	}
	again := p.take()
	if again.Call.Run != run || again.Call.Attempt != 2 {
		t.Errorf("handed out again: run %s, attempt %d; want %s and 2", again.Call.Run, again.Call.Attempt, run)
	}
	if err := again.Ack(); err != nil {
		t.Fatal(err)
	}
}

func TestHandOverOfAnotherPool(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	p.register("square")
	p.publish(wire.Call{Name: "square"})
	d := p.take()
	other := p.connect("other")
	p.start(func(ctx context.Context) error {
		return other.ServeHandovers(ctx, "w2", "gpu", func(d *Delivery) (bool, int) {
			t.Errorf("took %+v, of another pool", d.Call)
			return true, 1
		})
	})
	if a := p.offerThere(d, "w2"); a != Busy {
		t.Errorf("answer %v, want Busy", a)
	}
}

// What is asked of the server and what is in hand never exceed the slots, and calls
// that are handed over get 70 % of them.
func TestPullerAccepts(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	p.register("square")
	puller := p.NewPuller(DefaultPool, 10, func(*Delivery) {})
	puller.Reserve(func(slots int) int { return slots * 7 / 10 })
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- puller.Run(ctx) }()
	books := func() (busy, credit int) {
		puller.mu.Lock()
		defer puller.mu.Unlock()
		if puller.busy+puller.credit > 10 {
			t.Fatalf("%d busy and %d asked for, of 10 slots", puller.busy, puller.credit)
		}
		return puller.busy, puller.credit
	}
	eventually := func(what string, ok func(busy, credit int) bool) {
		t.Helper()
		for end := time.Now().Add(time.Minute); time.Now().Before(end); {
			if ok(books()) {
				return
			}
		}
		busy, credit := books()
		t.Fatalf("never: %s; %d busy, %d asked for", what, busy, credit)
	}
	eventually("all slots are asked for", func(_, credit int) bool { return credit == 10 })
	if puller.Accept() {
		t.Fatal("took a call though the server was asked for as many as there are slots")
	}
	eventually("room is kept", func(_, credit int) bool { return credit == 3 })
	for i := range 7 {
		if !puller.Accept() {
			t.Fatalf("has no room for call %d of 7", i+1)
		}
		books()
	}
	if puller.Accept() {
		t.Error("took a call while it is 70 % busy")
	}
	puller.Release()
	if !puller.Accept() {
		t.Error("has no room though a call has ended")
	}
	p.publish(wire.Call{Name: "square"}) // it pulls the rest itself
	eventually("a call is pulled beside them", func(busy, _ int) bool { return busy == 8 })
	puller.mu.Lock()
	puller.offered = time.Now().Add(-2 * reserveFor)
	puller.mu.Unlock()
	eventually("it asks for all again", func(busy, credit int) bool { return busy+credit == 10 })
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	for range 7 {
		puller.Release()
	}
	if puller.Accept() {
		t.Error("took a call though it is draining")
	}
}
