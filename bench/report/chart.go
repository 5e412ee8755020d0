package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// A Chart is one of a section's rows: bars, one a row, or lines over time.
type Chart struct {
	Title string
	// Label is the field that names a bar; Value the one that is its height, and Unit
	// what that is in.
	Label, Value, Unit string
	// Where has only the rows drawn whose fields have these texts. Empty: all.
	Where map[string]string
	// Over, if set, is a field with a list of moments, and each row has a chart of its
	// own: of the Lines, fields of a moment, over its field Value.
	Over  string
	Lines []string
}

// draw returns the chart, or charts, in Mermaid; nothing if no row has the values.
func (c Chart) draw(rows []row) string {
	if c.Over != "" {
		var b strings.Builder
		for _, r := range rows {
			b.WriteString(c.lines(r))
		}
		return b.String()
	}
	var labels, values []string
	for _, r := range rows {
		if v, ok := r.number(c.Value); ok && v != 0 && c.shows(r) {
			labels, values = append(labels, quoted(r.text(c.Label))), append(values, digits(v))
		}
	}
	if len(values) == 0 {
		return ""
	}
	return fmt.Sprintf("```mermaid\nxychart-beta\n  title %s\n  x-axis [%s]\n  y-axis %s\n  bar [%s]\n```\n\n",
		quoted(c.Title), strings.Join(labels, ", "), quoted(c.Unit), strings.Join(values, ", "))
}

func (c Chart) shows(r row) bool {
	for field, want := range c.Where {
		if r.text(field) != want {
			return false
		}
	}
	return true
}

// lines draws what became of a row over time.
func (c Chart) lines(r row) string {
	var list []json.RawMessage
	if err := json.Unmarshal(r.values[c.Over], &list); err != nil {
		return ""
	}
	moments, err := parse(bytes.NewReader(bytes.Join(asBytes(list), nil)))
	if err != nil || len(moments) < 2 || !c.shows(r) {
		return ""
	}
	first, _ := moments[0].number(c.Value)
	last, _ := moments[len(moments)-1].number(c.Value)
	var b strings.Builder
	fmt.Fprintf(&b, "```mermaid\nxychart-beta\n  title %s\n  x-axis %s %s --> %s\n  y-axis %s\n",
		quoted(c.Title+", "+r.text(c.Label)+": "+strings.Join(c.Lines, " and ")), quoted(c.Value), digits(first), digits(last), quoted(c.Unit))
	for _, line := range c.Lines {
		values := make([]string, len(moments))
		for i, m := range moments {
			v, _ := m.number(line)
			values[i] = digits(v)
		}
		fmt.Fprintf(&b, "  line [%s]\n", strings.Join(values, ", "))
	}
	b.WriteString("```\n\n")
	return b.String()
}

func asBytes(list []json.RawMessage) [][]byte {
	all := make([][]byte, len(list))
	for i, raw := range list {
		all[i] = raw
	}
	return all
}

// quoted is a text as Mermaid takes it: it has no way to write a quote.
func quoted(text string) string { return `"` + strings.ReplaceAll(text, `"`, "'") + `"` }
