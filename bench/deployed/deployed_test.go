package deployed

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestMain plays a part when a test of ours started it.
func TestMain(m *testing.M) {
	if len(os.Args) == 4 && os.Args[1] == "role" && os.Args[2] == Role {
		ctx, cancel := context.WithCancel(context.Background())
		go func() {
			defer cancel()
			_, _ = io.Copy(io.Discard, os.Stdin) // ends with whoever started this
		}()
		if err := Serve(ctx, os.Args[3], os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// Calls go on while versions follow each other, and every answer is as promised.
func TestRollout(t *testing.T) {
	var out strings.Builder
	if err := Rollout(t.Context(), RolloutConfig{Deploys: 6, Rate: 100, Store: t.TempDir(), JSON: true}, &out); err != nil {
		t.Fatal(err, out.String())
	}
	for dec := json.NewDecoder(strings.NewReader(out.String())); dec.More(); {
		var r Rolled
		if err := dec.Decode(&r); err != nil || r.Deploys != 6 || r.Calls == 0 {
			t.Errorf("%+v, %v", r, err)
		}
	}
}

// The check would notice: a version that answers too early, or too late.
func TestAWrongVersionIsNoticed(t *testing.T) {
	err := checkRolled([]Rolled{{Runtime: "wasm", Calls: 10}, {Runtime: "python", Calls: 10, Wrong: 1}})
	if err == nil || !strings.Contains(err.Error(), "python") {
		t.Errorf("got %v", err)
	}
}

func TestRuntimes(t *testing.T) {
	var out strings.Builder
	if err := Runtimes(t.Context(), RuntimesConfig{Calls: 20, Rounds: 1, Colds: 2, Store: t.TempDir()}, &out); err != nil {
		t.Fatal(err, out.String())
	}
	for _, name := range []string{"native", "wasm-c", "python", "exec python3"} {
		if !strings.Contains(out.String(), name) {
			t.Errorf("%s isn't in\n%s", name, out.String())
		}
	}
}

// The parts are processes.
func TestRuntimesApart(t *testing.T) {
	var out strings.Builder
	if err := Runtimes(t.Context(), RuntimesConfig{Calls: 20, Rounds: 1, Colds: 1, Store: t.TempDir(), Apart: true}, &out); err != nil {
		t.Fatal(err, out.String())
	}
	if !strings.Contains(out.String(), "native") {
		t.Errorf("no native calls in\n%s", out.String())
	}
}

func TestPrograms(t *testing.T) {
	var out strings.Builder
	err := Programs(t.Context(), ProgramsConfig{Rounds: 1, Scale: 20}, &out)
	if _, missing := exec.LookPath("cc"); missing != nil {
		if err == nil || !strings.Contains(err.Error(), "needs a C compiler") {
			t.Errorf("without a C compiler: %v", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"nbody", "fannkuch", "mandelbrot", "binarytrees", "geometric mean"} {
		if !strings.Contains(out.String(), name) {
			t.Errorf("%s isn't in\n%s", name, out.String())
		}
	}
}

func TestPull(t *testing.T) {
	var out strings.Builder
	if err := Pull(t.Context(), PullConfig{Size: 100_000, Rounds: 1, Store: t.TempDir(), JSON: true}, &out); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(out.String(), "ratio"); n != 2 {
		t.Errorf("%d rows, want 2: %s", n, out.String())
	}
}
