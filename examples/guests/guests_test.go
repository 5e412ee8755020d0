package guests_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/cloudburst-nats/cloudburst/broker/wire"
	"github.com/cloudburst-nats/cloudburst/workers/runtime"
	"github.com/cloudburst-nats/cloudburst/workers/runtime/python"
	"github.com/cloudburst-nats/cloudburst/workers/runtime/runtimetest"
	"github.com/cloudburst-nats/cloudburst/workers/runtime/wasm"
)

// A language has the three examples.
type language struct {
	name string
	load func(t *testing.T, example string) runtime.Function
}

func languages(t *testing.T) []language {
	t.Helper()
	rt, err := wasm.New(wasm.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := rt.Close(); err != nil {
			t.Error(err)
		}
	})
	built := buildGo(t, "./go/square", "./go/counter", "./go/wordcount")
	module := func(pattern string) func(*testing.T, string) runtime.Function {
		return func(t *testing.T, example string) runtime.Function {
			t.Helper()
			path := strings.ReplaceAll(pattern, "*", example)
			return load(t, rt, runtime.Program{Function: example, Path: path})
		}
	}
	return []language{
		{"c", module("prebuilt/*-c.wasm")},
		{"assemblyscript", module("prebuilt/*-as.wasm")},
		{"go", module(filepath.Join(built, "*.wasm"))},
		{"python", func(t *testing.T, example string) runtime.Function {
			t.Helper()
			return load(t, python.New(pythonConfig(t)), runtime.Program{Function: example, Path: "python", Entry: example + ":handler"})
		}},
	}
}

func load(t *testing.T, rt runtime.Runtime, p runtime.Program) runtime.Function {
	t.Helper()
	f, err := rt.Load(t.Context(), p)
	if err != nil {
		t.Fatalf("load %s: %v", p.Path, err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Errorf("close %s: %v", p.Function, err)
		}
	})
	return f
}

// buildGo builds guests in Go and returns the directory that they are in.
func buildGo(t *testing.T, packages ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, pkg := range packages {
		cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", filepath.Join(dir, filepath.Base(pkg)+".wasm"), pkg)
		cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0", "GOFLAGS=")
		if text, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", pkg, err, text)
		}
	}
	return dir
}

