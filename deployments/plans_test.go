package deployments

import (
	"strconv"
	"testing"
)

func TestRecentForgetsWhatIsNotUsed(t *testing.T) {
	var r recent[int]
	for i := range 100 * recentAtMost {
		r.put(strconv.Itoa(i), i)
		if v, ok := r.get("0"); !ok || v != 0 {
			t.Fatalf("after %d keys, the one that is used all the time is %d, %v", i+1, v, ok)
		}
		if n := len(r.now) + len(r.before); n > 2*recentAtMost {
			t.Fatalf("%d keys are kept", n)
		}
		if oldest := i - recentAtMost + 2; oldest > 0 {
			if _, ok := r.before[strconv.Itoa(oldest)]; !ok {
				if _, ok := r.now[strconv.Itoa(oldest)]; !ok {
					t.Fatalf("after key %d, key %d is forgotten", i, oldest)
				}
			}
		}
	}
	if _, ok := r.get("5"); ok {
		t.Error("a key is kept that was used long ago")
	}
}
