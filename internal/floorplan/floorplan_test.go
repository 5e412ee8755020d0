package floorplan

import (
	_ "embed"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

//go:embed plan.txt
var plan string

const (
	root   = "../.."
	module = "github.com/cloudburst-nats/cloudburst"
)

type rule struct{ inside, outside []string }

func TestImportsFollowThePlan(t *testing.T) {
	rules := parsePlan(t, plan)
	seen := make(map[string]bool)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".") && path != root):
			return filepath.SkipDir
		case d.IsDir() || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		pkg, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		r, ok := rules[pkg]
		if !ok {
			t.Errorf("%s is not on the plan", pkg)
		}
		seen[pkg] = true
		for _, spec := range file.Imports {
			imp, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			if !r.allows(imp) {
				t.Errorf("%s may not import %s", path, imp)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for pkg := range rules {
		if !seen[pkg] {
			t.Errorf("%s is on the plan and not in the tree", pkg)
		}
	}
}

func (r rule) allows(imp string) bool {
	host, _, _ := strings.Cut(imp, "/")
	switch {
	case imp == module:
		return slices.Contains(r.inside, ".")
	case strings.HasPrefix(imp, module+"/"):
		return slices.Contains(r.inside, strings.TrimPrefix(imp, module+"/"))
	case !strings.Contains(host, "."):
		return true // the standard library
	}
	return slices.ContainsFunc(r.outside, func(o string) bool {
		return imp == o || strings.HasPrefix(imp, o+"/")
	})
}

func parsePlan(t *testing.T, text string) map[string]rule {
	t.Helper()
	rules := make(map[string]rule)
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(strings.TrimSpace(line), "#")
		if line == "" {
			continue
		}
		name, rest, ok := strings.Cut(line, ":")
		if !ok {
			t.Fatalf("plan.txt: no colon in %q", line)
		}
		name = strings.TrimSpace(name)
		in, out, _ := strings.Cut(rest, "|")
		for dep := range strings.FieldsSeq(in) {
			if _, defined := rules[dep]; !defined {
				t.Errorf("plan.txt: %s uses %s before it is defined", name, dep)
			}
		}
		rules[name] = rule{strings.Fields(in), strings.Fields(out)}
	}
	return rules
}
