package retwis

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestQuantile(t *testing.T) {
	var hundred []time.Duration
	for i := range 100 {
		hundred = append(hundred, time.Duration(i+1))
	}
	for _, test := range []struct {
		of   []time.Duration
		q    float64
		want time.Duration
	}{
		{nil, 0.5, 0},
		{[]time.Duration{7}, 0.5, 7},
		{[]time.Duration{7}, 0, 7},
		{[]time.Duration{1, 2, 3}, 0.5, 2},
		{hundred, 0.5, 50},
		{hundred, 0.9, 90},
		{hundred, 0.99, 99},
		{hundred, 1, 100},
	} {
		if got := quantile(test.of, test.q); got != test.want {
			t.Errorf("quantile(%d values, %v) = %d, want %d", len(test.of), test.q, got, test.want)
		}
	}
}

func TestWords(t *testing.T) {
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", -1000: "-1,000"} {
		if got := count(n); got != want {
			t.Errorf("count(%d) = %q, want %q", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{
		0: "0s", 999: "999ns", 1234: "1.23µs", 1234567: "1.23ms", 12345678901: "12.3s",
	} {
		if got := round(d).String(); got != want {
			t.Errorf("round(%d) = %q, want %q", d, got, want)
		}
	}
	for n, want := range map[int64]string{0: "0 B", 10239: "10239 B", 10 << 10: "10 KiB", 300 << 20: "300 MiB"} {
		if got := size(n); got != want {
			t.Errorf("size(%d) = %q, want %q", n, got, want)
		}
	}
}

func sample() report {
	return report{
		Users: 1000, Follows: 50000, Callers: 64, Ahead: 3,
		Calls: []row{
			newRow(kindPost, &tally{took: []time.Duration{3 * time.Millisecond, 1 * time.Millisecond}, retries: 1}, time.Second),
			newRow(kindTimeline, &tally{errors: 2}, time.Second),
		},
		Stored:  map[string]int64{"KV_retwis": 20 << 20, "CB_RUNS": 0, "CB_CALLS_retwis": 11 << 10},
		Verdict: verdict{Posts: 5000, Timelines: 1000, Entries: 255000, Replies: 2500, Follows: 50000},
		Took:    12.34,
	}
}

func TestReportForPeople(t *testing.T) {
	r := sample()
	var out bytes.Buffer
	if err := r.write(&out); err != nil {
		t.Fatal(err)
	}
	const want = `
┌──────────┬───────┬───────┬─────┬─────┬─────┬─────┬─────────┬────────┐
│ call     │ count │ per s │ p50 │ p90 │ p99 │ max │ retries │ errors │
├──────────┼───────┼───────┼─────┼─────┼─────┼─────┼─────────┼────────┤
│ post     │     2 │     2 │ 1ms │ 3ms │ 3ms │ 3ms │       1 │      0 │
│ timeline │     0 │     0 │  0s │  0s │  0s │  0s │       0 │      2 │
└──────────┴───────┴───────┴─────┴─────┴─────┴─────┴─────────┴────────┘

stored    20 MiB: KV_retwis 20 MiB, CB_CALLS_retwis 11 KiB
ahead     3 times a read met a post that its timeline listed and that it could not read yet
verified  5,000 posts on 1,000 timelines, 255,000 entries: none missing, none extra, none twice;
          2,500 replies under what they answer; 50,000 follows
took      12.3 s
`
	if out.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", out.String(), want)
	}
}

func TestReportShowsTenDifferences(t *testing.T) {
	r := sample()
	for range 12 {
		r.Verdict.Wrong = append(r.Verdict.Wrong, "timeline:1 lacks it")
	}
	var out bytes.Buffer
	if err := r.write(&out); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(out.String(), "timeline:1 lacks it\n"); n != mostShown || !strings.Contains(out.String(), "NOT verified: 12 differences") {
		t.Errorf("shows %d of 12 differences:\n%s", n, out.String())
	}
}

func TestReportAsJSON(t *testing.T) {
	r := sample()
	var out bytes.Buffer
	if err := r.writeJSON(&out); err != nil {
		t.Fatal(err)
	}
	var back report
	if err := json.Unmarshal(out.Bytes(), &back); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(back, r) {
		t.Errorf("got %+v, want %+v", back, r)
	}
	if !strings.Contains(out.String(), `"p99_us": 3000`) {
		t.Errorf("no p99_us in %s", out.String())
	}
}
