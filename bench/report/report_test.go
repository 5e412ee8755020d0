package report

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
)

// says is a section that writes rows and returns an error.
func says(name, rows string, err error, charts ...Chart) Section {
	return Section{Name: name, Title: "The " + name, About: "What it is.", Charts: charts, Run: func(_ context.Context, out io.Writer) error {
		if _, err := io.WriteString(out, rows); err != nil {
			return err
		}
		return err
	}}
}

func TestWrite(t *testing.T) {
	var out, rows, progress bytes.Buffer
	err := Write(t.Context(), Config{
		Command: "cloudburst-bench all", Rows: &rows, Progress: &progress,
		Sections: []Section{
			says("first", `{"bench":"first","case":"a | b","p50_us":12.3456,"ratio":null,"wait_ns":1500000000,"paper":"\"quick\""}
{"bench":"first","case":"unmeasured","p50_us":0}
{"bench":"first","case":"b","p50_us":1234.5,"wait_ns":0,"p99_us":0,"ok":true,"moments":[{"s":0,"n":1},{"s":1,"n":5}]}
`, nil,
				Chart{Title: `a "chart"`, Label: "case", Value: "p50_us", Unit: "µs"},
				Chart{Title: "one bar", Label: "case", Value: "p50_us", Unit: "µs", Where: map[string]string{"case": "b"}},
				Chart{Title: "no bars", Label: "case", Value: "nothing", Unit: "µs"},
				Chart{Title: "time", Label: "case", Over: "moments", Value: "s", Unit: "slots", Lines: []string{"n"}}),
			says("second one", "", nil),
		},
	}, &out)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"# Cloudburst, measured\n", "`cloudburst-bench all`", " cores (GOMAXPROCS ", ", NATS server ", "- [The second one](#the-second-one)\n",
		"## The first\n\nWhat it is. `cloudburst-bench first`, which took ",
		"| case | p50 µs | wait | paper | ok |\n| --- | ---:| ---:| --- | --- |\n| a \\| b | 12.3 | 1.5s | \"quick\" |  |\n| unmeasured |  |  |  |  |\n| b | 1234 | 0s |  | yes |\n",
		"```mermaid\nxychart-beta\n  title \"a 'chart'\"\n  x-axis [\"a | b\", \"b\"]\n  y-axis \"µs\"\n  bar [12.3, 1234]\n```\n",
		"  title \"one bar\"\n  x-axis [\"b\"]\n",
		"  title \"time, b: n\"\n  x-axis \"s\" 0 --> 1\n  y-axis \"slots\"\n  line [1, 5]\n```\n",
		"No rows.",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, &out)
		}
	}
	if strings.Contains(out.String(), "no bars") {
		t.Errorf("a chart of nothing in\n%s", &out)
	}
	if n := strings.Count(rows.String(), "\n"); n != 3 {
		t.Errorf("%d rows, want 3: %s", n, &rows)
	}
	if !strings.Contains(progress.String(), "2 of 2: second one\n") {
		t.Errorf("progress %q", &progress)
	}
}

// One that fails doesn't take the others with it, and neither does one whose rows are
// none.
func TestWriteFailures(t *testing.T) {
	broken := errors.New("broken")
	var out bytes.Buffer
	err := Write(t.Context(), Config{Sections: []Section{
		says("fails", `{"case":"half"}`, broken), says("mumbles", `{"case":`, nil), says("lists", `[1]`, nil), says("works", `{"case":"whole"}`, nil),
	}}, &out)
	if !errors.Is(err, broken) || !strings.Contains(err.Error(), "bench mumbles: read rows") || !strings.Contains(err.Error(), "bench lists") || strings.Contains(err.Error(), "works") {
		t.Errorf("Write = %v", err)
	}
	for _, want := range []string{"**It failed:**\n\n```\nbench fails: broken\n```", "| half |", "| whole |"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, &out)
		}
	}
}

func TestWriteEndsWithContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := says("ended", "", nil)
	ended.Run = func(ctx context.Context, _ io.Writer) error {
		cancel()
		return ctx.Err()
	}
	var out bytes.Buffer
	err := Write(ctx, Config{Sections: []Section{ended, says("never", "", nil)}}, &out)
	if !errors.Is(err, context.Canceled) || strings.Contains(out.String(), "## The never") {
		t.Errorf("Write = %v, wrote\n%s", err, &out)
	}
}

func TestDigits(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0", 3: "3", 12345.6: "12346", 99.96: "100", 1.25: "1.25", 0.012345: "0.0123", -0.5: "-0.5", 10.04: "10", 1e-9: "0.000000001",
	} {
		if got := digits(v); got != want {
			t.Errorf("digits(%v) = %q, want %q", v, got, want)
		}
	}
}
