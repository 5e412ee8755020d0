package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// echo finishes a call with its own argument.
func echo(ctx context.Context, d *Delivery, then func(error)) {
	d.Finish(ctx, &wire.Result{Run: d.Call.Run, Name: d.Call.Name, Status: wire.StatusOK, Value: d.Call.Args, Attempts: d.Call.Attempt}, then)
}

func TestCallReturnsWhatTheWorkerSays(t *testing.T) {
	p := newPlatform(t)
	p.register("echo")
	p.work(func(d *Delivery) { echo(t.Context(), d, func(error) {}) })
	r, err := p.Call(t.Context(), wire.Call{Name: "echo", Args: wire.Value{Body: []byte("5")}})
	if err != nil || r.Status != wire.StatusOK || string(r.Value.Body) != "5" || r.Attempts != 1 {
		t.Fatalf("Call = %+v, %v", r, err)
	}
	stored, err := p.Await(t.Context(), r.Run)
	if err != nil || string(stored.Value.Body) != "5" {
		t.Errorf("stored result = %+v, %v", stored, err)
	}
	if _, err := p.Result(t.Context(), "no-such-run"); wire.KindOf(err) != wire.KindUnknown {
		t.Errorf("Result of an unknown run = %v", err)
	}
}

func TestSameIDRunsOnceAndAnswersEveryCaller(t *testing.T) {
	p := newPlatform(t)
	p.register("echo")
	var runs atomic.Int32
	p.work(func(d *Delivery) {
		runs.Add(1)
		echo(t.Context(), d, func(error) {})
	})
	for i := range 3 {
		r, err := p.Call(t.Context(), wire.Call{Name: "echo", Run: "order-1", Args: arg("0")})
		if err != nil || string(r.Value.Body) != "0" {
			t.Errorf("call %d = %s, %v, want the first one's result", i, r.Value.Body, err)
		}
	}
	if n := runs.Load(); n != 1 {
		t.Errorf("ran %d times", n)
	}
}

// A function whose stream an operator has deleted isn't unknown, also to a client that
// never called it: the call waits until the stream is made anew.
func TestCallWaitsForAStreamThatIsMadeAnew(t *testing.T) {
	p := newPlatform(t)
	p.register("echo", "removed")
	if err := p.js.DeleteStream(t.Context(), CallsStream(DefaultPool)); err != nil {
		t.Fatal(err)
	}
	client := p.connect("client")
	start := func(name string) *Pending {
		pending, err := client.Start(t.Context(), wire.Call{Name: name})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(pending.Close)
		eventually(t, "no stream listened", func() bool { return len(pending.absent) > 0 })
		return pending
	}
	gone, given := start("removed"), start("echo")
	if err := p.RemoveFunction(t.Context(), "removed"); err != nil {
		t.Fatal(err)
	}
	_, err := gone.Wait(t.Context())
	wantKind(t, err, wire.KindUnknown)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = given.Wait(ctx)
	wantKind(t, err, wire.KindUnavailable)

	p.register("echo")
	p.work(func(d *Delivery) { echo(t.Context(), d, func(error) {}) })
	if r, err := given.Wait(t.Context()); err != nil || r.Status != wire.StatusOK {
		t.Errorf("Wait = %+v, %v", r, err)
	}
}

func TestCallIsRefusedAtOnce(t *testing.T) {
	p := newPlatform(t)
	p.register("echo")
	for name, want := range map[string]wire.Kind{"nosuch": wire.KindUnknown, "no.such": wire.KindUnknown, "echo@1": wire.KindUnknown} {
		if _, err := p.Call(t.Context(), wire.Call{Name: name}); wire.KindOf(err) != want {
			t.Errorf("Call(%q) = %v, want kind %v", name, err, want)
		}
	}
	if _, err := p.Call(t.Context(), wire.Call{Name: "echo", Run: "a b"}); wire.KindOf(err) != wire.KindBadName {
		t.Errorf("a bad run id: %v", err)
	}
	stored, err := p.Start(t.Context(), wire.Call{Name: "echo"})
	if err != nil {
		t.Fatal(err)
	}
	defer stored.Close()
	if err := stored.Stored(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err = stored.Wait(ctx) // nobody works
	if wire.KindOf(err) != wire.KindTimeout || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "look for it later") {
		t.Errorf("a call that nobody runs: %v", err)
	}
}

