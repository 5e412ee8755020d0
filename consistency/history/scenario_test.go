package history

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write what the checkers find into testdata")

// TestScenarios holds the checkers to testdata: each file is a story, a history
// and, after a line "---", what each level says of it.
//
//	run r: a on w1 10-20: x=>v1 y=v2      an execution: reads and writes, in order
//	run r: b on w2 30-40 after a: x=>v1
//	ended r 0-50: a b                     the run's outcome, and what made it
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) < 8 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			story, want, _ := strings.Cut(string(text), "---\n")
			got := say(parse(t, story))
			if *update {
				if err := os.WriteFile(file, []byte(story+"---\n"+got), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != want {
				t.Errorf("the checkers say\n%swant\n%s", got, want)
			}
		})
	}
}

func say(h *History) string {
	var b strings.Builder
	for _, level := range Levels() {
		found := Check(level, h)
		if len(found) == 0 {
			fmt.Fprintf(&b, "%s: allowed\n", level)
		}
		lines := make([]string, len(found))
		for i, v := range found {
			lines[i] = v.String() + "\n"
		}
		slices.Sort(lines)
		b.WriteString(strings.Join(lines, ""))
	}
	return b.String()
}

func parse(t *testing.T, story string) *History {
	t.Helper()
	h := new(History)
	for line := range strings.Lines(story) {
		line = strings.TrimSpace(line)
		var run string
		switch {
		case line == "" || line[0] == '#':
		case strings.HasPrefix(line, "ended "):
			var o Outcome
			head, final, _ := strings.Cut(strings.TrimPrefix(line, "ended "), ": ")
			if _, err := fmt.Sscanf(head, "%s %d-%d", &o.Run, &o.Start, &o.End); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			o.Final = strings.Fields(final)
			h.Outcomes = append(h.Outcomes, o)
		default:
			parts := strings.SplitN(line, ": ", 3)
			if _, err := fmt.Sscanf(parts[0], "run %s", &run); err != nil || len(parts) < 2 {
				t.Fatalf("%q: %v", line, err)
			}
			e := Execution{Run: run}
			head, after, _ := strings.Cut(parts[1], " after ")
			e.Upstream = strings.Fields(strings.ReplaceAll(after, " and ", " "))
			if _, err := fmt.Sscanf(head, "%s on %s %d-%d", &e.ID, &e.Worker, &e.Start, &e.End); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			e.Node, _, _ = strings.Cut(e.ID, ".") // a.2 is a's second execution
			if len(parts) == 3 {
				e.Ops = parseOps(parts[2])
			}
			h.Executions = append(h.Executions, e)
		}
	}
	return h
}

func parseOps(text string) []Op {
	var ops []Op
	for field := range strings.FieldsSeq(text) {
		if key, read, ok := strings.Cut(field, "=>"); ok {
			o := Op{Key: key}
			if read != "" {
				o.Read = strings.Split(read, ",")
			}
			ops = append(ops, o)
			continue
		}
		key, id, _ := strings.Cut(field, "=")
		ops = append(ops, Op{Key: key, Write: id})
	}
	return ops
}

func TestRecordedHistoryIsReadAgain(t *testing.T) {
	h := parse(t, "run r: a on w1 10-20: x=> x=v1\nrun r: b on w2 30-40 after a: x=>v1\nended r 0-50: a b")
	var file bytes.Buffer
	r := NewRecorder(&file)
	for _, e := range h.Executions {
		if err := r.Record(e); err != nil {
			t.Fatal(err)
		}
	}
	if err := (&History{Outcomes: h.Outcomes}).Write(&file); err != nil {
		t.Fatal(err)
	}
	file.WriteString(`{"execution":{"id":"torn`) // a process that was killed
	again, err := Read(&file)
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(again) != fmt.Sprint(h) {
		t.Errorf("read %+v, want %+v", again, h)
	}
	if _, err := Read(strings.NewReader("{}\nnonsense\n{}\n")); err == nil {
		t.Error("nonsense was read")
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"execution":{"id":"a","run":"r","ops":[{"key":"x","read":["v"]},{"key":"x","write":"v"}],"upstream":["a"]}}` + "\n" + `{"outcome":{"run":"r","final":["a"]}}` + "\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		h, err := Read(bytes.NewReader(data))
		if err != nil {
			return
		}
		for _, level := range Levels() { // whatever it says, it must say it
			if len(Check(level, h)) > 0 && Shrink(level, h) == nil {
				t.Errorf("%s: nothing is left of %s", level, h)
			}
		}
	})
}
