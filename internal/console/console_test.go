package console

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/cloudburst-nats/cloudburst/internal/cli"
	"github.com/cloudburst-nats/cloudburst/wire"
)

var update = flag.Bool("update", false, "rewrite the files in testdata")

// golden compares with a file of testdata, or rewrites it.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (go test -update rewrites it)\ngot:\n%s\nwant:\n%s", path, got, want)
	}
}

// A shell runs commands in an environment of its own.
type shell struct {
	env   map[string]string
	stdin string
}

// run returns what a command printed and its exit code.
func (s shell) run(ctx context.Context, args ...string) (stdout, stderr string, code int) {
	var out, errs bytes.Buffer
	code = Run(ctx, args, Env{
		Stdin: strings.NewReader(s.stdin), Stdout: &out, Stderr: &errs,
		Getenv: func(name string) string { return s.env[name] },
	})
	return out.String(), errs.String(), code
}

func newTestConsole(env map[string]string) *console {
	return &console{Env: Env{
		Stdin: strings.NewReader(""), Stdout: io.Discard, Stderr: io.Discard,
		Getenv: func(name string) string { return env[name] },
	}}
}

func TestRootHelp(t *testing.T) {
	out, errs, code := shell{}.run(t.Context())
	if code != cli.ExitOK || errs != "" {
		t.Errorf("cloudburst: exit code %d, stderr %q", code, errs)
	}
	golden(t, "help.txt", out)
}

func TestEveryCommandIsDocumented(t *testing.T) {
	var visit func(cmd *cobra.Command)
	seen := 0
	visit = func(cmd *cobra.Command) {
		if cmd.Name() == "completion" || cmd.Name() == "help" {
			return // cobra's own
		}
		seen++
		path := cmd.CommandPath()
		if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") {
			t.Errorf("%s: Short is %q; want a line without a full stop", path, cmd.Short)
		}
		if !cmd.HasSubCommands() {
			if !strings.HasPrefix(cmd.Example, "  "+path) {
				t.Errorf("%s: Example is %q; want it to begin with the command, indented", path, cmd.Example)
			}
			if cmd.Args == nil {
				t.Errorf("%s takes any arguments", path)
			}
		}
		for line := range strings.Lines(cmd.Long + "\n" + cmd.Example) {
			if n := len([]rune(strings.TrimRight(line, "\n"))); n > 110 {
				t.Errorf("%s: a line of its help has %d characters: %q", path, n, line)
			}
		}
		// Merging the flags of all parents panics where two have one name or letter.
		cmd.InheritedFlags()
		for _, sub := range cmd.Commands() {
			visit(sub)
		}
	}
	visit(newTestConsole(nil).root())
	if seen < 30 {
		t.Errorf("visited %d commands; want all of them", seen)
	}
}

func TestHelpOfEveryCommand(t *testing.T) {
	for _, args := range [][]string{{"call"}, {"dag"}, {"dag", "apply"}, {"kv", "get"}, {"server"}, {"demo"}} {
		out, errs, code := shell{}.run(t.Context(), append(args, "--help")...)
		if code != cli.ExitOK || errs != "" || !strings.Contains(out, "Usage:\n  cloudburst "+strings.Join(args, " ")) {
			t.Errorf("%v --help: exit code %d, stderr %q, stdout %q", args, code, errs, out)
		}
	}
}

func TestUsageErrors(t *testing.T) {
	for _, test := range []struct {
		args string
		want []string // in what is said
	}{
		{"cal", []string{`has no command "cal"`, "did you mean call or", "See `cloudburst --help`"}},
		{"cal --async square", []string{`has no command "cal"`}},
		{"dag shwo", []string{`cloudburst dag has no command "shwo"`, "did you mean show?", "See `cloudburst dag --help`"}},
		{"call", []string{"NAME [ARG...]"}},
		{"call --bogus", []string{"unknown flag: --bogus", "See `cloudburst call --help`"}},
		{"call increment -5", []string{"write --"}},
		{"call echo - -", []string{"standard input can be read once"}},
		{"call echo @/no/such/file", []string{"read @/no/such/file"}},
		{"call echo -o json --raw", []string{"--raw"}},
		{"fn ls -o xml", []string{"table and json"}},
		{"fn ls --timeout -3s", []string{"less than 0"}},
		{"runs ls --status done", []string{"pending, running, ok, failed, cancelled"}},
		{"runs ls --limit 0", []string{"at least 1"}},
		{"kv ls --limit -1", []string{"less than 0"}},
		{"result r --wait -1s", []string{"less than 0"}},
		{"dead show seven", []string{`"seven" is not the number`}},
		{"server --nats nats://x --store y", []string{"--store is for the server inside"}},
		{"server --listen none", []string{"port 0"}},
		{"server --log loud", []string{"debug, info, warn and error"}},
		{"server --backlog-size lots", []string{"--backlog-size lots: want a size"}},
		{"demo --nats nats://x --store y", []string{"--store is for the server inside"}},
		{"call no.dots.here", []string{"no.dots.here"}},
	} {
		t.Run(test.args, func(t *testing.T) {
			// A server for those whose arguments are read once connected.
			s := shell{env: map[string]string{"NATS_URL": platform(t)}}
			out, errs, code := s.run(t.Context(), strings.Fields(test.args)...)
			if code != cli.ExitUsage || out != "" {
				t.Errorf("exit code %d and stdout %q; want %d and none", code, out, cli.ExitUsage)
			}
			if !strings.HasPrefix(errs, "cloudburst: ") {
				t.Errorf("stderr is %q; want it to begin with the program's name", errs)
			}
			for _, want := range test.want {
				if !strings.Contains(errs, want) {
					t.Errorf("stderr is %q; want %q in it", errs, want)
				}
			}
		})
	}
}

