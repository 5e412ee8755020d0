package broker

import (
	"testing"
	"time"
)

// On several servers a worker may not be seen for a moment, though it is there.
func TestHowLongNobodyMayBeSeen(t *testing.T) {
	none, began := noWorker("f", "p"), time.Now()
	for name, c := range map[string]struct {
		alone solitude
		after time.Duration
		want  bool
	}{
		"one server":                    {solitude{}, loneAfter, true},
		"one server, too soon":          {solitude{}, loneAfter / 2, false},
		"a worker was seen before":      {solitude{served: true}, 2 * loneAfter, false},
		"and isn't for long":            {solitude{served: true}, MemberTTL, true},
		"several servers":               {solitude{copies: true}, 2 * loneAfter, false},
		"several servers, and for long": {solitude{copies: true}, MemberTTL, true},
	} {
		if c.alone.look(began, none) {
			t.Errorf("%s: the first look is enough", name)
		}
		if got := c.alone.look(began.Add(c.after), none); got != c.want {
			t.Errorf("%s: after %v it is enough: %t, want %t", name, c.after, got, c.want)
		}
	}
	seen := solitude{copies: true}
	seen.look(began, none)
	seen.look(began.Add(time.Second), nil)
	if seen.look(began.Add(MemberTTL), none) {
		t.Error("a worker was seen in between")
	}
}
