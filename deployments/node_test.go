package deployments

import (
	"context"
	"errors"
	"math"
	"testing"
	"testing/synctest"

	"github.com/cloudburst-nats/cloudburst/broker/wire"
)

func TestStartWaitsForServersOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		away := &wire.Error{Op: "start", Kind: wire.KindUnavailable}
		wrong := &wire.Error{Op: "start", Kind: wire.KindBadArgument}
		steps := []error{away, away, wrong}
		err := patiently(t.Context(), math.MaxInt64, nil, func() error {
			err := steps[0]
			steps = steps[1:]
			return err
		})
		if !errors.Is(err, wrong) || len(steps) != 0 {
			t.Errorf("ended with %v and %d steps left", err, len(steps))
		}
		ctx, cancel := context.WithCancel(t.Context())
		err = patiently(ctx, math.MaxInt64, nil, func() error { cancel(); return away })
		if !errors.Is(err, context.Canceled) {
			t.Errorf("ended with %v when told to stop", err)
		}
		if err := patiently(t.Context(), 0, nil, func() error { return away }); !errors.Is(err, away) {
			t.Errorf("without patience it ended with %v", err)
		}
	})
}
