package wire

import (
	"fmt"
	"strings"
	"testing"
)

// callersIDs are ids that callers give their runs, among them those that look most like
// what the platform makes of other ids.
func callersIDs() []RunID {
	ids := []RunID{"r", "r/", "r/ship", "r/ship.0", "r/again", "r/again1", "r/1", "r/0/ship", "r-7", "r-replay-7", "r=", "r=1", "r/ship=1", "dag", "replay", "r=dags", "CB_DEAD-1", "0", "1"}
	for _, id := range ids {
		ids = append(ids, "r/"+id, id+"/ship", id+"/again", id+"/1")
	}
	return ids
}

// TestNoCallersIDIsOneOfThePlatforms makes every id that the platform makes of callers'
// ids, and looks for two that are the same.
func TestNoCallersIDIsOneOfThePlatforms(t *testing.T) {
	whose := map[string]string{}
	is := func(id, what string) {
		if other, taken := whose[id]; taken && other != what {
			t.Errorf("%s and %s are both %q", what, other, id)
		}
		whose[id] = what
	}
	ids := callersIDs()
	for _, run := range ids {
		if err := CheckCallerID(run); err != nil {
			t.Errorf("a caller may not use %q: %v", run, err)
		}
		is(string(run), "run "+string(run))
		for _, step := range []Call{{Node: "ship"}, {Node: "again"}, {Node: "1"}, {Node: "0"}, {Node: "ship", Item: 1, Items: 2}} {
			for epoch := range 3 {
				call := Call{Run: run, Epoch: epoch, Node: step.Node, Item: step.Item, Items: step.Items}
				is(call.MessageID(), fmt.Sprintf("the call of %s in epoch %d of run %s", call.Step(), epoch, run))
				contained := Contained(run, epoch, call.Step())
				is(string(contained), fmt.Sprintf("the run inside of %s in epoch %d of run %s", call.Step(), epoch, run))
				if CheckRunID(contained) != nil || CheckCallerID(contained) == nil {
					t.Errorf("%q must be an id of a run that no caller can give", contained)
				}
			}
		}
		for epoch := 1; epoch < 3; epoch++ {
			begin := Call{Run: run, Epoch: epoch}
			is(begin.MessageID(), fmt.Sprintf("the beginning of epoch %d of run %s", epoch, run))
		}
		is(string(Replayed(run, 7)), "letter 7 of run "+string(run))
	}
	states, addresses := map[RunID]string{}, map[string]string{}
	for _, run := range ids {
		for epoch := range 3 {
			c := Call{Run: run, Epoch: epoch}
			if other, taken := states[c.RunState()]; taken && other != fmt.Sprint(run, epoch) {
				t.Errorf("epoch %d of run %s has the state of %s", epoch, run, other)
			}
			states[c.RunState()] = fmt.Sprint(run, epoch)
		}
		for _, step := range []string{"", "ship", "ship.0", "1"} {
			at := Address(run, step)
			if err := CheckAddress(at); err != nil {
				t.Error(err)
			}
			if other, taken := addresses[at]; taken && other != fmt.Sprint(run, " ", step) {
				t.Errorf("step %q of run %s has the address of %s", step, run, other)
			}
			addresses[at] = fmt.Sprint(run, " ", step)
		}
	}
}

func TestIDsThatThePlatformKeepsForItself(t *testing.T) {
	for _, id := range []RunID{"CB_CALLS_default-17", "r/ship=dag", "=dag", "r-7=replay"} {
		if err := CheckCallerID(id); KindOf(err) != KindBadName || CheckRunID(id) != nil {
			t.Errorf("CheckCallerID(%q) = %v, want it refused, as an id that a run can have", id, err)
		}
	}
}

func TestLongIDsFit(t *testing.T) {
	long := RunID(strings.Repeat("r", maxRunID))
	a, b := Contained(long, 0, "a"), Contained(long, 0, "b")
	if CheckRunID(a) != nil || a == b || a != Contained(long, 0, "a") || CheckCallerID(a) == nil {
		t.Errorf("got %q and %q: want two ids of runs that stay the same", a, b)
	}
}

func TestAddressesThatAreNone(t *testing.T) {
	for _, id := range []string{"", ":", "r:", ":n", "r:n:m", "a b", "r..x", strings.Repeat("r", maxRunID+1)} {
		if err := CheckAddress(id); KindOf(err) != KindBadName {
			t.Errorf("CheckAddress(%q) = %v, want a bad name", id, err)
		}
	}
}
