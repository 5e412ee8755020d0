package dagengine

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloudburst-nats/cloudburst/wire"
)

const everything = `
name: all
about: every field there is
level: lww
nodes:
  - {name: a, function: f, input: x, as: 0, with: {1: {deep: [1, null, "é"]}, 2: null}, timeout: 1m30s, attempts: 5, backoff: 250ms}
  - {name: b}
edges:
  - {from: a, to: b, arg: v}
`

func TestParseReadsEveryField(t *testing.T) {
	want := &Graph{
		Name: "all", About: "every field there is", Level: "lww",
		Nodes: []Node{{
			Name: "a", Function: "f", Input: "x", As: "0",
			With:    map[string]json.RawMessage{"1": json.RawMessage(`{"deep":[1,null,"é"]}`), "2": json.RawMessage("null")},
			Timeout: 90 * time.Second, Attempts: 5, Backoff: 250 * time.Millisecond,
		}, {Name: "b"}},
		Edges: []Edge{{From: "a", To: "b", Arg: "v"}},
	}
	got, err := Parse([]byte(everything))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("Parse = %+v, %v, want %+v", got, err, want)
	}
	spec, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(spec), `"timeout":"1m30s"`) {
		t.Errorf("durations are not as people write them: %s", spec)
	}
	var again Graph
	if err := json.Unmarshal(spec, &again); err != nil || !reflect.DeepEqual(&again, want) {
		t.Errorf("read back %+v, %v, want %+v, by way of %s", again, err, want, spec)
	}
}

func TestJSONKeepsWhatYAMLWouldLose(t *testing.T) {
	const doc = "{\t\"name\": \"d\", \"about\": \"\\ud83d\\ude00\", \"nodes\": [{\"name\": \"a\", \"as\": \"x\", \"with\": {\"y\": 123456789012345678901234567890}}]}"
	g, err := Parse([]byte(doc))
	if err != nil || g.About != "😀" || string(g.Nodes[0].With["y"]) != "123456789012345678901234567890" {
		t.Errorf("Parse = %+v, %v", g, err)
	}
}

// A constant is what is written: a date isn't made a point in time, nor a number
// another one.
func TestConstantsOfYAML(t *testing.T) {
	for text, want := range map[string]string{
		"2020-01-31":                     `"2020-01-31"`,
		"2020-01-31T10:00:00Z":           `"2020-01-31T10:00:00Z"`,
		"2001-12-14 21:59:43.10 -5":      `"2001-12-14 21:59:43.10 -5"`,
		"!!timestamp 2020-01-31":         `"2020-01-31"`,
		"[2020-01-31, {d: 2020-02-01}]":  `["2020-01-31",{"d":"2020-02-01"}]`,
		"{2020-01-31: 1}":                `{"2020-01-31":1}`,
		"12:30:45":                       `"12:30:45"`,
		"123456789012345678901234567890": `123456789012345678901234567890`,
		"1.10":                           `1.10`,
		"0.1234567890123456789":          `0.1234567890123456789`,
		"-7":                             `-7`,
		"1e3":                            `1e3`,
		"0x1F":                           `31`,
		"0o17":                           `15`,
		"\"010\"":                        `"010"`,
		"'1_000'":                        `"1_000"`,
		"yes":                            `"yes"`,
		"true":                           `true`,
		"~":                              `null`,
		"[~, null]":                      `[null,null]`,
		"\"é\"":                          `"é"`,
		"{a: &x {b: 1, c: 2}, d: *x}":    `{"a":{"b":1,"c":2},"d":{"b":1,"c":2}}`,
		"{<<: {b: 1, c: 2}, c: 3}":       `{"b":1,"c":3}`,
		"{c: 3, <<: [{b: 1}, {b: 2}]}":   `{"b":1,"c":3}`,
	} {
		g, err := Parse([]byte("nodes: [{name: a, as: x, with: {y: " + text + "}}]"))
		if err != nil {
			t.Errorf("%s: %v", text, err)
		} else if got := string(g.Nodes[0].With["y"]); got != want {
			t.Errorf("%s is read as %s, want %s", text, got, want)
		}
	}
	for text, want := range map[string]string{
		"010":                     "line 2: 010 isn't the same number to all readers of YAML",
		"-08":                     "-08 isn't the same number",
		"1_000":                   "1_000 isn't the same number",
		"[1, {a: 0_7}]":           "0_7 isn't the same number",
		".inf":                    `".inf" has no form in JSON`,
		".nan":                    `".nan" has no form in JSON`,
		"{1: a}":                  `write "1" with quotes`,
		"{[1]: a}":                "the name of a field is a string",
		"{<<: 5}":                 "<< merges objects",
		"&x [*x]":                 "contains itself",
		strings.Repeat("[", 2000): "invalid",
		"!!binary \"!\"":          "line 2",
	} {
		if g, err := Parse([]byte("nodes:\n- {name: a, as: x, with: {y: " + text + "}}")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40s: got %v, %v, want an error with %q", text, g, err, want)
		}
	}
	// Conditions hold constants, too.
	g, err := Parse([]byte("nodes: [{name: a}, {name: b}]\nedges: [{from: a, to: b, when: {field: day, is: 2020-01-31}}]"))
	if err != nil || string(g.Edges[0].When.Is) != `"2020-01-31"` {
		t.Errorf("a condition: %+v, %v", g, err)
	}
	// A billion of what is written once.
	bomb := "nodes:\n- name: a\n  as: x\n  with:\n    y:\n      l0: &l0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
	for i := range 9 {
		bomb += fmt.Sprintf("      l%d: &l%d [%s*l%d]\n", i+1, i+1, strings.Repeat(fmt.Sprintf("*l%d, ", i), 9), i)
	}
	if _, err := Parse([]byte(bomb)); err == nil {
		t.Error("a constant of a billion elements is read")
	}
}

