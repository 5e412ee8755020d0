package soak

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

func TestTrend(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	make60 := func(value func(i int) float64) []float64 {
		values := make([]float64, 60)
		for i := range values {
			values[i] = value(i)
		}
		return values
	}
	for _, tt := range []struct {
		name   string
		values []float64
		flat   bool
	}{
		{"constant", make60(func(int) float64 { return 40 }), true},
		{"noise", make60(func(int) float64 { return 40 + 8*random.Float64() }), true},
		{"spikes", make60(func(i int) float64 { return 40 + 400*float64(i%7/6) }), true},
		{"rises while it warms up", make60(func(i int) float64 { return min(float64(4*i), 44) }), true},
		{"falls", make60(func(i int) float64 { return 100 - float64(i) }), true},
		{"rises slowly", make60(func(i int) float64 { return 40 + 0.4*float64(i) }), false},
		{"rises, with noise", make60(func(i int) float64 { return 40 + float64(i) + 8*random.Float64() }), false},
		{"rises late", make60(func(i int) float64 { return 40 + 20*float64(i/50) }), false},
	} {
		got, err := series{what: tt.name, values: tt.values, ratio: flatRatio, slack: heapSlack}.trend()
		if err != nil || got.Flat != tt.flat {
			t.Errorf("%s: %+v, %v, want flat: %v", tt.name, got, err, tt.flat)
		}
	}
	if _, err := (series{values: make([]float64, leastSamples-1)}).trend(); err == nil {
		t.Error("a trend was made of too few samples")
	}
}

// A judgement that can't fail says nothing: each figure that rises as a leak of its kind does
// is told of, and nothing else.
func TestJudge(t *testing.T) {
	const samples = 60 // one every 30 s
	level := func(to float64) func(i int) float64 { return func(i int) float64 { return min(to, to/6*float64(i)) } }
	flat := map[string]func(i int) float64{
		"heap, MiB":                 func(i int) float64 { return 18 + float64(i%3) },
		"subjects of KV_cb_results": level(9000),
		"subjects of CB_RUNS":       func(i int) float64 { return float64(i * 7 % 11) },
		operations:                  func(int) float64 { return 1500 },
		"DAG, median ms":            func(i int) float64 { return 4 + float64(i%2) },
	}
	for _, tt := range []struct {
		what      string
		rises     func(i int) float64
		latencies bool
	}{
		{"heap, MiB", func(i int) float64 { return 18 + float64(i)*1500*0.25/1024 }, false}, // 256 B of each operation
		{"subjects of CB_RUNS", func(i int) float64 { return float64(5 * i) }, false},       // a run in 300 leaves one
		{"subjects of KV_cb_results", func(i int) float64 { return 1500 * float64(i) }, false},
		{operations, func(i int) float64 { return 1500 - 5*float64(i) }, false}, // the machine doesn't keep up
		{"DAG, median ms", func(i int) float64 { return 4 + float64(i*i)/20 }, true},
		{"", nil, true},
		{"", nil, false},
	} {
		figures := make(map[string]*series)
		for what, value := range flat {
			if what == tt.what {
				value = tt.rises
			}
			one := &series{what: what, ratio: flatRatio, slack: smallSlack}
			switch {
			case strings.HasPrefix(what, "heap"):
				one.slack = heapSlack
			case strings.HasSuffix(what, " ms"):
				one.ratio, one.slack = slowerRatio, slowerSlack
			}
			for i := range samples {
				one.values = append(one.values, value(i))
			}
			figures[what] = one
		}
		_, grown, err := judge(figures, tt.latencies)
		if err != nil {
			t.Fatal(err)
		}
		if tt.what == "" && len(grown) > 0 || tt.what != "" && (len(grown) != 1 || !strings.HasPrefix(grown[0], tt.what+":")) {
			t.Errorf("%q rises, and it was found that %q", tt.what, grown)
		}
	}
}

// The load runs without a failure, and everything is measured. Whether it is flat is not
// for some seconds to tell.
func TestRun(t *testing.T) {
	var out bytes.Buffer
	samples := 0
	err := Run(t.Context(), Config{
		For: 5 * time.Second, Samples: leastSamples, Rate: 4, Store: t.TempDir(), JSON: true,
		Progress: func(string) { samples++ },
	}, &out)
	if err != nil && !errors.Is(err, errNotFlat) {
		t.Fatal(err)
	}
	if samples != leastSamples {
		t.Errorf("%d samples, want %d", samples, leastSamples)
	}
	for _, want := range []string{`"heap, MiB"`, `"goroutines"`, `"buffers of the server, MiB"`, `"subjects of KV_state"`, `"operations"`} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%s is missing in:\n%s", want, out.String())
		}
	}
}
