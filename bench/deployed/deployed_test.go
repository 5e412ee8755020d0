package deployed

import (
	"encoding/json"
	"strings"
	"testing"
)

// Calls go on while versions follow each other, and every answer is as promised.
func TestRollout(t *testing.T) {
	var out strings.Builder
	if err := Rollout(t.Context(), RolloutConfig{Deploys: 6, Rate: 100, Store: t.TempDir(), JSON: true}, &out); err != nil {
		t.Fatal(err, out.String())
	}
	for dec := json.NewDecoder(strings.NewReader(out.String())); dec.More(); {
		var r Rolled
		if err := dec.Decode(&r); err != nil || r.Deploys != 6 || r.Calls == 0 {
			t.Errorf("%+v, %v", r, err)
		}
	}
}

// The check would notice: a version that answers too early, or too late.
func TestAWrongVersionIsNoticed(t *testing.T) {
	err := checkRolled([]Rolled{{Runtime: "wasm", Calls: 10}, {Runtime: "python", Calls: 10, Wrong: 1}})
	if err == nil || !strings.Contains(err.Error(), "python") {
		t.Errorf("got %v", err)
	}
}

func TestRuntimes(t *testing.T) {
	var out strings.Builder
	if err := Runtimes(t.Context(), RuntimesConfig{Calls: 20, Rounds: 1, Colds: 2, Store: t.TempDir()}, &out); err != nil {
		t.Fatal(err, out.String())
	}
	for _, name := range []string{"native", "wasm-c", "python", "exec python3"} {
		if !strings.Contains(out.String(), name) {
			t.Errorf("%s isn't in\n%s", name, out.String())
		}
	}
}
