package commands

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cloudburst-nats/cloudburst/bench/report"
	"github.com/cloudburst-nats/cloudburst/internal/cli"
)

// A benchmark that isn't in the report has been forgotten there, but for those that
// another one covers, and for the soak, which takes half an hour.
func TestReportHasEveryBenchmark(t *testing.T) {
	names := sectionNames()
	for _, cmd := range new(console).root().Commands() {
		covered := slices.Contains([]string{"all", "role", "pull", "soak"}, cmd.Name())
		if covered == slices.Contains(names, cmd.Name()) {
			t.Errorf("bench %s: in the report is %v", cmd.Name(), names)
		}
	}
	for _, short := range []bool{false, true} {
		for _, s := range new(console).sections(short, "") {
			if s.Title == "" || !strings.HasSuffix(s.About, ".") || s.Run == nil {
				t.Errorf("section %s lacks something", s.Name)
			}
		}
	}
}

func TestWriteReport(t *testing.T) {
	var out bytes.Buffer
	c := &console{stdout: &out, stderr: io.Discard}
	path := filepath.Join(t.TempDir(), "report.md")
	ask := report.Section{Name: "ask", Title: "Asking", About: "It asks.", Run: func(_ context.Context, out io.Writer) error {
		_, err := io.WriteString(out, `{"answer":42}`)
		return err
	}}
	if err := c.writeReport(t.Context(), path, report.Config{Sections: []report.Section{ask}}); err != nil {
		t.Fatal(err)
	}
	written, err := os.ReadFile(path)
	if err != nil || !strings.Contains(string(written), "| 42 |") || !strings.Contains(out.String(), "wrote "+path) {
		t.Errorf("%v, wrote %q, said %q", err, written, &out)
	}
	out.Reset()
	c.output = "json"
	if err := c.writeReport(t.Context(), path, report.Config{Sections: []report.Section{ask}}); err != nil || out.String() != `{"answer":42}` {
		t.Errorf("%v, said %q, want the row", err, &out)
	}
	if err := c.writeReport(t.Context(), filepath.Join(path, "none"), report.Config{}); err == nil {
		t.Error("a report was written to nowhere")
	}
}

func TestBenchAllOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "report.md")
	var errs bytes.Buffer
	code := Run(t.Context(), []string{"all", "--only", "dinner", "--out", path}, io.Discard, &errs)
	if code == cli.ExitOK || !strings.Contains(errs.String(), "no benchmark dinner") || !strings.Contains(errs.String(), "composition") {
		t.Errorf("exit code %d, said %q", code, &errs)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("there is a report all the same")
	}
}

func TestWrongCommandLines(t *testing.T) {
	for args, says := range map[string]string{
		"call --transport pigeon": "pigeon",
		"dinner":                  `no command "dinner"`,
		"call -o xml":             "table and json",
		"hotkey x":                "takes no argument",
	} {
		var errs bytes.Buffer
		code := Run(t.Context(), strings.Fields(args), io.Discard, &errs)
		if code != cli.ExitUsage || !strings.Contains(errs.String(), says) || !strings.Contains(errs.String(), program) {
			t.Errorf("%s %s: exit code %d, said %q; want %d and %q", program, args, code, &errs, cli.ExitUsage, says)
		}
	}
}
