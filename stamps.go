package cloudburst

import (
	"context"
	"sync"
	"time"

	"github.com/cloudburst-nats/cloudburst/consistency"
	"github.com/cloudburst-nats/cloudburst/kvlattice"
	"github.com/cloudburst-nats/cloudburst/workers/runtime"
)

// stamps are the timestamps that a client knows of: of results that it was given, and of
// state that it read and wrote. Its next call carries the latest, so that a program whose
// calls follow each other has its writes in that order, whatever servers' clocks say.
type stamps struct {
	clock *kvlattice.Clock

	mu   sync.Mutex // guards what follows
	last kvlattice.Timestamp
	at   time.Time // when it became known
	text string
}

var _ runtime.Stamps = (*stamps)(nil)

// stampsMatter is for how long a timestamp is carried along. Servers' clocks differ by
// less than 90 seconds: a call that is stored later has a later time by itself.
const stampsMatter = 3 * time.Minute

// Known returns the past of a call that knows the latest timestamp; empty if that
// doesn't matter.
func (s *stamps) Known() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.raiseLocked(s.clock.Latest())
	if s.text != "" && time.Since(s.at) > stampsMatter {
		s.text = ""
	}
	return s.text
}

// Learn takes in what a result brought.
func (s *stamps) Learn(past string) {
	if past == "" {
		return
	}
	t := consistency.StampOf(past)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.raiseLocked(t)
}

func (s *stamps) raiseLocked(t kvlattice.Timestamp) {
	if t.Compare(s.last) > 0 {
		s.last, s.at, s.text = t, time.Now(), consistency.Stamped(t)
	}
}

// carried returns what a call carries along: the caller's token, and the timestamps that
// the program knows of, or the function whose context ctx is.
func (c *Client) carried(ctx context.Context) (string, error) {
	known, token := runtime.StampsOf(ctx, &c.stamps).Known(), c.call.token.String()
	if token == "" || known == "" {
		return token + known, nil
	}
	return consistency.Join([]string{token, known})
}

// brought takes in what the result of a call brought.
func (c *Client) brought(ctx context.Context, past string) error {
	if past == "" {
		return nil
	}
	runtime.StampsOf(ctx, &c.stamps).Learn(past)
	return c.call.token.add(past)
}
