package autoscaler

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite testdata with what is decided now")

// A scenario has a line "policy", and lines that say what is measured, from when
// on: "from 10s until 20s: pending=3 arrivals=160 service=100ms". It is measured
// once a second, and the pool has what was decided before, unless workers= says
// otherwise. Below stand the decisions that differ from the one before.
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got, err := play(string(text))
			if err != nil {
				t.Fatal(err)
			}
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil { //nolint:gosec // it is source
					t.Fatal(err)
				}
				return
			}
			if got != string(text) {
				t.Errorf("got:\n%s\nwant:\n%s\n(-update rewrites it)", got, text)
			}
		})
	}
}

// play returns the scenario with the decisions that are made now.
func play(text string) (string, error) {
	var out strings.Builder
	var s *Scaler
	begin := time.Unix(1_000_000_000, 0)
	workers, last := 0, Decision{Workers: -1}
	lines := bufio.NewScanner(strings.NewReader(text))
	for lines.Scan() {
		line := lines.Text()
		if strings.HasPrefix(line, "  ") {
			continue // decisions: they are made again
		}
		fmt.Fprintln(&out, line)
		if rest, ok := strings.CutPrefix(line, "policy"); ok {
			p, err := parsePolicy(rest)
			if err != nil {
				return "", err
			}
			s = NewScaler(p)
		}
		rest, ok := strings.CutPrefix(line, "from ")
		if !ok {
			continue
		}
		span, measured, _ := strings.Cut(rest, ":")
		from, until, _ := strings.Cut(span, " until ")
		first, err1 := time.ParseDuration(from)
		end, err2 := time.ParseDuration(until)
		if err1 != nil || err2 != nil {
			return "", fmt.Errorf("%q: %w", line, errors.Join(err1, err2))
		}
		for at := first; at < end; at += time.Second {
			m, err := parseMeasurement(measured, workers)
			if err != nil {
				return "", err
			}
			d := s.Decide(begin.Add(at), m)
			if d.Workers != last.Workers || d.Panic != last.Panic {
				mark := ""
				if d.Panic {
					mark = " (panic)"
				}
				fmt.Fprintf(&out, "  %v: %s%s: %s\n", at, count(float64(d.Workers), "worker"), mark, d.Why)
			}
			workers, last = d.Workers, d
		}
		fmt.Fprintf(&out, "  %v: %.0f worker-seconds so far\n", end, s.WorkerSeconds())
	}
	return out.String(), lines.Err()
}

func fields(text string, set func(key, value string) error) error {
	for f := range strings.FieldsSeq(text) {
		key, value, _ := strings.Cut(f, "=")
		if err := set(key, value); err != nil {
			return fmt.Errorf("%s: %w", f, err)
		}
	}
	return nil
}

func parsePolicy(text string) (p Policy, err error) {
	numbers := map[string]*int{"min": &p.Min, "max": &p.Max, "slots": &p.Slots, "up": &p.UpStep, "down": &p.DownStep}
	times := map[string]*time.Duration{"stable": &p.Stable, "panic": &p.Panic, "idle": &p.Idle, "cooldown": &p.Cooldown, "drain": &p.Drain}
	err = fields(text, func(key, value string) (err error) {
		switch {
		case numbers[key] != nil:
			*numbers[key], err = strconv.Atoi(value)
		case times[key] != nil:
			*times[key], err = time.ParseDuration(value)
		default:
			return fmt.Errorf("no such field")
		}
		return err
	})
	return p, err
}

func parseMeasurement(text string, workers int) (m Measurement, err error) {
	m.Workers = workers
	err = fields(text, func(key, value string) (err error) {
		switch key {
		case "pending":
			m.Pending, err = strconv.ParseUint(value, 10, 64)
		case "inhand":
			m.InHand, err = strconv.Atoi(value)
		case "arrivals":
			m.Arrivals, err = strconv.ParseFloat(value, 64)
		case "service":
			m.Service, err = time.ParseDuration(value)
		case "workers":
			m.Workers, err = strconv.Atoi(value)
		default:
			return fmt.Errorf("no such field")
		}
		return err
	})
	return m, err
}

// The bounds hold whatever is measured, and so do the rules of going down.
func TestDecisionsKeepTheRules(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 7))
		p := Policy{
			Min: rng.IntN(3), Max: 3 + rng.IntN(50), Slots: 1 + rng.IntN(8),
			Stable: time.Duration(5+rng.IntN(60)) * time.Second, Panic: time.Duration(1+rng.IntN(5)) * time.Second,
		}
		s := NewScaler(p)
		now := time.Unix(0, int64(seed))
		workers := rng.IntN(60)
		var wanted []Decision // of the last stable window, as they would be without memory
		var at []time.Time
		for range 300 {
			now = now.Add(time.Duration(rng.IntN(3000)) * time.Millisecond)
			m := Measurement{Arrivals: rng.ExpFloat64() * 20, Service: time.Duration(rng.IntN(1e9)), Workers: workers}
			if rng.IntN(3) == 0 {
				m = Measurement{Workers: workers}
			}
			if rng.IntN(10) == 0 {
				m.Pending = rng.Uint64N(1000)
			}
			d := s.Decide(now, m)
			if d.Workers < p.Min || d.Workers > p.Max {
				t.Fatalf("seed %d: %+v for %+v is out of bounds of %+v", seed, d, m, p)
			}
			if d.Panic && d.Workers < workers && workers <= p.Max {
				t.Fatalf("seed %d: panics, and yet goes from %d to %d", seed, workers, d.Workers)
			}
			if d.Workers < workers && workers <= p.Max {
				for i, w := range wanted {
					if now.Sub(at[i]) <= p.Stable-p.Panic && min(w.Workers, workers) > d.Workers {
						t.Fatalf("seed %d: goes from %d to %d though %d were decided %v ago", seed, workers, d.Workers, w.Workers, now.Sub(at[i]))
					}
				}
			}
			if d.Why == "" {
				t.Fatalf("seed %d: no reason for %+v", seed, d)
			}
			if d.Workers > workers {
				wanted, at = append(wanted, d), append(at, now)
			}
			workers = d.Workers
		}
	}
}

// What is decided depends on what was measured, not on when that was.
func TestDecisionsDoNotKnowTheDate(t *testing.T) {
	run := func(begin time.Time) (list []Decision) {
		rng := rand.New(rand.NewPCG(3, 4))
		s, workers := NewScaler(Policy{Slots: 2}), 0
		for i := range 500 {
			m := Measurement{Arrivals: rng.ExpFloat64() * 30, Service: time.Second, Pending: rng.Uint64N(5), Workers: workers}
			d := s.Decide(begin.Add(time.Duration(i)*time.Second), m)
			workers = d.Workers
			list = append(list, d)
		}
		return list
	}
	a, b := run(time.Unix(1, 0)), run(time.Unix(1_700_000_000, 0))
	for i := range a {
		if a[i] != b[i] {
			t.Fatalf("decision %d: %+v in 1970, %+v later", i, a[i], b[i])
		}
	}
}

func BenchmarkDecide(b *testing.B) {
	b.ReportAllocs()
	s, now := NewScaler(Policy{}), time.Unix(0, 0)
	for b.Loop() {
		now = now.Add(time.Second)
		s.Decide(now, Measurement{Pending: 3, InHand: 10, Arrivals: 100, Service: 90 * time.Millisecond, Workers: 2})
	}
}
