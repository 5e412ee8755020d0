package process

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

const roleEnv = "PROCESS_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(roleEnv) {
	case "":
		os.Exit(m.Run())
	case "good":
		_, _ = fmt.Fprintln(os.Stdout, Ready)
		_, _ = io.Copy(io.Discard, os.Stdin)
	case "stubborn": // doesn't end well
		_, _ = fmt.Fprintln(os.Stdout, Ready)
		_, _ = io.Copy(io.Discard, os.Stdin)
		fmt.Fprintln(os.Stderr, "I could not")
		os.Exit(3)
	case "early":
		fmt.Fprintln(os.Stderr, "no such thing")
		os.Exit(1)
	}
}

func play(t *testing.T, role string) (*Process, chan error, error) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), roleEnv+"="+role)
	failed := make(chan error, 1)
	p, err := Start(t.Context(), cmd, func(err error) { failed <- err })
	if err == nil {
		t.Cleanup(func() { _ = p.Kill() })
	}
	return p, failed, err
}

func TestAPartThatIsToldToEndEnds(t *testing.T) {
	for name, end := range map[string]func(*Process) error{"end": (*Process).End, "kill": (*Process).Kill} {
		p, failed, err := play(t, "good")
		if err != nil {
			t.Fatal(err)
		}
		if err := end(p); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := syscall.Kill(p.PID(), 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("%s: the process is still there: %v", name, err)
		}
		if len(failed) > 0 {
			t.Errorf("%s: it was told to, and yet: %v", name, <-failed)
		}
	}
}

func TestAPartThatFailsSaysWhy(t *testing.T) {
	if _, _, err := play(t, "early"); err == nil || !strings.Contains(err.Error(), "no such thing") {
		t.Errorf("a part that never was ready: %v", err)
	}
	p, _, err := play(t, "stubborn")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.End(); err == nil || !strings.Contains(err.Error(), "I could not") {
		t.Errorf("a part that ended with an error: %v", err)
	}
}

func TestAPartThatDiesByItselfIsToldOf(t *testing.T) {
	p, failed, err := play(t, "good")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-failed:
		if !strings.Contains(err.Error(), "killed") {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Error("nobody was told")
	}
}
