package kvlattice_test

import (
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloudburst-nats/cloudburst/kvlattice"
)

// A wall is a wall clock that a test sets.
type wall struct{ at time.Time }

func (w *wall) now() time.Time { return w.at }

func newWall() *wall { return &wall{at: time.Unix(1_700_000_000, 0)} }

func (w *wall) stamp(ahead time.Duration) kvlattice.Timestamp {
	return kvlattice.Timestamp{Wall: w.at.Add(ahead).UnixNano()}
}

func TestClockNeverRunsBack(t *testing.T) {
	t.Parallel()
	w := newWall()
	c := kvlattice.NewClock(w.now)
	last := c.Now()
	for i, step := range []time.Duration{0, time.Second, -time.Hour, 0, time.Millisecond, 2 * time.Hour} {
		w.at = w.at.Add(step)
		now := c.Now()
		if now.Compare(last) <= 0 {
			t.Errorf("step %d (%v): %v isn't after %v", i, step, now, last)
		}
		last = now
	}
	if want := w.stamp(0); last != want {
		t.Errorf("once the wall clock has caught up: got %v, want its time %v", last, want)
	}
}

func TestClockIsAfterWhatItObserved(t *testing.T) {
	t.Parallel()
	w := newWall()
	slow := kvlattice.NewClock(w.now)
	read := w.stamp(30 * time.Second)
	slow.Observe(read)
	if got := slow.Now(); got.Compare(read) <= 0 {
		t.Errorf("a clock 30 s slow wrote at %v, not after %v which it had read", got, read)
	}
	slow.Observe(w.stamp(-time.Hour))
	if got := slow.Now(); got.Compare(read) <= 0 {
		t.Errorf("an old timestamp turned the clock back to %v", got)
	}
}

func TestClockIsNotDraggedFarAhead(t *testing.T) {
	t.Parallel()
	w := newWall()
	c := kvlattice.NewClock(w.now)
	absurd := w.stamp(24 * time.Hour)
	c.Observe(absurd)
	if got := c.Now(); got.Compare(w.stamp(time.Minute)) > 0 {
		t.Errorf("a timestamp a day ahead dragged the clock to %v", got)
	}
	over := c.After(absurd)
	if over.Compare(absurd) <= 0 {
		t.Errorf("After(%v) = %v, want something after it", absurd, over)
	}
	if again := c.After(over); again.Compare(over) <= 0 {
		t.Errorf("After(%v) = %v, want something after it", over, again)
	}
	if got := c.Now(); got.Compare(w.stamp(time.Minute)) > 0 {
		t.Errorf("overwriting a timestamp a day ahead dragged the clock to %v", got)
	}
	w.at = w.at.Add(48 * time.Hour)
	if got, want := c.After(absurd), w.stamp(0); got != want {
		t.Errorf("a day later After(%v) = %v, want the wall clock's %v", absurd, got, want)
	}
}

func TestClockAfterSaneTimestamp(t *testing.T) {
	t.Parallel()
	w := newWall()
	c := kvlattice.NewClock(w.now)
	read := w.stamp(time.Second)
	over := c.After(read)
	if over.Compare(read) <= 0 {
		t.Errorf("After(%v) = %v", read, over)
	}
	if got := c.Now(); got.Compare(over) <= 0 {
		t.Errorf("Now() = %v, not after After's %v", got, over)
	}
}

func TestClockIsUniqueAcrossGoroutines(t *testing.T) {
	t.Parallel()
	const writers, each = 8, 500
	c := kvlattice.NewClock(newWall().now) // stands still: only Logical moves
	var mu sync.Mutex
	seen := make(map[kvlattice.Timestamp]bool)
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for range each {
				now := c.Now()
				mu.Lock()
				seen[now] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(seen) != writers*each {
		t.Errorf("%d different timestamps of %d", len(seen), writers*each)
	}
}

func TestTimestampTextSorts(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	stamp := func() kvlattice.Timestamp {
		ts := kvlattice.Timestamp{Wall: random.Int64() >> random.IntN(63), Logical: random.Uint32() >> random.IntN(32)}
		if random.IntN(4) == 0 {
			ts.Wall = math.MaxInt64
		}
		return ts
	}
	for range 2000 {
		a, b := stamp(), stamp()
		if got, want := strings.Compare(a.String(), b.String()), a.Compare(b); got != want {
			t.Fatalf("%v against %v: %d as text, %d as timestamps", a, b, got, want)
		}
		if back, err := kvlattice.ParseTimestamp(a.String()); err != nil || back != a {
			t.Fatalf("parsing %v: got %v, %v", a, back, err)
		}
	}
}

func TestParseTimestampRefuses(t *testing.T) {
	t.Parallel()
	for _, s := range []string{
		"", "-", "1", "00000000000000010000000a", "0000000000000001-", "0000000000000001-0000000g",
		"ffffffffffffffff-00000000", "-000000000000001-00000000", "0000000000000001-+0000001", "0000000000000001-000000001",
	} {
		if ts, err := kvlattice.ParseTimestamp(s); err == nil {
			t.Errorf("ParseTimestamp(%q) = %v, want an error", s, ts)
		}
	}
}
