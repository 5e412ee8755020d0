package broker

import (
	"context"
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/cloudburst-nats/cloudburst/wire"
)

func TestLastArrivalSeesAllInputs(t *testing.T) {
	p := newPlatform(t)
	const arrivals, runs = 16, 60
	for i := range runs {
		run := wire.RunID(fmt.Sprintf("run.%d", i))
		var all atomic.Int32
		var wg sync.WaitGroup
		for edge := range arrivals {
			wg.Go(func() {
				seq, err := p.PutInput(t.Context(), run, "join", fmt.Sprint(edge), wire.Input{Value: wire.Value{Body: []byte("1")}})
				if err != nil {
					t.Error(err)
					return
				}
				inputs, err := p.Inputs(t.Context(), run, "join", seq)
				if err != nil {
					t.Error(err)
				}
				if len(inputs) == arrivals {
					all.Add(1)
				}
			})
		}
		wg.Wait()
		if all.Load() == 0 {
			t.Fatalf("run %s: nobody saw all %d inputs", run, arrivals)
		}
	}
}

func TestInputsKeepTheirEdgesAndTypes(t *testing.T) {
	p := newPlatform(t)
	edges := []string{"", "a", "a.b", "*", ">", "a b", "=", "ünïcode", "x=2Ey", "in.claim"}
	for _, edge := range edges {
		if _, err := p.PutInput(t.Context(), "a.run/1=x", "join", edge, wire.Input{Value: wire.Value{Body: []byte(edge), Type: "text/plain"}, Past: `{"after":{"state":7}}`}); err != nil {
			t.Fatal(err)
		}
	}
	// Another node, and another run, whose names begin alike.
	for _, other := range []struct{ run, node string }{{"a.run/1=x", "join2"}, {"a.run/1=xy", "join"}} {
		if _, err := p.PutInput(t.Context(), wire.RunID(other.run), other.node, "a", wire.Input{Value: wire.Value{Body: []byte("wrong")}}); err != nil {
			t.Fatal(err)
		}
	}
	inputs, err := p.Inputs(t.Context(), "a.run/1=x", "join", 0)
	if err != nil {
		t.Fatal(err)
	}
	got, want := slices.Sorted(maps.Keys(inputs)), slices.Sorted(slices.Values(edges))
	if !slices.Equal(got, want) {
		t.Errorf("got edges %q, want %q", got, want)
	}
	for edge, v := range inputs {
		if string(v.Body) != edge || v.Type != "text/plain" {
			t.Errorf("edge %q carries %q of type %q", edge, v.Body, v.Type)
		}
		if v.Past != `{"after":{"state":7}}` {
			t.Errorf("edge %q carries the session %q", edge, v.Past)
		}
	}
}

func TestLargeInput(t *testing.T) {
	p := newPlatform(t)
	body := make([]byte, 700<<10)
	for i := range body {
		body[i] = byte(i * i >> 3)
	}
	long := `{"workers":["` + base64.StdEncoding.EncodeToString(body) + `"]}` // more than headers hold
	if _, err := p.PutInput(t.Context(), "r", "n", "e", wire.Input{Value: wire.Value{Body: body, Type: "application/octet-stream"}, Past: long}); err != nil {
		t.Fatal(err)
	}
	inputs, err := p.Inputs(t.Context(), "r", "n", 0)
	if err != nil {
		t.Fatal(err)
	}
	if got := inputs["e"]; string(got.Body) != string(body) || got.Type != "application/octet-stream" || got.Past != long {
		t.Errorf("got %d bytes of %q, and a session of %d bytes", len(got.Body), got.Type, len(got.Past))
	}
}

func TestOneCallClaimsANode(t *testing.T) {
	p := newPlatform(t)
	var won atomic.Uint64
	var wg sync.WaitGroup
	for call := range uint64(8) {
		wg.Go(func() {
			owner, err := p.Claim(t.Context(), "r", "n", call+1, false)
			if err != nil {
				t.Error(err)
			}
			if owner == call+1 && !won.CompareAndSwap(0, call+1) {
				t.Errorf("calls %d and %d both claimed the node", won.Load(), call+1)
			}
		})
	}
	wg.Wait()
	again, err := p.Claim(t.Context(), "r", "n", won.Load(), false)
	if err != nil || again != won.Load() {
		t.Errorf("the call that has the claim, handed out again: %v, %v", again, err)
	}
	other, err := p.Claim(t.Context(), "r", "n", 99, false)
	if err != nil || other != won.Load() {
		t.Errorf("a late call: %v, %v, want refused", other, err)
	}
	if owner, err := p.Claim(t.Context(), "r", "other", 99, false); err != nil || owner != 99 {
		t.Errorf("another node: %v, %v", owner, err)
	}
}

