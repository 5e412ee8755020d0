package autoscaler

import (
	"testing"
	"time"
)

func TestTune(t *testing.T) {
	for _, slots := range []int{1, 4} {
		for seed := range uint64(2) {
			s := Simulation{Seed: seed, Policy: Policy{Slots: slots, Min: 1}}
			began := time.Now()
			out, err := s.Run()
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range out {
				t.Logf("slots %d: %+v", slots, o)
			}
			t.Log(time.Since(began))
		}
	}
}
