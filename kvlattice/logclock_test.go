package kvlattice_test

import (
	"slices"
	"testing"
	"time"

	"github.com/cloudburst-nats/cloudburst/kvlattice"
)

// What a repeat of a call is shown may be newer; what it writes before is stamped as it
// was the first time.
func TestLogClockRepeatsItself(t *testing.T) {
	stored := time.Unix(1000, 5)
	now := func() time.Time { return stored.Add(time.Minute) }
	stamps := func(attempt int) (all []kvlattice.Timestamp) {
		c := kvlattice.NewLogClock(stored, attempt)
		all = append(all, c.Next(), c.Next())
		if !c.Follow(kvlattice.Timestamp{Wall: stored.UnixNano() + 7, Logical: 3}, now) {
			t.Error("what was read isn't followed")
		}
		return append(all, c.Next())
	}
	first := stamps(1)
	if again := stamps(1); !slices.Equal(first, again) {
		t.Errorf("stamped %v, then %v", first, again)
	}
	if first[0].Wall != stored.UnixNano() || first[2].Wall != stored.UnixNano()+8 {
		t.Errorf("stamped %v for a call that was stored at %d", first, stored.UnixNano())
	}
	if !slices.IsSortedFunc(first, kvlattice.Timestamp.Compare) {
		t.Errorf("stamped %v: one isn't after the one before", first)
	}
	for attempt := 2; attempt < 400; attempt++ {
		later := stamps(attempt)
		for i, ts := range later[:2] {
			if attempt < 256 && ts.Compare(first[1]) <= 0 || i > 0 && ts.Compare(later[i-1]) <= 0 {
				t.Fatalf("attempt %d stamped %v, attempt %d %v before", attempt, later, attempt-1, first)
			}
		}
		if attempt < 256 {
			first = later
		}
	}
}

// A call follows what another call wrote, although a server whose clock is behind stored it.
// When the other call runs again, its writes are still before those of the first.
func TestLogClockFollowsPastRepeats(t *testing.T) {
	stored := time.Unix(1000, 0)
	now := func() time.Time { return stored }
	first := kvlattice.NewLogClock(stored, 1)
	first.Next()
	second := kvlattice.NewLogClock(stored.Add(-time.Minute), 1)
	if !second.Follow(first.Known(), now) {
		t.Fatal("what came along isn't followed")
	}
	written := second.Next()
	for attempt := range 300 {
		again := kvlattice.NewLogClock(stored, attempt+1)
		again.Follow(first.Known(), now) // it reads what it wrote before
		for range 10 {
			if ts := again.Next(); ts.Compare(written) >= 0 {
				t.Fatalf("attempt %d stamped %v, after %v of a call that followed the first attempt", attempt+1, ts, written)
			}
		}
	}
}

func TestLogClockRefusesWhatIsTooFarAhead(t *testing.T) {
	stored := time.Unix(1000, 0)
	now := func() time.Time { return stored.Add(time.Hour) } // the call waited for long
	for _, tt := range []struct {
		ahead  time.Duration // of now
		follow bool
	}{{-2 * time.Hour, true}, {-time.Minute, true}, {time.Minute, true}, {90 * time.Second, true}, {91 * time.Second, false}, {24 * time.Hour, false}} {
		c := kvlattice.NewLogClock(stored, 1)
		read := kvlattice.Timestamp{Wall: now().Add(tt.ahead).UnixNano()}
		if got := c.Follow(read, now); got != tt.follow {
			t.Errorf("a stamp %v ahead was followed: %t", tt.ahead, got)
		}
		next := c.Next()
		if after := next.Compare(read) > 0; after != tt.follow || next.Wall < stored.UnixNano() {
			t.Errorf("stamped %v after %v, %v ahead", next, read, tt.ahead)
		}
	}
}

// What is long ago by the log's time can't come into conflict with a call that is stored
// later, and needn't travel.
func TestLogClockForgetsWhatDoesNotMatter(t *testing.T) {
	stored := time.Unix(10_000, 0)
	now := func() time.Time { return stored }
	c := kvlattice.NewLogClock(stored, 1)
	if known := c.Known(); known != (kvlattice.Timestamp{}) {
		t.Errorf("a call that touched nothing knows of %v", known)
	}
	for _, ago := range []time.Duration{time.Hour, 4 * time.Minute, time.Minute, 0, -time.Minute} {
		read := kvlattice.Timestamp{Wall: stored.Add(-ago).UnixNano()}
		c.Follow(read, now)
		want := read
		if ago > 3*time.Minute {
			want = kvlattice.Timestamp{}
		}
		if known := c.Known(); known != want {
			t.Errorf("after a read of what was written %v before, the call knows of %v, want %v", ago, known, want)
		}
	}
}
