package broker

import (
	"context"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// bounded is a JetStream context each of whose questions waits for its answer for a time
// at most, whatever time the caller has. An answer that is lost, with a leader or a
// connection, is lost for good: who waits for it waits in vain, and would ask again.
type bounded struct {
	jetstream.JetStream

	most time.Duration
}

// Stream asks for a stream.
func (j bounded) Stream(ctx context.Context, name string) (jetstream.Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, j.most)
	defer cancel()
	return j.JetStream.Stream(ctx, name)
}

// Consumer asks for a consumer.
func (j bounded) Consumer(ctx context.Context, stream, consumer string) (jetstream.Consumer, error) {
	ctx, cancel := context.WithTimeout(ctx, j.most)
	defer cancel()
	return j.JetStream.Consumer(ctx, stream, consumer)
}

// StreamNameBySubject asks which stream listens to a subject.
func (j bounded) StreamNameBySubject(ctx context.Context, subject string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, j.most)
	defer cancel()
	return j.JetStream.StreamNameBySubject(ctx, subject)
}

// AccountInfo asks what the account may store.
func (j bounded) AccountInfo(ctx context.Context) (*jetstream.AccountInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, j.most)
	defer cancel()
	return j.JetStream.AccountInfo(ctx)
}

// CreateConsumer makes a consumer.
func (j bounded) CreateConsumer(ctx context.Context, stream string, cfg jetstream.ConsumerConfig) (jetstream.Consumer, error) {
	ctx, cancel := context.WithTimeout(ctx, j.most)
	defer cancel()
	return j.JetStream.CreateConsumer(ctx, stream, cfg)
}

// CreateOrUpdateConsumer makes a consumer, or changes it.
func (j bounded) CreateOrUpdateConsumer(ctx context.Context, stream string, cfg jetstream.ConsumerConfig) (jetstream.Consumer, error) {
	ctx, cancel := context.WithTimeout(ctx, j.most)
	defer cancel()
	return j.JetStream.CreateOrUpdateConsumer(ctx, stream, cfg)
}

// DeleteConsumer deletes a consumer.
func (j bounded) DeleteConsumer(ctx context.Context, stream, consumer string) error {
	ctx, cancel := context.WithTimeout(ctx, j.most)
	defer cancel()
	return j.JetStream.DeleteConsumer(ctx, stream, consumer)
}

// ObjectStore opens an object store.
func (j bounded) ObjectStore(ctx context.Context, bucket string) (jetstream.ObjectStore, error) {
	ctx, cancel := context.WithTimeout(ctx, j.most)
	defer cancel()
	return j.JetStream.ObjectStore(ctx, bucket)
}

// listStreams lists the names of all streams.
func (b *Broker) listStreams(ctx context.Context) (names []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	list := b.js.StreamNames(ctx)
	for name := range list.Name() {
		names = append(names, name)
	}
	return names, list.Err()
}
