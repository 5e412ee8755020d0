package broker

import (
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/cloudburst-nats/cloudburst/wire"
)

func TestConnectErrorsSayWhatToDoAndNoSecret(t *testing.T) {
	_, err := Connect(t.Context(), Config{URL: "nats://me:secret@127.0.0.1:1,nats://token@127.0.0.1:2"})
	if wire.KindOf(err) != wire.KindUnavailable || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "token") {
		t.Errorf("a server that isn't there: %v", err)
	}
	err = connectError("nats://me:secret@127.0.0.1:1", nats.ErrAuthorization)
	if wire.KindOf(err) != wire.KindBadArgument || !strings.Contains(err.Error(), "credentials") || strings.Contains(err.Error(), "secret") {
		t.Errorf("one that doesn't want us: %v", err)
	}
}
