package broker

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// A cluster that has lost a server, or a leader, refuses to make or change streams and
// consumers until it has recovered: at once, and in words of its own.
const (
	// recoverWithin is for how long such an answer is not taken: an election takes 4 to
	// 9 s, and a server that was cut off is missed for a few seconds more.
	recoverWithin = 20 * time.Second
	recoverEach   = 250 * time.Millisecond
)

// recovers says whether the same question may be answered otherwise in a moment.
func recovers(api *jetstream.APIError) bool {
	const codeNoPeers = 10005 // why is in its words
	if api.ErrorCode == codeNoPeers {
		return strings.Contains(api.Description, "offline")
	}
	return slices.Contains([]jetstream.ErrorCode{
		10008,               // JetStream is temporarily unavailable
		10075,               // no peer for a replica now
		10124, 10202, 10226, // a move, a change of members or of the stream is under way
	}, api.ErrorCode)
}

// patiently does something again while a cluster answers that it is recovering. Other
// failures are returned at once, no answer at all among them.
func patiently(ctx context.Context, do func() error) error {
	for began := time.Now(); ; {
		err := do()
		var api *jetstream.APIError
		if faulty("recovering") || !errors.As(err, &api) || !recovers(api) || time.Since(began) > recoverWithin {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(recoverEach):
		}
	}
}