func TestVersionIsOfTheContent(t *testing.T) {
	version := func(edit func(*Graph)) string {
		g, err := Parse([]byte(everything))
		if err != nil {
			t.Fatal(err)
		}
		edit(g)
		p, err := Compile(g)
		if err != nil {
			t.Fatal(err)
		}
		return p.Version()
	}
	base := version(func(*Graph) {})
	if len(base) != 12 {
		t.Errorf("version %q, want 12 digits", base)
	}
	for what, edit := range map[string]func(*Graph){
		"order":   func(g *Graph) { slices.Reverse(g.Nodes) },
		"default": func(g *Graph) { g.Nodes[1].Function = "b" },
	} {
		if got := version(edit); got != base {
			t.Errorf("%s changes the version: %s, want %s", what, got, base)
		}
	}
	for what, edit := range map[string]func(*Graph){
		"level":    func(g *Graph) { g.Level = "causal" },
		"edge":     func(g *Graph) { g.Edges[0].Arg = "w" },
		"constant": func(g *Graph) { g.Nodes[0].With["2"] = json.RawMessage("3") },
		"timeout":  func(g *Graph) { g.Nodes[0].Timeout++ },
	} {
		if got := version(edit); got == base {
			t.Errorf("%s doesn't change the version", what)
		}
	}
}

func TestPlanIsItsOwn(t *testing.T) {
	g, err := Parse([]byte(everything))
	if err != nil {
		t.Fatal(err)
	}
	p, err := Compile(g)
	if err != nil {
		t.Fatal(err)
	}
	g.Nodes[0].With["1"][0], g.Nodes[0].Name, g.Edges[0].Arg = 'X', "changed", "changed"
	todo, err := p.finished(p.start, value(`{"x":1}`), func(string) bool { return true })
	if err != nil || len(todo) != 1 || todo[0].String() != `invoke a [1,{"deep":[1,null,"é"]},null]` {
		t.Errorf("a plan changed with its graph: %v, %v", todo, err)
	}
	if got := p.Successors("a"); !slices.Equal(got, []string{"b"}) || p.Successors("b") == nil || p.Successors("none") != nil {
		t.Errorf("Successors = %v, %v, %v", got, p.Successors("b"), p.Successors("none"))
	}
}

