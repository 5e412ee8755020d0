package guests_test

import (
	"context"
	"testing"

	"github.com/cloudburst-nats/cloudburst"
	"github.com/cloudburst-nats/cloudburst/examples/guests"
)

// A function in Python and one in AssemblyScript find each other by an id in state, and
// send each other messages, on a real server.
func TestGuestsOfTwoRuntimesTalk(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	server, err := cloudburst.Start(ctx, cloudburst.ServerConfig{Listen: "none", Store: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	}()
	serving, stop := context.WithCancel(ctx)
	w := cloudburst.NewWorker(server.Client(), cloudburst.Deployed(t.TempDir()))
	ended := make(chan error, 1)
	go func() { ended <- w.Serve(serving) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	select {
	case <-w.Ready():
	case err := <-ended:
		t.Fatal(err)
	}
	client := server.Client()
	const ping = `
def handler(cloudburst, id):
    cloudburst.send(id, 41)
    [(sender, answer)] = cloudburst.recv(10)
    return [sender == id, answer]
`
	for _, d := range []cloudburst.Deployment{
		{Name: "pong", Runtime: "wasm", Image: guests.PongAssemblyScript},
		{Name: "ping", Runtime: "python", Image: []byte(ping)},
	} {
		if _, err := client.Deploy(ctx, d); err != nil {
			t.Fatal(err)
		}
	}
	pong, err := cloudburst.Go[string](ctx, client, "pong", "where")
	if err != nil {
		t.Fatal(err)
	}
	defer pong.Close()
	// What pong puts is stored when it has ended; its id is that of its run.
	got, err := cloudburst.Call[[]any](ctx, client, "ping", string(pong.Run()))
	if err != nil || len(got) != 2 || got[0] != true || got[1] != float64(42) {
		t.Fatalf("ping got %v, %v", got, err)
	}
	if _, err := pong.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	if id, err := cloudburst.Get[string](ctx, client.State(), "where"); err == nil && id != string(pong.Run()) {
		t.Errorf("pong put the id %s, want %s", id, pong.Run())
	}
}