// pythonConfig has a scratch directory that the users who run instances can enter.
func pythonConfig(t *testing.T) python.Config {
	t.Helper()
	scratch, err := os.MkdirTemp("", "guests-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(scratch) })
	if err := os.Chmod(scratch, 0o711); err != nil { //nolint:gosec // said above
		t.Fatal(err)
	}
	interpreter := "python3"
	const system = "/usr/bin/python3" // which other users can run more often than what is first on PATH
	if _, err := os.Stat(system); err == nil {
		interpreter = system
	}
	return python.Config{Interpreter: interpreter, Scratch: scratch, Concurrency: 1, Warn: func(text string) { t.Log(text) }}
}

func invoke(t *testing.T, f runtime.Function, call *runtime.Call) (wire.Value, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	return f.Invoke(ctx, call)
}

func TestGuests(t *testing.T) {
	text := func(s string) wire.Value { return wire.Value{Type: "text/plain; charset=utf-8", Body: []byte(s)} }
	of := func(s string) wire.Value { return wire.Value{Body: []byte(s)} }
	for _, l := range languages(t) {
		t.Run(l.name, func(t *testing.T) {
			for example, cases := range map[string][]struct {
				args wire.Value
				want string // empty: it fails
			}{
				"square":  {{of("5"), "25"}, {of("-3"), "9"}, {of(" 0\n"), "0"}, {of(`"five"`), ""}},
				"counter": {{of(`"home"`), "1"}, {of(`"home"`), "2"}, {of(`"a \"b\" \u00e4\ud83d\ude00"`), "1"}, {of("42"), ""}},
				"wordcount": {
					{of(`"The cat, the dog: THE end."`), `{"cat":1,"dog":1,"end":1,"the":3}`},
					{of(`"a\nb\tC-3\u00e4 \ud83d\ude00\\a"`), `{"3ä":1,"a":2,"b":1,"c":1,"😀":1}`},
					{text(`plain "words", plain`), `{"plain":2,"words":1}`},
					{text("  "), "{}"},
					{of(`""`), "{}"},
					{text(strings.Repeat("long, ", 100_000)), `{"long":100000}`},
				},
			} {
				f, state := l.load(t, example), runtimetest.NewState()
				for _, tt := range cases {
					call := runtimetest.NewCall(example, "")
					call.Args, call.State = tt.args, state
					v, err := invoke(t, f, call)
					if tt.want == "" {
						if err == nil {
							t.Errorf("%s(%s) = %s, want an error", example, tt.args.Body, v.Body)
						}
						continue
					}
					if err != nil || !v.IsJSON() || !sameJSON(v.Body, tt.want) {
						t.Errorf("%s(%.80s) = %s of type %q, %v; want %s", example, tt.args.Body, v.Body, v.Type, err, tt.want)
					}
				}
			}
		})
	}
}

// A guest that lets through what it was told ends its call with that very error.
func TestErrorsOfThePlatform(t *testing.T) {
	for _, l := range languages(t) {
		t.Run(l.name, func(t *testing.T) {
			call := runtimetest.NewCall("counter", `"home"`)
			if err := call.State.AddSet(t.Context(), "default", "visits:home", json.RawMessage("1")); err != nil {
				t.Fatal(err)
			}
			v, err := invoke(t, l.load(t, "counter"), call)
			if wire.KindOf(err) != wire.KindLattice {
				t.Errorf("counter of a set = %s, %v; want the kind %q", v.Body, err, wire.KindLattice)
			}
		})
	}
}

// Everything of the SDK for Go does what it says.
func TestGoSDK(t *testing.T) {
	rt, err := wasm.New(wasm.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer rt.Close()
	f := load(t, rt, runtime.Program{Function: "everything", Path: filepath.Join(buildGo(t, "./testdata/everything"), "everything.wasm")})
	call, log := runtimetest.NewCall("everything", `{"page":"home"}`), new(bytes.Buffer)
	call.Log = log
	call.Functions = runtimetest.NewFunctions(map[string]func(wire.Value) (wire.Value, error){
		"echo": func(v wire.Value) (wire.Value, error) { return v, nil },
	})
	v, err := invoke(t, f, call)
	if err != nil || string(v.Body) != `"all is well"` {
		t.Fatalf("got %s, %v\n%s", v.Body, err, log)
	}
	if got, want := log.String(), "page home\n"; got != want {
		t.Errorf("log: got %q, want %q", got, want)
	}
}

// What is in prebuilt was made of the sources as they are.
func TestPrebuilt(t *testing.T) {
	sums, err := os.ReadFile("prebuilt/sums.txt")
	if err != nil {
		t.Fatal(err)
	}
	listed := make(map[string]bool)
	for line := range strings.Lines(string(sums)) {
		want, path, ok := strings.Cut(strings.TrimSpace(line), "  ")
		content, err := os.ReadFile(filepath.FromSlash(path))
		if !ok || err != nil {
			t.Fatalf("sums.txt: %q: %v", line, err)
		}
		sum := sha256.Sum256(content)
		if hex.EncodeToString(sum[:]) != want {
			t.Errorf("%s has changed since: run make -C examples/guests prebuilt", path)
		}
		listed[path] = true
	}
	for _, pattern := range []string{"c/*", "assemblyscript/assembly/*.ts", "prebuilt/*.wasm"} {
		paths, err := filepath.Glob(pattern)
		if err != nil || len(paths) == 0 {
			t.Fatalf("%s: %v %v", pattern, paths, err)
		}
		for _, path := range paths {
			if !listed[filepath.ToSlash(path)] {
				t.Errorf("%s isn't in sums.txt: have the Makefile list it", path)
			}
		}
	}
}

func sameJSON(a []byte, b string) bool {
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal([]byte(b), &y) == nil && reflect.DeepEqual(x, y)
}
