package cloudburst_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/cloudburst-nats/cloudburst"
	"github.com/cloudburst-nats/cloudburst/broker"
)

// A call costs its caller as many messages with a thousand functions in the pool as
// with ten, both the first call of a function and the next.
func TestCallsDoNotGrowWithFunctions(t *testing.T) {
	server, err := cloudburst.Start(t.Context(), cloudburst.ServerConfig{Listen: "127.0.0.1:0", Store: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	messages := func(pool string, functions int) (sent, got uint64) {
		serve(t, server.Client(), pool, func(w *cloudburst.Worker) {
			for i := range functions {
				cloudburst.Handle(w, fmt.Sprintf("%s-%d", pool, i), func(_ context.Context, _ *cloudburst.Session, n int) (int, error) { return n, nil })
			}
		})
		b, err := broker.Connect(t.Context(), broker.Config{URL: server.URL()}) // one that knows no function yet
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		client, before := cloudburst.NewClient(b, nil), b.Conn().Stats()
		for i := range 20 {
			if got, err := cloudburst.Call[int](t.Context(), client, fmt.Sprintf("%s-%d", pool, i%10), i); err != nil || got != i {
				t.Fatalf("call %d = %d, %v", i, got, err)
			}
		}
		after := b.Conn().Stats()
		return after.OutMsgs - before.OutMsgs, after.InMsgs - before.InMsgs
	}
	fewSent, fewGot := messages("few", 10)
	manySent, manyGot := messages("many", 1000)
	// An acknowledgement may come after the result, and not be counted any more.
	if fewSent < 20 || manySent > fewSent || manyGot > fewGot+20 {
		t.Errorf("20 calls sent %d and got %d messages with 10 functions, %d and %d with 1000", fewSent, fewGot, manySent, manyGot)
	}
}
