package kvlattice

import "time"

// A LogClock stamps the writes of one call by the log that holds the call. It begins at
// the call's stored time, and follows what the run reads. No clock of the machine that
// runs the call plays a part. A repeat of the call therefore gives the same timestamps,
// and its writes merge into what is there.
//
// The counter of a timestamp holds the call's attempt in its upper eight bits: what a
// later attempt writes wins over what an earlier attempt stored.
type LogClock struct {
	stored Timestamp
	last   Timestamp // nothing earlier is given any more
	known  Timestamp // the latest that it followed or gave
	try    uint32    // the least counter of this attempt's timestamps
}

// tryShift leaves 24 bits of a timestamp's counter to the writes of one attempt.
const tryShift = 24

// NewLogClock returns the clock of a call that the log stored at a time. Attempt 1
// is the first.
func NewLogClock(stored time.Time, attempt int) LogClock {
	at := stampOf(stored)
	return LogClock{stored: at, last: at, try: uint32(min(max(attempt-1, 0), 1<<8-1)) << tryShift}
}

// Follow moves the clock up to a timestamp that the run was shown, and past what a repeat
// of the call that gave it would have. A timestamp at the call's own stored time is its
// own. A timestamp that is TooFarAhead of a trusted time leaves the clock alone, and Follow
// returns false.
func (c *LogClock) Follow(t Timestamp, trusted func() time.Time) bool {
	if t.Compare(c.last) > 0 {
		if TooFarAhead(t, trusted()) {
			return false
		}
		if c.last = t; t.Wall != c.stored.Wall {
			c.last = t.AfterRepeats()
		}
	}
	c.known = later(c.known, t)
	return true
}

// Next returns a timestamp after all that the clock gave or followed, for one write.
func (c *LogClock) Next() Timestamp {
	c.last = c.last.Next()
	c.last.Logical = max(c.last.Logical, c.try)
	c.known = c.last
	return c.last
}

// Known returns the latest timestamp that the clock gave or followed, for the calls that
// come next. It is the zero Timestamp if their stored times are later in any case.
func (c *LogClock) Known() Timestamp {
	if c.stored.Wall-c.known.Wall > 2*int64(maxAhead) {
		return Timestamp{}
	}
	return c.known
}

// TooFarAhead says whether a timestamp is more than 90 seconds ahead of a trusted time.
// Such a timestamp comes from a clock that is wrong.
func TooFarAhead(t Timestamp, trusted time.Time) bool {
	return t.Wall-stampOf(trusted).Wall > int64(maxAhead)
}
