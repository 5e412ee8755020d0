package broker

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cloudburst-nats/cloudburst/wire"
)

func boom() *wire.Error {
	return &wire.Error{Op: "run", Name: "f", Kind: wire.KindPanic, Msg: "index out of range\nat line 3", Stack: "goroutine 1 [running]:\nmain.f()"}
}

func TestBuryAndReadADeadLetter(t *testing.T) {
	p := newPlatform(t)
	p.register("f")
	run := p.publish(wire.Call{Run: "my-run", Name: "f", Level: "causal", Args: wire.Value{Body: []byte("a,b\n"), Type: "text/csv"}})
	d := p.take()
	d.Worker = "first"
	for range 2 { // a repetition makes no second letter
		if err := d.Bury(t.Context(), boom()); err != nil {
			t.Fatal(err)
		}
	}
	list, err := p.Dead(t.Context(), DeadFilter{})
	if err != nil || len(list) != 1 {
		t.Fatalf("got %d letters, %v, want 1", len(list), err)
	}
	one, err := p.DeadLetter(t.Context(), list[0].Seq)
	if err != nil {
		t.Fatal(err)
	}
	if one.Run != run || one.Name != "f" || one.Level != "causal" || one.Attempts != 1 || one.Worker != "first" || one.Buried.IsZero() {
		t.Errorf("got %+v", one)
	}
	if string(one.Args.Body) != "a,b\n" || one.Args.Type != "text/csv" {
		t.Errorf("got arguments %q of %q", one.Args.Body, one.Args.Type)
	}
	if got, want := toJSON(t, one.Err), toJSON(t, boom()); got != want {
		t.Errorf("got failure %s, want %s", got, want)
	}
	_, err = p.DeadLetter(t.Context(), one.Seq+1)
	wantKind(t, err, wire.KindUnknown)
}

func TestHugeFailureIsClipped(t *testing.T) {
	p := newPlatform(t)
	p.register("f")
	p.publish(wire.Call{Name: "f"})
	e := boom()
	e.Stack, e.Msg = strings.Repeat("stäck\n", 50_000), strings.Repeat("\x00", 50_000)
	if err := p.take().Bury(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	list, err := p.Dead(t.Context(), DeadFilter{})
	if err != nil || len(list) != 1 || !strings.HasPrefix(list[0].Err.Stack, "stäck\n") {
		t.Errorf("got %d letters, %v", len(list), err)
	}
}

func TestDeadLettersNewestFirst(t *testing.T) {
	p := newPlatform(t)
	p.register("f", "rare")
	for i := range 200 {
		name := "f"
		if i == 3 || i == 150 {
			name = "rare"
		}
		p.publish(wire.Call{Run: wire.RunID(fmt.Sprint("run", i)), Name: name})
		d := p.take()
		if err := d.Bury(t.Context(), boom()); err != nil {
			t.Fatal(err)
		}
		if err := d.Ack(); err != nil {
			t.Fatal(err)
		}
	}
	list, err := p.Dead(t.Context(), DeadFilter{Limit: 100})
	if err != nil || len(list) != 100 || list[0].Run != "run199" || list[99].Run != "run100" {
		t.Errorf("got %d letters, %v, want run199 to run100", len(list), err)
	}
	list, err = p.Dead(t.Context(), DeadFilter{Name: "rare"})
	if err != nil || len(list) != 2 || list[0].Run != "run150" || list[1].Run != "run3" {
		t.Errorf("of rare: got %+v, %v", list, err)
	}
	_, err = p.Dead(t.Context(), DeadFilter{Name: "*"})
	wantKind(t, err, wire.KindBadName)
}

func TestReplay(t *testing.T) {
	p := newPlatform(t)
	p.register("f")
	run := p.publish(wire.Call{Run: "my-run", Name: "f", Level: "causal", Args: wire.Value{Body: []byte("7")}})
	d := p.take()
	if err := d.Bury(t.Context(), boom()); err != nil {
		t.Fatal(err)
	}
	if err := d.Ack(); err != nil {
		t.Fatal(err)
	}
	again, err := p.Replay(t.Context(), 1)
	if err != nil || again == run {
		t.Fatalf("got run %q, %v, want a new one", again, err)
	}
	c := p.take().Call
	if c.Run != again || c.Name != "f" || c.Level != "causal" || string(c.Args.Body) != "7" {
		t.Errorf("got call %+v", c)
	}
	_, err = p.Replay(t.Context(), 1)
	wantKind(t, err, wire.KindUnknown)
	list, err := p.Dead(t.Context(), DeadFilter{})
	if err != nil || len(list) != 0 {
		t.Errorf("the replayed letter is still there: %+v, %v", list, err)
	}
}

func TestReplayOfALargeCall(t *testing.T) {
	p := newPlatform(t)
	p.register("f")
	body := []byte(`"` + strings.Repeat("large ", 100_000) + `"`)
	p.publish(wire.Call{Name: "f", Args: wire.Value{Body: body}})
	calls := make(chan *Delivery, 2)
	p.work(func(d *Delivery) { calls <- d })
	d := <-calls
	if err := d.Bury(t.Context(), boom()); err != nil {
		t.Fatal(err)
	}
	if err := d.Ack(); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Replay(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	args, err := p.Unpack(t.Context(), (<-calls).Call.Args)
	if err != nil || string(args.Body) != string(body) || args.Type != "" {
		t.Errorf("got %d bytes of %q, %v", len(args.Body), args.Type, err)
	}
}

func TestReplayOfANodeGoesOnWithItsRun(t *testing.T) {
	p := newPlatform(t)
	p.register("f")
	rec := DAGRecord{Name: "d", Version: "1", Spec: []byte("{}"), Subjects: map[string][]string{DefaultPool: {"n"}}}
	if err := p.ApplyDAG(t.Context(), rec); err != nil {
		t.Fatal(err)
	}
	p.publish(wire.Call{Run: "r", Name: "d", DAG: "d@1", Node: "n", Args: wire.Value{Body: []byte("7")}})
	d := p.take()
	if owner, err := p.Claim(t.Context(), "r", "n", d.Call.Seq, false); err != nil || owner != d.Call.Seq {
		t.Fatalf("claim: %v, %v", owner, err)
	}
	if err := d.Bury(t.Context(), boom()); err != nil {
		t.Fatal(err)
	}
	p.finish("r", "d", wire.StatusFailed)
	run, err := p.Replay(t.Context(), 1)
	if err != nil || run != "r" {
		t.Fatalf("got run %q, %v, want r", run, err)
	}
	if _, err := p.Result(t.Context(), "r"); wire.KindOf(err) != wire.KindUnknown {
		t.Errorf("the run goes on and still has a result: %v", err)
	}
	again := p.take()
	if c := again.Call; c.Run != "r" || c.Node != "n" || c.DAG != "d@1" || string(c.Args.Body) != "7" || c.Seq == d.Call.Seq {
		t.Errorf("got call %+v", c)
	}
	if owner, err := p.Claim(t.Context(), "r", "n", again.Call.Seq, false); err != nil || owner != again.Call.Seq {
		t.Errorf("the replayed call can't claim its node: %v, %v", owner, err)
	}
}
