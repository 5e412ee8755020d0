package console

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/cloudburst-nats/cloudburst/internal/cli"
)

// foreign is the language of libraries, which means nothing to whoever typed a command.
var foreign = regexp.MustCompile(`strconv\.|json: |yaml: |nats: |context deadline exceeded|context canceled|no responders|invalid syntax|Go (value|struct)|time: |dial tcp|lattice kinds differ: a |unknown command|%!|<nil>`)

// wrongInputs are command lines that can't be carried out, for every command; want is
// in what is said. {file}, {broken}, … are paths, {letter} is the number of a dead
// letter of a function that is gone.
var wrongInputs = []struct {
	args string
	code int
	want string
}{
	{"call", cli.ExitUsage, "NAME [ARG...]"},
	{"call nobody 1", cli.ExitUnknown, "no such function or DAG"},
	{"call squaer 1", cli.ExitUnknown, "did you mean square?"},
	{"call a.b 1", cli.ExitUsage, `"a.b"`},
	{"call square x", cli.ExitUsage, "the value is a string, and has to be a number"},
	{"call square [1", cli.ExitUsage, "has to be a number"},
	{"call square 1 --level best", cli.ExitUsage, "--level best: there are lww, repeatable"},
	{"call square 1 --in soon", cli.ExitUsage, "--in soon: it is a duration"},
	{"call square 1 --in -1s", cli.ExitUsage, "--in -1s: less than 0"},
	{"call square 1 --run-id a..b", cli.ExitUsage, "run id"},
	{"call square @{none}", cli.ExitUsage, "read @"},
	{"call square 1 --async=maybe", cli.ExitUsage, "--async maybe: it is true or false"},
	{"call fail 1", cli.ExitFailed, `run "fail": failed for good: as ever`},
	{"call hang 1 --timeout 50ms --run-id w1", cli.ExitTimeout, "the run goes on; `cloudburst result w1 --wait 1m` waits for it"},
	{"call square 5 --timeout 1ns", cli.ExitTimeout, "connect to NATS"},
	{"call square 5 --timeout 5", cli.ExitUsage, "--timeout 5: it is a duration"},
	{"result", cli.ExitUsage, "result RUN"},
	{"result nobody", cli.ExitUnknown, `"nobody"`},
	{"result a..b", cli.ExitUsage, `"a..b"`},
	{"result nobody --wait 20ms", cli.ExitTimeout, "no result within 20ms"},
	{"result nobody --wait x", cli.ExitUsage, "--wait x: it is a duration"},
	{"platform x", cli.ExitUsage, `has no command "x"`},
	{"platform set", cli.ExitUsage, "platform set NAME=VALUE"},
	{"platform set backlog-siez=1GiB", cli.ExitUsage, "did you mean backlog-size?"},
	{"platform set ack-wait=soon", cli.ExitUsage, "want a time"},
	{"platform set ack-wait=1000000h", cli.ExitUsage, `"ack-wait": bad argument: want at most 1h (1000000h)`},
	{"platform set logs-size=5PiB", cli.ExitUsage, "want a size"},
	{"platform set ack-wait=5s logs-size=1MiB ack-wait=6s", cli.ExitUsage, "ack-wait is there twice"},
	{"fn nothing", cli.ExitUsage, `has no command "nothing"`},
	{"fn ls x", cli.ExitUsage, "takes no argument"},
	{"fn ls --timeout 1ns", cli.ExitTimeout, "no connection within 1ns; --timeout allows for more"},
	{"fn show nobody", cli.ExitUnknown, "there is no such function"},
	{"fn show squar", cli.ExitUnknown, "did you mean square?"},
	{"fn logs squar", cli.ExitUnknown, "did you mean square?"},
	{"fn logs square -n x", cli.ExitUsage, "--last x: it is a whole number"},
	{"fn logs square -n -1", cli.ExitUsage, "--last -1: less than 0"},
	{"fn rm squar", cli.ExitUnknown, "did you mean square?"},
	{"fn rollback square", cli.ExitUnknown, "it has no versions: it came with a program that serves pool"},
	{"fn rollback compose", cli.ExitUnknown, "it is a DAG"},
	{"fn rollback nobody", cli.ExitUnknown, "there is no such function"},
	{"fn rollback squar", cli.ExitUnknown, "did you mean square?"},
	{"fn rollback square --to 0", cli.ExitUsage, "--to 0: versions are numbered from 1"},
	{"fn deploy f", cli.ExitUsage, "NAME FILE|DIR"},
	{"fn deploy f {none}", cli.ExitUsage, "none"},
	{"fn deploy a.b {python}", cli.ExitUsage, `"a.b"`},
	{"fn deploy f {python} --memory lots", cli.ExitUsage, "--memory lots: it is a size"},
	{"fn deploy f {python} --timeout 5", cli.ExitUsage, "--timeout 5: it is a duration"},
	{"fn deploy f {python} --attempts two", cli.ExitUsage, "--attempts two: it is a whole number"},
	{"fn deploy f {python} --check {", cli.ExitUsage, "not valid JSON"},
	{"fn deploy f {python} --level best", cli.ExitUsage, "there is no such level"},
	{"fn deploy f {python} --pool examples", cli.ExitRefused, "leave out --pool to deploy into pool"},
	{"fn deploy square {python} --pool examples", cli.ExitRefused, "the name is that of a function"},
	{"fn deploy f {python} --pool nowhere", cli.ExitUnavailable, "`cloudburst worker run --pool nowhere` starts one"},
	{"fn deploy f {python}", cli.ExitUnavailable, "`cloudburst server` has one inside"},
	{"platform set", cli.ExitUsage, "set NAME=VALUE..."},
	{"platform set ack-wait", cli.ExitUsage, "want NAME=VALUE"},
	{"platform set ack-wiat=1s", cli.ExitUsage, "did you mean ack-wait?"},
	{"platform set ack-wait=soon", cli.ExitUsage, "soon"},
	{"platform set backlog-size=lots", cli.ExitUsage, "lots"},
	{"platform set replicas=x", cli.ExitUsage, "x"},
	{"dag apply {none}", cli.ExitUsage, "none"},
	{"dag apply {broken}", cli.ExitRefused, "line 1: did not find"},
	{"dag apply {typed}", cli.ExitRefused, "the field name is a number, and has to be a string"},
	{"dag apply {unknown}", cli.ExitRefused, `did you mean "square"?`},
	{"dag show nobody", cli.ExitUnknown, "there is no such DAG"},
	{"dag show square", cli.ExitUnknown, "there is no such DAG"},
	{"dag rm compos", cli.ExitUnknown, "did you mean compose?"},
	{"dag ls x", cli.ExitUsage, "takes no argument"},
	{"kv get", cli.ExitUsage, "kv get KEY"},
	{"kv get nobody", cli.ExitUnknown, "no such key"},
	{"kv get ", cli.ExitUsage, "a key can't be empty"},
	{"kv get k -n stat", cli.ExitUnknown, "did you mean state?"},
	{"kv get k -n a.b", cli.ExitUsage, `"a.b"`},
	{"kv put  1", cli.ExitUsage, "a key can't be empty"},
	{"kv put k 1 --kind counter", cli.ExitUsage, "there are lww"},
	{"kv put greatest 1 --kind min", cli.ExitRefused, "the key holds a max, and a min can't be merged into that"},
	{"kv put k 1 -n cb_dags", cli.ExitUsage, "the platform's own"},
	{"kv rm greatest", cli.ExitRefused, "the key holds a max, and only registers can be removed"},
	{"kv rm k -n nowhere", cli.ExitUnknown, "no such namespace"},
	{"kv rm ", cli.ExitUsage, "a key can't be empty"},
	{"kv ls --limit x", cli.ExitUsage, "--limit x: it is a whole number"},
	{"runs ls --limit x", cli.ExitUsage, "--limit x: it is a whole number"},
	{"runs ls --status done", cli.ExitUsage, "there are pending"},
	{"runs show nobody", cli.ExitUnknown, "no such run"},
	{"runs show a..b", cli.ExitUsage, `"a..b"`},
	{"runs signal nobody go", cli.ExitUnknown, "no such run"},
	{"runs signal nobody", cli.ExitUsage, "signal RUN NAME"},
	{"runs cancel nobody", cli.ExitUnknown, "no such run"},
	{"dead ls --limit 0", cli.ExitUsage, "at least 1"},
	{"dead show 99999", cli.ExitUnknown, "no such dead letter"},
	{"dead show x", cli.ExitUsage, "is not the number of a dead letter"},
	{"dead replay 99999", cli.ExitUnknown, "no such dead letter"},
	{"dead replay {letter}", cli.ExitUnknown, `"short-lived", which it called, isn't there any more`},
	{"dead replay {letter} 99999", cli.ExitUnknown, "no such dead letter"},
	{"doctor x", cli.ExitUsage, "takes no argument"},
	{"worker ls x", cli.ExitUsage, "takes no argument"},
	{"worker run --slots x", cli.ExitUsage, "--slots x: it is a whole number"},
	{"pool ls x", cli.ExitUsage, "takes no argument"},
	{"version x", cli.ExitUsage, "takes no argument"},
	{"gateway x", cli.ExitUsage, "takes no argument"},
	{"demo x", cli.ExitUsage, "takes no argument"},
	{"cluster x", cli.ExitUsage, "takes no argument"},
	{"server x", cli.ExitUsage, "takes no argument"},
	{"server --sync soon --listen 127.0.0.1:0 --store {dir}", cli.ExitUsage, "not a sync policy"},
	{"server --max-store 5x", cli.ExitUsage, "--max-store 5x: it is a size"},
	{"fn ls --nats nats://127.0.0.1:1", cli.ExitUnavailable, "nobody answers there"},
	{"fn ls --nats nats://:::", cli.ExitUsage, "no address of a server"},
	{"fn ls --context nobody", cli.ExitUnknown, "no such context"},
	{"fn ls --creds {none}", cli.ExitUsage, "none"},
	{"fn ls --tlsca {python}", cli.ExitUsage, "check the files of the certificates"},
}

