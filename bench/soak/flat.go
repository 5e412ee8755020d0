package soak

import (
	"fmt"
	"slices"
)

// A series is one figure of a long run, at every sample.
type series struct {
	what   string
	values []float64
	// ratio and slack bound what the end may be more than the beginning: it is flat if the
	// end is at most the beginning times ratio, plus slack.
	ratio, slack float64
}

// A Trend compares the end of a long run with its beginning.
type Trend struct {
	Bench string  `json:"bench"` // "soak"
	What  string  `json:"what"`  // is measured, and its unit
	Early float64 `json:"early"` // the median of the second fifth: the first one warms up
	Late  float64 `json:"late"`  // the median of the last fifth
	Most  float64 `json:"most"`  // that the last may be
	Flat  bool    `json:"flat"`
}

// leastSamples is how many samples a trend takes: two in each fifth.
const leastSamples = 10

// trend compares medians, so that a sample that was disturbed doesn't count.
func (s series) trend() (Trend, error) {
	n := len(s.values)
	if n < leastSamples {
		return Trend{}, fmt.Errorf("%s: %d samples are too few to tell a trend: %d at least", s.what, n, leastSamples)
	}
	t := Trend{Bench: "soak", What: s.what, Early: median(s.values[n/5 : 2*n/5]), Late: median(s.values[n-n/5:])}
	t.Most = t.Early*s.ratio + s.slack
	t.Flat = t.Late <= t.Most
	return t, nil
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	if n == 0 {
		return 0
	}
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}