// A caller that went without an acknowledgement hears of a full backlog too.
func TestFullBacklogIsHeardWithoutAnAcknowledgement(t *testing.T) {
	p := newPlatform(t)
	b, err := Connect(t.Context(), Config{Server: p.server, Topology: Topology{CallsBytes: 64 << 10}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	if err := b.RegisterFunctions(t.Context(), []wire.Function{{Name: "echo", Pool: "small"}}); err != nil {
		t.Fatal(err)
	}
	call := wire.Call{Name: "echo", Args: wire.Value{Body: make([]byte, 8<<10), Type: "application/octet-stream"}}
	for err == nil {
		err = b.Dispatch(t.Context(), wire.Call{Name: "echo", Run: wire.NewRunID(), Args: call.Args})
	}
	if wire.KindOf(err) != wire.KindBusy {
		t.Fatalf("filling the backlog ended with %v", err)
	}
	b.known.add(CallSubject("echo")) // as if the last one had been stored
	pending, err := b.start(t.Context(), call, true)
	if err != nil {
		t.Fatal(err)
	}
	defer pending.Close()
	if !pending.quiet {
		t.Fatal("the call asked for an acknowledgement")
	}
	if _, err := pending.Wait(t.Context()); wire.KindOf(err) != wire.KindBusy || !strings.Contains(err.Error(), "add workers") {
		t.Errorf("waiting ended with %v, want that the backlog is full", err)
	}
}

func TestReplyGoesToInboxesOnly(t *testing.T) {
	p := newPlatform(t)
	p.register("echo")
	sub, err := p.Conn().SubscribeSync("victim")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan string, 1)
	p.work(func(d *Delivery) { ended <- d.Call.Reply; echo(t.Context(), d, func(error) {}) })
	msg := nats.NewMsg(CallSubject("echo"))
	msg.Header.Set(wire.HeaderReply, "victim")
	if _, err := p.JetStream().PublishMsg(t.Context(), msg); err != nil {
		t.Fatal(err)
	}
	if reply := <-ended; reply != "" {
		t.Errorf("the worker would reply to %q", reply)
	}
	if n, _, err := sub.Pending(); n != 0 || err != nil {
		t.Errorf("%d messages on a subject of somebody else's (%v)", n, err)
	}
}

func TestRunIDOfABareMessage(t *testing.T) {
	p := newPlatform(t)
	p.register("echo")
	ids := make(chan wire.RunID, 2)
	p.work(func(d *Delivery) { ids <- d.Call.Run; echo(t.Context(), d, func(error) {}) })
	for _, id := range []string{"", "not a key"} {
		msg := nats.NewMsg(CallSubject("echo"))
		if id != "" {
			msg.Header.Set(wire.HeaderRun, id)
		}
		ack, err := p.JetStream().PublishMsg(t.Context(), msg)
		if err != nil {
			t.Fatal(err)
		}
		want := wire.RunID(fmt.Sprintf("%s-%d", ack.Stream, ack.Sequence))
		if got := <-ids; got != want {
			t.Errorf("run id of a call with Nats-Msg-Id %q = %q, want %q", id, got, want)
		}
		if _, err := p.Await(t.Context(), want); err != nil {
			t.Errorf("its result: %v", err)
		}
	}
}

// A puller never has more calls in hand than slots, takes every call once, and
// never idles while calls wait.
func TestPullerKeepsToItsSlots(t *testing.T) {
	const calls = 2000
	for _, slots := range []int{1, 2, 3, 16, 64} {
		t.Run(fmt.Sprint(slots), func(t *testing.T) {
			p := newPlatform(t)
			p.register("echo")
			var busy, most atomic.Int32
			var mu sync.Mutex
			seen := make(map[uint64]int)
			acked := make(chan struct{}, calls)
			var puller *Puller
			puller = p.NewPuller(DefaultPool, slots, func(d *Delivery) {
				now := busy.Add(1)
				for old := most.Load(); now > old && !most.CompareAndSwap(old, now); old = most.Load() {
				}
				go func() {
					mu.Lock()
					seen[d.Call.Seq]++
					mu.Unlock()
					busy.Add(-1)
					if err := d.Ack(); err != nil {
						t.Error(err)
					}
					puller.Release()
					acked <- struct{}{}
				}()
			})
			for i := range calls {
				if err := p.Dispatch(t.Context(), wire.Call{Name: "echo", Run: wire.RunID(fmt.Sprint("r", i))}); err != nil {
					t.Fatal(err)
				}
			}
			p.start(puller.Run)
			for range calls {
				<-acked
			}
			if got := int(most.Load()); got > slots {
				t.Errorf("%d calls in hand with %d slots", got, slots)
			}
			for seq, n := range seen {
				if n != 1 {
					t.Errorf("call %d was handed out %d times", seq, n)
				}
			}
		})
	}
}

// Two workers share a backlog instead of one taking it all.
func TestPullersShare(t *testing.T) {
	p := newPlatform(t)
	p.register("echo")
	const calls = 100
	for i := range calls {
		if err := p.Dispatch(t.Context(), wire.Call{Name: "echo", Run: wire.RunID(fmt.Sprint("r", i))}); err != nil {
			t.Fatal(err)
		}
	}
	var took [2]atomic.Int32
	gate := make(chan struct{}, calls)
	done := make(chan struct{}, calls)
	taken := make(chan struct{}, calls)
	for i := range took {
		b := p.connect(fmt.Sprint("worker", i))
		var puller *Puller
		puller = b.NewPuller(DefaultPool, 4, func(d *Delivery) {
			took[i].Add(1)
			taken <- struct{}{}
			go func() {
				<-gate
				if err := d.Ack(); err != nil {
					t.Error(err)
				}
				puller.Release()
				done <- struct{}{}
			}()
		})
		p.start(puller.Run)
	}
	for range 2 * 4 {
		<-taken // both have their slots full
	}
	for range calls {
		gate <- struct{}{}
		<-done
	}
	if a, b := took[0].Load(), took[1].Load(); a == 0 || b == 0 {
		t.Errorf("split %d/%d", a, b)
	}
}

func TestPullerDrains(t *testing.T) {
	p := newPlatform(t)
	p.register("echo")
	ctx, stop := context.WithCancel(t.Context())
	var puller *Puller
	puller = p.NewPuller(DefaultPool, 4, func(d *Delivery) {
		echo(context.WithoutCancel(ctx), d, func(error) {})
		puller.Release()
	})
	ended := make(chan error, 1)
	go func() { ended <- puller.Run(ctx) }()
	if _, err := p.Call(t.Context(), wire.Call{Name: "echo"}); err != nil {
		t.Fatal(err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// A worker that dies with calls in hand loses none of them.
func TestUnsettledCallsAreHandedOutAgain(t *testing.T) {
	p := newPlatform(t)
	p.register("echo")
	attempts := make(chan int, 4)
	p.work(func(d *Delivery) {
		attempts <- d.Call.Attempt
		switch d.Call.Attempt {
		case 1:
			if err := d.Nak(10 * time.Millisecond); err != nil {
				t.Error(err)
			}
		default:
			echo(t.Context(), d, func(error) {})
		}
	})
	r, err := p.Call(t.Context(), wire.Call{Name: "echo"})
	if err != nil || r.Attempts != 2 {
		t.Errorf("Call = %+v, %v, want two attempts", r, err)
	}
	if got := []int{<-attempts, <-attempts}; !slices.Equal(got, []int{1, 2}) {
		t.Errorf("attempts %v", got)
	}
}

func TestParseAck(t *testing.T) {
	for reply, want := range map[string]wire.Call{
		"$JS.ACK.S.workers.2.7.9.1700000000000000000.3":               {Stream: "S", Attempt: 2, Seq: 7},
		"$JS.ACK.dom.hash.S.workers.1.8.9.1700000000000000000.3":      {Stream: "S", Attempt: 1, Seq: 8},
		"$JS.ACK._.hash.S.workers.1.8.9.1700000000000000000.3.random": {Stream: "S", Attempt: 1, Seq: 8},
	} {
		var c wire.Call
		if err := parseAck(reply, &c); err != nil || c.Stream != want.Stream || c.Attempt != want.Attempt || c.Seq != want.Seq || c.Stored.Unix() != 1700000000 {
			t.Errorf("parseAck(%q) = %+v, %v", reply, c, err)
		}
	}
	for _, bad := range []string{"", "x.y", "$JS.ACK.S.workers.a.b.c.d.e", "_INBOX.x"} {
		if err := parseAck(bad, &wire.Call{}); err == nil {
			t.Errorf("parseAck(%q) found something", bad)
		}
	}
}

func TestQuickPubAckAgreesWithTheDecoder(t *testing.T) {
	for data, want := range map[string]struct {
		seq uint64
		ok  bool
	}{
		`{"stream":"S", "seq":7}`:                                            {7, true},
		`{"stream":"S","seq":12345}`:                                         {12345, true},
		`{"stream":"S","seq":7,"duplicate":true}`:                            {0, false},
		`{"stream":"S","domain":"d","seq":7}`:                                {0, false},
		`{"error":{"code":503,"err_code":10077,"description":"full"},"x":1}`: {0, false},
		``: {0, false},
	} {
		if seq, ok := quickPubAck([]byte(data)); seq != want.seq || ok != want.ok {
			t.Errorf("quickPubAck(%s) = %d, %v", data, seq, ok)
		}
	}
}
