package dagengine

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// Parse reads a graph from YAML or JSON. Fields are named as those of Graph, in
// lower case; a duration is a string such as "1m30s"; a constant is any value.
// What it doesn't know is an error (wire.KindInvalid) that names the field and
// its line. Whether the graph holds together is for Validate to say.
func Parse(data []byte) (*Graph, error) {
	doc, err := decode(data)
	if err != nil {
		return nil, &wire.Error{Op: "parse graph", Kind: wire.KindInvalid, Msg: err.Error(), Err: err}
	}
	return doc.graph(), nil
}

// MarshalJSON writes the graph as Parse reads it.
func (g Graph) MarshalJSON() ([]byte, error) { return json.Marshal(docOf(&g)) }

// UnmarshalJSON is Parse.
func (g *Graph) UnmarshalJSON(data []byte) error {
	parsed, err := Parse(data)
	if err == nil {
		*g = *parsed
	}
	return err
}

// decode reads JSON as JSON: YAML's reader would lose digits of long numbers
// and doesn't know surrogate pairs. It is the better one at telling where a
// mistake is, so it explains what JSON's refused.
func decode(data []byte) (graphDoc, error) {
	if !json.Valid(data) {
		return decodeYAML(data)
	}
	var doc graphDoc
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	err := dec.Decode(&doc)
	if err == nil {
		return doc, nil
	}
	if _, why := decodeYAML(data); why != nil {
		return doc, why
	}
	return doc, errors.New(wire.ExplainJSON(err))
}

func decodeYAML(data []byte) (graphDoc, error) {
	var doc graphDoc
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)
	err := dec.Decode(&doc)
	switch {
	case errors.Is(err, io.EOF):
		return doc, errors.New("the document is empty")
	case err != nil:
		return doc, errors.New(misplaced(plainly.Replace(strings.TrimPrefix(err.Error(), "yaml: "))))
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return doc, errors.New("more than one document: a graph is one")
	}
	return doc, nil
}

// plainly puts YAML's errors in the words of a graph.
var plainly = strings.NewReplacer(
	"unmarshal errors:\n  ", "", "\n  ", "; ",
	"not found in type dagengine.graphDoc", "is unknown: a graph has name, about, level, nodes and edges",
	"not found in type dagengine.nodeDoc", "is unknown: a node has name, function, dag, each, input, as, with, signal, signal_as, wait, timeout, attempts and backoff",
	"not found in type dagengine.edgeDoc", "is unknown: an edge has from, to, arg and when",
	"into string", "into a string", "into int", "into a whole number", "into bool", "into true or false",
	"into dagengine.graphDoc", "into a graph", "into dagengine.nodeDoc", "into a node", "into dagengine.edgeDoc", "into an edge",
	"into []dagengine.nodeDoc", "into a list of nodes", "into []dagengine.edgeDoc", "into a list of edges",
	"into map[string]dagengine.constant", "into constants by place",
)

var wrongKind = regexp.MustCompile("cannot unmarshal !!(\\w+)( `[^`]*`)? into ")

// misplaced puts what YAML's reader says of a value of another kind in plain words.
func misplaced(text string) string {
	kinds := map[string]string{
		"map": "an object", "seq": "a list", "str": "the text", "int": "the number", "float": "the number", "bool": "the value", "null": "nothing", "timestamp": "the date",
	}
	return wrongKind.ReplaceAllStringFunc(text, func(found string) string {
		part := wrongKind.FindStringSubmatch(found)
		return cmp.Or(kinds[part[1]], "the value") + part[2] + " stands in place of "
	})
}

// graphDoc is a graph as a document.
type graphDoc struct {
	Name  string    `json:"name"            yaml:"name"`
	About string    `json:"about,omitempty" yaml:"about"`
	Level string    `json:"level,omitempty" yaml:"level"`
	Nodes []nodeDoc `json:"nodes"           yaml:"nodes"`
	Edges []edgeDoc `json:"edges,omitempty" yaml:"edges"`
}

type nodeDoc struct {
	Name     string              `json:"name"               yaml:"name"`
	Function string              `json:"function,omitempty" yaml:"function"`
	DAG      string              `json:"dag,omitempty"      yaml:"dag"`
	Each     bool                `json:"each,omitempty"     yaml:"each"`
	Input    string              `json:"input,omitempty"    yaml:"input"`
	As       string              `json:"as,omitempty"       yaml:"as"`
	With     map[string]constant `json:"with,omitempty"     yaml:"with"`
	Signal   string              `json:"signal,omitempty"   yaml:"signal"`
	SignalAs string              `json:"signal_as,omitempty" yaml:"signal_as"`
	Wait     duration            `json:"wait,omitempty"     yaml:"wait"`
	Timeout  duration            `json:"timeout,omitempty"  yaml:"timeout"`
	Attempts int                 `json:"attempts,omitempty" yaml:"attempts"`
	Backoff  duration            `json:"backoff,omitempty"  yaml:"backoff"`
}