func TestTimings(t *testing.T) {
	p := newPlatform(t)
	now := time.Now().UTC()
	for i, node := range []string{"c", "a", "b"} {
		if err := p.Done(t.Context(), "r", wire.NodeTiming{Node: node, Worker: "w", Started: now.Add(time.Duration(i) * time.Second), Took: time.Second}); err != nil {
			t.Fatal(err)
		}
	}
	list, err := p.Timings(t.Context(), "r")
	if err != nil || len(list) != 3 || list[0].Node != "c" || list[2].Node != "b" || list[0].Took != time.Second || !list[0].Started.Equal(now) {
		t.Errorf("got %+v, %v, want c, a, b", list, err)
	}
	none, err := p.Timings(t.Context(), "nobody")
	if err != nil || len(none) != 0 {
		t.Errorf("got %+v, %v, want none", none, err)
	}
}

// listen gathers what Cancelled tells.
func listen(p *platform, b *Broker) func(wire.RunID) bool {
	var mu sync.Mutex
	heard := make(map[wire.RunID]bool)
	p.start(func(ctx context.Context) error {
		return b.Cancelled(ctx, func(run wire.RunID) {
			mu.Lock()
			defer mu.Unlock()
			heard[run] = true
		})
	})
	return func(run wire.RunID) bool {
		mu.Lock()
		defer mu.Unlock()
		return heard[run]
	}
}

func TestCancel(t *testing.T) {
	p := newPlatform(t)
	p.register("f")
	early := listen(p, p.connect("early"))
	run := p.publish(wire.Call{Run: "a.b=c", Name: "f"})
	eventually(t, "the listener listens", func() bool { return p.nc.Flush() == nil })
	if err := p.Cancel(t.Context(), run); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a worker that runs hears of it", func() bool { return early(run) })
	late := listen(p, p.connect("late"))
	eventually(t, "a worker that starts later hears of it", func() bool { return late(run) })

	wantKind(t, p.Cancel(t.Context(), "nobody"), wire.KindUnknown)
	wantKind(t, p.Cancel(t.Context(), "not valid"), wire.KindBadName)
	done := p.publish(wire.Call{Name: "f"})
	p.work(func(d *Delivery) { p.succeed(d, "1") })
	if _, err := p.Await(t.Context(), done); err != nil {
		t.Fatal(err)
	}
	wantKind(t, p.Cancel(t.Context(), done), wire.KindConflict)
}

func TestCancellationsWhileAwayAreHeard(t *testing.T) {
	p := newPlatform(t)
	heard := listen(p, p.connect("listener"))
	// One mark so that we know it listens, one that it can't have been told of.
	if err := p.nc.Publish(subjectCancel+"first", nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the listener listens", func() bool {
		return p.nc.Publish(subjectCancel+"first", nil) == nil && heard("first")
	})
	if _, err := p.put(t.Context(), &nats.Msg{Subject: runSubject("a.run", runCancel)}); err != nil {
		t.Fatal(err)
	}
	if heard("a.run") {
		t.Fatal("heard of a mark that nobody told of")
	}
	p.server.Shutdown()
	if err := p.server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the mark is found after the reconnect", func() bool { return heard("a.run") })
}

func TestTokens(t *testing.T) {
	for _, s := range []string{"", "a", "a.b", "=", "==", "=2E", "*>", " ", "\x00\xff", "日本", "a=", "-_Z9"} {
		token := escapeToken(s)
		if unescapeToken(token) != s {
			t.Errorf("%q became %q became %q", s, token, unescapeToken(token))
		}
	}
	for _, run := range []wire.RunID{"a", "a.b", "a=2Eb", "x/y=z.1"} {
		if got := unescapeToken(runToken(run)); got != string(run) {
			t.Errorf("%q became %q", run, got)
		}
	}
}

func FuzzTokens(f *testing.F) {
	for _, s := range []string{"", "=", "a.b", "=2", "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		token := escapeToken(s)
		if unescapeToken(token) != s {
			t.Errorf("%q became %q", s, token)
		}
		for i := range len(token) {
			if c := token[i]; c == '.' || c == '*' || c == '>' || c <= ' ' || c >= 0x7f {
				t.Errorf("%q became %q, which is no token", s, token)
			}
		}
		unescapeToken(s) // anything at all must not panic
	})
}
