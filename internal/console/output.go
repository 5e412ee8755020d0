package console

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"golang.org/x/term"
)

// json says whether scripts read the output.
func (c *console) json() bool { return c.output == "json" }

// show prints v as JSON to scripts, and has people shown what they read.
func (c *console) show(v any, people func() error) error {
	if !c.json() {
		return people()
	}
	enc := json.NewEncoder(c.Stdout)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// list shows rows: to scripts an array, never null, to people a table, or the
// hint if there are none.
func list[T any](c *console, items []T, hint string, header []any, row func(T) []any) error {
	if items == nil {
		items = []T{}
	}
	return c.show(items, func() error {
		if len(items) == 0 {
			c.notef("%s", hint)
			return nil
		}
		rows := make([][]any, len(items))
		for i, item := range items {
			rows[i] = row(item)
		}
		return c.table(header, rows)
	})
}

// table prints rows under a header, as wide as the terminal at most.
func (c *console) table(header []any, rows [][]any) error {
	t := table.NewWriter()
	style := table.StyleDefault
	style.Options = table.OptionsNoBordersAndSeparators
	style.Box.PaddingLeft, style.Box.PaddingRight = "", "  "
	if f, ok := c.Stdout.(*os.File); ok && isTerminal(f) {
		if width, _, err := term.GetSize(int(f.Fd())); err == nil {
			style.Size.WidthMax = width
		}
	}
	t.SetStyle(style)
	t.SuppressTrailingSpaces()
	t.AppendHeader(header)
	for _, row := range rows {
		t.AppendRow(row)
	}
	_, err := fmt.Fprintln(c.Stdout, t.Render())
	return err
}

// A field is one line of what is told of one thing.
type field struct {
	name  string
	value any
}

// fields prints one thing, a field a line; empty ones are left out.
func (c *console) fields(all ...field) error {
	width := 0
	for _, f := range all {
		width = max(width, len(f.name))
	}
	for _, f := range all {
		value := strings.TrimRight(fmt.Sprint(f.value), "\n")
		if value == "" {
			continue
		}
		value = strings.ReplaceAll(value, "\n", "\n"+strings.Repeat(" ", width+2))
		if _, err := fmt.Fprintf(c.Stdout, "%-*s  %s\n", width, f.name, value); err != nil {
			return err
		}
	}
	return nil
}

// notef tells people something beside the answer; scripts are spared.
func (c *console) notef(format string, args ...any) {
	if !c.json() {
		fmt.Fprintf(c.Stderr, format+"\n", args...)
	}
}

const (
	red    = "31"
	green  = "32"
	yellow = "33"
)

// paint colours text on a terminal, unless NO_COLOR is set (https://no-color.org).
func (c *console) paint(colour, text string) string {
	if !isTerminal(c.Stdout) || c.Getenv("NO_COLOR") != "" || c.Getenv("TERM") == "dumb" {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

// ms is a duration as scripts get it: milliseconds.
func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// short prints a duration with three digits or so.
func short(d time.Duration) string {
	switch {
	case d <= 0:
		return ""
	case d < time.Microsecond:
		return d.String()
	case d < time.Millisecond:
		return d.Round(100 * time.Nanosecond).String()
	case d < time.Second:
		return d.Round(10 * time.Microsecond).String()
	default:
		return d.Round(10 * time.Millisecond).String()
	}
}

// ago prints how long ago something was.
func ago(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	d := max(time.Since(t), 0)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds ago", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm ago", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh ago", int(d.Hours()))
	default:
		return fmt.Sprintf("%dd ago", int(d.Hours()/24))
	}
}

// size prints a number of bytes.
func size(n int64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	v, i := float64(n)/1024, 0
	for ; v >= 1024 && i < len(units)-1; i++ {
		v /= 1024
	}
	return fmt.Sprintf("%.1f %ciB", v, units[i])
}

// clip shortens text to one line of at most n characters.
func clip(text string, n int) string {
	text, _, more := strings.Cut(text, "\n")
	if r := []rune(text); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	if more {
		return text + " …"
	}
	return text
}
