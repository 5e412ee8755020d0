//go:build unix

package deployments

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cloudburst-nats/cloudburst/broker"
)

// The test's own program plays a worker process when it is told to: it leaves a
// file with its id while it runs.
const (
	playWorker = "CLOUDBURST_TEST_WORKER" // the directory
	playDeaf   = "CLOUDBURST_TEST_DEAF"   // it doesn't heed SIGTERM
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(playWorker); dir != "" {
		os.Exit(playsWorker(dir))
	}
	os.Exit(m.Run())
}

func playsWorker(dir string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	file := filepath.Join(dir, strconv.Itoa(os.Getpid()))
	if os.WriteFile(file, nil, 0o600) != nil {
		return 1
	}
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_, _ = io.Copy(io.Discard, os.Stdin)
	}()
	heard := ctx.Done()
	if os.Getenv(playDeaf) != "" {
		heard = nil
	}
	select {
	case <-heard:
	case <-gone:
	}
	if os.Remove(file) != nil {
		return 1
	}
	return 0
}

// running lists the processes that play workers.
func running(dir string) []string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		panic(err)
	}
	names := []string{}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); <-time.After(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it never came true that %s", what)
		}
	}
}

func startFleet(t *testing.T, cfg FleetConfig) (f *Fleet, dir string, end func()) {
	t.Helper()
	dir = t.TempDir()
	t.Setenv(playWorker, dir)
	cfg.Command = func(string) []string { return []string{os.Args[0]} }
	f = NewFleet(cfg)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx) }()
	return f, dir, func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

func TestFleetRunsAsManyAsItIsTold(t *testing.T) {
	f, dir, end := startFleet(t, FleetConfig{Pools: map[string]int{"p": 1, "q": 0}})
	until(t, "one runs", func() bool { return len(running(dir)) == 1 })
	first := running(dir)[0]
	for _, n := range []int{4, 1, 3, 0, 2} {
		if err := f.Scale(t.Context(), "p", n); err != nil {
			t.Fatal(err)
		}
		if got, err := f.Current(t.Context(), "p"); err != nil || got != n {
			t.Errorf("Current is %d, %v, want %d", got, err, n)
		}
		until(t, fmt.Sprint(n, " run"), func() bool { return len(running(dir)) == n })
		if n == 1 && running(dir)[0] != first {
			t.Error("the oldest worker was ended, though its cache is the warmest")
		}
	}
	// One that dies is replaced.
	before := running(dir)
	pid, err := strconv.Atoi(before[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, before[0])); err != nil {
		t.Fatal(err)
	}
	until(t, "it is replaced", func() bool {
		now := running(dir)
		return len(now) == 2 && !slices.Equal(now, before)
	})
	if err := f.Scale(t.Context(), "none", 1); err == nil {
		t.Error("a pool that isn't its own was scaled")
	}
	end()
	if left := running(dir); len(left) > 0 {
		t.Errorf("still there: %v", left)
	}
}

func TestFleetKillsWhatDrainsForTooLong(t *testing.T) {
	t.Setenv(playDeaf, "1")
	_, dir, end := startFleet(t, FleetConfig{Pools: map[string]int{"p": 1}, Grace: 50 * time.Millisecond})
	until(t, "one runs", func() bool { return len(running(dir)) == 1 })
	pid, err := strconv.Atoi(running(dir)[0])
	if err != nil {
		t.Fatal(err)
	}
	end()
	if err := syscall.Kill(pid, 0); err == nil {
		t.Error("it still runs")
	}
}

func TestFleetSaysWhenNothingCanBeStarted(t *testing.T) {
	f := NewFleet(FleetConfig{Command: func(string) []string { return []string{"/nowhere"} }})
	if err := f.run("p", nil); err == nil {
		t.Error("a program that there isn't was run")
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), playWorker+"="+t.TempDir())
	var out bytes.Buffer
	cmd.Stderr, cmd.Stdin = &out, strings.NewReader("")
	if err := cmd.Run(); err != nil {
		t.Errorf("whose input ends, ends: %v: %s", err, &out)
	}
}

func TestShares(t *testing.T) {
	w := func(minimum, maximum, slots int) broker.WorkerInfo {
		return broker.WorkerInfo{MinSlots: minimum, MaxSlots: maximum, Slots: slots}
	}
	for _, tt := range []struct {
		workers []broker.WorkerInfo
		n       int
		want    []int
	}{
		{nil, 5, []int{}},
		{[]broker.WorkerInfo{w(1, 64, 1)}, 16, []int{16}},
		{[]broker.WorkerInfo{w(1, 64, 1), w(1, 64, 1)}, 16, []int{8, 8}},
		{[]broker.WorkerInfo{w(1, 64, 1), w(1, 4, 1), w(0, 64, 0)}, 16, []int{6, 4, 6}},
		{[]broker.WorkerInfo{w(1, 4, 1), w(1, 4, 1)}, 100, []int{4, 4}},
		{[]broker.WorkerInfo{w(2, 4, 1), w(2, 4, 1)}, 0, []int{2, 2}},
		{[]broker.WorkerInfo{w(0, 0, 10), w(1, 9, 1)}, 12, []int{10, 2}},
	} {
		if got := shares(tt.workers, tt.n); !slices.Equal(got, tt.want) {
			t.Errorf("shares(%+v, %d) = %v, want %v", tt.workers, tt.n, got, tt.want)
		}
	}
}
