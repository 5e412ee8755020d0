package dagengine

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// restarting is a recorder whose runs have to begin again.
type restarting struct {
	*recorder
	atJoin bool // the pasts of a join's branches conflict
}

type restartError struct{ error }

func (restartError) RestartWith() string { return "agreed" }

func (r restarting) Join(pasts []string) (string, error) {
	if r.atJoin {
		return "", restartError{errors.New("conflict of " + strings.Join(pasts, " and "))}
	}
	return strings.Join(pasts, "+"), nil
}

func (r restarting) Restarts(level string) bool { return level == "causal" } // as the diamond says
func (r restarting) Past() string               { return "seen" }

func TestRunBeginsAgain(t *testing.T) {
	plan := diamond(t)
	began := map[string]wire.Input{
		argsOf: {Value: wire.Value{Body: []byte("5")}, Past: "caller's"},
		"l":    {Value: wire.Value{Body: []byte("1")}, Past: "left"},
		"r":    {Value: wire.Value{Body: []byte("2")}, Past: "right"},
	}
	for _, tt := range []struct {
		name  string
		call  wire.Call
		given restarting
		want  string
		check func(*testing.T, Outcome, []wire.Call, error)
	}{
		{
			name:  "where branches conflict",
			call:  wire.Call{Run: "r", DAG: "d@1", Node: "l", Seq: 7, Reply: "inbox"},
			given: restarting{&recorder{hosts: "l", inputs: began}, true},
			want:  "version; claim l by 7; invoke l ; done l at w, flush; put j l=\"l\"; inputs j fence 9; inputs $start fence 0; dispatch ",
			check: func(t *testing.T, out Outcome, calls []wire.Call, err error) {
				t.Helper()
				want := wire.Call{Run: "r", Name: "d", DAG: plan.ID(), Args: wire.Value{Body: []byte("5")}, Reply: "inbox", Level: "causal", Past: "agreed", Epoch: 1}
				if err != nil || out.Done || out.Again != "conflict of left and right" || len(calls) != 1 || fmt.Sprint(calls[0]) != fmt.Sprint(want) {
					t.Errorf("got %+v, %+v, %v", out, calls, err)
				}
			},
		},
		{
			name:  "but not for ever",
			call:  wire.Call{Run: "r", DAG: "d@1", Node: "l", Seq: 7, Epoch: maxRestarts},
			given: restarting{&recorder{hosts: "l", inputs: began}, true},
			want:  "version; claim l by 7; invoke l ; done l at w, flush; put j l=\"l\"; inputs j fence 9",
			check: func(t *testing.T, _ Outcome, _ []wire.Call, err error) {
				t.Helper()
				if wire.KindOf(err) != wire.KindConflict {
					t.Errorf("got %v", err)
				}
			},
		},
		{
			name:  "and keeps what a start needs for it",
			call:  wire.Call{Run: "r", Stream: "calls", Seq: 3, Args: wire.Value{Body: []byte("5")}},
			given: restarting{&recorder{hosts: "a b"}, false},
			want:  "latest d; restartable; invoke a 5; invoke b \"a\"; done a at w, done b at w, flush, live r of calls, put $start args=5, put $start version=\"" + plan.ID() + "\"; dispatch l, dispatch r",
			check: func(t *testing.T, _ Outcome, calls []wire.Call, err error) {
				t.Helper()
				if err != nil || len(calls) != 2 || calls[0].Past != "seen" || calls[0].Epoch != 0 {
					t.Errorf("got %+v, %v", calls, err)
				}
			},
		},
		{
			name:  "its second start is marked already",
			call:  wire.Call{Run: "r", Seq: 30, Epoch: 1, DAG: "d@1", Args: wire.Value{Body: []byte("5")}},
			given: restarting{&recorder{hosts: "a b", inputs: began}, false},
			want:  "version; restartable; invoke a 5; invoke b \"a\"; done a at w, done b at w, flush, put $start version=\"" + plan.ID() + "\"; dispatch l, dispatch r",
			check: func(t *testing.T, _ Outcome, calls []wire.Call, err error) {
				t.Helper()
				if err != nil || len(calls) != 2 || calls[0].Epoch != 1 {
					t.Errorf("got %+v, %v", calls, err)
				}
			},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := tt.given
			r.plan = plan
			tt.call.Name = "d"
			out, err := NewEngine(r, r, r, r).Run(t.Context(), tt.call, r)
			wantStory(t, r.recorder, tt.want)
			tt.check(t, out, r.calls, err)
		})
	}
}
