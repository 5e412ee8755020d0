package broker

import (
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// An execution that nobody handed back counts as lost, whichever worker began it. The
// note of it goes when the run ends, as its other state does.
func TestTrialsTellHowExecutionsEnded(t *testing.T) {
	p := newPlatform(t)
	p.register("echo")
	p.publish(wire.Call{Name: "echo"})
	d := p.next()
	begin := func(lost, missing int) wire.Trials {
		t.Helper()
		got, err := p.Begin(t.Context(), &d.Call)
		if want := (wire.Trials{Begun: true, Lost: lost, Missing: missing}); err != nil || got != want {
			t.Errorf("the call begins with %+v, %v, want %+v", got, err, want)
		}
		return got
	}
	survived := func(trials wire.Trials) {
		t.Helper()
		p.Survived(&d.Call, trials)
		// It doesn't wait until that is stored, but the stream stores in order.
		if _, err := p.put(t.Context(), &nats.Msg{Subject: runSubject("other", "failed")}); err != nil {
			t.Fatal(err)
		}
	}
	survived(begin(0, 0))
	begin(0, 0)
	begin(1, 0)
	if live, err := p.underWay(t.Context(), d.Call.Run, claim{}); err != nil || live {
		t.Errorf("the note passes for a run that goes on: %v, %v", live, err)
	}
	last := begin(2, 0)
	last.Missing++
	survived(last)
	begin(2, 1)

	other := p.publish(wire.Call{Name: "echo"})
	second := d
	d = p.next()
	if begin(0, 0); d.Call.Run != other {
		t.Errorf("got the call of %s, want %s", d.Call.Run, other)
	}
	for _, d := range []*Delivery{second, d} {
		p.end(d, &wire.Result{Run: d.Call.Run, Name: "echo", Status: wire.StatusOK, Kept: true})
	}
	p.wantState(runSubject("other", "failed"))
}
