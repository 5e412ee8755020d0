package broker

import (
	"testing"
	"time"
)

// One line of a kind is written in hushFor, and the next one tells how many were left out.
func TestHush(t *testing.T) {
	t.Parallel()
	var h hush
	now := time.Now()
	for i, want := range []struct {
		kind string
		at   time.Duration
		left uint64
		say  bool
	}{
		{"cb.at", 0, 0, true},
		{"cb.at", time.Second, 0, false},
		{"cb.stats", time.Second, 0, true},
		{"cb.at", hushFor - 1, 0, false},
		{"cb.at", hushFor, 2, true},
		{"cb.at", hushFor + 1, 0, false},
	} {
		if left, say := h.next(want.kind, now.Add(want.at)); left != want.left || say != want.say {
			t.Errorf("line %d: %d left out, written %v; want %d, %v", i, left, say, want.left, want.say)
		}
	}
	if kind := kindOf("cb.at.worker.x"); kind != "cb.at" {
		t.Errorf("the kind is %q", kind)
	}
}
