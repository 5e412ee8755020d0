package broker

import (
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// A hush lets one line of a kind into the log in hushFor, and counts those that it leaves
// out: messages from outside may come by the thousands.
type hush struct {
	mu   sync.Mutex // guards said
	said map[string]hushed
}

type hushed struct {
	at   time.Time
	left uint64 // lines that were left out since
}

const hushFor = time.Minute

// next says whether a line is written now, and how many were left out before.
func (h *hush) next(kind string, now time.Time) (left uint64, say bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	last, known := h.said[kind]
	if known && now.Sub(last.at) < hushFor {
		h.said[kind] = hushed{last.at, last.left + 1}
		return 0, false
	}
	if h.said == nil {
		h.said = make(map[string]hushed)
	}
	h.said[kind] = hushed{at: now}
	return last.left, true
}

// kindOf is a subject's kind: there are as many as the platform listens to.
func kindOf(subject string) string {
	first, rest, _ := strings.Cut(subject, ".")
	second, _, _ := strings.Cut(rest, ".")
	return first + "." + second
}

// unreadable writes a log line of a message that is passed over.
func (b *Broker) unreadable(msg *nats.Msg, err error) {
	if left, say := b.hush.next(kindOf(msg.Subject), time.Now()); say {
		b.observe.unreadable(msg, err, left)
	}
}
