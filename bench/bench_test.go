package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/signal"
	"slices"
	"strings"
	"testing"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// TestMain plays a part of the benchmark when a test of ours spawned it.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "role" {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
		defer stop()
		if err := Role(ctx, os.Args[2:], os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

var cases = []string{caseFloor, caseFloorID, caseCall, caseDAG, caseGet, caseFloorPut, casePut}

func tiny(t *testing.T, transport string) Config {
	t.Helper()
	return Config{
		Transports: []string{transport}, Serial: 20, Rounds: 2, Count: 200, InFlight: 16,
		JSON: true, Store: t.TempDir(),
	}
}

// Every contender gives a complete row, whose ratios are those of the rows.
func TestCallMeasuresEveryCase(t *testing.T) {
	for _, transport := range Transports() {
		t.Run(transport, func(t *testing.T) {
			cfg := tiny(t, transport)
			var out bytes.Buffer
			if err := Call(t.Context(), cfg, &out); err != nil {
				t.Fatal(err)
			}
			rows := make(map[string]Row)
			for dec := json.NewDecoder(&out); dec.More(); {
				var r Row
				if err := dec.Decode(&r); err != nil {
					t.Fatal(err)
				}
				rows[r.Case] = r
				if r.Bench != "call" || r.Transport != transport || r.P50 <= 0 || r.P99 < r.P50 || r.PerSecond <= 0 || r.Allocs < 0 {
					t.Errorf("row %+v is not complete", r)
				}
			}
			for _, name := range cases {
				if _, ok := rows[name]; !ok {
					t.Errorf("no row of %s", name)
				}
			}
			for name, against := range map[string]string{
				caseFloor: caseFloor, caseFloorID: caseFloor, caseCall: caseFloor, caseDAG: caseFloor, caseFloorPut: caseFloorPut, casePut: caseFloorPut,
			} {
				near(t, name+" ratio_p50", rows[name].RatioP50, rows[name].P50/rows[against].P50)
				near(t, name+" ratio_per_s", rows[name].RatioPerSecond, rows[name].PerSecond/rows[against].PerSecond)
			}
			near(t, "dag2 ratio_call", rows[caseDAG].RatioCall, rows[caseDAG].P50/rows[caseCall].P50)
			if r := rows[caseGet]; r.RatioP50 != nil || r.RatioPerSecond != nil {
				t.Errorf("get has ratios, though there is no floor of it: %+v", r)
			}
			left, err := os.ReadDir(cfg.Store)
			if err != nil || len(left) > 0 {
				t.Errorf("left behind in the store: %v, %v", left, err)
			}
		})
	}
}

func near(t *testing.T, what string, got *float64, want float64) {
	t.Helper()
	if got == nil {
		t.Errorf("%s is missing, want %.3f", what, want)
	} else if math.Abs(*got-want) > 0.002+0.002*want {
		t.Errorf("%s = %.3f, want %.3f", what, *got, want)
	}
}

func TestCallRefusesBadConfigs(t *testing.T) {
	err := Call(t.Context(), Config{Transports: []string{"pigeon"}, Rounds: -1}, &bytes.Buffer{})
	if !errors.Is(err, &wire.Error{Kind: wire.KindBadArgument}) {
		t.Errorf("Call = %v, want an error of bad arguments", err)
	}
	for _, want := range []string{"pigeon", "rounds"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Call = %v, want it to name %s", err, want)
		}
	}
}

func TestCallFailsWhenAPartDoes(t *testing.T) {
	cfg := tiny(t, Processes)
	cfg.Exe = "/dev/null"
	if err := Call(t.Context(), cfg, &bytes.Buffer{}); err == nil {
		t.Error("Call with a program that can't be run gave no error")
	}
	if left, err := os.ReadDir(cfg.Store); err != nil || len(left) > 0 {
		t.Errorf("left behind in the store: %v, %v", left, err)
	}
}

func TestRoleRefusesUnknown(t *testing.T) {
	for _, args := range [][]string{nil, {"server"}, {"clown", "nats://127.0.0.1:1"}} {
		if err := Role(t.Context(), args, &bytes.Buffer{}); err == nil {
			t.Errorf("Role(%q) gave no error", args)
		}
	}
}

func TestRowsOf(t *testing.T) {
	made := func(name, against string, micros, rates []float64) *contender {
		return &contender{name: name, against: against, rates: rates, samples: samples{Micros: micros, Ops: 4, Allocs: 10}}
	}
	rows := rowsOf(TCP, []*contender{
		made(caseFloor, caseFloor, []float64{30, 10, 20}, []float64{100, 300, 200}),
		made(caseCall, caseFloor, []float64{40, 30, 20}, []float64{100}),
		made(caseDAG, caseFloor, []float64{45}, []float64{50}),
	})
	var out bytes.Buffer
	if err := write(&out, rows, true); err != nil {
		t.Fatal(err)
	}
	want := `{"bench":"call","case":"floor","transport":"tcp","p50_us":20,"p99_us":30,"per_s":200,"allocs":2.5,"ratio_p50":1,"ratio_per_s":1}
{"bench":"call","case":"call","transport":"tcp","p50_us":30,"p99_us":40,"per_s":100,"allocs":2.5,"ratio_p50":1.5,"ratio_per_s":0.5}
{"bench":"call","case":"dag2","transport":"tcp","p50_us":45,"p99_us":45,"per_s":50,"allocs":2.5,"ratio_p50":2.25,"ratio_per_s":0.25,"ratio_call":1.5}
`
	if out.String() != want {
		t.Errorf("rows:\n%swant:\n%s", &out, want)
	}
	out.Reset()
	if err := write(&out, rows, false); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"p50 µs", "dag2", "2.25"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, &out)
		}
	}
}

// A failing operation ends the race with its own error, from either phase.
func TestRaceEndsAtTheFirstFailure(t *testing.T) {
	broken := errors.New("broken")
	for _, failAt := range []uint64{3, 15} { // one by one; many at once
		c := &contender{name: "x", op: func(_ context.Context, _ int, n uint64) error {
			if n >= failAt {
				return broken
			}
			return nil
		}}
		err := race(t.Context(), Config{Serial: 40, Rounds: 1, Count: 400, InFlight: 4}, []*contender{c})
		if !errors.Is(err, broken) {
			t.Errorf("failing at operation %d: race = %v, want %v", failAt, err, broken)
		}
	}
}

// BenchmarkCall does what `cloudburst-bench call` does on transport inprocess,
// one operation after the other.
func BenchmarkCall(b *testing.B) {
	fail := func(err error) { // nil when all goes well
		if err != nil {
			b.Error(err)
		}
	}
	s, err := openSite(b.Context(), fail, Config{Store: b.TempDir()}, InProcess)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { fail(s.close()) })
	contenders, err := s.contenders(b.Context(), 1)
	if err != nil {
		b.Fatal(err)
	}
	if len(contenders) != len(cases) || !slices.ContainsFunc(contenders, func(c *contender) bool { return c.name == caseCall }) {
		b.Fatalf("%d contenders, want %v", len(contenders), cases)
	}
	for _, c := range contenders {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := c.do(b.Context(), 0); err != nil {
					b.Fatal(err)
				}
			}
			if c.uses > 0 {
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(c.uses), "ns/use")
			}
		})
	}
}
