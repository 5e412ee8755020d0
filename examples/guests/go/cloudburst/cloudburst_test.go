package cloudburst_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/cloudburst-nats/cloudburst/examples/guests/go/cloudburst"
	"github.com/cloudburst-nats/cloudburst/wire"
	"github.com/cloudburst-nats/cloudburst/workers/runtime"
	"github.com/cloudburst-nats/cloudburst/workers/runtime/runtimetest"
	"github.com/cloudburst-nats/cloudburst/workers/runtime/wasm"
)

// The guest in testdata asks for everything, and fails where the answer is wrong.
func TestEverything(t *testing.T) {
	path := filepath.Join(t.TempDir(), "everything.wasm")
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", path, "./testdata/everything")
	build.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0", "GOFLAGS=")
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, text)
	}
	r, err := wasm.New(wasm.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	f, err := r.Load(ctx, runtime.Program{Function: "everything", Path: path})
	if err != nil {
		t.Fatal(err)
	}
	call, log := runtimetest.NewCall("everything", `{"page":"home"}`), new(bytes.Buffer)
	call.Log = log
	call.Functions = runtimetest.NewFunctions(map[string]func(wire.Value) (wire.Value, error){
		"echo": func(v wire.Value) (wire.Value, error) { return v, nil },
	})
	v, err := f.Invoke(ctx, call)
	if err != nil || string(v.Body) != `"all is well"` {
		t.Fatalf("got %s, %v\n%s", v.Body, err, log)
	}
	if got, want := log.String(), "page home\n"; got != want {
		t.Errorf("log: got %q, want %q", got, want)
	}
}

func TestNoPlatform(t *testing.T) {
	if err := cloudburst.Put("key", 1); err == nil {
		t.Error("something was stored where there is no platform")
	}
	if _, err := cloudburst.Info(); err == nil {
		t.Error("a call was described where there is none")
	}
}
