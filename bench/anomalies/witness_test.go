package anomalies

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/cloudburst-nats/cloudburst"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// A run that nobody runs is told of with its state, its call, and what was heard of it.
func TestWitnessTellsOfARunThatHangs(t *testing.T) {
	server, err := cloudburst.Start(t.Context(), cloudburst.ServerConfig{Store: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	b := server.Client().Broker()
	if err := b.RegisterFunctions(t.Context(), []wire.Function{{Name: "f", Pool: "p", Runtime: "native"}}); err != nil {
		t.Fatal(err)
	}
	w, err := NewWitness(b)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	call := wire.Call{Run: "order.1", Name: "f"}
	if err := b.Dispatch(t.Context(), call); err != nil {
		t.Fatal(err)
	}
	if _, err := b.PutInput(t.Context(), call.Run, "join", "left", wire.Input{Value: wire.Value{Body: []byte(`"half"`)}}); err != nil {
		t.Fatal(err)
	}
	b.EventRetried(&call, time.Second, errors.New("the storage was away"))
	if err := b.Conn().Flush(); err != nil {
		t.Fatal(err)
	}
	hung := w.Hung(t.Context(), call.Run, time.Second, 10*time.Millisecond)
	if !errors.Is(hung, errHung) {
		t.Fatalf("it is %v", hung)
	}
	for _, part := range []string{
		"order.1", "join.in.left", `"half"`, "pool p", "settled through 0", "call 1 waits", "cb.call.f", "retried.f", "the storage was away",
	} {
		if !strings.Contains(hung.Error(), part) {
			t.Errorf("it doesn't tell of %q:\n%v", part, hung)
		}
	}
}
