package broker

import (
	"context"
	"encoding/json"
	"sync"
	"time"
)

// serverClock tells the servers' time. The clock of this machine may be wrong, or be
// set while we run. So a moment of the servers' time is kept beside the moment at which
// we heard of it, and the monotonic clock measures what has passed since.
//
// The servers' time was told before we heard it: what serverClock says is never ahead of
// the server that told it, but for the drift of one quartz within serverTimeAge.
type serverClock struct {
	mu    sync.Mutex // guards what follows
	told  time.Time  // by a server; zero: none has
	heard time.Time  // when, with a monotonic reading
}

// serverTimeAge is for how long a server's time is taken for known. A quartz drifts by
// a millisecond or two within that.
const serverTimeAge = 30 * time.Second

// tell takes in the time that a server put into an answer just now.
func (c *serverClock) tell(told time.Time) {
	if told.IsZero() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.told, c.heard = told, time.Now()
}

// now returns the servers' time, and whether it was told lately. Before it was ever told
// that is this machine's time.
func (c *serverClock) now() (now time.Time, fresh bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.told.IsZero() {
		return time.Now(), false
	}
	passed := time.Since(c.heard)
	return c.told.Add(passed), passed < serverTimeAge
}

// Now returns the servers' time: see Sync. It does no I/O.
func (b *Broker) Now() time.Time {
	now, _ := b.clock.now()
	return now
}

// Sync sees to it that Now knows the servers' time. At most every 30 seconds it asks
// the stream of a namespace.
func (b *Broker) Sync(ctx context.Context, ns string) error {
	if _, fresh := b.clock.now(); fresh {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	msg, err := b.nc.RequestWithContext(ctx, "$JS.API.STREAM.INFO."+bucketStream(ns), nil)
	if err != nil {
		return apiError("read the servers' time", ns, err)
	}
	var answer struct {
		Time time.Time `json:"ts"`
	}
	if err := json.Unmarshal(msg.Data, &answer); err != nil {
		return apiError("read the servers' time", ns, err)
	}
	b.clock.tell(answer.Time)
	return nil
}
