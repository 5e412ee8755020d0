package poolsim

import (
	"testing"
	"time"
)

func TestSimulation(t *testing.T) {
	small := Simulation{Seed: 1, Workers: 50, Keys: 5000, Cache: 300, Calls: 20_000, Warm: 150_000, Churn: 10 * time.Second}
	on := small.Run()
	small.Off = true
	off := small.Run()
	t.Logf("on %+v", on)
	t.Logf("off %+v", off)
	if on.Hits < 0.95 || off.Hits > 0.8 {
		t.Errorf("hits: %.3f with the placement, want over 0.95; %.3f without, want well below", on.Hits, off.Hits)
	}
	if on.Spread > 2.5 {
		t.Errorf("the busiest worker has %.2f times the mean's load, want at most 2.5", on.Spread)
	}
	if on.Deaths == 0 || on.Handed < 0.5 || off.Handed != 0 {
		t.Errorf("on: %d deaths, %.2f handed over; off: %.2f handed over", on.Deaths, on.Handed, off.Handed)
	}
}

func TestSimulationRepeats(t *testing.T) {
	s := Simulation{Seed: 7, Workers: 10, Keys: 100, Cache: 20, Calls: 2000, Warm: 2000, Refs: 2}
	if a, b := s.Run(), s.Run(); a != b {
		t.Errorf("one seed, two outcomes: %+v and %+v", a, b)
	}
}
