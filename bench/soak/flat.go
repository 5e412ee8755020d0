package soak

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A series is one figure of a long run, at every sample.
type series struct {
	what   string
	values []float64
	// ratio and slack bound what the end may be more than the beginning: it is flat if the
	// end is at most the beginning times ratio, plus slack.
	ratio, slack float64
	bound        string // says what the figure levels off at
}

// A Trend compares the end of a long run with its beginning.
type Trend struct {
	Bench string  `json:"bench"` // "soak"
	What  string  `json:"what"`  // is measured, and its unit
	Early float64 `json:"early"` // the median of the second fifth: the first one warms up
	Late  float64 `json:"late"`  // the median of the last fifth
	Most  float64 `json:"most"`  // that the last may be
	Flat  bool    `json:"flat"`
	// Bound says what the figure rises to while a platform is new, and no further.
	Bound string `json:"bound,omitempty"`
}

// The bounds of what is flat. Figures of memory and subjects are strict, but for what comes
// and goes. Latencies are generous: machines are noisy.
const (
	flatRatio   = 1.1
	heapSlack   = 4  // MiB
	smallSlack  = 60 // goroutines, or subjects
	slowerRatio = 3  // of a median
	slowerSlack = 5  // ms
)

// operations is the figure that tells whether the load stayed the same.
const operations = "operations"

// leastSamples is how many samples a trend takes: two in each fifth.
const leastSamples = 10

// trend compares medians, so that a sample that was disturbed doesn't count.
func (s series) trend() (Trend, error) {
	n := len(s.values)
	if n < leastSamples {
		return Trend{}, fmt.Errorf("%s: %d samples are too few to tell a trend: %d at least", s.what, n, leastSamples)
	}
	t := Trend{
		Bench: "soak", What: s.what, Bound: s.bound,
		Early: median(s.values[n/5 : 2*n/5]), Late: median(s.values[n-n/5:]),
	}
	t.Most = t.Early*s.ratio + s.slack
	t.Flat = t.Late <= t.Most
	return t, nil
}

// judge returns the trends of all figures by name, and what is wrong with those that aren't
// flat. Latencies are judged if that is wanted.
func judge(figures map[string]*series, latencies bool) (trends []Trend, grown []string, err error) {
	for _, what := range slices.Sorted(maps.Keys(figures)) {
		one := figures[what]
		if len(one.values) < leastSamples {
			continue // a stream that came late
		}
		t, err := one.trend()
		if err != nil {
			return nil, nil, err
		}
		trends = append(trends, t)
		switch latency := strings.HasSuffix(what, " ms"); {
		case what == operations && (t.Late > t.Early*flatRatio || t.Early > t.Late*flatRatio):
			grown = append(grown, fmt.Sprintf("operations: from %.0f to %.0f a sample, so the other figures tell little: the machine must keep up with the load", t.Early, t.Late))
		case !t.Flat && what != operations && (latencies || !latency):
			grown = append(grown, fmt.Sprintf("%s: from %.1f to %.1f, %.1f at most", what, t.Early, t.Late, t.Most))
		}
	}
	return trends, grown, nil
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	if n == 0 {
		return 0
	}
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}
