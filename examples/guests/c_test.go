package guests_test

import (
	"bytes"
	"context"
	"testing"

	"github.com/cloudburst-nats/cloudburst/wire"
	"github.com/cloudburst-nats/cloudburst/workers/runtime/runtimetest"
)

// The guest in c/testdata asks for everything, and fails where the answer is wrong.
func TestC(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	f := load(t, newRuntime(t), "prebuilt/everything-c.wasm")
	call, log := runtimetest.NewCall("everything", `[1,2]`), new(bytes.Buffer)
	call.Log = log
	call.Functions = runtimetest.NewFunctions(map[string]func(wire.Value) (wire.Value, error){
		"echo": func(v wire.Value) (wire.Value, error) { return v, nil },
	})
	v, err := f.Invoke(ctx, call)
	if err != nil || string(v.Body) != `"all is well"` {
		t.Fatalf("got %s, %v\n%s", v.Body, err, log)
	}
	if got, want := log.String(), "a line\n"; got != want {
		t.Errorf("log: got %q, want %q", got, want)
	}
}
