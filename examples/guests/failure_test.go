package guests_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/cloudburst-nats/cloudburst/examples/guests"
	"github.com/cloudburst-nats/cloudburst/wire"
	"github.com/cloudburst-nats/cloudburst/workers/runtime/runtimetest"
)

// A guest that lets through what the platform told it ends its call with that very error.
func TestErrorsOfThePlatform(t *testing.T) {
	r := newRuntime(t)
	for name, module := range map[string][]byte{"C": guests.CounterC, "AssemblyScript": guests.CounterAssemblyScript} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "counter.wasm")
			if err := os.WriteFile(path, module, 0o600); err != nil {
				t.Fatal(err)
			}
			state := runtimetest.NewState()
			if err := state.AddSet(t.Context(), "state", "visits:home", json.RawMessage("1")); err != nil {
				t.Fatal(err)
			}
			v, err := invoke(t, load(t, r, path), state, value(`"home"`))
			if wire.KindOf(err) != wire.KindLattice {
				t.Errorf("counter of a set: got %s and %v, want the kind %q", v.Body, err, wire.KindLattice)
			}
		})
	}
}