func TestLimits(t *testing.T) {
	nodes := func(n int) (list []Node) {
		for i := range n {
			list = append(list, Node{Name: fmt.Sprint("n", i)})
		}
		return list
	}
	edges := func(n int) (list []Edge) {
		for i := range n {
			list = append(list, Edge{From: "n0", To: "n1", Arg: fmt.Sprint(i)})
		}
		return list
	}
	for want, g := range map[string]*Graph{
		"":                             {Name: "g", Nodes: nodes(MaxNodes), Edges: edges(MaxInputs)},
		"it has 1001 nodes, 1000 at":   {Name: "g", Nodes: nodes(MaxNodes + 1)},
		"it has 10001 edges, 10000 at": {Name: "g", Nodes: nodes(2), Edges: edges(MaxEdges + 1)},
		"it has 257 inputs, 256 at":    {Name: "g", Nodes: nodes(2), Edges: edges(MaxInputs + 1)},
		"not valid JSON":               {Name: "g", Nodes: []Node{{Name: "a", As: "x", With: map[string]json.RawMessage{"y": json.RawMessage("{")}}}},
	} {
		err := g.Validate()
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("Validate = %v, want %q", err, want)
		}
		if err != nil && !errors.Is(err, &wire.Error{Kind: wire.KindInvalid}) {
			t.Errorf("Validate = %v, want it invalid", err)
		}
	}
}

func TestCheckFunctions(t *testing.T) {
	g := &Graph{Name: "g", Nodes: []Node{{Name: "square"}, {Name: "b", Function: "incremet"}, {Name: "c", Function: "zzz"}}}
	if err := g.CheckFunctions([]string{"square", "incremet", "zzz"}); err != nil {
		t.Errorf("CheckFunctions of known ones = %v", err)
	}
	want := `"b": invalid: there is no function "incremet"; did you mean "increment"?` + "\n" + `"c": invalid: there is no function "zzz"`
	if err := g.CheckFunctions([]string{"echo", "square", "increment"}); err == nil || err.Error() != want {
		t.Errorf("CheckFunctions = %v, want %s", err, want)
	}
}

// TestCyclesAgainstClosure compares with what the transitive closure says.
func TestCyclesAgainstClosure(t *testing.T) {
	for seed := range uint64(2000) {
		rng := rand.New(rand.NewPCG(seed, 0))
		size := 1 + rng.IntN(9)
		var nodes []Node
		for i := range size {
			nodes = append(nodes, Node{Name: fmt.Sprint(i)})
		}
		var edges []Edge
		var reach [10][10]bool
		for range rng.IntN(2 * size) {
			from, to := rng.IntN(size), rng.IntN(size)
			edges = append(edges, Edge{From: fmt.Sprint(from), To: fmt.Sprint(to)})
			reach[from][to] = true
		}
		direct := reach
		for k := range size {
			for i := range size {
				for j := range size {
					reach[i][j] = reach[i][j] || reach[i][k] && reach[k][j]
				}
			}
		}
		var want, got []string // the first node of each knot
		for i := range size {
			first := reach[i][i]
			for j := range i {
				first = first && (!reach[i][j] || !reach[j][i])
			}
			if first {
				want = append(want, fmt.Sprint(i))
			}
		}
		for _, path := range cycles(nodes, edges) {
			got = append(got, path[0])
			for i := range len(path) - 1 {
				if !direct[path[i][0]-'0'][path[i+1][0]-'0'] {
					t.Errorf("seed %d: %v uses an edge that isn't there", seed, path)
				}
			}
			if path[0] != path[len(path)-1] || len(path) < 2 {
				t.Errorf("seed %d: %v is no cycle", seed, path)
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("seed %d: cycles through %v, want %v, of %v", seed, got, want, edges)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(everything))
	f.Add([]byte(`{"name":"d","nodes":[{"name":"a","with":{"x":1e400}}],"edges":[{"from":"a","to":"a"}]}`))
	f.Add([]byte("name: &x d\nnodes: [{name: *x, with: {k: .inf, d: 2001-01-01}}]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		g, err := Parse(data)
		if err != nil {
			if wire.KindOf(err) != wire.KindInvalid {
				t.Errorf("Parse = %v, want it invalid", err)
			}
			return
		}
		plan, err := Compile(g)
		if err != nil {
			return
		}
		spec, err := json.Marshal(g)
		if err != nil {
			t.Fatalf("a graph that compiles can't be written: %v", err)
		}
		again, err := Parse(spec)
		if err != nil {
			t.Fatalf("Parse of what was written: %v, of %s", err, spec)
		}
		if second, err := Compile(again); err != nil || second.Version() != plan.Version() {
			t.Errorf("compiled again: %v, of %s", err, spec)
		}
	})
}
