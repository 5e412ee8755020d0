package broker

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// Answers of the JetStream API get lost with leaders and connections. A caller with much time
// doesn't spend all of that time on a lost answer. The broker asks again, or says so.
func TestALostAnswerIsNotAwaitedForLong(t *testing.T) {
	b, err := Connect(t.Context(), Config{URL: bareServer(t, &server.Options{}), Timeout: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	if _, err := b.nc.SubscribeSync("$JS.API.>"); err != nil { // it hears, and never answers
		t.Fatal(err)
	}
	// A platform's sizes can't be known here, so whoever asks for them fails at once.
	for name, ask := range map[string]func(context.Context) error{
		"the first call of an id": func(ctx context.Context) error {
			_, err := b.fingerprint(ctx, "order-1", CallSubject("f"), 1)
			return err
		},
		"how a pool stands": func(ctx context.Context) error { _, err := b.Lag(ctx, "p"); return err },
		"the bounds of a stream": func(ctx context.Context) error {
			_, _, err := b.bounds(ctx, StreamRuns)
			return apiError("read", "", err)
		},
		"pools":      func(ctx context.Context) error { _, err := b.Pools(ctx); return err },
		"namespaces": func(ctx context.Context) error { _, err := b.Namespaces(ctx); return err },
		"a result":   func(ctx context.Context) error { _, err := b.Result(ctx, "r"); return err },
		"a claim": func(ctx context.Context) error {
			_, err := b.Claim(ctx, "r", "n", 1, false)
			return err
		},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		err := ask(ctx)
		if err == nil || ctx.Err() != nil {
			t.Errorf("%s: %v, after all the time that there was: %v", name, err, ctx.Err())
		}
		if name == "the first call of an id" {
			err = apiError("call", "", err)
		}
		if wire.KindOf(err) != wire.KindUnavailable {
			t.Errorf("%s: %v is %v, want unavailable", name, err, wire.KindOf(err))
		}
		cancel()
	}
}

// A server that refuses a claim as taken, and doesn't show whose it is, isn't asked for
// ever: the call is handed out again.
func TestAClaimThatCantBeReadIsGivenUp(t *testing.T) {
	b, err := Connect(t.Context(), Config{URL: bareServer(t, &server.Options{}), Timeout: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	answer := func(subject string, say *nats.Msg) {
		t.Helper()
		if _, err := b.nc.Subscribe(subject, func(msg *nats.Msg) {
			if err := msg.RespondMsg(say); err != nil {
				t.Error(err)
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
	answer("cb.run.>", &nats.Msg{Data: []byte(`{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 5"}}`)})
	answer("$JS.API.DIRECT.GET.>", &nats.Msg{Header: nats.Header{"Status": {"404"}, "Description": {"Message Not Found"}}})
	answer("$JS.API.STREAM.MSG.GET.>", &nats.Msg{Data: []byte(`{"error":{"code":404,"err_code":10037,"description":"no message found"}}`)})
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	_, err = b.Claim(ctx, "r", "n", 1, false)
	_, idErr := b.claimID(ctx, "r", claim{Call: "c"})
	if wire.KindOf(err) != wire.KindUnavailable || wire.KindOf(idErr) != wire.KindUnavailable || ctx.Err() != nil {
		t.Errorf("claims end with %v and %v, and the time with %v; want unavailable", err, idErr, ctx.Err())
	}
}

// A stream is asked for again if no answer comes.
func TestAStreamIsAskedForAgain(t *testing.T) {
	b, err := Connect(t.Context(), Config{URL: bareServer(t, &server.Options{}), Timeout: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	asked := 0
	if _, err := b.nc.Subscribe("$JS.API.STREAM.CREATE.*", func(msg *nats.Msg) {
		if asked++; asked == 3 {
			_ = msg.Respond([]byte(`{"config":{"name":"CB_LOGS"},"created":"2026-01-01T00:00:00Z","state":{}}`))
		}
	}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := b.ensureStream(ctx, b.topology().platform()[0]); err != nil {
		t.Errorf("after three questions: %v", err)
	}
}
