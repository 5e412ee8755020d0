package deployments

import (
	"context"
	"errors"
	"math"
	"testing"
	"testing/synctest"

	"github.com/cloudburst-nats/cloudburst/wire"
)

func TestStartWaitsForServersOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		away := &wire.Error{Op: "start", Kind: wire.KindUnavailable}
		wrong := &wire.Error{Op: "start", Kind: wire.KindBadArgument}
		steps := []error{away, away, wrong}
		err := patiently(t.Context(), math.MaxInt64, false, nil, func() error {
			err := steps[0]
			steps = steps[1:]
			return err
		})
		if !errors.Is(err, wrong) || len(steps) != 0 {
			t.Errorf("ended with %v and %d steps left", err, len(steps))
		}
		ctx, cancel := context.WithCancel(t.Context())
		err = patiently(ctx, math.MaxInt64, false, nil, func() error { cancel(); return away })
		if !errors.Is(err, context.Canceled) {
			t.Errorf("ended with %v when told to stop", err)
		}
		if err := patiently(t.Context(), 0, false, nil, func() error { return away }); !errors.Is(err, away) {
			t.Errorf("without patience it ended with %v", err)
		}
		// What somebody has to mend ends it, unless it may be mended meanwhile.
		conflict := &wire.Error{Op: "start", Kind: wire.KindConflict}
		if err := patiently(t.Context(), math.MaxInt64, false, nil, func() error { return conflict }); !errors.Is(err, conflict) {
			t.Errorf("ended with %v, want the conflict", err)
		}
		steps = []error{conflict, away, conflict, nil}
		if err := patiently(t.Context(), math.MaxInt64, true, nil, func() error {
			err := steps[0]
			steps = steps[1:]
			return err
		}); err != nil || len(steps) != 0 {
			t.Errorf("ended with %v and %d steps left", err, len(steps))
		}
	})
}
