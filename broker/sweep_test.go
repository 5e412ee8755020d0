package broker

import (
	"testing"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// TestSweepRuns has two runs fail and removes the dead letter of one. A third one goes on.
func TestSweepRuns(t *testing.T) {
	p := newPlatform(t)
	for _, run := range []wire.RunID{"kept.1", "gone"} {
		d := p.graph(run)
		p.begun(run)
		if err := d.Bury(t.Context(), boom()); err != nil {
			t.Fatal(err)
		}
		p.endNode(d, &wire.Result{Status: wire.StatusFailed})
	}
	p.begun("live")
	sweep := func() []string {
		t.Helper()
		if err := p.sweepRuns(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		return p.stateOfRuns()
	}
	all := p.stateOfRuns()
	if got := sweep(); len(got) != len(all) {
		t.Errorf("with both letters there, %q is left of %q", got, all)
	}
	if err := p.api(t.Context(), "STREAM.MSG.DELETE."+StreamDead, map[string]uint64{"seq": 2}); err != nil {
		t.Fatal(err)
	}
	sweep()
	p.wantState(
		"cb.run.kept=2E1.$start.in.version", "cb.run.kept=2E1.:1.$start.in.version", "cb.run.kept=2E1.:1.n.claim", "cb.run.kept=2E1.failed", "cb.run.kept=2E1.n.claim",
		"cb.run.live.$start.in.version", "cb.run.live.:1.$start.in.version", "cb.run.live.:1.n.claim", "cb.run.live.n.claim",
	)
}
