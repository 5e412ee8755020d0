package console

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// Every command of the files in deployments is one that this program takes.
func TestCommandsOfTheDeploymentsAreOurs(t *testing.T) {
	commands := make(map[string][]string)
	add := func(file string, from func(text string) (map[string][]string, error)) {
		t.Helper()
		path := filepath.Join("../../deployments", file)
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		found, err := from(string(text))
		if err != nil || len(found) == 0 {
			t.Fatalf("%s has %d commands: %v", file, len(found), err)
		}
		for name, args := range found {
			commands[file+": "+name] = args
		}
	}
	for _, unit := range []string{"server", "gateway", "worker@"} {
		add("systemd/cloudburst-"+unit+".service", unitCommands)
	}
	add("docker/Dockerfile", dockerCommands)
	add("compose/compose.yaml", composeCommands)
	add("k8s/gateway.yaml", podCommands)
	add("k8s/worker.yaml", podCommands)
	for _, name := range slices.Sorted(maps.Keys(commands)) {
		if err := takes(commands[name]); err != nil {
			t.Errorf("%s: %q: %v", name, commands[name], err)
		}
	}
}

func TestCommandsThatAreNotOurs(t *testing.T) {
	for _, line := range []string{"serve --http :80", "server --htp :80", "server --replicas three", "worker run extra", "gateway --routes a:1"} {
		if err := takes(strings.Fields(line)); err == nil {
			t.Errorf("%q is taken", line)
		}
	}
	for name, from := range map[string]func(string) (map[string][]string, error){
		"[Service]\nExecStart=/usr/bin/other server\n": unitCommands, "CMD server\n": dockerCommands,
	} {
		if found, err := from(name); err == nil {
			t.Errorf("%q has commands: %v", name, found)
		}
	}
}

// takes says what is wrong with a command line, without running it.
func takes(args []string) error {
	cmd, rest, err := newTestConsole(nil).root().Find(args)
	if err != nil {
		return err
	}
	if cmd.RunE == nil {
		return fmt.Errorf("%s does nothing", cmd.CommandPath())
	}
	if err := cmd.ParseFlags(rest); err != nil {
		return err
	}
	return cmd.ValidateArgs(cmd.Flags().Args())
}

var variable = regexp.MustCompile(`\$\{[A-Z_]+(:-[^}]*)?\}|%i`)

// unitCommands returns what a unit starts. A variable is a number there, which is
// right wherever a text is.
func unitCommands(text string) (map[string][]string, error) {
	text = strings.ReplaceAll(text, "\\\n", " ")
	found := make(map[string][]string)
	for line := range strings.Lines(text) {
		command, ok := strings.CutPrefix(line, "ExecStart=")
		if !ok {
			continue
		}
		fields := strings.Fields(variable.ReplaceAllString(command, "1"))
		if filepath.Base(fields[0]) != "cloudburst" {
			return nil, fmt.Errorf("it starts %s", fields[0])
		}
		found[line] = fields[1:]
	}
	return found, nil
}

// dockerCommands returns what an image runs, as it is and in short.
func dockerCommands(text string) (map[string][]string, error) {
	if !strings.Contains(text, `ENTRYPOINT ["/usr/local/bin/cloudburst"]`) {
		return nil, errors.New("it doesn't run cloudburst")
	}
	found := make(map[string][]string)
	for line := range strings.Lines(text) {
		if list, ok := strings.CutPrefix(line, "CMD "); ok {
			var args []string
			if err := yaml.Unmarshal([]byte(list), &args); err != nil {
				return nil, err
			}
			found[line] = args
		}
	}
	return found, nil
}

// composeCommands returns what the services of our image run.
func composeCommands(text string) (map[string][]string, error) {
	var file struct {
		Services map[string]struct {
			Image   string   `yaml:"image"`
			Command []string `yaml:"command"`
		} `yaml:"services"`
	}
	if err := yaml.Unmarshal([]byte(text), &file); err != nil {
		return nil, err
	}
	found := make(map[string][]string)
	for name, s := range file.Services {
		if s.Image == "cloudburst" {
			found[name] = s.Command
		}
	}
	return found, nil
}

// podCommands returns what the containers of our image run.
func podCommands(text string) (map[string][]string, error) {
	found := make(map[string][]string)
	for doc := range strings.SplitSeq(text, "\n---\n") {
		var object struct {
			Spec struct {
				Template struct {
					Spec struct {
						Containers []struct {
							Name, Image string
							Args        []string
						}
					}
				}
			}
		}
		if err := yaml.Unmarshal([]byte(doc), &object); err != nil {
			return nil, err
		}
		for _, c := range object.Spec.Template.Spec.Containers {
			if c.Image == "cloudburst" {
				found[c.Name] = c.Args
			}
		}
	}
	return found, nil
}
