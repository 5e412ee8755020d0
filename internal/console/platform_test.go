package console

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cloudburst-nats/cloudburst"
	"github.com/cloudburst-nats/cloudburst/broker"
	"github.com/cloudburst-nats/cloudburst/examples/basic"
	"github.com/cloudburst-nats/cloudburst/internal/cli"
)

// platform runs a platform with the examples, and the functions fail and hang,
// for the length of a test. It returns its URL.
func platform(t *testing.T) string {
	t.Helper()
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	server, err := cloudburst.Start(ctx, cloudburst.ServerConfig{Listen: "127.0.0.1:0", Store: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	w := cloudburst.NewWorker(server.Client(), cloudburst.Pool(basic.Pool))
	basic.Register(w)
	cloudburst.Handle(w, "fail", func(context.Context, *cloudburst.Session, cloudburst.Value) (int, error) {
		return 0, cloudburst.Permanent(errors.New("as ever"))
	})
	cloudburst.Handle(w, "short-lived", func(context.Context, *cloudburst.Session, cloudburst.Value) (int, error) {
		return 0, cloudburst.Permanent(errors.New("gone soon"))
	})
	cloudburst.Handle(w, "hang", func(ctx context.Context, _ *cloudburst.Session, _ cloudburst.Value) (int, error) {
		<-ctx.Done()
		return 0, context.Cause(ctx)
	})
	cloudburst.Handle(w, "count", func(ctx context.Context, s *cloudburst.Session, key string) (int, error) {
		return 1, s.Counter(key).Add(ctx, 1)
	})
	served := make(chan error, 1)
	go func() { served <- w.Serve(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := errors.Join(<-served, server.Close()); err != nil {
			t.Error(err)
		}
	})
	select {
	case <-w.Ready():
	case err := <-served:
		served <- nil
		t.Fatal(err)
	}
	if err := server.Client().ApplyDAG(ctx, basic.Compose()); err != nil {
		t.Fatal(err)
	}
	return server.URL()
}

// A user works on a platform and fails the test when a command doesn't do as it
// should.
type user struct {
	t *testing.T
	shell
}

func newUser(t *testing.T) *user {
	t.Helper()
	return &user{t, shell{env: map[string]string{"NATS_URL": platform(t)}}}
}

// does runs a command that must succeed and returns what it prints.
func (u *user) does(args ...string) string {
	u.t.Helper()
	return u.gets(cli.ExitOK, args...)
}

// gets runs a command that must end with the code. What it says is appended.
func (u *user) gets(want int, args ...string) string {
	u.t.Helper()
	out, errs, code := u.run(u.t.Context(), args...)
	if code != want {
		u.t.Fatalf("cloudburst %s: exit code %d, want %d; stdout %q, stderr %q", strings.Join(args, " "), code, want, out, errs)
	}
	return out + errs
}

func (u *user) sees(got string, want ...string) {
	u.t.Helper()
	for _, w := range want {
		if !strings.Contains(got, w) {
			u.t.Errorf("got %q; want %q in it", got, w)
		}
	}
}

func TestCalls(t *testing.T) {
	u := newUser(t)
	for _, test := range []struct{ args, want string }{
		{"square 5", "25\n"},
		{"compose 4", "25\n"},
		{"increment -- -3", "-2\n"},
		{"echo hello", "\"hello\"\n"},
		{"sum 1 2 3.5", "6.5\n"},
		{"square 5 --raw", "25"},
		{"echo --type text/plain plain", "plain\n"},
	} {
		if got := u.does(append([]string{"call"}, strings.Fields(test.args)...)...); got != test.want {
			t.Errorf("call %s: got %q, want %q", test.args, got, test.want)
		}
	}
	u.does("kv", "put", "a", "[1, 2]")
	u.does("kv", "put", "b", "3")
	if got := u.does("call", "sum", `{"$ref":"a"}`, `{"$ref":"b"}`); got != "6\n" {
		t.Errorf("sum by reference: got %q, want 6", got)
	}
	run := strings.TrimSpace(u.does("call", "square", "6", "--async"))
	if got := u.does("result", run, "--wait", "30s"); got != "36\n" {
		t.Errorf("result %s: got %q, want 36", run, got)
	}
	for range 2 { // the same id runs once
		u.does("call", "count", "visits", "--run-id", "visit-1")
	}
	if got := u.does("kv", "get", "visits"); got != "1\n" {
		t.Errorf("two calls with one run id counted %q, want 1", got)
	}

	u.sees(u.gets(cli.ExitUnknown, "call", "squaer", "5"), "squaer", "did you mean square?")
	u.sees(u.gets(cli.ExitUsage, "call", "square", "five"), `run "square": bad argument`, "dead ls --name square")
	u.sees(u.gets(cli.ExitFailed, "call", "fail"), `run "fail"`, "as ever")
	u.sees(u.gets(cli.ExitTimeout, "call", "hang", "--run-id", "stuck", "--timeout", "200ms"), "stuck")
	u.sees(u.gets(cli.ExitUnknown, "result", "stuck"), "stuck")
	u.sees(u.gets(cli.ExitTimeout, "result", "stuck", "--wait", "50ms"), "stuck")
	u.does("runs", "cancel", "stuck")
	u.sees(u.gets(cli.ExitFailed, "result", "stuck", "--wait", "30s"), "cancelled")
	u.gets(cli.ExitRefused, "runs", "cancel", "stuck")
	u.gets(cli.ExitUnknown, "runs", "cancel", "nobody")
}

// What is larger than a message of NATS goes through, and what is larger than a value
// may be is refused with both numbers.
func TestLargeValues(t *testing.T) {
	u := newUser(t)
	file := filepath.Join(t.TempDir(), "large")
	write := func(size int) {
		t.Helper()
		if err := os.WriteFile(file, []byte(`"`+strings.Repeat("a", size-2)+`"`), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, size := range []int{1 << 20, 1<<20 + 1} {
		write(size)
		if got := u.does("call", "echo", "@"+file, "--raw"); len(got) != size {
			t.Errorf("call of %d bytes: %d come back", size, len(got))
		}
		u.does("kv", "put", "large", "@"+file)
		if got := u.does("kv", "get", "large", "--raw"); len(got) != size {
			t.Errorf("kv put of %d bytes: %d come back", size, len(got))
		}
	}
	write(broker.MaxValue + 1)
	want := "67108865 bytes; the limit is 67108864: store parts of it under keys and pass references"
	u.sees(u.gets(cli.ExitRefused, "call", "echo", "@"+file), want)
	u.sees(u.gets(cli.ExitRefused, "kv", "put", "large", "@"+file), want)
}

func TestInterruptedCall(t *testing.T) {
	u := newUser(t)
	ctx, interrupt := context.WithCancel(t.Context())
	done := make(chan int, 1)
	go func() {
		_, _, code := u.run(ctx, "call", "hang", "--run-id", "left")
		done <- code
	}()
	for !strings.Contains(u.does("runs", "ls"), "left") { // until it is stored
		if t.Context().Err() != nil {
			t.Fatal("never stored")
		}
	}
	interrupt()
	if code := <-done; code != cli.ExitInterrupted {
		t.Errorf("exit code %d, want %d", code, cli.ExitInterrupted)
	}
	u.does("runs", "cancel", "left")
}

func TestState(t *testing.T) {
	u := newUser(t)
	u.does("kv", "put", "greeting", "hello")
	u.does("kv", "put", "-n", "cart", "user:1 x", "[1]")
	if got := u.does("kv", "get", "greeting"); got != "\"hello\"\n" {
		t.Errorf("kv get: got %q", got)
	}
	if got := u.does("kv", "ls", "-n", "cart", "user:"); got != "user:1 x\n" {
		t.Errorf("kv ls: got %q", got)
	}
	for i := range 4 {
		u.does("kv", "put", "-n", "many", fmt.Sprint("k", i), "1")
	}
	u.sees(u.does("kv", "ls", "-n", "many", "--limit", "3"), "k0\nk1\nk2\n", "more than 3")
	if got := u.does("kv", "ls", "-n", "many", "--limit", "4"); got != "k0\nk1\nk2\nk3\n" {
		t.Errorf("kv ls of as many as the limit: got %q", got)
	}
	u.does("kv", "rm", "greeting", "neverwas")
	u.sees(u.gets(cli.ExitUnknown, "kv", "get", "greeting"), "greeting")
	u.sees(u.does("kv", "ls"), "No keys.")
	u.does("call", "count", "visits")
	u.gets(cli.ExitRefused, "kv", "rm", "visits")
	// A look makes no namespace.
	u.sees(u.gets(cli.ExitUnknown, "kv", "ls", "-n", "crat"), "did you mean cart?")
	u.gets(cli.ExitUnknown, "kv", "get", "-n", "crat", "x")
	u.gets(cli.ExitUnknown, "kv", "rm", "-n", "crat", "x")
	u.gets(cli.ExitUsage, "kv", "put", "-n", "cb_results", "x", "1")
	if got := u.does("__complete", "kv", "ls", "-n", ""); strings.Contains(got, "crat") || !strings.Contains(got, "cart") {
		t.Errorf("namespaces: got %q; want cart and no crat", got)
	}
}

func TestDAGs(t *testing.T) {
	u := newUser(t)
	u.sees(u.does("dag", "ls"), "compose", "increment, square")
	u.sees(u.does("dag", "show", "compose"), "increment\n└─ square\n", "ARGUMENTS")
	u.sees(u.gets(cli.ExitUnknown, "dag", "show", "compos"), "did you mean compose?")
	u.stdin = "name: twice\nnodes: [{name: a, function: increment}, {name: b, function: increment}]\nedges: [{from: a, to: b}]\n"
	u.sees(u.does("dag", "apply", "-"), "twice@")
	if got := u.does("call", "twice", "1"); got != "3\n" {
		t.Errorf("call twice 1: got %q, want 3", got)
	}
	// What show prints, apply reads.
	var shown struct{ Graph json.RawMessage }
	if err := json.Unmarshal([]byte(u.does("dag", "show", "twice", "-o", "json")), &shown); err != nil {
		t.Fatal(err)
	}
	u.stdin = string(shown.Graph)
	u.does("dag", "apply", "-")
	u.stdin = "name: bad\nnodes: [{name: a}, {name: b}]\nedges: [{from: a, to: b}, {from: b, to: a}, {from: a, to: c}]\n"
	u.sees(u.gets(cli.ExitRefused, "dag", "apply", "-"), "a -> b -> a", `"c"`)
	u.stdin = "name: bad\nnodes: [{name: squaer}, {name: nothing}]\n"
	u.sees(u.gets(cli.ExitRefused, "dag", "apply", "-"), "squaer", "nothing")
	u.gets(cli.ExitRefused, "fn", "rm", "square")
	u.does("dag", "rm", "compose", "twice")
	u.gets(cli.ExitUnknown, "dag", "rm", "compose")
	u.gets(cli.ExitUnknown, "call", "compose", "1")
	u.does("fn", "rm", "square")
	u.gets(cli.ExitUnknown, "call", "square", "1")
	u.sees(u.does("dag", "ls"), "No DAGs")
}

func TestDeadLetters(t *testing.T) {
	u := newUser(t)
	u.sees(u.does("dead", "ls"), "No dead letters.")
	u.gets(cli.ExitFailed, "call", "fail", "x")
	u.sees(u.does("dead", "ls"), "fail", "as ever")
	u.sees(u.does("dead", "show", "1"), `"x"`, "as ever")
	u.sees(u.does("dead", "replay", "1"), "1 called again")
	u.gets(cli.ExitUnknown, "dead", "show", "1")
	u.gets(cli.ExitUnknown, "dead", "replay", "1")
}

// Scripts rely on the fields and types of -o json: testdata/shapes.txt holds
// them. A field that is left out when empty shows where it isn't.
func TestJSONShapes(t *testing.T) {
	u := newUser(t)
	u.stdin = "name: twice\nabout: adds two\nnodes: [{name: a, function: increment}, {name: b, function: increment}]\nedges: [{from: a, to: b}]\n"
	var b strings.Builder
	shape := func(code int, args ...string) {
		t.Helper()
		out, _, got := u.run(t.Context(), append(args, "-o", "json")...)
		if got != code {
			t.Errorf("%v: exit code %d, want %d", args, got, code)
		}
		d := json.NewDecoder(strings.NewReader(out))
		d.UseNumber()
		var v any
		if err := d.Decode(&v); err != nil {
			t.Errorf("%v prints %q: %v", args, out, err)
		}
		if _, err := d.Token(); !errors.Is(err, io.EOF) {
			t.Errorf("%v prints more than one value: %q", args, out)
		}
		fmt.Fprintf(&b, "$ cloudburst %s\n%s\n", strings.Join(args, " "), shapeOf(v))
	}
	shape(0, "call", "square", "5", "--run-id", "sq")
	shape(0, "call", "compose", "5", "--run-id", "co")
	shape(0, "call", "echo", "x", "--type", "text/plain")
	shape(0, "call", "square", "5", "--async")
	shape(1, "call", "fail", "x")
	shape(0, "result", "sq")
	shape(0, "dag", "apply", "-")
	shape(0, "dag", "ls")
	shape(0, "dag", "show", "twice")
	shape(0, "dag", "rm", "twice")
	shape(0, "fn", "ls")
	shape(0, "kv", "put", "k", "1")
	shape(0, "kv", "get", "k")
	shape(0, "kv", "ls")
	shape(0, "kv", "ls", "nothing")
	shape(0, "kv", "rm", "k")
	shape(0, "runs", "ls", "--name", "compose")
	shape(0, "runs", "ls", "--status", "pending")
	shape(0, "runs", "show", "co")
	shape(0, "dead", "ls")
	shape(0, "dead", "show", "1")
	shape(0, "dead", "replay", "1")
	shape(0, "worker", "ls")
	shape(0, "pool", "ls")
	shape(0, "platform")
	shape(0, "platform", "set", "dead-ttl=24h")
	shape(0, "version")
	shape(0, "fn", "rm", "sum")
	golden(t, "shapes.txt", b.String())
}

// shapeOf writes the fields and types of a JSON value; of an array, those of its
// first element.
func shapeOf(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case bool:
		return "boolean"
	case json.Number:
		return "number"
	case string:
		return "string"
	case []any:
		if len(v) == 0 {
			return "[]"
		}
		return "[" + shapeOf(v[0]) + "]"
	case map[string]any:
		if len(v) == 0 {
			return "{}"
		}
		var fields []string
		for _, name := range slices.Sorted(maps.Keys(v)) {
			fields = append(fields, "  "+name+": "+strings.ReplaceAll(shapeOf(v[name]), "\n", "\n  "))
		}
		return "{\n" + strings.Join(fields, "\n") + "\n}"
	default:
		return fmt.Sprintf("%T", v)
	}
}

func TestCompletion(t *testing.T) {
	u := newUser(t)
	for _, test := range []struct{ args, want string }{
		{"call ", "square compose"},
		{"dag show ", "compose"},
		{"fn rm ", "square"},
		{"kv get -n ", "state"},
		{"runs ls --status ", "pending failed"},
		{"fn ls -o ", "table json"},
		{"call square --level ", "lww"},
	} {
		got := u.does(append([]string{"__complete"}, strings.Split(test.args, " ")...)...)
		for want := range strings.FieldsSeq(test.want) {
			if !slices.Contains(strings.Split(got, "\n"), want) {
				t.Errorf("completing %q: got %q; want %q", test.args, got, want)
			}
		}
	}
	u.env = map[string]string{"NATS_URL": "nats://127.0.0.1:1"}
	u.does("__complete", "call", "")
	u.sees(u.does("completion", "bash"), "__start_cloudburst")
}

// A NATS server has none of our streams where no server of ours has ever been.
func TestWithoutPlatform(t *testing.T) {
	bare, err := broker.StartServer(t.Context(), broker.ServerConfig{Listen: "127.0.0.1:0", Store: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(bare.Shutdown)
	u := newUser(t)
	u.env["NATS_URL"] = bare.URL()
	for _, args := range [][]string{{"fn", "ls"}, {"call", "square", "5"}, {"kv", "ls"}, {"dead", "ls"}} {
		u.sees(u.gets(cli.ExitUnavailable, args...), "cloudburst server --nats")
	}
}
