package broker

import (
	"context"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// sweepRuns removes the state of runs that failed over age ago and can't be replayed any
// more: their dead letters are gone.
func (b *Broker) sweepRuns(ctx context.Context, age time.Duration) error {
	failed := make(map[wire.RunID]uint64) // the sequence of its mark
	err := b.scan(ctx, StreamRuns, subjectRun+"*."+runFailed, 0, func(msg *nats.Msg) bool {
		if time.Since(storedAt(msg)) > age {
			token := strings.Split(msg.Header.Get(jetstream.SubjectHeader), ".")[2]
			failed[wire.RunID(unescapeToken(token))] = sequenceOf(msg)
		}
		return true
	})
	if err != nil || len(failed) == 0 {
		return apiError("sweep runs", "", err)
	}
	err = b.scan(ctx, StreamDead, subjectDead+">", 0, func(msg *nats.Msg) bool {
		delete(failed, wire.RunID(wire.First(wire.Header(msg.Header), wire.HeaderOf)))
		return true
	})
	if err != nil {
		return apiError("sweep runs", "", err)
	}
	for run, seq := range failed {
		mark, err := b.last(ctx, StreamRuns, runSubject(run, runFailed))
		if err == nil && mark != nil && sequenceOf(mark) == seq { // else it was replayed in the meantime
			err = b.forget(ctx, run)
		}
		if err != nil {
			return apiError("sweep runs", string(run), err)
		}
	}
	return nil
}
