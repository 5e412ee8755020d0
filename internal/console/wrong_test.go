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
	{"call", exitUsage, "NAME [ARG...]"},
	{"call nobody 1", exitUnknown, "no such function or DAG"},
	{"call squaer 1", exitUnknown, "did you mean square?"},
	{"call a.b 1", exitUsage, `"a.b"`},
	{"call square x", exitUsage, "the value is a string, and has to be a number"},
	{"call square [1", exitUsage, "has to be a number"},
	{"call square 1 --level best", exitUsage, "--level best: there are lww, repeatable"},
	{"call square 1 --in soon", exitUsage, "--in soon: it is a duration"},
	{"call square 1 --in -1s", exitUsage, "--in -1s: less than 0"},
	{"call square 1 --run-id a..b", exitUsage, "run id"},
	{"call square @{none}", exitUsage, "read @"},
	{"call square 1 --async=maybe", exitUsage, "--async maybe: it is true or false"},
	{"call fail 1", exitFailed, `run "fail": failed for good: as ever`},
	{"call hang 1 --timeout 50ms --run-id w1", exitTimeout, "the run goes on; `cloudburst result w1 --wait 1m` waits for it"},
	{"call square 5 --timeout 1ns", exitTimeout, "connect to NATS"},
	{"call square 5 --timeout 5", exitUsage, "--timeout 5: it is a duration"},
	{"result", exitUsage, "result RUN"},
	{"result nobody", exitUnknown, `"nobody"`},
	{"result a..b", exitUsage, `"a..b"`},
	{"result nobody --wait 20ms", exitTimeout, "no result within 20ms"},
	{"result nobody --wait x", exitUsage, "--wait x: it is a duration"},
	{"platform x", exitUsage, `has no command "x"`},
	{"platform set", exitUsage, "platform set NAME=VALUE"},
	{"platform set backlog-siez=1GiB", exitUsage, "did you mean backlog-size?"},
	{"platform set ack-wait=soon", exitUsage, "want a time"},
	{"platform set ack-wait=1000000h", exitUsage, `"ack-wait": bad argument: want at most 1h (1000000h)`},
	{"platform set logs-size=5PiB", exitUsage, "want a size"},
	{"platform set ack-wait=5s logs-size=1MiB ack-wait=6s", exitUsage, "ack-wait is there twice"},
	{"fn nothing", exitUsage, `has no command "nothing"`},
	{"fn ls x", exitUsage, "takes no argument"},
	{"fn ls --timeout 1ns", exitTimeout, "no connection within 1ns; --timeout allows for more"},
	{"fn show nobody", exitUnknown, "there is no such function"},
	{"fn show squar", exitUnknown, "did you mean square?"},
	{"fn logs squar", exitUnknown, "did you mean square?"},
	{"fn logs square -n x", exitUsage, "--last x: it is a whole number"},
	{"fn logs square -n -1", exitUsage, "--last -1: less than 0"},
	{"fn rm squar", exitUnknown, "did you mean square?"},
	{"fn rollback square", exitUnknown, "it has no versions: it came with a program that serves pool"},
	{"fn rollback compose", exitUnknown, "it is a DAG"},
	{"fn rollback nobody", exitUnknown, "there is no such function"},
	{"fn rollback squar", exitUnknown, "did you mean square?"},
	{"fn rollback square --to 0", exitUsage, "--to 0: versions are numbered from 1"},
	{"fn deploy f", exitUsage, "NAME FILE|DIR"},
	{"fn deploy f {none}", exitUsage, "none"},
	{"fn deploy a.b {python}", exitUsage, `"a.b"`},
	{"fn deploy f {python} --memory lots", exitUsage, "--memory lots: it is a size"},
	{"fn deploy f {python} --timeout 5", exitUsage, "--timeout 5: it is a duration"},
	{"fn deploy f {python} --attempts two", exitUsage, "--attempts two: it is a whole number"},
	{"fn deploy f {python} --check {", exitUsage, "not valid JSON"},
	{"fn deploy f {python} --level best", exitUsage, "there is no such level"},
	{"fn deploy f {python} --pool examples", exitRefused, "leave out --pool to deploy into pool"},
	{"fn deploy square {python} --pool examples", exitRefused, "the name is that of a function"},
	{"fn deploy f {python} --pool nowhere", exitUnavailable, "`cloudburst worker run --pool nowhere` starts one"},
	{"fn deploy f {python}", exitUnavailable, "`cloudburst server` has one inside"},
	{"platform set", exitUsage, "set NAME=VALUE..."},
	{"platform set ack-wait", exitUsage, "want NAME=VALUE"},
	{"platform set ack-wiat=1s", exitUsage, "did you mean ack-wait?"},
	{"platform set ack-wait=soon", exitUsage, "soon"},
	{"platform set backlog-size=lots", exitUsage, "lots"},
	{"platform set replicas=x", exitUsage, "x"},
	{"dag apply {none}", exitUsage, "none"},
	{"dag apply {broken}", exitRefused, "line 1: did not find"},
	{"dag apply {typed}", exitRefused, "the field name is a number, and has to be a string"},
	{"dag apply {unknown}", exitRefused, `did you mean "square"?`},
	{"dag show nobody", exitUnknown, "there is no such DAG"},
	{"dag show square", exitUnknown, "there is no such DAG"},
	{"dag rm compos", exitUnknown, "did you mean compose?"},
	{"dag ls x", exitUsage, "takes no argument"},
	{"kv get", exitUsage, "kv get KEY"},
	{"kv get nobody", exitUnknown, "no such key"},
	{"kv get ", exitUsage, "a key can't be empty"},
	{"kv get k -n stat", exitUnknown, "did you mean state?"},
	{"kv get k -n a.b", exitUsage, `"a.b"`},
	{"kv put  1", exitUsage, "a key can't be empty"},
	{"kv put k 1 --kind counter", exitUsage, "there are lww"},
	{"kv put greatest 1 --kind min", exitRefused, "the key holds a max, and a min can't be merged into that"},
	{"kv put k 1 -n cb_dags", exitUsage, "the platform's own"},
	{"kv rm greatest", exitRefused, "the key holds a max, and only registers can be removed"},
	{"kv rm k -n nowhere", exitUnknown, "no such namespace"},
	{"kv rm ", exitUsage, "a key can't be empty"},
	{"kv ls --limit x", exitUsage, "--limit x: it is a whole number"},
	{"runs ls --limit x", exitUsage, "--limit x: it is a whole number"},
	{"runs ls --status done", exitUsage, "there are pending"},
	{"runs show nobody", exitUnknown, "no such run"},
	{"runs show a..b", exitUsage, `"a..b"`},
	{"runs signal nobody go", exitUnknown, "no such run"},
	{"runs signal nobody", exitUsage, "signal RUN NAME"},
	{"runs cancel nobody", exitUnknown, "no such run"},
	{"dead ls --limit 0", exitUsage, "at least 1"},
	{"dead show 99999", exitUnknown, "no such dead letter"},
	{"dead show x", exitUsage, "is not the number of a dead letter"},
	{"dead replay 99999", exitUnknown, "no such dead letter"},
	{"dead replay {letter}", exitUnknown, `"short-lived", which it called, isn't there any more`},
	{"dead replay {letter} 99999", exitUnknown, "no such dead letter"},
	{"doctor x", exitUsage, "takes no argument"},
	{"worker ls x", exitUsage, "takes no argument"},
	{"worker run --slots x", exitUsage, "--slots x: it is a whole number"},
	{"pool ls x", exitUsage, "takes no argument"},
	{"version x", exitUsage, "takes no argument"},
	{"gateway x", exitUsage, "takes no argument"},
	{"demo x", exitUsage, "takes no argument"},
	{"cluster x", exitUsage, "takes no argument"},
	{"server x", exitUsage, "takes no argument"},
	{"server --sync soon --listen 127.0.0.1:0 --store {dir}", exitUsage, "not a sync policy"},
	{"server --max-store 5x", exitUsage, "--max-store 5x: it is a size"},
	{"bench call --transport x", exitUsage, "x"},
	{"fn ls --nats nats://127.0.0.1:1", exitUnavailable, "nobody answers there"},
	{"fn ls --nats nats://:::", exitUsage, "no address of a server"},
	{"fn ls --context nobody", exitUnknown, "no such context"},
	{"fn ls --creds {none}", exitUsage, "none"},
	{"fn ls --tlsca {python}", exitUsage, "check the files of the certificates"},
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
	u.gets(exitFailed, "call", "short-lived", "1")
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
		case cmd.HasSubCommands(), first == "completion", first == "help", first == "bench", cmd.Hidden:
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
	if code != exitOK || out != "k removed\n" || !strings.Contains(errs, `There is no key "neverwas" in namespace state.`) {
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
		if got.code != exitInterrupted {
			t.Errorf("%v: exit code %d, want %d", test.args, got.code, exitInterrupted)
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
