package guests_test

import (
	"os"
	"testing"

	"github.com/cloudburst-nats/cloudburst/workers/runtime"
	"github.com/cloudburst-nats/cloudburst/workers/runtime/python"
	"github.com/cloudburst-nats/cloudburst/workers/runtime/runtimetest"
)

func TestPython(t *testing.T) {
	// Instances may run as other users, who have to get into the scratch directory.
	scratch, err := os.MkdirTemp("", "guests-test-") //nolint:usetesting // t.TempDir is in one that they can't enter
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(scratch); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(scratch, 0o711); err != nil { //nolint:gosec // said above
		t.Fatal(err)
	}
	cfg := python.Config{Scratch: scratch, Concurrency: 1, Warn: func(text string) { t.Log(text) }}
	const system = "/usr/bin/python3" // one first on PATH may be in a home directory
	if _, err := os.Stat(system); err == nil {
		cfg.Interpreter = system
	}
	state := runtimetest.NewState()
	for _, tt := range []struct{ example, args, want string }{
		{"square", "5", "25"},
		{"counter", `"home"`, "1"},
		{"counter", `"home"`, "2"},
		{"wordcount", `"The cat, and the dog"`, `{"and":1,"cat":1,"dog":1,"the":2}`},
	} {
		f, err := python.New(cfg).Load(t.Context(), runtime.Program{Function: tt.example, Path: "python", Entry: tt.example + ":handler"})
		if err != nil {
			t.Fatalf("load %s: %v", tt.example, err)
		}
		call := runtimetest.NewCall(tt.example, tt.args)
		call.State = state
		v, err := f.Invoke(t.Context(), call)
		if err != nil || string(v.Body) != tt.want {
			t.Errorf("%s(%s) = %s, %v; want %s", tt.example, tt.args, v.Body, err, tt.want)
		}
		if err := f.Close(); err != nil {
			t.Error("close:", err)
		}
	}
}
