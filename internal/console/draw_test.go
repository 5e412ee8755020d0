package console

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/cloudburst-nats/cloudburst/dagengine"
	"github.com/cloudburst-nats/cloudburst/internal/cli"
)

func TestDrawTree(t *testing.T) {
	for _, test := range []struct{ name, edges, nodes, want string }{
		{"one node", "", "a", "a\n"},
		{"chain", "a>b b>c", "a b c", "a\n└─ b\n   └─ c\n"},
		{"diamond", "split>left split>right left>join:a right>join:b join>out", "split left right join out", `
split
├─ left
│  └─ join (a)
│     └─ out
└─ right
   └─ join (b) …
`},
		{"two sources, two edges between two nodes", "a>c:0 a>c:1 b>c:2", "a b c", `
a
└─ c (0, 1)
b
└─ c (2)
`},
		{"conditions", "a>b?ok a>c:x?ok", "a b c", "a\n├─ b (if ok is true)\n└─ c (x if ok is true)\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			g := &dagengine.Graph{Name: "g"}
			for n := range strings.FieldsSeq(test.nodes) {
				g.Nodes = append(g.Nodes, dagengine.Node{Name: n})
			}
			for e := range strings.FieldsSeq(test.edges) {
				from, to, _ := strings.Cut(e, ">")
				to, field, conditional := strings.Cut(to, "?")
				to, arg, _ := strings.Cut(to, ":")
				edge := dagengine.Edge{From: from, To: to, Arg: arg}
				if conditional {
					edge.When = &dagengine.When{Field: field, Is: json.RawMessage("true")}
				}
				g.Edges = append(g.Edges, edge)
			}
			plan, err := dagengine.Compile(g)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := drawTree(plan, g.Edges), strings.TrimPrefix(test.want, "\n"); got != want {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

func TestNear(t *testing.T) {
	names := []string{"square", "increment", "compose"}
	for typed, want := range map[string]string{
		"squaer": "; did you mean square?", "inc": "; did you mean increment?", "compos": "; did you mean compose?", "zebra": "",
	} {
		if got := cli.DidYouMean(cli.Near(typed, names)); got != want {
			t.Errorf("near %q: got %q, want %q", typed, got, want)
		}
	}
}