func TestExitCodes(t *testing.T) {
	kind := func(k wire.Kind) error { return fmt.Errorf("call: %w", &wire.Error{Kind: k, Msg: "why"}) }
	for _, test := range []struct {
		err  error
		want int
	}{
		{kind(wire.KindFunction), 1},
		{kind(wire.KindPanic), 1},
		{kind(wire.KindPermanent), 1},
		{kind(wire.KindCrashed), 1},
		{kind(wire.KindCancelled), 1},
		{kind(wire.Kind(99)), 1},
		{errors.New("posts are missing"), 1},
		{context.Canceled, 1}, // not by us
		{cli.Usage(nil, errors.New("no such flag")), 2},
		{kind(wire.KindBadArgument), 2},
		{kind(wire.KindBadName), 2},
		{kind(wire.KindUnknown), 3},
		{kind(wire.KindUnavailable), 4},
		{kind(wire.KindTimeout), 5},
		{fmt.Errorf("list: %w", context.DeadlineExceeded), 5},
		{kind(wire.KindBusy), 6},
		{kind(wire.KindConflict), 7},
		{kind(wire.KindInvalid), 7},
		{kind(wire.KindLattice), 7},
		{kind(wire.KindTooLarge), 7},
		{errors.Join(kind(wire.KindInvalid), kind(wire.KindInvalid)), 7},
	} {
		if got := cli.ExitCode(test.err); got != test.want {
			t.Errorf("exit code of %v: got %d, want %d", test.err, got, test.want)
		}
	}
}

func TestReport(t *testing.T) {
	var errs bytes.Buffer
	c := &console{Env: Env{Stderr: &errs}}
	if code := cli.Report(t.Context(), c.Stderr, "cloudburst", nil); code != cli.ExitOK || errs.Len() > 0 {
		t.Errorf("no error: exit code %d, stderr %q", code, errs.String())
	}
	cli.Report(t.Context(), c.Stderr, "cloudburst", errors.Join(errors.New("one"), errors.New("two")))
	if got, want := errs.String(), "cloudburst: one\n  two\n"; got != want {
		t.Errorf("two errors: got %q, want %q", got, want)
	}
	why := errors.New("interrupt signal received")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	timedOut := &wire.Error{Kind: wire.KindTimeout, Err: why}
	if code := cli.Report(ctx, c.Stderr, "cloudburst", timedOut); code != cli.ExitInterrupted {
		t.Errorf("interrupted: exit code %d, want %d", code, cli.ExitInterrupted)
	}
	if code := cli.Report(ctx, c.Stderr, "cloudburst", errors.New("drain failed")); code != cli.ExitFailed {
		t.Errorf("failed after an interrupt: exit code %d, want %d", code, cli.ExitFailed)
	}
}

func TestUnreachableServer(t *testing.T) {
	for _, args := range [][]string{{"fn", "ls"}, {"call", "square", "5"}, {"server"}, {"demo"}} {
		_, errs, code := shell{}.run(t.Context(), append(args, "--nats", "nats://ann:secret@127.0.0.1:1")...)
		if code != cli.ExitUnavailable || !strings.Contains(errs, "127.0.0.1:1") {
			t.Errorf("%v: exit code %d, want %d, and stderr %q", args, code, cli.ExitUnavailable, errs)
		}
		if strings.Contains(errs, "secret") || strings.Contains(errs, "ann") {
			t.Errorf("%v: the password shows: %q", args, errs)
		}
	}
}
