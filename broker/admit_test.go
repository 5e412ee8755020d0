package broker

import (
	"context"
	"math"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// serve runs calls of the default pool as a worker does, and returns how many it ran:
// echo what was admitted, acknowledge what has ended, and hand the rest back.
func (p *platform) serve() *atomic.Int64 {
	ran := new(atomic.Int64)
	p.work(func(d *Delivery) {
		verdict, err := p.Admit(context.Background(), &d.Call)
		switch {
		case err != nil, verdict == wire.LookUp:
			err = d.Nak(10 * time.Millisecond)
		case verdict == wire.Ended:
			err = d.Ack()
		default:
			ran.Add(1)
			p.ending.Add(1)
			d.Finish(context.Background(), &wire.Result{Run: d.Call.Run, Name: d.Call.Name, Status: wire.StatusOK, Value: d.Call.Args, Attempts: d.Call.Attempt, Digest: d.Call.Digest}, func(err error) {
				defer p.ending.Done()
				if err != nil {
					p.t.Errorf("finish %s: %v", d.Call.Run, err)
				}
			})
		}
		if err != nil {
			p.t.Errorf("settle %s: %v", d.Call.Run, err)
		}
	})
	return ran
}

// forget purges the calls that are settled and restarts the server: it has then
// forgotten which ids it had within the window of duplicates.
func (p *platform) forget() {
	p.t.Helper()
	last := p.publish(wire.Call{Name: "echo"}) // the janitor keeps the newest
	if _, err := p.Await(p.t.Context(), last); err != nil {
		p.t.Fatal(err)
	}
	j := p.NewJanitor(JanitorConfig{MinCalls: 1})
	eventually(p.t, "settled calls are purged", func() bool {
		return j.sweep(p.t.Context()) == nil && p.state(DefaultPool).Msgs == 1
	})
	p.server.Shutdown()
	if err := p.server.Start(p.t.Context()); err != nil {
		p.t.Fatal(err)
	}
	eventually(p.t, "the server is back", func() bool {
		_, err := p.Lag(p.t.Context(), DefaultPool)
		return err == nil
	})
}

// next takes the next call out of the default pool and leaves it unsettled.
func (p *platform) next() *Delivery {
	p.t.Helper()
	consumer, err := p.js.Consumer(p.t.Context(), CallsStream(DefaultPool), CallsConsumer)
	if err != nil {
		p.t.Fatal(err)
	}
	msg, err := consumer.Next()
	if err != nil {
		p.t.Fatal(err)
	}
	d, err := p.delivery(&nats.Msg{Subject: msg.Subject(), Reply: msg.Reply(), Header: msg.Headers(), Data: msg.Data()})
	if err != nil {
		p.t.Fatal(err)
	}
	return d
}

// named hands out a call of echo under an id that its caller chose, as it is once the
// stream has forgotten an earlier one.
func (p *platform) named(run wire.RunID, argument string) *Delivery {
	p.t.Helper()
	sub, err := p.nc.SubscribeSync(nats.NewInbox())
	if err != nil {
		p.t.Fatal(err)
	}
	p.heardAt[sub.Subject] = sub
	p.publish(wire.Call{Name: "echo", Args: arg(argument), Reply: sub.Subject})
	d := p.next()
	d.Call.Run, d.Call.Fresh = run, false
	return d
}

// heard waits for what the caller of a named call is told.
func (p *platform) heard(d *Delivery, status wire.Status, code string) {
	p.t.Helper()
	msg, err := p.heardAt[d.Call.Reply].NextMsg(time.Minute)
	if err != nil || msg.Header.Get(wire.HeaderStatus) != string(status) || msg.Header.Get(wire.HeaderServiceErrorCode) != code {
		p.t.Errorf("the caller of call %d heard %+v, %v, want %s", d.Call.Seq, msg, err, status)
	}
}

// end ends a call with a result and waits until that is stored.
func (p *platform) end(d *Delivery, r *wire.Result) {
	p.t.Helper()
	done := make(chan error, 1)
	d.Finish(context.Background(), r, func(err error) { done <- err })
	if err := <-done; err != nil {
		p.t.Fatal(err)
	}
}

func arg(text string) wire.Value { return wire.Value{Body: []byte(text)} }

// An id holds as long as its run's result, also when the stream has forgotten it.
func TestAnIDOutlivesTheWindowOfDuplicates(t *testing.T) {
	p := newPlatform(t)
	p.register("echo", "other")
	ran := p.serve()
	call := wire.Call{Name: "echo", Run: "order-1", Args: arg(`{"a": 1}`)}
	if _, err := p.Call(t.Context(), call); err != nil {
		t.Fatal(err)
	}
	p.forget()
	before := ran.Load()
	call.Args = arg(`{"a":1}`) // the same JSON
	r, err := p.Call(t.Context(), call)
	if err != nil || r.Status != wire.StatusOK || string(r.Value.Body) != `{"a": 1}` {
		t.Errorf("called again: %+v, %v, want the first result", r, err)
	}
	for _, other := range []wire.Call{
		{Name: "echo", Run: "order-1", Args: arg("2")},
		{Name: "other", Run: "order-1", Args: arg(`{"a":1}`)},
	} {
		r, err := p.Call(t.Context(), other)
		if err == nil && r.Err != nil {
			err = r.Err
		}
		wantKind(t, err, wire.KindConflict)
	}
	if n := ran.Load() - before; n != 0 {
		t.Errorf("ran %d times again", n)
	}
	if r, err := p.Result(t.Context(), "order-1"); err != nil || string(r.Value.Body) != `{"a": 1}` {
		t.Errorf("the result is now %+v, %v", r, err)
	}
}

// A stream drops a second call with the same id, whatever else it holds: its caller is
// told at every door.
func TestADroppedCallWithAnotherArgumentIsAConflict(t *testing.T) {
	p := newPlatform(t)
	p.register("echo")
	nc := p.gateway()
	call := func(b *Broker, argument string) error {
		r, err := b.Call(t.Context(), wire.Call{Name: "echo", Run: "order-1", Args: arg(argument)})
		if err == nil && r.Err != nil {
			err = r.Err
		}
		return err
	}
	ask := func(argument string) *nats.Msg {
		t.Helper()
		msg := nats.NewMsg("cb.fn.echo")
		msg.Header.Set(wire.HeaderRun, "order-1")
		msg.Data = []byte(argument)
		answer, err := nc.RequestMsg(msg, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		return answer
	}
	first, err := p.Start(t.Context(), wire.Call{Name: "echo", Run: "order-1", Args: arg("1")})
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if err := first.Stored(t.Context()); err != nil {
		t.Fatal(err)
	}
	// While nobody has run the first:
	second, err := p.Start(t.Context(), wire.Call{Name: "echo", Run: "order-1", Args: arg("2")})
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	wantKind(t, second.Stored(t.Context()), wire.KindConflict)
	wantKind(t, call(p.connect("another"), "2"), wire.KindConflict)
	if code := ask("2").Header.Get(wire.HeaderServiceErrorCode); code != "409" {
		t.Errorf("a request with another argument got the code %q", code)
	}
	// And when it has ended:
	ran := p.serve()
	if r, err := first.Wait(t.Context()); err != nil || string(r.Value.Body) != "1" {
		t.Fatalf("the first: %+v, %v", r, err)
	}
	wantKind(t, call(p.Broker, "2"), wire.KindConflict)
	if code := ask("2").Header.Get(wire.HeaderServiceErrorCode); code != "409" {
		t.Errorf("a request with another argument got the code %q", code)
	}
	if err := call(p.Broker, "1"); err != nil {
		t.Error(err)
	}
	if answer := ask("1"); string(answer.Data) != "1" {
		t.Errorf("a repeated request got %q", answer.Data)
	}
	if n := ran.Load(); n != 1 {
		t.Errorf("ran %d times", n)
	}
}

// While a run is under way, a second call of it waits for its end: also one that the
// stream has let through.
func TestARepeatAttachesToARunUnderWay(t *testing.T) {
	p := newPlatform(t)
	p.register("echo")
	first := p.named("order-1", "1")
	again, other := p.named("order-1", "1"), p.named("order-1", "2")
	admit := func(d *Delivery, want wire.Verdict) {
		t.Helper()
		got, err := p.Admit(t.Context(), &d.Call)
		if err != nil || got != want {
			t.Fatalf("call %d is admitted with %v, %v, want %v", d.Call.Seq, got, err, want)
		}
	}
	admit(first, wire.RunIt)
	admit(again, wire.LookUp)
	admit(other, wire.Ended)
	p.heard(other, wire.StatusFailed, "409")
	admit(first, wire.RunIt) // handed out again
	p.end(first, &wire.Result{Run: "order-1", Name: "echo", Status: wire.StatusOK, Value: arg("1"), Digest: first.Call.Digest})
	p.heard(first, wire.StatusOK, "")
	admit(again, wire.Ended)
	p.heard(again, wire.StatusOK, "")
	admit(first, wire.Ended)
	p.heard(first, wire.StatusOK, "")
	eventually(t, "no claim is left", func() bool {
		_, found, err := p.claimOf(t.Context(), "order-1")
		return err == nil && !found
	})
}

// A worker may die between a run's result and the release of its id. Once the result
// is gone the id is free again.
func TestAClaimOfARunThatEndedIsTakenOver(t *testing.T) {
	p := newPlatform(t)
	p.register("echo")
	first := p.named("order-1", "1")
	if v, err := p.Admit(t.Context(), &first.Call); v != wire.RunIt || err != nil {
		t.Fatal(v, err)
	}
	if err := first.Ack(); err != nil {
		t.Fatal(err)
	}
	again := p.named("order-1", "1")
	eventually(t, "the id is free", func() bool {
		v, err := p.Admit(t.Context(), &again.Call)
		return err == nil && v == wire.RunIt
	})
	third := p.named("order-1", "1")
	if v, err := p.Admit(t.Context(), &third.Call); v != wire.LookUp || err != nil {
		t.Errorf("a third call is admitted with %v, %v", v, err)
	}
	third.Call.Attempt = attachAtMost
	if v, err := p.Admit(t.Context(), &third.Call); v != wire.Ended || err != nil {
		t.Errorf("a third call that has waited for long is admitted with %v, %v", v, err)
	}
	// The state of a DAG's run says that it goes on, though its call is settled.
	dag := p.named("order-2", "1")
	if v, err := p.Admit(t.Context(), &dag.Call); v != wire.RunIt || err != nil {
		t.Fatal(v, err)
	}
	if _, err := p.PutInput(t.Context(), "order-2", "$start", "version", wire.Input{Value: arg(`"d@1"`)}); err != nil {
		t.Fatal(err)
	}
	if err := dag.Ack(); err != nil {
		t.Fatal(err)
	}
	repeat := p.named("order-2", "1")
	if v, err := p.Admit(t.Context(), &repeat.Call); v != wire.LookUp || err != nil {
		t.Errorf("a repeat of a run that has state is admitted with %v, %v", v, err)
	}
}

// What of calls that a caller doesn't name: only those that may be repeats are
// compared with the results.
func TestOfARunThatHasEndedNothingIsRunAgain(t *testing.T) {
	p := newPlatform(t)
	p.register("echo")
	end := func(run wire.RunID, status wire.Status, by string) {
		t.Helper()
		r := &wire.Result{Run: run, Name: "echo", Status: status, By: by}
		if status != wire.StatusOK {
			r.Err = &wire.Error{Name: "echo", Kind: wire.KindFunction, Msg: "no"}
		}
		h, body := r.Encode()
		if _, err := p.put(t.Context(), &nats.Msg{Subject: bucketSubject(BucketResults, string(run)), Header: h, Data: body}); err != nil {
			t.Fatal(err)
		}
	}
	end("good", wire.StatusOK, "")
	end(wire.Contained("good", 0, "n"), wire.StatusOK, "")
	end("bad", wire.StatusFailed, "CB_CALLS_default-7")
	end("cancelled", wire.StatusCancelled, "")
	end("CB_CALLS_default-9", wire.StatusOK, "")
	node := wire.Call{Fresh: true, Name: "echo", Node: "n", DAG: "echo@1", Stream: "CB_CALLS_default"}
	with := func(c wire.Call, run wire.RunID, seq uint64, attempt int, doubtful bool) wire.Call {
		c.Run, c.Seq, c.Attempt, c.Doubtful, c.Stored = run, seq, attempt, doubtful, time.Now()
		return c
	}
	whole := wire.Call{Fresh: true, Name: "echo", Stream: "CB_CALLS_default"}
	inner, byFunction := whole, whole
	inner.Depth, inner.Fresh = 1, false
	byFunction.Depth, byFunction.Fresh = 1, false // under an id that the function chose
	fromOldStream := with(whole, "CB_CALLS_default-9", 9, 2, true)
	fromOldStream.Stored = time.Now().Add(time.Hour)
	clockAhead := with(whole, "CB_CALLS_default-9", 9, 2, true)
	clockAhead.Stored = time.Now().Add(time.Minute)
	for name, c := range map[string]struct {
		call wire.Call
		want wire.Verdict
	}{
		"the first time, fresh":                {with(whole, "good", 5, 1, false), wire.RunIt},
		"again":                                {with(whole, "good", 5, 2, false), wire.Ended},
		"in doubt":                             {with(whole, "good", 5, 1, true), wire.Ended},
		"in doubt, of a run without result":    {with(whole, "none", 5, 1, true), wire.RunIt},
		"in doubt, failed":                     {with(whole, "bad", 5, 1, true), wire.Ended},
		"a contained run":                      {with(inner, wire.Contained("good", 0, "n"), 5, 1, false), wire.Ended},
		"a call that a function names":         {with(byFunction, "good", 5, 1, false), wire.Ended},
		"a node":                               {with(node, "good", 5, 1, true), wire.Ended},
		"a node of a cancelled run":            {with(node, "cancelled", 5, 1, true), wire.Ended},
		"the node that failed":                 {with(node, "bad", 7, 1, true), wire.Ended},
		"another node of a run that failed":    {with(node, "bad", 8, 1, true), wire.RunIt},
		"without an id":                        {with(whole, "CB_CALLS_default-9", 9, 1, true), wire.Ended},
		"without an id, of a stream made anew": {fromOldStream, wire.RunIt},
		"stored by a server whose clock is a minute ahead of that of the results": {clockAhead, wire.Ended},
	} {
		if got, err := p.Admit(t.Context(), &c.call); err != nil || got != c.want {
			t.Errorf("%s: %v, %v, want %v", name, got, err, c.want)
		}
	}
}

// A node's dead letter that is replayed has its run go on, and holds the run's id
// while there is no result.
func TestReplayHoldsTheID(t *testing.T) {
	p := newPlatform(t)
	p.register("echo")
	named := p.named("order-1", "1")
	if v, err := p.Admit(t.Context(), &named.Call); v != wire.RunIt || err != nil {
		t.Fatal(v, err)
	}
	if err := named.Ack(); err != nil {
		t.Fatal(err)
	}
	if err := p.EnsurePool(t.Context(), DefaultPool, []string{NodeSubject("echo", "n")}); err != nil {
		t.Fatal(err)
	}
	p.publish(wire.Call{Run: "order-1", Name: "echo", DAG: "echo@1", Node: "n", Digest: named.Call.Digest})
	failed := p.next()
	why := &wire.Error{Name: "echo", Kind: wire.KindFunction, Msg: "no"}
	if err := failed.Bury(t.Context(), why); err != nil {
		t.Fatal(err)
	}
	p.end(failed, &wire.Result{Run: "order-1", Name: "echo", Status: wire.StatusFailed, Err: why, Digest: failed.Call.Digest})
	letters, err := p.Dead(t.Context(), DeadFilter{})
	if err != nil || len(letters) != 1 {
		t.Fatal(letters, err)
	}
	if _, err := p.Replay(t.Context(), letters[0].Seq); err != nil {
		t.Fatal(err)
	}
	replayed := p.next()
	if v, err := p.Admit(t.Context(), &replayed.Call); v != wire.RunIt || err != nil {
		t.Errorf("the replayed call is admitted with %v, %v", v, err)
	}
	if replayed.Call.Digest != named.Call.Digest {
		t.Errorf("the replayed call has the fingerprint %q, want %q", replayed.Call.Digest, named.Call.Digest)
	}
	if err := p.Done(t.Context(), "order-1", wire.NodeTiming{Node: "m"}); err != nil { // state
		t.Fatal(err)
	}
	other := p.named("order-1", "2")
	if v, err := p.Admit(t.Context(), &other.Call); v != wire.Ended || err != nil {
		t.Errorf("a call of the id with another argument is admitted with %v, %v", v, err)
	}
	p.heard(other, wire.StatusFailed, "409")
}

// A timer with an id that has one is a repeat or a conflict, and the one that is set
// stays.
func TestATimerOfTheSameID(t *testing.T) {
	b := timersOf(t)
	if err := b.RegisterFunctions(t.Context(), []wire.Function{{Name: "f", Pool: DefaultPool, Runtime: "native"}}); err != nil {
		t.Fatal(err)
	}
	calls := taken(t, b)
	start := func(name, argument string, wait time.Duration) error {
		p, err := b.Start(t.Context(), wire.Call{Name: name, Run: "order-1", Args: arg(argument), Wait: wait})
		if err != nil {
			return err
		}
		defer p.Close()
		return p.Stored(t.Context())
	}
	if err := start("f", "1", time.Second); err != nil {
		t.Fatal(err)
	}
	if err := start("f", "1", time.Hour); err != nil {
		t.Errorf("the same timer again: %v", err)
	}
	wantKind(t, start("f", "2", time.Hour), wire.KindConflict)
	d := <-calls
	if string(d.Call.Args.Body) != "1" || !d.Call.Named() {
		t.Errorf("handed out: %+v", d.Call)
	}
}

func TestDoubt(t *testing.T) {
	var d doubt
	d.begin()
	gen, due := d.ask()
	if !due || !d.of(3) {
		t.Fatal("at first all is in doubt, and the stream is asked")
	}
	if _, due := d.ask(); due {
		t.Error("it is asked once")
	}
	d.answered(gen, 5, true)
	for seq, want := range map[uint64]bool{4: true, 5: true, 6: false, 7: false} {
		fresh := d // in any order
		fresh.highest = 3
		if got := fresh.of(seq); got != want {
			t.Errorf("call %d in doubt: %v", seq, got)
		}
	}
	d.of(9)
	if !d.of(8) || d.upTo != math.MaxUint64 {
		t.Error("a consumer that goes back is another one: all is in doubt")
	}
	d.answered(gen, 5, true)
	if d.upTo != math.MaxUint64 {
		t.Error("an answer to an earlier question counts")
	}
	gen, _ = d.ask()
	d.answered(gen, 0, false)
	if _, due := d.ask(); !due {
		t.Error("a question without answer is asked again")
	}
}

// What a server held when it was lost sight of is in doubt; what comes after is not.
func TestCallsAreInDoubtAfterAReconnect(t *testing.T) {
	b := connect(t, startServer(t, ServerConfig{Listen: "none"}), Topology{})
	if err := everything(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	calls := make(chan *Delivery)
	p := b.NewPuller("default", 1, func(d *Delivery) { calls <- d })
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	settled := func() {
		t.Helper()
		eventually(t, "the stream is asked", func() bool {
			p.mu.Lock()
			defer p.mu.Unlock()
			return p.doubt.upTo != math.MaxUint64
		})
	}
	store := func() {
		t.Helper()
		if err := b.Dispatch(t.Context(), wire.Call{Name: "f", Run: wire.NewRunID()}); err != nil {
			t.Fatal(err)
		}
	}
	handedOut := func(want bool) {
		t.Helper()
		if d := <-calls; d.Call.Doubtful != want || d.Call.Attempt != 1 {
			t.Errorf("call %d in doubt: %v, at attempt %d", d.Call.Seq, d.Call.Doubtful, d.Call.Attempt)
		}
	}
	settled()
	store()
	handedOut(false)
	store() // it waits for the slot
	p.lost()
	settled()
	store()
	p.Release()
	handedOut(true)
	p.Release()
	handedOut(false)
}
