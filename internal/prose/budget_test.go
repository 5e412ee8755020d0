package prose_test

import (
	"bufio"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/cloudburst-nats/cloudburst/internal/prose"
)

var update = flag.Bool("update", false, "lower the budgets in testdata to what is there")

const (
	commentWords = 25  // of a sentence in a comment or an error
	codeColumns  = 120 // of a line of code
)

// A debt counts what of a package breaks the rules of prose.
type debt struct {
	long   int // sentences of comments that are too long
	banned int // sentences that open as the style forbids
	wide   int // lines of comments over 100 columns, and of code over 120
	errors int // texts of errors that are too long
}

const budgetFile = "testdata/budget.txt"

// The rules hold for Go, too, but not yet everywhere: each package has a budget, which may
// only fall. A package without a line in the file has none.
func TestGoKeepsToTheBudget(t *testing.T) {
	debts := debtsBelow(t, root)
	if len(debts) < 20 {
		t.Fatalf("read %d packages; want all of them", len(debts))
	}
	budget := readBudget(t)
	for _, pkg := range slices.Sorted(maps.Keys(debts)) {
		got, most := debts[pkg], budget[pkg]
		if got.long > most.long || got.banned > most.banned || got.wide > most.wide || got.errors > most.errors {
			t.Errorf("%s: got %s, want at most %s: shorten the new sentences and lines", pkg, got, most)
		}
		budget[pkg] = debt{min(got.long, most.long), min(got.banned, most.banned), min(got.wide, most.wide), min(got.errors, most.errors)}
	}
	if *update {
		writeBudget(t, budget)
	}
}

func (d debt) String() string {
	return fmt.Sprintf("long %d, banned %d, wide %d, errors %d", d.long, d.banned, d.wide, d.errors)
}

func debtsBelow(t *testing.T, dir string) map[string]debt {
	t.Helper()
	debts := make(map[string]debt)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		name := d.Name()
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != dir && (name == "testdata" || name == "node_modules" || strings.HasPrefix(name, ".")):
			return filepath.SkipDir
		case d.IsDir() || filepath.Ext(path) != ".go":
			return nil
		}
		pkg, err := filepath.Rel(dir, filepath.Dir(path))
		if err != nil {
			return err
		}
		source, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		debts[pkg] = add(debts[pkg], debtOf(t, path, string(source)))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return debts
}

func add(a, b debt) debt {
	return debt{a.long + b.long, a.banned + b.banned, a.wide + b.wide, a.errors + b.errors}
}

func debtOf(t *testing.T, path, source string) debt {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, source, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	var d debt
	for line := range strings.Lines(source) {
		line = strings.ReplaceAll(strings.TrimRight(line, "\n"), "\t", "    ")
		most := codeColumns
		if strings.HasPrefix(strings.TrimSpace(line), "//") {
			most = columns
		}
		if utf8.RuneCountInString(line) > most {
			d.wide++
		}
	}
	for _, comment := range file.Comments {
		for _, s := range sentencesOf(comment.Text()) {
			if prose.Words(s) > commentWords {
				d.long++
			}
			if prose.Banned(s) != "" {
				d.banned++
			}
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		for _, text := range errorTexts(n) {
			if prose.Words(text) > commentWords {
				d.errors++
			}
		}
		return true
	})
	return d
}

// sentencesOf returns the sentences of a comment, but for its indented code.
func sentencesOf(comment string) []string {
	var kept []string
	for line := range strings.Lines(comment) {
		if !strings.HasPrefix(line, "\t") {
			kept = append(kept, line)
		}
	}
	var all []string
	for _, b := range prose.Parse(strings.Join(kept, "")) {
		all = append(all, b.Sentences()...)
	}
	return all
}

// errorTexts returns the texts of errors that a node makes: by errors.New, by fmt.Errorf, or
// as the field Msg of a literal.
func errorTexts(n ast.Node) []string {
	var values []ast.Expr
	switch n := n.(type) {
	case *ast.CallExpr:
		if f, ok := n.Fun.(*ast.SelectorExpr); ok && len(n.Args) > 0 && (f.Sel.Name == "New" || f.Sel.Name == "Errorf") {
			values = append(values, n.Args[0])
		}
	case *ast.KeyValueExpr:
		if key, ok := n.Key.(*ast.Ident); ok && key.Name == "Msg" {
			values = append(values, n.Value)
		}
	}
	var texts []string
	for _, value := range values {
		if lit, ok := value.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			if text, err := strconv.Unquote(lit.Value); err == nil {
				texts = append(texts, text)
			}
		}
	}
	return texts
}

func readBudget(t *testing.T) map[string]debt {
	t.Helper()
	f, err := os.Open(budgetFile)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	budget := make(map[string]debt)
	for scan := bufio.NewScanner(f); scan.Scan(); {
		if strings.HasPrefix(scan.Text(), "#") {
			continue
		}
		var pkg string
		var d debt
		if _, err := fmt.Sscan(scan.Text(), &pkg, &d.long, &d.banned, &d.wide, &d.errors); err != nil {
			t.Fatalf("%s: %q: %v", budgetFile, scan.Text(), err)
		}
		budget[pkg] = d
	}
	return budget
}

const budgetHead = `# What of each package may break the rules of prose. The numbers may only fall:
# go test ./internal/prose -run Budget -update lowers them to what is there.
# package                      long  banned  wide  errors
`

func writeBudget(t *testing.T, budget map[string]debt) {
	t.Helper()
	text := budgetHead
	for _, pkg := range slices.Sorted(maps.Keys(budget)) {
		if d := budget[pkg]; d != (debt{}) {
			text += fmt.Sprintf("%-30s %5d %6d %6d %6d\n", pkg, d.long, d.banned, d.wide, d.errors)
		}
	}
	if err := os.WriteFile(budgetFile, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestDebtIsFound(t *testing.T) {
	long := strings.Repeat("word ", commentWords) + "end"
	source := "// Package p " + long + ".\n//\n// What it is. Fine.\n//\n//\t" + long + "\npackage p\n\n" +
		"var err = errors.New(\"" + long + "\")\n"
	got := debtOf(t, "p.go", source)
	if want := (debt{long: 1, banned: 1, wide: 3, errors: 1}); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
