package placement

import (
	"fmt"
	"maps"
	"testing"
	"time"
)

func TestTell(t *testing.T) {
	t.Parallel()
	now := time.Unix(100, 0)
	cached := map[string]bool{"x": true}
	has := func(_, key string) bool { return cached[key] }
	tell := NewTeller("w")
	next := func(after time.Duration, busy int, want Wants) (Summary, bool) {
		now = now.Add(after)
		return tell.Tell(now, 10, busy, want, has)
	}
	x, y := KeyOf("ns", "x"), KeyOf("ns", "y")
	tell.Used(x, "ns", "x", 7)
	if s, ok := next(0, 0, Wants{Ask: true}); !ok || !s.Full || !s.Ask || s.N != 1 || !maps.Equal(s.Keys, map[Key]int64{x: 7}) {
		t.Errorf("first: %+v, %v; want all that it has, and a question", s, ok)
	}
	if s, ok := next(tellEvery, 0, Wants{}); ok {
		t.Errorf("without news: %+v", s)
	}
	if s, ok := next(0, 9, Wants{}); !ok || s.Busy != 9 || s.Full || len(s.Keys) > 0 {
		t.Errorf("busy: %+v, %v; want that and nothing else", s, ok)
	}
	tell.Used(y, "ns", "y", 8)
	if _, ok := next(tellEvery/2, 9, Wants{}); ok {
		t.Error("tells again too soon")
	}
	delete(cached, "x")
	cached["y"] = true
	if s, ok := next(tellEvery, 9, Wants{}); !ok || !maps.Equal(s.Keys, map[Key]int64{y: 8}) || len(s.Gone) != 1 || s.Gone[0] != x {
		t.Errorf("news: %+v, %v; want y new and x gone", s, ok)
	}
	if s, ok := next(beatEvery, 9, Wants{}); !ok || s.Full || len(s.Keys)+len(s.Gone) > 0 {
		t.Errorf("heartbeat: %+v, %v", s, ok)
	}
	if s, ok := next(tellEvery, 9, Wants{Asked: true}); !ok || !s.Full || len(s.Keys) != 1 {
		t.Errorf("asked: %+v, %v; want all", s, ok)
	}
	if _, ok := next(beatEvery, 9, Wants{Peers: 999}); ok {
		t.Error("tells a thousand others every second")
	}
}

// A worker that used many keys tells of the latest, however many there were.
func TestTellIsBounded(t *testing.T) {
	t.Parallel()
	tell := NewTeller("w")
	view := NewView("me")
	now := time.Unix(100, 0)
	for i := range 50_000 {
		key := fmt.Sprint(i)
		tell.Used(KeyOf("ns", key), "ns", key, 1)
		if i%999 == 0 {
			now = now.Add(time.Second)
			if s, ok := tell.Tell(now, 10, 0, Wants{Peers: 1}, func(string, string) bool { return true }); ok {
				view.Hear(now, s)
			}
		}
	}
	s, ok := tell.Tell(now.Add(time.Minute), 10, 0, Wants{Peers: 1}, func(string, string) bool { return true })
	if !ok || !s.Full || len(s.Keys) != Most(1) {
		t.Fatalf("tells of %d keys (full: %v), want %d", len(s.Keys), s.Full, Most(1))
	}
	for i := 50_000 - 100; i < 50_000; i++ {
		if _, told := s.Keys[KeyOf("ns", fmt.Sprint(i))]; !told {
			t.Errorf("doesn't tell of key %d, used lately", i)
		}
	}
	view.Hear(now, s)
	if len(view.holders) != Most(1) {
		t.Errorf("the view has %d keys, want %d", len(view.holders), Most(1))
	}
	view.Gone("w")
	if len(view.holders) != 0 || view.Peers() != 0 {
		t.Errorf("%d keys and %d peers are left of a worker that is gone", len(view.holders), view.Peers())
	}
}

func BenchmarkDecide(b *testing.B) {
	for _, workers := range []int{3, 100, 1000} {
		v := NewView("me")
		for w := range workers {
			v.Hear(time.Time{}, Summary{Worker: fmt.Sprint("w", w), N: 1, Slots: 64, Full: true, Keys: map[Key]int64{KeyOf("ns", fmt.Sprint(w)): 1}})
		}
		held, unheld := []Key{KeyOf("ns", "1"), KeyOf("ns", "2")}, []Key{KeyOf("ns", "nobody has it")}
		b.Run(fmt.Sprintf("held/%d", workers), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				v.Decide("me", held)
			}
		})
		b.Run(fmt.Sprintf("unheld/%d", workers), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				v.Decide("me", unheld)
			}
		})
	}
}
