package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// A row is one JSON object, its fields in their order.
type row struct {
	fields []string
	values map[string]json.RawMessage
}

// parse reads JSON objects one after the other.
func parse(in io.Reader) ([]row, error) {
	var rows []row
	for dec := json.NewDecoder(in); ; {
		open, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return rows, nil
		}
		if err != nil {
			return rows, fmt.Errorf("read rows: %w", err)
		}
		if open != json.Delim('{') {
			return rows, fmt.Errorf("read rows: %v is not an object", open)
		}
		r := row{values: make(map[string]json.RawMessage)}
		for dec.More() {
			name, err := dec.Token()
			if err != nil {
				return rows, fmt.Errorf("read rows: %w", err)
			}
			var value json.RawMessage
			if err := dec.Decode(&value); err != nil {
				return rows, fmt.Errorf("read rows: %w", err)
			}
			field, _ := name.(string) // it is, in an object
			r.fields = append(r.fields, field)
			r.values[field] = value
		}
		if _, err := dec.Token(); err != nil {
			return rows, fmt.Errorf("read rows: %w", err)
		}
		rows = append(rows, r)
	}
}

// number returns a field as a number.
func (r row) number(field string) (v float64, ok bool) {
	raw, found := r.values[field]
	return v, found && string(raw) != "null" && json.Unmarshal(raw, &v) == nil
}

// text returns a field as people read it. Lists and objects are for charts alone.
func (r row) text(field string) string {
	var s string
	if raw := r.values[field]; json.Unmarshal(raw, &s) == nil {
		return s
	}
	if v, ok := r.number(field); ok {
		switch {
		case strings.HasSuffix(field, nanos):
			return time.Duration(v).Round(time.Millisecond).String()
		case v == 0 && (strings.HasSuffix(field, "_us") || strings.HasSuffix(field, "_ms") || strings.HasSuffix(field, "per_s")):
			return "" // nothing takes no time: it wasn't measured
		}
		return digits(v)
	}
	if string(r.values[field]) == "true" {
		return "yes"
	}
	return ""
}

// title is a field's name as people read it.
func title(field string) string {
	words := strings.Split(strings.TrimSuffix(field, nanos), "_")
	for i, w := range words {
		if w == "us" {
			words[i] = "µs"
		}
	}
	return strings.Join(words, " ")
}

// nanos ends the names of fields that hold durations.
const nanos = "_ns"

// digits writes a number with three digits that mean something, and all before the
// point.
func digits(v float64) string {
	size := math.Abs(v)
	if size == 0 || size >= 100 || v == math.Trunc(v) {
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	places := 2 - int(math.Floor(math.Log10(size)))
	s := strconv.FormatFloat(v, 'f', places, 64)
	return strings.TrimSuffix(strings.TrimRight(s, "0"), ".")
}

// tableOf shows rows as a Markdown table: a column for each field that some row has
// something to show in, but for the benchmark's name.
func tableOf(rows []row) string {
	if len(rows) == 0 {
		return "No rows.\n\n"
	}
	var fields []string
	for _, r := range rows {
		for _, f := range r.fields {
			if f != "bench" && !slices.Contains(fields, f) {
				fields = append(fields, f)
			}
		}
	}
	fields = slices.DeleteFunc(fields, func(f string) bool {
		return !slices.ContainsFunc(rows, func(r row) bool { return r.text(f) != "" })
	})
	t := table.NewWriter()
	t.Style().Format.Header = text.FormatDefault
	header := make(table.Row, len(fields))
	columns := make([]table.ColumnConfig, len(fields))
	for i, f := range fields {
		header[i] = title(f)
		columns[i] = table.ColumnConfig{Number: i + 1, AlignHeader: text.AlignLeft}
		if slices.ContainsFunc(rows, func(r row) bool { _, ok := r.number(f); return ok }) {
			columns[i].Align, columns[i].AlignHeader = text.AlignRight, text.AlignRight
		}
	}
	t.AppendHeader(header)
	t.SetColumnConfigs(columns)
	for _, r := range rows {
		cells := make(table.Row, len(fields))
		for i, f := range fields {
			cells[i] = r.text(f)
		}
		t.AppendRow(cells)
	}
	return t.RenderMarkdown() + "\n\n"
}
