package dagengine

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cloudburst-nats/cloudburst/wire"
)

var update = flag.Bool("update", false, "rewrite the expected output in testdata")

// TestScenarios plays the files of testdata. A file is a list of paragraphs:
// comment lines, a directive with its input below, "----", and what is expected.
//
//	graph                     the graph to use from here on, as YAML; shows the plan, or what is wrong
//	hosts f g                 the functions that the worker hosts from here on
//	started ARGS              the run has begun
//	finished NODE VALUE       a node has run
//	gathered NODE FROM=VALUE… these inputs of a node are there, one a line below; FROM alone was skipped
//	item NODE I/N VALUE       one of N items of a node with each has run
//	items NODE N I=VALUE…     these results of them are there, one a line below
//
// A value is JSON; <type> stands for a value of that content type.
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
			got := play(t, string(text))
			switch {
			case *update:
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			default:
				want := strings.Split(string(text), "\n\n")
				for i, paragraph := range strings.Split(got, "\n\n") {
					if paragraph != want[i] {
						t.Errorf("%s: got:\n%s\nwant:\n%s\n(-update rewrites the file)", file, paragraph, want[i])
					}
				}
			}
		})
	}
}

// play returns the text with each paragraph's output as it is now.
func play(t *testing.T, text string) string {
	t.Helper()
	var s scenario
	paragraphs := strings.Split(strings.TrimRight(text, "\n"), "\n\n")
	for i, paragraph := range paragraphs {
		input, _, directive := strings.Cut(paragraph+"\n", "----\n")
		if !directive {
			continue // a comment
		}
		lines := strings.Split(strings.TrimSuffix(input, "\n"), "\n")
		lines = slices.DeleteFunc(lines, func(l string) bool { return strings.HasPrefix(l, "#") })
		if len(lines) == 0 {
			t.Fatalf("no directive in %q", paragraph)
		}
		paragraphs[i] = strings.TrimRight(input+"----\n"+s.do(t, lines[0], lines[1:]), "\n")
	}
	return strings.Join(paragraphs, "\n\n") + "\n"
}

type scenario struct {
	plan  *Plan
	hosts []string
}

func (s *scenario) do(t *testing.T, directive string, input []string) string {
	t.Helper()
	verb, rest, _ := strings.Cut(directive, " ")
	hosts := func(function string) bool { return slices.Contains(s.hosts, function) }
	switch verb {
	case "graph":
		return s.graph(strings.Join(input, "\n"))
	case "hosts":
		s.hosts = strings.Fields(rest)
		return ""
	}
	if s.plan == nil {
		t.Fatalf("%q before a graph", directive)
	}
	switch verb {
	case "started":
		return show(s.plan.finished(s.plan.start, value(rest), hosts))
	case "finished":
		node, result, _ := strings.Cut(rest, " ")
		return show(s.plan.finished(s.vertex(t, node), value(result), hosts))
	case "gathered":
		return show(s.plan.gathered(s.vertex(t, rest), inputsOf(input)))
	case "item":
		var node, result string
		var i, n int
		if _, err := fmt.Sscanf(rest, "%s %d/%d %s", &node, &i, &n, &result); err != nil {
			t.Fatalf("%q: %v", directive, err)
		}
		return show(s.plan.finishedItem(s.vertex(t, node), i, n, value(result)))
	case "items":
		var node string
		var n int
		if _, err := fmt.Sscanf(rest, "%s %d", &node, &n); err != nil {
			t.Fatalf("%q: %v", directive, err)
		}
		return show(s.plan.gatheredItems(s.vertex(t, node), n, inputsOf(input)))
	}
	t.Fatalf("unknown directive %q", directive)
	return ""
}

func inputsOf(lines []string) map[string]wire.Input {
	inputs := make(map[string]wire.Input)
	for _, line := range lines {
		from, v, brought := strings.Cut(strings.TrimSpace(line), "=")
		inputs[from] = wire.Input{Value: value(v), Skipped: !brought}
	}
	return inputs
}

func (s *scenario) graph(text string) string {
	s.plan = nil
	g, err := Parse([]byte(text))
	if err != nil {
		return err.Error()
	}
	if s.plan, err = Compile(g); err != nil {
		return err.Error()
	}
	var order []string
	for _, n := range s.plan.Order() {
		order = append(order, n.Name)
	}
	return fmt.Sprintf("order: %s\nsources: %s\nsinks: %s", strings.Join(order, " "),
		strings.Join(s.plan.Sources(), " "), strings.Join(s.plan.Sinks(), " "))
}

func (s *scenario) vertex(t *testing.T, node string) *vertex {
	t.Helper()
	v := s.plan.vertices[node]
	if v == nil {
		t.Fatalf("no node %q", node)
	}
	return v
}

func value(text string) wire.Value {
	if typ, ok := strings.CutPrefix(text, "<"); ok {
		return wire.Value{Body: []byte(text), Type: strings.TrimSuffix(typ, ">")}
	}
	return wire.Value{Body: []byte(text)}
}

func show(list []command, err error) string {
	if err != nil {
		var e *wire.Error
		if !errors.As(err, &e) || e.Kind != wire.KindBadArgument {
			return "not a bad argument: " + err.Error()
		}
		return err.Error()
	}
	if len(list) == 0 {
		return "nothing"
	}
	var b strings.Builder
	for _, c := range list {
		fmt.Fprintln(&b, c)
	}
	return b.String()
}