func TestWrongInput(t *testing.T) {
	u := newUser(t)
	u.does("kv", "put", "greatest", "5", "--kind", "max")
	dir := t.TempDir()
	paths := map[string]string{"{none}": filepath.Join(dir, "none"), "{dir}": filepath.Join(dir, "store"), "{letter}": u.orphan()}
	for name, text := range map[string]string{
		"python": "def handler(cloudburst, x): return x\n", "broken": "name: x\nnodes: [}", "typed": `{"name": 3}`, "unknown": "name: x\nnodes: [{name: squar}]\n",
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		paths["{"+name+"}"] = path
	}
	for _, test := range wrongInputs {
		t.Run(test.args, func(t *testing.T) {
			args := strings.Split(test.args, " ")
			for i := range args {
				for name, path := range paths {
					args[i] = strings.ReplaceAll(args[i], name, path)
				}
			}
			out, errs, code := u.run(t.Context(), args...)
			if code != test.code || !strings.Contains(errs, test.want) {
				t.Errorf("exit code %d, want %d; stderr %q; want %q in it; stdout %q", code, test.code, errs, test.want, out)
			}
			if !strings.HasPrefix(errs, "cloudburst: ") && !strings.HasPrefix(errs, "note: ") {
				t.Errorf("stderr is %q; want it to begin with the program's name", errs)
			}
			if word := foreign.FindString(errs); word != "" {
				t.Errorf("stderr is %q: %q is the language of a library", errs, word)
			}
		})
	}
	u.does("runs", "cancel", "w1")
}

