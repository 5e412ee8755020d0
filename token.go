package cloudburst

import (
	"sync"

	"github.com/cloudburst-nats/cloudburst/consistency"
)

// A Token remembers what a caller has seen, from one call to the next: see
// WithToken. It is a few bytes for each namespace, however much that was. It may
// be used concurrently, and handed to another process as text.
type Token struct {
	mu   sync.Mutex // guards past
	past string
}

// NewToken returns the token of a caller who has seen nothing.
func NewToken() *Token { return &Token{past: (&consistency.Past{Token: true}).String()} }

// ParseToken reads what Token.String wrote. Any other text is ErrBadArgument.
func ParseToken(text string) (*Token, error) {
	t := NewToken()
	return t, t.add(text)
}

// String returns the token as one line, for the header Cb-Session of a call or
// for ParseToken; a nil token is empty.
func (t *Token) String() string {
	if t == nil {
		return ""
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.past
}

// add notes what another call has seen.
func (t *Token) add(past string) error {
	if t == nil || past == "" {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	joined, err := consistency.Join([]string{t.past, past})
	if err == nil {
		t.past = joined
	}
	return err
}

// saw notes that the caller itself has seen a namespace at a revision.
func (t *Token) saw(namespace string, rev uint64) error {
	return t.add((&consistency.Past{After: map[string]uint64{namespace: rev}}).String())
}

// needs is the revision that the caller's reads of a key must include.
func (t *Token) needs(namespace, key string) (uint64, error) {
	if t == nil {
		return 0, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	past, err := consistency.ParsePast(t.past)
	return past.Includes(namespace, key), err
}
