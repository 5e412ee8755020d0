package deployments

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cloudburst-nats/cloudburst/broker"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// An origin knows from which incarnation of its pool's stream a call comes. Counters
// are exact for each incarnation and sequence, so a stream that was deleted and made
// anew must not pass for the old one. Streams that the platform makes anew begin at
// sequences that the old one never reached; one that a hand makes begins at 1.
type origin struct {
	marks *broker.Watermarks
	pool  string

	mu      sync.Mutex // guards what follows
	source  string     // "<stream>@<created>", as Watermarks name it
	before  string     // the one before that
	created time.Time  // of source
	highest uint64     // the newest call that came for the first time
	doubt   bool       // the stream may have been made anew
}

func newOrigin(marks *broker.Watermarks, pool, source string) *origin {
	return &origin{marks: marks, pool: pool, source: source, before: source, created: createdOf(source)}
}

// leap is a distance between two sequences that no worker sees within one stream.
const leap = 1_000_000_000_000

// reviseWait is after how long a call is handed out again whose stream can't be asked.
const reviseWait = time.Second

// sure fills in the source of a call, unless the stream has to be asked first: what
// comes for the first time goes up the stream.
func (o *origin) sure(c *wire.Call) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.doubt || c.Attempt == 1 && (c.Seq <= o.highest || o.highest > 0 && c.Seq > o.highest+leap) {
		return false
	}
	if c.Attempt == 1 {
		o.highest = c.Seq
	}
	c.Source = o.source
	return true
}

// ask asks for the stream's incarnation and fills in the source of a call: the
// incarnation before, if the call was stored earlier than this one was made.
func (o *origin) ask(ctx context.Context, c *wire.Call) error {
	_, source, err := o.marks.Ask(ctx, o.pool)
	if err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.takeLocked(source)
	if c.Source = source; c.Stored.Before(o.created) {
		c.Source = o.before
	}
	if c.Attempt == 1 && c.Source == o.source {
		o.highest = c.Seq
	}
	return nil
}

// look looks whether the stream is still the same, if it can be asked.
func (o *origin) look(ctx context.Context) {
	if _, source, err := o.marks.Ask(ctx, o.pool); err == nil {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.takeLocked(source)
	}
}

func (o *origin) takeLocked(source string) {
	o.doubt = false
	if source != o.source {
		o.before, o.source, o.created, o.highest = o.source, source, createdOf(source), 0
	}
}

// deleted has the stream asked before the next call is run.
func (o *origin) deleted() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.doubt = true
}

// createdOf is when the incarnation was made that a source names.
func createdOf(source string) time.Time {
	_, at, _ := strings.Cut(source, "@")
	ns, err := strconv.ParseInt(at, 36, 64)
	if err != nil {
		return time.Time{}
	}
	return time.Unix(0, ns)
}
