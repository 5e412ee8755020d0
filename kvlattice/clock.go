package kvlattice

import (
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A Timestamp orders the writes of a register: by wall clock first, and by a
// counter among writes that the wall clock can't tell apart. The zero
// Timestamp is before all others.
type Timestamp struct {
	Wall    int64 // nanoseconds since 1970, never negative
	Logical uint32
}

// Compare returns -1, 0 or +1 as t is before, equal to or after u.
func (t Timestamp) Compare(u Timestamp) int {
	return cmp.Or(cmp.Compare(t.Wall, u.Wall), cmp.Compare(t.Logical, u.Logical))
}

// String returns 16 and 8 hexadecimal digits joined by '-'. As text,
// timestamps sort as Compare does.
func (t Timestamp) String() string {
	var raw [12]byte
	binary.BigEndian.PutUint64(raw[:8], uint64(t.Wall))
	binary.BigEndian.PutUint32(raw[8:], t.Logical)
	text := hex.AppendEncode(make([]byte, 0, 2*len(raw)+1), raw[:8])
	return string(hex.AppendEncode(append(text, '-'), raw[8:]))
}

// ParseTimestamp reads what String wrote.
func ParseTimestamp(s string) (Timestamp, error) {
	wall, logical, ok := strings.Cut(s, "-")
	if !ok || len(wall) != 16 || len(logical) != 8 {
		return Timestamp{}, fmt.Errorf("timestamp %q isn't 16 and 8 hexadecimal digits joined by '-'", s)
	}
	w, err := strconv.ParseInt(wall, 16, 64)
	if err != nil || w < 0 {
		return Timestamp{}, fmt.Errorf("timestamp %q: %q isn't a wall clock", s, wall)
	}
	l, err := strconv.ParseUint(logical, 16, 32)
	if err != nil {
		return Timestamp{}, fmt.Errorf("timestamp %q: %q isn't a logical clock", s, logical)
	}
	return Timestamp{Wall: w, Logical: uint32(l)}, nil
}

// AfterRepeats returns a timestamp after all that the call which gave t may give in its
// place when it runs again: a repeat has the same wall time, and a greater counter.
func (t Timestamp) AfterRepeats() Timestamp {
	if t == (Timestamp{}) || t.Wall == math.MaxInt64 {
		return t
	}
	return Timestamp{Wall: t.Wall + 1}
}

// Next returns the least timestamp after t.
func (t Timestamp) Next() Timestamp {
	if t.Logical < math.MaxUint32 {
		return Timestamp{Wall: t.Wall, Logical: t.Logical + 1}
	}
	if t.Wall < math.MaxInt64 {
		return Timestamp{Wall: t.Wall + 1}
	}
	return t // the year 2262: nothing is later
}

// stampOf returns the timestamp of a moment that no Clock stamped.
func stampOf(at time.Time) Timestamp {
	if at.Before(time.Unix(0, 0)) { // as the zero time is
		return Timestamp{}
	}
	return Timestamp{Wall: max(at.UnixNano(), 0)}
}

// maxAhead is how far ahead of the wall clock a Clock follows what it
// observes, and hence by how much the clocks of servers may differ. NTP keeps
// servers within milliseconds, and a clock that nobody sets drifts by about a
// second a day: a difference of 90 seconds is a fault, not drift.
const maxAhead = foldAfter - flightAtMost

// A Clock is a hybrid logical clock: wall time that never runs backwards, and
// runs ahead as far as needed to be after everything that was observed. A
// writer whose wall clock is slow therefore never loses against a value that
// it has read. A Clock may be used concurrently.
//
// A timestamp more than 90 seconds ahead of the wall clock comes from a host
// whose clock is wrong. It still orders the key that carries it, but the Clock
// doesn't follow it: one such host would otherwise drag every clock of the
// system to its own time, for ever. To overwrite such a value use After.
type Clock struct {
	now func() time.Time

	// mu guards last.
	mu   sync.Mutex
	last Timestamp // the latest issued or followed
}

// NewClock returns a clock over the given wall clock. nil means time.Now.
func NewClock(now func() time.Time) *Clock {
	if now == nil {
		now = time.Now
	}
	return &Clock{now: now}
}

// Wall returns the time of the wall clock underneath.
func (c *Clock) Wall() time.Time { return c.now() }

// Latest returns the latest timestamp that the clock issued or followed; the zero
// Timestamp if there is none.
func (c *Clock) Latest() Timestamp {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last
}

// Now returns a timestamp after all that Now returned before, and after all
// that were observed within 90 seconds of the wall clock.
func (c *Clock) Now() Timestamp {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.issueLocked(stampOf(c.now()))
}

// Observe tells the clock of a timestamp that was read.
func (c *Clock) Observe(t Timestamp) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.followLocked(t, stampOf(c.now()))
}

// After is Observe and Now in one: the timestamp for overwriting a value
// stamped t. The result is after t even if t is too far ahead for the clock to
// follow: it is then the very next timestamp, and the clock stays where it is.
func (c *Clock) After(t Timestamp) Timestamp {
	c.mu.Lock()
	defer c.mu.Unlock()
	wall := stampOf(c.now())
	if !c.followLocked(t, wall) {
		return t.Next()
	}
	return c.issueLocked(wall)
}

// followLocked moves the clock up to t unless t is too far ahead of the wall
// clock, and says whether the clock is at or after t.
func (c *Clock) followLocked(t, wall Timestamp) bool {
	if t.Compare(c.last) <= 0 {
		return true
	}
	if t.Wall-wall.Wall > int64(maxAhead) {
		return false
	}
	c.last = t
	return true
}

func (c *Clock) issueLocked(wall Timestamp) Timestamp {
	c.last = later(wall, c.last.Next())
	return c.last
}

func later(t, u Timestamp) Timestamp {
	if t.Compare(u) < 0 {
		return u
	}
	return t
}
