package dagengine

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// constant is any value, kept as JSON.
type constant struct{ json.RawMessage }

// UnmarshalYAML turns the value into JSON as it is written: a date is its text, and a
// number keeps its digits. What versions of YAML read differently is an error.
func (c *constant) UnmarshalYAML(n *yaml.Node) error {
	w := constantWriter{left: constantNodes}
	if err := w.value(n); err != nil {
		return err
	}
	c.RawMessage = w.out.Bytes()
	return nil
}

// constantNodes bounds what a constant holds: aliases make much of little.
const constantNodes = 1_000_000

// A constantWriter writes a value of YAML as JSON.
type constantWriter struct {
	out   bytes.Buffer
	left  int
	depth int
}

func (w *constantWriter) value(n *yaml.Node) error {
	w.left--
	w.depth++
	defer func() { w.depth-- }()
	if w.left < 0 || w.depth > 1000 {
		return fmt.Errorf("line %d: the constant is too large or too deep, or contains itself", n.Line)
	}
	switch n.Kind {
	case yaml.AliasNode:
		return w.value(n.Alias)
	case yaml.SequenceNode:
		w.out.WriteByte('[')
		for i, item := range n.Content {
			if i > 0 {
				w.out.WriteByte(',')
			}
			if err := w.value(item); err != nil {
				return err
			}
		}
		w.out.WriteByte(']')
		return nil
	case yaml.MappingNode:
		return w.object(n)
	case yaml.ScalarNode:
		return w.scalar(n)
	default:
		return fmt.Errorf("line %d: the constant has no form in JSON", n.Line)
	}
}

func (w *constantWriter) object(n *yaml.Node) error {
	fields := make(map[string]*yaml.Node, len(n.Content)/2)
	if err := w.fields(n, fields, 0); err != nil {
		return err
	}
	names := make([]string, 0, len(fields))
	for name := range fields {
		names = append(names, name)
	}
	slices.Sort(names)
	w.out.WriteByte('{')
	for i, name := range names {
		if i > 0 {
			w.out.WriteByte(',')
		}
		if err := w.write(name); err != nil {
			return err
		}
		w.out.WriteByte(':')
		if err := w.value(fields[name]); err != nil {
			return err
		}
	}
	w.out.WriteByte('}')
	return nil
}

// fields gathers the fields of a mapping, and after them those that it merges in
// ("<<"): what is there already stays.
func (w *constantWriter) fields(n *yaml.Node, into map[string]*yaml.Node, depth int) error {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if w.left--; w.left < 0 || depth > 100 {
		return fmt.Errorf("line %d: the constant is too large or too deep, or contains itself", n.Line)
	}
	if n.Kind == yaml.SequenceNode {
		for _, one := range n.Content {
			if err := w.fields(one, into, depth+1); err != nil {
				return err
			}
		}
		return nil
	}
	if n.Kind != yaml.MappingNode {
		return fmt.Errorf("line %d: << merges objects, and this is none", n.Line)
	}
	var merged []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, v := n.Content[i], n.Content[i+1]
		for key.Kind == yaml.AliasNode {
			key = key.Alias
		}
		switch tag := key.ShortTag(); {
		case tag == "!!merge":
			merged = append(merged, v)
			continue
		case key.Kind != yaml.ScalarNode, tag != "!!str" && tag != "!!timestamp":
			return fmt.Errorf("line %d: the name of a field is a string in JSON: write %q with quotes", key.Line, key.Value)
		}
		if _, taken := into[key.Value]; !taken {
			into[key.Value] = v
		}
	}
	for _, m := range merged {
		if err := w.fields(m, into, depth+1); err != nil {
			return err
		}
	}
	return nil
}

var (
	jsonNumber = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?$`)
	// Octal to YAML 1.1 and decimal to 1.2, or a number to 1.1 and a string to 1.2.
	ambiguous = regexp.MustCompile(`^[-+]?(0[0-9_]+|[0-9][0-9_]*_[0-9_]*)(\.[0-9_]*)?([eE][-+]?[0-9]+)?$`)
)

func (w *constantWriter) scalar(n *yaml.Node) error {
	switch tag := n.ShortTag(); {
	case tag == "!!timestamp":
		return w.write(n.Value)
	case (tag == "!!int" || tag == "!!float") && ambiguous.MatchString(n.Value):
		return fmt.Errorf("line %d: %s isn't the same number to all readers of YAML: write it without leading zeros or underscores, or in quotes if it is a string", n.Line, n.Value)
	case (tag == "!!int" || tag == "!!float") && jsonNumber.MatchString(n.Value):
		w.out.WriteString(n.Value)
		return nil
	}
	var v any
	if err := n.Decode(&v); err != nil {
		return fmt.Errorf("line %d: %s", n.Line, strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if err := w.write(v); err != nil {
		return fmt.Errorf("line %d: %q has no form in JSON", n.Line, n.Value)
	}
	return nil
}

func (w *constantWriter) write(v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return errors.New("it has no form in JSON")
	}
	w.out.Write(text)
	return nil
}
