package console

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
)

// A benchmark that isn't in the report has been forgotten there, but for those that
// another one covers, and for the soak, which takes half an hour.
func TestReportHasEveryBenchmark(t *testing.T) {
	names := sectionNames()
	for _, cmd := range newBench(new(console)).Commands() {
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
	c := newTestConsole(nil)
	c.Stdout = &out
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
	_, errs, code := shell{}.run(t.Context(), "bench", "all", "--only", "dinner", "--out", path)
	if code == exitOK || !strings.Contains(errs, "no benchmark dinner") || !strings.Contains(errs, "composition") {
		t.Errorf("exit code %d, said %q", code, errs)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("there is a report all the same")
	}
}
