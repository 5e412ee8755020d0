package anomalies

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cloudburst-nats/cloudburst"
	"github.com/cloudburst-nats/cloudburst/consistency/history"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// TestMain plays a worker when a test of ours started it.
func TestMain(m *testing.M) {
	if len(os.Args) == 4 && os.Args[1] == "role" && os.Args[2] == Role {
		ctx, stop := context.WithCancel(context.Background())
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			stop()
		}()
		if err := Serve(ctx, os.Args[3], os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func tiny(t *testing.T) Config {
	t.Helper()
	return Config{Requests: 6, Clients: 4, Workers: 2, Keys: 20, DAGs: 5, Rounds: 2, Seed: 3, Store: t.TempDir(), History: t.TempDir()}
}

// Every level gives a complete row, and a history in which each request has ended
// with executions that are in it.
func TestRunMeasuresEveryLevel(t *testing.T) {
	cfg := tiny(t)
	r, err := Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Rows) != len(Levels()) {
		t.Fatalf("%d rows, want %d", len(r.Rows), len(Levels()))
	}
	for i, row := range r.Rows {
		if row.Case != Levels()[i] || row.Runs != 24 || row.Failed != 0 || row.Executions < 2*row.Runs || row.P50 <= 0 || row.P99 < row.P50 ||
			row.PerSecond <= 0 || row.RatioP99 == nil || row.Edges == 0 || row.SessionP99 < row.SessionP50 {
			t.Errorf("row %+v is not complete", row)
		}
		if row.SessionP99 == 0 { // at level lww, too, the time of what the run has read
			t.Errorf("%s: edges carry nothing of the session", row.Case)
		}
		if (row.Anomalies != nil) != (row.Case != cloudburst.LWW) {
			t.Errorf("%s: anomalies %v", row.Case, row.Anomalies)
		}
		h, err := readHistory(filepath.Join(cfg.History, row.Case+".jsonl"))
		if err != nil {
			t.Fatal(err)
		}
		checkComplete(t, row, h)
	}
	if r.Pinned != 0 {
		t.Errorf("%d bytes are still pinned", r.Pinned)
	}
	if left, err := os.ReadDir(cfg.Store); err != nil || len(left) > 0 {
		t.Errorf("left behind in the store: %v, %v", left, err)
	}
}

func checkComplete(t *testing.T, row Row, h *history.History) {
	t.Helper()
	known := make(map[string]bool)
	for _, e := range h.Executions {
		if known[e.ID] {
			t.Errorf("execution %s is recorded twice", e.ID)
		}
		known[e.ID] = true
	}
	requests := 0
	for _, o := range h.Outcomes {
		if !strings.HasSuffix(o.Run, "/"+auditor) {
			requests++
		}
		for _, id := range o.Final {
			if !known[id] {
				t.Errorf("run %s was made by %s, which is not recorded", o.Run, id)
			}
		}
	}
	if requests != row.Runs {
		t.Errorf("%s: %d requests have ended, want %d", row.Case, requests, row.Runs)
	}
}

func TestRunRefusesBadConfigs(t *testing.T) {
	_, err := Run(t.Context(), Config{Levels: []string{"strong"}, Workers: -1, Lag: -time.Second})
	if !errors.Is(err, &wire.Error{Kind: wire.KindBadArgument}) {
		t.Errorf("Run = %v, want an error of bad arguments", err)
	}
	for _, want := range []string{"strong", "workers", "lag"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Run = %v, want it to name %s", err, want)
		}
	}
}

func TestRunFailsWhenAWorkerDoes(t *testing.T) {
	cfg := tiny(t)
	cfg.Worker = func(string) *exec.Cmd { return exec.Command("/dev/null") }
	if _, err := Run(t.Context(), cfg); err == nil {
		t.Error("Run with workers that can't be run gave no error")
	}
	if left, err := os.ReadDir(cfg.Store); err != nil || len(left) > 0 {
		t.Errorf("left behind in the store: %v, %v", left, err)
	}
}

// Histories of two experiments are never mixed.
func TestRunRefusesAnotherRunsHistory(t *testing.T) {
	cfg := tiny(t)
	if err := os.WriteFile(filepath.Join(cfg.History, "w1.jsonl"), []byte("{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Run(t.Context(), cfg); !errors.Is(err, &wire.Error{Kind: wire.KindBadArgument}) {
		t.Errorf("Run = %v, want an error of bad arguments", err)
	}
}

// A line that a killed worker had begun is not read as one.
func TestOpenHistoryCutsATornLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "w0.jsonl")
	for _, c := range []struct{ before, want string }{
		{"", "new\n"}, {"a\nb\n", "a\nb\nnew\n"}, {"a\nto", "a\nnew\n"}, {"to", "new\n"},
	} {
		if err := os.WriteFile(path, []byte(c.before), 0o600); err != nil {
			t.Fatal(err)
		}
		file, err := openHistory(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := file.WriteString("new\n"); err != nil {
			t.Fatal(err)
		}
		file.Close()
		if got, err := os.ReadFile(path); err != nil || string(got) != c.want {
			t.Errorf("after %q the file holds %q, %v; want %q", c.before, got, err, c.want)
		}
	}
}

func TestReportShowsRowsAndBrokenPromises(t *testing.T) {
	anomalies := map[string]int{cloudburst.Repeatable: 7}
	r := &Report{
		Seed: 5, Anomalies: anomalies,
		Rows: []Row{{Bench: "consistency", Case: cloudburst.LWW, P50: 100, P99: 200}, {Bench: "consistency", Case: cloudburst.Repeatable, P50: 150, P99: 500, Violations: 1}},
	}
	if r.Err() != nil {
		t.Errorf("nothing is broken: %v", r.Err())
	}
	r.compare()
	r.Broken = []Broken{{history.Violation{Level: cloudburst.Repeatable, Key: "k3", Run: "run-9", Message: "read twice"}, &history.History{}}}
	var out bytes.Buffer
	if err := r.Write(&out, true); err != nil {
		t.Fatal(err)
	}
	var row Row
	dec := json.NewDecoder(&out)
	for range r.Rows {
		if err := dec.Decode(&row); err != nil {
			t.Fatal(err)
		}
	}
	if row.Case != cloudburst.Repeatable || *row.RatioP50 != 1.5 || *row.RatioP99 != 2.5 || *row.Anomalies != 7 {
		t.Errorf("row %+v", row)
	}
	out.Reset()
	if err := r.Write(&out, false); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"2.50", "46", "seed 5"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the tables lack %q:\n%s", want, &out)
		}
	}
	for _, want := range []string{"seed 5", "k3", "run-9", "read twice"} {
		if err := r.Err(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error lacks %q: %v", want, err)
		}
	}
}
