package broker

import (
	"fmt"
	"testing"
	"time"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// A run that isn't there is not waited for; one that waits, in whatever way, is there.
func TestWhatIsMissing(t *testing.T) {
	b := timersOf(t)
	call := func(c wire.Call) {
		t.Helper()
		if err := b.Dispatch(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	call(wire.Call{Run: "waits", Name: "f"})
	call(wire.Call{Run: "of-a-node", Name: "d", DAG: "d@1", Node: "n"})
	call(wire.Call{Run: "later", Name: "f", Wait: time.Hour})
	if _, err := b.PutInput(t.Context(), "a.dag", "$start", "version", wire.Input{Value: arg(`"d@1"`)}); err != nil {
		t.Fatal(err)
	}
	for run, want := range map[wire.RunID]bool{
		"waits": false, "of-a-node": false, "later": false, "a.dag": false,
		"CB_CALLS_default-2": false, "CB_CALLS_default-3": true, "nobody": true, "wait": true,
	} {
		if got, err := b.missing(t.Context(), run); err != nil || got != want {
			t.Errorf("missing(%s) = %v, %v, want %v", run, got, err, want)
		}
	}
	_, err := b.Await(t.Context(), "nobody")
	wantKind(t, err, wire.KindUnknown)
}

// A backlog that is too long to be read may hold the call.
func TestALongBacklogHoldsAnything(t *testing.T) {
	p := newPlatform(t)
	p.register("f")
	for i := range callsScanned {
		if err := p.nc.Publish(CallSubject("f"), fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "all are stored", func() bool { return p.state(DefaultPool).Msgs == callsScanned })
	if missing, err := p.missing(t.Context(), "nobody"); err != nil || missing {
		t.Errorf("missing = %v, %v", missing, err)
	}
	if missing, err := p.missing(t.Context(), "CB_CALLS_default-7"); err != nil || missing {
		t.Errorf("the seventh call is missing: %v, %v", missing, err)
	}
}

func TestSearch(t *testing.T) {
	var s search
	now := time.Unix(0, 0)
	s.begin(now)
	at := func(after time.Duration, missing, giveUp bool) {
		t.Helper()
		if s.due(now.Add(after - 1)) {
			t.Fatal("a look is due too soon")
		}
		now = now.Add(after)
		if !s.due(now) || s.looked(now, missing) != giveUp {
			t.Fatalf("%v later, missing %v: want to give up: %v", after, missing, giveUp)
		}
	}
	at(missAfter, false, false)
	at(2*missAfter, true, false)
	at(missAfter, false, false) // it was on its way
	at(2*missAfter, false, false)
	at(4*missAfter, true, false)
	at(missAfter, true, true)
	for range 10 {
		s.looked(now, false)
	}
	if s.gap != missAtMost {
		t.Errorf("looks are %v apart at most", s.gap)
	}
}