// orphan buries a call of a function that is removed then, and returns the letter's number.
func (u *user) orphan() string {
	u.t.Helper()
	u.gets(cli.ExitFailed, "call", "short-lived", "1")
	var letters []struct{ Seq json.Number }
	if err := json.Unmarshal([]byte(u.does("dead", "ls", "--name", "short-lived", "-o", "json")), &letters); err != nil || len(letters) != 1 {
		u.t.Fatalf("letters: %v, %v", letters, err)
	}
	u.does("fn", "rm", "short-lived")
	return letters[0].Seq.String()
}

// Every command that does something is among the wrong inputs.
func TestEveryCommandIsTriedWithWrongInput(t *testing.T) {
	var visit func(cmd *cobra.Command)
	visit = func(cmd *cobra.Command) {
		path := strings.TrimPrefix(cmd.CommandPath(), "cloudburst ")
		for _, sub := range cmd.Commands() {
			visit(sub)
		}
		switch first, _, _ := strings.Cut(path, " "); {
		case cmd.HasSubCommands(), first == "completion", first == "help", cmd.Hidden:
			return
		}
		for _, test := range wrongInputs {
			if test.args == path || strings.HasPrefix(test.args, path+" ") {
				return
			}
		}
		t.Errorf("no wrong input for `cloudburst %s`", path)
	}
	visit(newTestConsole(nil).root())
}

