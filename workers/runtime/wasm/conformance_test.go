package wasm

import (
	"testing"

	"github.com/cloudburst-nats/cloudburst/workers/runtime"
	"github.com/cloudburst-nats/cloudburst/workers/runtime/runtimetest"
)

func TestRuntime(t *testing.T) {
	r := newRuntime(t, Config{})
	path := goGuest(t, "conformance")
	runtimetest.Run(t, runtimetest.Suite{
		Load: func(t *testing.T, program string, p runtime.Program) (runtime.Loaded, error) {
			t.Helper()
			p.Path, p.Entry = path, "run_"+program // one of them is called memory
			return r.Load(t.Context(), p)
		},
	})
}
