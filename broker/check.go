package broker

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// The oldest NATS server that has all that the platform needs: schedules, atomic
// batches, and times to live of single messages.
const needsMajor, needsMinor = 2, 12

// CheckServer is an error if the NATS server that this process is connected to can't
// carry a platform, however long one waits: it is too old (KindConflict), or has no
// JetStream for this account (KindConflict). What it can't tell now is no error.
func (b *Broker) CheckServer(ctx context.Context) error {
	bad := func(err error, format string, args ...any) error {
		return &wire.Error{Op: "use NATS at", Name: b.nc.ConnectedUrlRedacted(), Kind: wire.KindConflict, Msg: fmt.Sprintf(format, args...), Err: err}
	}
	if version := b.nc.ConnectedServerVersion(); tooOld(version) {
		return bad(nil, "its version is %s, and the platform needs %d.%d or later: upgrade nats-server", version, needsMajor, needsMinor)
	}
	// A server that starts may not have its JetStream yet: it is asked again.
	var err error
	for range 5 {
		asked, cancel := context.WithTimeout(ctx, b.timeout)
		_, err = b.js.AccountInfo(asked)
		cancel()
		if !errors.Is(err, jetstream.ErrJetStreamNotEnabled) && !errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount) && !errors.Is(err, nats.ErrNoResponders) {
			return nil // other errors pass, or are met again by whoever needs it
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(200 * time.Millisecond):
		}
	}
	if errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount) {
		return bad(err, "JetStream is not enabled for this account: add `jetstream: enabled` to it, or connect as a user of another account")
	}
	return bad(err, "it runs without JetStream: start it with `nats-server -js`, or with a jetstream block in its configuration")
}

// tooOld says whether a version such as 2.10.4 lacks what the platform needs. One that
// can't be read may be a build of somebody's own, and is let through.
func tooOld(version string) bool {
	major, rest, _ := strings.Cut(version, ".")
	minor, _, _ := strings.Cut(rest, ".")
	a, err := strconv.Atoi(major)
	n, err2 := strconv.Atoi(minor)
	return err == nil && err2 == nil && (a < needsMajor || a == needsMajor && n < needsMinor)
}