func TestRemovingNothingSaysSo(t *testing.T) {
	u := newUser(t)
	u.does("kv", "put", "k", "1")
	out, errs, code := u.run(t.Context(), "kv", "rm", "neverwas", "k")
	if code != cli.ExitOK || out != "k removed\n" || !strings.Contains(errs, `There is no key "neverwas" in namespace state.`) {
		t.Errorf("exit code %d, stdout %q, stderr %q", code, out, errs)
	}
	u.sees(u.does("kv", "rm", "k"), `There is no key "k"`)
}

// Whoever ends a command learns what goes on without it.
func TestInterruptsSayWhatGoesOn(t *testing.T) {
	u := newUser(t)
	for _, test := range []struct {
		args []string
		want []string
	}{
		{[]string{"call", "hang", "1", "--run-id", "left"}, []string{"interrupted: ", "the run goes on", "cloudburst result left --wait 1m"}},
		{[]string{"result", "left", "--wait", "10m"}, []string{"interrupted: the run goes on"}},
	} {
		ctx, interrupt := context.WithCancel(t.Context())
		type ended struct {
			errs string
			code int
		}
		done := make(chan ended, 1)
		go func() {
			_, errs, code := u.run(ctx, test.args...)
			done <- ended{errs, code}
		}()
		for !strings.Contains(u.does("runs", "ls"), "left") { // until it is stored
			if t.Context().Err() != nil {
				t.Fatal("never stored")
			}
		}
		interrupt()
		got := <-done
		if got.code != cli.ExitInterrupted {
			t.Errorf("%v: exit code %d, want %d", test.args, got.code, cli.ExitInterrupted)
		}
		u.sees(got.errs, test.want...)
		if word := foreign.FindString(got.errs); word != "" || strings.Contains(got.errs, "timed out") {
			t.Errorf("%v: stderr is %q", test.args, got.errs)
		}
	}
	u.does("runs", "cancel", "left")
	// Commands that change something say what may be done already.
	root := newTestConsole(nil).root()
	for _, path := range []string{"fn deploy", "fn rm", "fn rollback", "dag apply", "dag rm", "kv put", "kv rm", "runs signal", "runs cancel", "dead replay", "platform set"} {
		cmd, _, err := root.Find(strings.Fields(path))
		if err != nil {
			t.Fatal(err)
		}
		ctx, interrupt := context.WithCancel(t.Context())
		interrupt()
		cmd.SetContext(ctx)
		if got := explain(cmd, askWithin, context.Canceled).Error(); got == "interrupted: nothing was changed" || !slices.ContainsFunc([]string{"may", "either", "were"}, func(w string) bool { return strings.Contains(got, w) }) {
			t.Errorf("%s: %q", path, got)
		}
	}
}
