package programs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cloudburst-nats/cloudburst/wire"
	"github.com/cloudburst-nats/cloudburst/workers/runtime"
	"github.com/cloudburst-nats/cloudburst/workers/runtime/wasm"
)

// small is what the programs return for little work. Of nbody and fannkuch the
// benchmarks game prints the same numbers; bench programs compares all four with
// what a C compiler makes of them.
var small = map[string]struct {
	n    int
	want string
}{
	"nbody":       {1000, `{"n":1000,"before":-0.169075164,"after":-0.169087605}`},
	"fannkuch":    {7, `{"n":7,"checksum":228,"flips":16}`},
	"mandelbrot":  {200, `{"n":200,"inside":15899,"checksum":3419197333}`},
	"binarytrees": {10, `{"n":10,"deepest":4095,"longest":2047,"others":129712}`},
}

func TestPrograms(t *testing.T) {
	r, err := wasm.New(wasm.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, p := range All() {
		t.Run(p.Name, func(t *testing.T) {
			c := small[p.Name]
			got := sandboxed(t, r, p, c.n)
			if got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
			if !strings.Contains(p.Source, fmt.Sprintf("input(%d, ", p.N)) {
				t.Errorf("the source does another N by default than %d", p.N)
			}
		})
	}
}

// sandboxed runs a program's module.
func sandboxed(t *testing.T, r *wasm.Runtime, p Program, n int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), p.Name+".wasm")
	if err := os.WriteFile(path, p.Wasm, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	f, err := r.Load(ctx, runtime.Program{Function: p.Name, Path: path})
	if err != nil {
		t.Fatal(err)
	}
	call := &runtime.Call{Function: p.Name, Attempt: 1, Args: wire.Value{Body: []byte(strconv.Itoa(n))}}
	v, err := f.Invoke(ctx, call)
	if err != nil {
		t.Fatal(err)
	}
	return string(bytes.TrimSpace(v.Body))
}

// TestPrebuilt tells when a module is older than its source.
func TestPrebuilt(t *testing.T) {
	sums, err := os.ReadFile("prebuilt/SOURCES.sha256")
	if err != nil {
		t.Fatal(err)
	}
	named := make(map[string]bool)
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
			t.Errorf("%s has changed since the modules were built: make prebuilt, with clang 14", file)
		}
		named[file] = true
	}
	for _, p := range All() {
		if !named["c/"+p.Name+".c"] {
			t.Errorf("SOURCES.sha256 doesn't have c/%s.c", p.Name)
		}
	}
}
