package report

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"strings"
	"time"
)

// A Section is one benchmark.
type Section struct {
	Name  string // as in `cloudburst-bench NAME`
	Title string
	// About says in a sentence or two what is measured, and what to look at.
	About  string
	Charts []Chart
	// Run measures, and writes the rows to out as JSON objects.
	Run func(ctx context.Context, out io.Writer) error
}

// Config says what a report has, and where it goes.
type Config struct {
	Sections []Section
	// Command is what was run, for the reader.
	Command string
	// Rows, if set, is given all rows too, as JSON objects.
	Rows io.Writer
	// Progress, if set, is told what begins and ends.
	Progress io.Writer
}

// Write runs the benchmarks and writes the report, each section once it is through.
func Write(ctx context.Context, cfg Config, out io.Writer) error {
	if _, err := io.WriteString(out, head(cfg, time.Now())); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	began := time.Now()
	var failed []error
	for i, s := range cfg.Sections {
		cfg.tell("%d of %d: %s\n", i+1, len(cfg.Sections), s.Name)
		text, err := cfg.section(ctx, s)
		if err != nil {
			cfg.tell("%s: %v\n", s.Name, err)
			failed = append(failed, err)
		}
		if _, err := io.WriteString(out, text); err != nil {
			return fmt.Errorf("write report: %w", err)
		}
		if ctx.Err() != nil {
			return errors.Join(append(failed, context.Cause(ctx))...)
		}
	}
	cfg.tell("all took %s\n", time.Since(began).Round(time.Second))
	return errors.Join(failed...)
}

func (c Config) tell(format string, args ...any) {
	if c.Progress != nil {
		fmt.Fprintf(c.Progress, format, args...)
	}
}

// section runs one benchmark and returns what the report says of it.
func (c Config) section(ctx context.Context, s Section) (text string, err error) {
	began := time.Now()
	var written bytes.Buffer
	err = s.Run(ctx, &written)
	took := time.Since(began)
	if c.Rows != nil {
		if _, err := c.Rows.Write(written.Bytes()); err != nil {
			return "", fmt.Errorf("write rows: %w", err)
		}
	}
	rows, broken := parse(&written)
	if err = errors.Join(err, broken); err != nil {
		err = fmt.Errorf("bench %s: %w", s.Name, err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "## %s\n\n%s `cloudburst-bench %s`, which took %s here.\n\n", s.Title, s.About, s.Name, took.Round(100*time.Millisecond))
	if err != nil {
		fmt.Fprintf(&b, "**It failed:**\n\n```\n%v\n```\n\n", err)
	}
	b.WriteString(tableOf(rows))
	for _, chart := range s.Charts {
		b.WriteString(chart.draw(rows))
	}
	return b.String(), err
}

// head says what was run, when, and on what.
func head(cfg Config, now time.Time) string {
	var contents strings.Builder
	for _, s := range cfg.Sections {
		fmt.Fprintf(&contents, "- [%s](#%s)\n", s.Title, anchor(s.Title))
	}
	return fmt.Sprintf(`# Cloudburst, measured

%s, `+"`%s`"+`: %d cores (GOMAXPROCS %d), %s %s/%s, NATS server %s, nats.go %s.

What is compared ran side by side, on this machine, in turns: trust the ratios. Absolute
times belong to the machine, and so do the paper's (PVLDB 13(11), 2020) to its own: they
show the shape.

%s
`, now.Format("2006-01-02 15:04 MST"), cfg.Command, runtime.NumCPU(), runtime.GOMAXPROCS(0), runtime.Version(), runtime.GOOS, runtime.GOARCH,
		version("github.com/nats-io/nats-server/v2"), version("github.com/nats-io/nats.go"), contents.String())
}

// anchor is where a title can be jumped to, as GitHub makes it.
func anchor(title string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case r == '-' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z':
			return r
		}
		return -1
	}, strings.ToLower(title))
}

// version is that of a module within this program.
func version(module string) string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, dep := range info.Deps {
			if dep.Path == module {
				return dep.Version
			}
		}
	}
	return "of unknown version"
}