type edgeDoc struct {
	From string   `json:"from"           yaml:"from"`
	To   string   `json:"to"             yaml:"to"`
	Arg  string   `json:"arg,omitempty"  yaml:"arg"`
	When *whenDoc `json:"when,omitempty" yaml:"when"`
}

type whenDoc struct {
	Field string          `json:"field,omitempty"`
	Is    json.RawMessage `json:"is,omitempty"`
	Not   json.RawMessage `json:"not,omitempty"`
}

func (d *graphDoc) graph() *Graph {
	g := &Graph{Name: d.Name, About: d.About, Level: d.Level}
	for _, n := range d.Nodes {
		node := Node{
			Name: n.Name, Function: n.Function, DAG: n.DAG, Each: n.Each, Input: n.Input, As: n.As,
			Signal: n.Signal, SignalAs: n.SignalAs, Wait: time.Duration(n.Wait),
			Timeout: time.Duration(n.Timeout), Attempts: n.Attempts, Backoff: time.Duration(n.Backoff),
		}
		for place, c := range n.With {
			if node.With == nil {
				node.With = make(map[string]json.RawMessage, len(n.With))
			}
			if c.RawMessage == nil {
				c.RawMessage = json.RawMessage("null") // YAML's reader doesn't show it a null
			}
			node.With[place] = c.RawMessage
		}
		g.Nodes = append(g.Nodes, node)
	}
	for _, e := range d.Edges {
		g.Edges = append(g.Edges, Edge{From: e.From, To: e.To, Arg: e.Arg, When: (*When)(e.When)})
	}
	return g
}

func docOf(g *Graph) graphDoc {
	d := graphDoc{Name: g.Name, About: g.About, Level: g.Level, Nodes: make([]nodeDoc, len(g.Nodes))}
	for i, n := range g.Nodes {
		d.Nodes[i] = nodeDoc{
			Name: n.Name, Function: n.Function, DAG: n.DAG, Each: n.Each, Input: n.Input, As: n.As,
			Signal: n.Signal, SignalAs: n.SignalAs, Wait: duration(n.Wait),
			Timeout: duration(n.Timeout), Attempts: n.Attempts, Backoff: duration(n.Backoff),
		}
		for place, raw := range n.With {
			if d.Nodes[i].With == nil {
				d.Nodes[i].With = make(map[string]constant, len(n.With))
			}
			d.Nodes[i].With[place] = constant{raw}
		}
	}
	for _, e := range g.Edges {
		d.Edges = append(d.Edges, edgeDoc{From: e.From, To: e.To, Arg: e.Arg, When: (*whenDoc)(e.When)})
	}
	return d
}

// UnmarshalYAML reads a condition field by field: YAML's reader would take a null
// that was written for one that wasn't.
func (w *whenDoc) UnmarshalYAML(n *yaml.Node) error {
	var fields map[string]yaml.Node
	if err := n.Decode(&fields); err != nil {
		return fmt.Errorf("line %d: a condition looks like {field: ok, is: true}", n.Line)
	}
	for name, v := range fields {
		var err error
		switch name {
		case "field":
			err = v.Decode(&w.Field)
		case "is":
			w.Is, err = rawOf(&v)
		case "not":
			w.Not, err = rawOf(&v)
		default:
			err = fmt.Errorf("line %d: field %s is unknown: a condition has field, is and not", v.Line, name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// rawOf returns a value of YAML as JSON.
func rawOf(n *yaml.Node) (json.RawMessage, error) {
	var c constant
	err := c.UnmarshalYAML(n)
	return c.RawMessage, err
}

// duration is written as Go writes it.
type duration time.Duration

func (d duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

func (d *duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("%q is not a duration, such as 500ms, 5s or 1m30s", text)
	}
	*d = duration(parsed)
	return nil
}

// UnmarshalYAML adds the line, which YAML's reader leaves to us.
func (d *duration) UnmarshalYAML(n *yaml.Node) error {
	if err := d.UnmarshalText([]byte(n.Value)); err != nil {
		return fmt.Errorf("line %d: %w", n.Line, err)
	}
	return nil
}
