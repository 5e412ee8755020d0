package wasm

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/cloudburst-nats/cloudburst/broker/wire"
	"github.com/cloudburst-nats/cloudburst/workers/runtime"
)

var errTime = &wire.Error{Op: "run", Kind: wire.KindTimeout, Msg: "its time is up"}

func TestEnded(t *testing.T) {
	r := newRuntime(t, Config{})
	for _, entry := range []string{"loop", "tight", "sleeper", "pester", "spin_clock"} {
		t.Run(entry, func(t *testing.T) {
			f := load(t, r, entry)
			for range 3 {
				ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, errTime)
				began := time.Now()
				_, err := f.Invoke(ctx, &runtime.Call{Function: "test"})
				cancel()
				if !errors.Is(err, errTime) {
					t.Errorf("got %v, want %v", err, errTime)
				}
				late := time.Since(began) - 50*time.Millisecond
				t.Logf("%v late", late)
				if late > time.Second {
					t.Errorf("ended %v after its time was up", late)
				}
			}
		})
	}
}
