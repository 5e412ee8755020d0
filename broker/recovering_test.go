package broker

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// What a recovering cluster says, and what is meant for good.
func TestAnswersOfARecoveringClusterAreUnavailable(t *testing.T) {
	for _, c := range []struct {
		api  jetstream.APIError
		want wire.Kind
	}{
		{jetstream.APIError{Code: 400, ErrorCode: 10005, Description: "no suitable peers for placement, peer offline"}, wire.KindUnavailable},
		{jetstream.APIError{Code: 400, ErrorCode: 10005, Description: "no suitable peers for placement"}, wire.KindConflict},
		{jetstream.APIError{Code: 503, ErrorCode: 10008, Description: "JetStream system temporarily unavailable"}, wire.KindUnavailable},
		{jetstream.APIError{Code: 400, ErrorCode: 10202, Description: "cluster member change is in progress"}, wire.KindUnavailable},
		{jetstream.APIError{Code: 400, ErrorCode: 10058, Description: "stream name already in use"}, wire.KindConflict},
		{jetstream.APIError{Code: 503, ErrorCode: codeNoResources, Description: "insufficient resources"}, wire.KindBusy},
	} {
		if got := wire.KindOf(apiError("create stream", "s", &c.api)); got != c.want {
			t.Errorf("%s: kind %v, want %v", c.api.Description, got, c.want)
		}
	}
}

func TestARecoveringClusterIsAskedAgain(t *testing.T) {
	away := &jetstream.APIError{Code: 400, ErrorCode: 10005, Description: "no suitable peers for placement, peer offline"}
	other := &jetstream.APIError{Code: 400, ErrorCode: 10058}
	for name, c := range map[string]struct {
		answers []error // the last one again and again
		want    error
		asked   int
	}{
		"it recovers":       {[]error{away, away, nil}, nil, 3},
		"it refuses":        {[]error{away, other}, other, 2},
		"no answer":         {[]error{context.DeadlineExceeded}, context.DeadlineExceeded, 1},
		"it never recovers": {[]error{away}, away, int(recoverWithin/recoverEach) + 2},
	} {
		synctest.Test(t, func(t *testing.T) {
			asked := 0
			err := patiently(t.Context(), func() error {
				asked++
				return c.answers[min(asked, len(c.answers))-1]
			})
			if !errors.Is(err, c.want) || asked != c.asked {
				t.Errorf("%s: %v after %d questions, want %v after %d", name, err, asked, c.want, c.asked)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := patiently(ctx, func() error { return away }); !errors.Is(err, away) {
			t.Errorf("told to stop it ends with %v", err)
		}
	})
}
