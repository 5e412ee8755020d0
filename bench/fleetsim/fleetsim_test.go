package fleetsim

import (
	"reflect"
	"testing"
	"time"

	"github.com/cloudburst-nats/cloudburst/autoscaler"
)

// The day costs at most a fifth more than the oracle pays, whatever the seed, and
// nearly nobody waits.
func TestTheDayIsCheap(t *testing.T) {
	for seed, slots := range []int{1, 4} {
		out, err := Simulation{Seed: uint64(seed), Policy: autoscaler.Policy{Slots: slots, Min: 1}}.Run()
		if err != nil {
			t.Fatal(err)
		}
		o := out[0]
		t.Logf("%d slots, seed %d: waste %.1f %%, capacity %v (at most %v), age at most %v", slots, seed, 100*o.Waste, o.CapacityP50, o.CapacityMax, o.AgeMax)
		if o.Waste > 0.2 || o.Waste < -0.01 {
			t.Errorf("%d slots, seed %d: %.1f %% more than the oracle, want at most 20: %+v", slots, seed, 100*o.Waste, o)
		}
		if o.Left > 0 || o.Missed > 0 || o.AgeP99 > time.Second || o.AgeMax > 5*time.Second {
			t.Errorf("%d slots, seed %d: calls wait: %+v", slots, seed, o)
		}
		if peak := out[1]; peak.Waste < o.Waste || peak.AgeMax > time.Second {
			t.Errorf("the fleet that is always as large as the peak is %+v", peak)
		}
	}
}

func TestTheSameSeedIsTheSameDay(t *testing.T) {
	s := Simulation{Seed: 9, Length: time.Hour, Policy: autoscaler.Policy{Slots: 4}}
	a, err := s.Run()
	if err != nil {
		t.Fatal(err)
	}
	b, err := s.Run()
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(a, b) {
		t.Errorf("%+v, then %+v", a, b)
	}
}

// All calls are begun or left, and a fixed fleet pays what it is.
func TestTheBooksBalance(t *testing.T) {
	out, err := Simulation{Length: 2 * time.Hour, Policy: autoscaler.Policy{Slots: 2}}.Run()
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range out[1:] {
		if want := float64(o.Peak) * 7200; o.WorkerSeconds < want-1 || o.WorkerSeconds > want+1 {
			t.Errorf("%s: %v worker-seconds, want %v", o.Fleet, o.WorkerSeconds, want)
		}
		if o.Calls != out[0].Calls || o.Ideal != out[0].Ideal {
			t.Errorf("%s saw another day: %+v", o.Fleet, o)
		}
	}
}

func TestSimulationsThatAreRefused(t *testing.T) {
	if _, err := (Simulation{Service: -1, Base: -1, Policy: autoscaler.Policy{Min: -1}}).Run(); err == nil {
		t.Error("a simulation of nonsense was run")
	}
	err := (autoscaler.Policy{Min: -1, Max: -1, Slots: -1, Target: 2, Threshold: 1, Stable: time.Second, Panic: time.Minute, UpStep: -1}).Validate()
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok || len(joined.Unwrap()) != 7 {
		t.Errorf("Validate says %v, want seven problems", err)
	}
	if err := (autoscaler.Policy{}).Validate(); err != nil {
		t.Errorf("the zero policy is refused: %v", err)
	}
}
