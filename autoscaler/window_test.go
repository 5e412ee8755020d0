package autoscaler

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// The ring says what a list of all values would.
func TestWindowAgainstAList(t *testing.T) {
	type value struct {
		step int64
		v    float64
	}
	rng := rand.New(rand.NewPCG(5, 6))
	w := newWindow(20*time.Second, time.Second)
	var all []value
	now := time.Unix(100, 0)
	for range 2000 {
		now = now.Add(time.Duration(rng.IntN(2500)) * time.Millisecond)
		v := rng.Float64()
		w.add(now, v)
		all = append(all, value{now.Unix(), v})
		span := time.Duration(1+rng.IntN(20)) * time.Second
		most := 0.0
		sums := map[int64][]float64{}
		for _, x := range all {
			if x.step > now.Unix()-int64(span.Seconds()) {
				most = max(most, x.v)
				sums[x.step] = append(sums[x.step], x.v)
			}
		}
		average := 0.0
		for _, values := range sums {
			sum := 0.0
			for _, v := range values {
				sum += v
			}
			average += sum / float64(len(values)) / float64(len(sums))
		}
		if got := w.most(now, span); got != most {
			t.Fatalf("most of %v is %v, want %v", span, got, most)
		}
		if got := w.average(now, span); math.Abs(got-average) > 1e-9 {
			t.Fatalf("average of %v is %v, want %v", span, got, average)
		}
	}
}

func TestWindowForgets(t *testing.T) {
	w := newWindow(5*time.Second, time.Second)
	w.add(time.Unix(10, 0), 7)
	if got := w.most(time.Unix(14, 0), 5*time.Second); got != 7 {
		t.Errorf("after 4 s it has %v, want 7", got)
	}
	if got := w.most(time.Unix(15, 0), 5*time.Second); got != 0 {
		t.Errorf("after 5 s it has %v, want 0", got)
	}
	if got := w.average(time.Unix(100, 0), 5*time.Second); got != 0 {
		t.Errorf("an average of nothing is %v, want 0", got)
	}
}
