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
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloudburst-nats/cloudburst/examples/guests"
	"github.com/cloudburst-nats/cloudburst/wire"
	"github.com/cloudburst-nats/cloudburst/workers/runtime"
	"github.com/cloudburst-nats/cloudburst/workers/runtime/runtimetest"
	"github.com/cloudburst-nats/cloudburst/workers/runtime/wasm"
)

const within = 5 * time.Minute // for one call of a guest

func TestPrebuilt(t *testing.T) {
	r := newRuntime(t)
	for name, g := range map[string]struct {
		module []byte
		check  func(*testing.T, runtime.Function)
	}{
		"square C":               {guests.SquareC, square},
		"square AssemblyScript":  {guests.SquareAssemblyScript, square},
		"counter C":              {guests.CounterC, counter},
		"counter AssemblyScript": {guests.CounterAssemblyScript, counter},
		"wordcount C":            {guests.WordCountC, wordCount},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "guest.wasm")
			if err := os.WriteFile(path, g.module, 0o600); err != nil {
				t.Fatal(err)
			}
			g.check(t, load(t, r, path))
		})
	}
}

func TestGo(t *testing.T) {
	r := newRuntime(t)
	for name, check := range map[string]func(*testing.T, runtime.Function){
		"square": square, "counter": counter, "wordcount": wordCount,
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), name+".wasm")
			build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags=-s -w", "-o", path, "./go/"+name)
			build.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm")
			if out, err := build.CombinedOutput(); err != nil {
				t.Fatalf("go build: %v\n%s", err, out)
			}
			check(t, load(t, r, path))
		})
	}
}

func newRuntime(t *testing.T) *wasm.Runtime {
	t.Helper()
	r, err := wasm.New(wasm.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func load(t *testing.T, r *wasm.Runtime, path string) runtime.Function {
	t.Helper()
	f, err := r.Load(t.Context(), runtime.Program{Function: "guest", Path: path, Concurrency: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

// invoke calls a guest.
func invoke(t *testing.T, f runtime.Function, state runtime.State, args wire.Value) (wire.Value, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	return f.Invoke(ctx, &runtime.Call{
		Run: "run", Function: "guest", Attempt: 1, Args: args, Namespace: "state", State: state, Log: new(bytes.Buffer),
	})
}

// returns calls a guest and compares what it returns with what JSON is wanted.
func returns(t *testing.T, f runtime.Function, state runtime.State, args wire.Value, want string) {
	t.Helper()
	v, err := invoke(t, f, state, args)
	if err != nil {
		t.Fatalf("guest(%.80s): %v", args.Body, err)
	}
	var got, wanted any
	if err := json.Unmarshal(v.Body, &got); err != nil || !v.IsJSON() {
		t.Fatalf("guest(%.80s): got %.200q of type %q, want %.200s", args.Body, v.Body, v.Type, want)
	}
	if err := json.Unmarshal([]byte(want), &wanted); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, wanted) {
		t.Errorf("guest(%.80s): got %.200s, want %.200s", args.Body, v.Body, want)
	}
}

// fails calls a guest with what it must refuse.
func fails(t *testing.T, f runtime.Function, args string) {
	t.Helper()
	v, err := invoke(t, f, runtimetest.NewState(), value(args))
	if wire.KindOf(err) != wire.KindFunction {
		t.Errorf("guest(%.80s): got %.80s and %v, want a function that failed", args, v.Body, err)
	}
}

func value(args string) wire.Value { return wire.Value{Body: []byte(args)} }

func square(t *testing.T, f runtime.Function) {
	t.Helper()
	for args, want := range map[string]string{"5": "25", " -12\n": "144", "0": "0", "3000000": "9000000000000"} {
		returns(t, f, nil, value(args), want)
	}
	fails(t, f, `"five"`)
	fails(t, f, "")
	returns(t, f, nil, value("7"), "49")
}

func counter(t *testing.T, f runtime.Function) {
	t.Helper()
	state := runtimetest.NewState()
	for _, total := range []string{"1", "2", "3"} {
		returns(t, f, state, value(`"home"`), total)
	}
	returns(t, f, state, value(`"caf\u00e9 \"\ud83d\ude00\""`), "1")
	returns(t, f, state, value(`"café \"😀\""`), "2")
	for key, want := range map[string]int64{"visits:home": 3, `visits:café "😀"`: 2} {
		if got, err := state.Counter(t.Context(), "state", key); got != want || err != nil {
			t.Errorf("%s: got %d, %v, want %d", key, got, err, want)
		}
	}
	fails(t, f, "7")
	fails(t, f, `{"page":"home"}`)
}

func wordCount(t *testing.T, f runtime.Function) {
	t.Helper()
	for args, want := range map[string]string{
		`"The cat, and the DOG: the end."`: `{"the":3,"cat":1,"and":1,"dog":1,"end":1}`,
		`"café\ncafe caf\u00e9 2"`:         `{"café":2,"cafe":1,"2":1}`,
		`""`:                               `{}`,
	} {
		returns(t, f, nil, value(args), want)
	}
	returns(t, f, nil, wire.Value{Type: "text/plain", Body: []byte(`a "b" a`)}, `{"a":2,"b":1}`)
	long := strings.Repeat("some words ", 50_000)
	returns(t, f, nil, wire.Value{Type: "text/plain", Body: []byte(long)}, `{"some":50000,"words":50000}`)
	fails(t, f, "7")
}

// TestSources tells when a module in prebuilt is older than its source.
func TestSources(t *testing.T) {
	sums, err := os.ReadFile("prebuilt/SOURCES.sha256")
	if err != nil {
		t.Fatal(err)
	}
	var named []string
	for line := range strings.Lines(string(sums)) {
		sum, file, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "  ")
		if !ok {
			t.Fatalf("SOURCES.sha256 has the line %q", line)
		}
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if digest := sha256.Sum256(source); hex.EncodeToString(digest[:]) != sum {
			t.Errorf("%s has changed since the modules were built: make prebuilt, with clang 14 and npm", file)
		}
		named = append(named, file)
	}
	sources, err := filepath.Glob("c/*.[ch]")
	if err != nil {
		t.Fatal(err)
	}
	scripts, err := filepath.Glob("assemblyscript/assembly/*.ts")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range slices.Concat(sources, scripts) {
		if !slices.Contains(named, file) {
			t.Errorf("SOURCES.sha256 doesn't have %s: make prebuilt", file)
		}
	}
}
