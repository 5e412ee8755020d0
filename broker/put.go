package broker

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cloudburst-nats/cloudburst/internal/backoff"
)

// inProcessWait is how long to wait, at most, before asking again for a message
// whose like is being stored.
const inProcessWait = 250 * time.Millisecond

func isInProcess(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && api.ErrorCode == codeInProcess
}

// put publishes to a stream and waits for its acknowledgement. While an earlier message of
// the same id is being stored it asks again: that one may yet be lost.
func (b *Broker) put(ctx context.Context, msg *nats.Msg) (uint64, error) {
	began := time.Now()
	for range backoff.Tries(ctx, 10*time.Millisecond, inProcessWait) {
		seq, err := b.putOnce(ctx, msg)
		if !isInProcess(err) || time.Since(began) > b.timeout {
			return seq, err
		}
	}
	return 0, context.Cause(ctx)
}

func (b *Broker) putOnce(ctx context.Context, msg *nats.Msg) (uint64, error) {
	type ack struct {
		seq uint64
		err error
	}
	done := make(chan ack, 1)
	b.mux.publish(msg, func(seq uint64, err error) { done <- ack{seq, err} })
	select {
	case a := <-done:
		return a.seq, a.err
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}
