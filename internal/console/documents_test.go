package console

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/cloudburst-nats/cloudburst/internal/prose"
)

// Commands that documents name, in inline code and in blocks that no test runs, exist, and
// so do their flags. The blocks that a test runs are in e2e.
func TestDocumentsNameCommandsThatExist(t *testing.T) {
	const root = "../.."
	files, err := prose.Documents(root)
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	for _, file := range files {
		blocks, err := prose.Read(filepath.Join(root, file))
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range blocks {
			code := b.Code()
			if b.Lang == "sh" {
				code = strings.Split(strings.ReplaceAll(strings.Join(b.Lines, "\n"), "\\\n", " "), "\n")
			}
			for _, line := range code {
				args, ok := strings.CutPrefix(strings.TrimPrefix(line, "./bin/"), "cloudburst ")
				if !ok {
					continue
				}
				checked++
				if why := unknown(args); why != "" {
					t.Errorf("%s:%d: `%s`: %s", file, b.Line, line, why)
				}
			}
		}
	}
	if checked < 40 {
		t.Errorf("checked %d commands; want all of them, which are more than 40", checked)
	}
}

var flagName = regexp.MustCompile(`^--?([a-z][a-z-]*)`)

// unknown says what of a command line there isn't; "" if there is all of it.
func unknown(line string) string {
	line, _, _ = strings.Cut(line, " #")
	line, _, _ = strings.Cut(line, "|")
	args := strings.Fields(line)
	cmd, rest, err := newTestConsole(nil).root().Find(args)
	if err != nil {
		return err.Error()
	}
	if cmd.HasSubCommands() && len(rest) > 0 && !strings.HasPrefix(rest[0], "-") {
		return "there is no such command"
	}
	for _, arg := range rest {
		if arg == "--" {
			break
		}
		name := flagName.FindStringSubmatch(arg)
		if name != nil && !hasFlag(cmd, name[1]) {
			return "there is no flag " + name[0]
		}
	}
	return ""
}

func hasFlag(cmd *cobra.Command, name string) bool {
	cmd.InitDefaultHelpFlag()
	if len(name) == 1 {
		return cmd.Flags().ShorthandLookup(name) != nil || cmd.InheritedFlags().ShorthandLookup(name) != nil
	}
	return cmd.Flags().Lookup(name) != nil || cmd.InheritedFlags().Lookup(name) != nil
}

func TestUnknownCommandsAreFound(t *testing.T) {
	for line, want := range map[string]bool{
		"worker ls -o json": false, "workers ls": true, "worker lst": true,
		"call x --no-such-flag": true, "server --http :8080 # HTTP": false,
	} {
		if got := unknown(line) != ""; got != want {
			t.Errorf("unknown(%q): got %v, want %v", line, got, want)
		}
	}
}
