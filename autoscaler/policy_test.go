package autoscaler

import (
	"math/rand/v2"
	"testing"
	"time"
)

func TestWorkers(t *testing.T) {
	for _, tt := range []struct {
		name string
		p    Policy
		m    Measurement
		want int
	}{
		{"idle scales to zero", Policy{}, Measurement{}, 0},
		{"idle keeps the minimum", Policy{Min: 2}, Measurement{}, 2},
		{"one call wants one worker", Policy{}, Measurement{Pending: 1}, 1},
		{"backlog", Policy{}, Measurement{Pending: 640}, 10},
		{"one more than a worker's slots", Policy{}, Measurement{Pending: 65}, 2},
		{"in hand counts", Policy{}, Measurement{Pending: 32, InHand: 33}, 2},
		{"arrivals at the target", Policy{}, Measurement{Arrivals: 1000, Service: 90 * time.Millisecond}, 3},
		{"exactly full", Policy{Slots: 10, Target: 1}, Measurement{Arrivals: 100, Service: 100 * time.Millisecond}, 1},
		{"bounded above", Policy{Max: 4}, Measurement{Pending: 1 << 40}, 4},
		{"minimum beats nothing else", Policy{Min: 1, Max: 4}, Measurement{Pending: 65}, 2},
		{"nonsense reads as none", Policy{Slots: -1, Target: 7}, Measurement{InHand: -5, Arrivals: -1, Service: -time.Second}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := Workers(tt.p, tt.m); got != tt.want {
				t.Errorf("Workers(%+v, %+v) = %d, want %d", tt.p, tt.m, got, tt.want)
			}
		})
	}
}

// More to do never wants fewer workers, and what is wanted is enough.
func TestWorkersGrowWithLoad(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 10_000 {
		p := Policy{Slots: 1 + rng.IntN(100), Target: 0.1 + 0.9*rng.Float64()}
		m := Measurement{Pending: rng.Uint64N(10_000), Arrivals: 1000 * rng.Float64(), Service: time.Duration(rng.IntN(1e9))}
		more := m
		more.Pending += rng.Uint64N(1000)
		more.Arrivals += 100 * rng.Float64()
		got, gotMore := Workers(p, m), Workers(p, more)
		if gotMore < got {
			t.Fatalf("Workers(%+v, %+v) = %d, but with more to do (%+v) %d", p, m, got, more, gotMore)
		}
		if slots := got * p.Slots; uint64(slots) < m.Pending {
			t.Fatalf("Workers(%+v, %+v) = %d: %d slots for %d calls", p, m, got, slots, m.Pending)
		}
	}
}
