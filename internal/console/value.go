package console

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/cloudburst-nats/cloudburst/internal/cli"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// argumentHelp is how values are written on the command line.
const argumentHelp = `JSON, and what isn't JSON is taken as a string: 5, '{"a": 1}' and hello all
work, and '"5"' is the string of one digit. @FILE reads a file and - standard
input, by the same rule; @@ begins a string with one @. With --type the bytes
travel as they are, under that MIME type. What begins with a dash comes after --.`

// input is how values on the command line are meant.
type input struct {
	mime string
}

func (in *input) addFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&in.mime, "type", "", "MIME type of the value, which is then not taken as JSON")
}

// values reads the values of a command line.
func (c *console) values(cmd *cobra.Command, in input, args []string) ([]any, error) {
	list := make([]any, len(args))
	stdin := false
	for i, arg := range args {
		if arg == "-" {
			if stdin {
				return nil, cli.Usagef(cmd, "- stands twice; standard input can be read once")
			}
			stdin = true
		}
		v, err := c.value(cmd, in, arg)
		if err != nil {
			return nil, err
		}
		list[i] = v
	}
	return list, nil
}

func (c *console) value(cmd *cobra.Command, in input, arg string) (wire.Value, error) {
	body := []byte(arg)
	var err error
	switch {
	case arg == "-":
		body, err = io.ReadAll(c.Stdin)
	case strings.HasPrefix(arg, "@@"):
		body = body[1:]
	case strings.HasPrefix(arg, "@"):
		body, err = os.ReadFile(arg[1:])
	}
	if err != nil {
		return wire.Value{}, cli.Usagef(cmd, "read %s: %w", arg, err)
	}
	if in.mime != "" {
		return wire.Value{Body: body, Type: in.mime}, nil
	}
	if json.Valid(body) {
		return wire.Value{Body: body}, nil
	}
	if !utf8.Valid(body) {
		return wire.Value{}, cli.Usagef(cmd, "%s is neither JSON nor text: say what it is with --type, such as --type application/octet-stream", arg)
	}
	if start := strings.TrimLeft(string(body), " \t\r\n"); start != "" && strings.ContainsRune(`{["`, rune(start[0])) {
		fmt.Fprintf(c.Stderr, "note: %s begins like JSON and isn't: taken as a string\n", clip(arg, 40))
	}
	return wire.JSON(string(body))
}

// jsonValue is a value as scripts get it: what isn't JSON is base64.
type jsonValue struct {
	Value  json.RawMessage `json:"value,omitempty"`
	Base64 []byte          `json:"value_base64,omitempty"`
	Type   string          `json:"type,omitempty"`
}

func jsonOf(v wire.Value) jsonValue {
	switch {
	case !v.IsJSON():
		return jsonValue{Base64: v.Body, Type: v.Type}
	case len(v.Body) == 0:
		return jsonValue{Value: json.RawMessage("null")}
	case !json.Valid(v.Body): // put by hand
		return jsonValue{Base64: v.Body, Type: "application/octet-stream"}
	default:
		return jsonValue{Value: v.Body}
	}
}

// outlet is where a value goes.
type outlet struct {
	raw  bool
	file string
}

func (o *outlet) addFlags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&o.raw, "raw", false, "print the bytes as they are, without a newline")
	cmd.Flags().StringVar(&o.file, "file", "", "write the bytes to this file instead")
}

// put prints a value to people, or writes it where they said.
func (o *outlet) put(c *console, v wire.Value) error {
	switch {
	case o.file != "":
		if err := os.WriteFile(o.file, v.Body, 0o600); err != nil {
			return fmt.Errorf("write the value: %w", err)
		}
		c.notef("%s written to %s", size(int64(len(v.Body))), o.file)
		return nil
	case o.raw:
		_, err := c.Stdout.Write(v.Body)
		return err
	case !utf8.Valid(v.Body) && isTerminal(c.Stdout):
		return errors.New("the value is " + size(int64(len(v.Body))) + " of " + first(v.Type, "bytes") + ", not text: write it with --file PATH, or print it with --raw")
	case len(v.Body) == 0:
		return nil
	}
	_, err := fmt.Fprintf(c.Stdout, "%s\n", v.Body)
	return err
}

// check refuses what contradicts -o json.
func (o *outlet) check(cmd *cobra.Command, c *console) error {
	if c.json() && (o.raw || o.file != "") {
		return cli.Usagef(cmd, "-o json shows the value inside an object: leave out --raw and --file")
	}
	return nil
}
