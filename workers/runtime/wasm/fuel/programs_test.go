package fuel

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
)

// kernels are the exports of testdata/kernels.wasm, with arguments that take a
// millisecond or two.
var kernels = []struct {
	name string
	arg  uint64
}{
	{"loop", 1_500_000},
	{"live", 800_000},
	{"sieve", 2},
	{"matrix", 10},
	{"fib", 23},
	{"strings", 10_000},
	{"sort", 1},
	{"interpreter", 15_000},
	{"pointers", 300_000},
	{"copies", 200},
	{"fills", 10},
	{"distance", 40},
	{"trees", 10},
	{"vectors", 400},
}

func readKernels(t testing.TB) []byte {
	t.Helper()
	code, err := os.ReadFile("testdata/kernels.wasm")
	if err != nil {
		t.Fatal(err)
	}
	return code
}

func TestKernels(t *testing.T) {
	code := readKernels(t)
	h := &host{slice: 100_000, limit: 1 << 40}
	plain, metered, dumb := h.instance(t, code), h.instance(t, instrument(t, code)), h.instance(t, exact(t, code))
	for _, k := range kernels {
		arg := max(k.arg/10, min(k.arg, 20))
		want, err := h.call(plain, k.name, arg)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := h.call(dumb, k.name, arg); err != nil || got[0] != want[0] {
			t.Errorf("%s, exactly: %v, %v; want %v", k.name, got, err, want)
		}
		executed := h.spent
		got, err := h.call(metered, k.name, arg)
		if err != nil || got[0] != want[0] {
			t.Errorf("%s: %v, %v; want %v", k.name, got, err, want)
		}
		t.Logf("%s: %d units executed, %d charged", k.name, executed, h.spent)
		if h.spent < executed || h.spent > 3*executed {
			t.Errorf("%s: %d units charged for %d", k.name, h.spent, executed)
		}
	}
}

const guest = `package main

import (
	"fmt"
	"hash/crc32"
	"os"
	"sort"
	"strings"
)

type tree struct{ l, r *tree }

func grow(d int) *tree {
	if d == 0 {
		return nil
	}
	return &tree{grow(d - 1), grow(d - 1)}
}

func (t *tree) count() int {
	if t == nil {
		return 0
	}
	return 1 + t.l.count() + t.r.count()
}

func main() {
	words := strings.Fields(strings.Repeat("the quick brown fox jumps over the lazy dog ", 500))
	counts := map[string]int{}
	for _, w := range words {
		counts[w]++
	}
	sort.Strings(words)
	done := make(chan int)
	go func() { done <- grow(14).count() }()
	fmt.Fprintln(os.Stdout, counts, words[0], words[len(words)-1], <-done, crc32.ChecksumIEEE([]byte(fmt.Sprint(words))))
	defer func() { fmt.Println("recovered", recover()) }()
	var none []int
	fmt.Println(none[len(words)])
}
`

// goGuest builds a real program, of a runtime with a scheduler and a collector.
func goGuest(t testing.TB) []byte {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"main.go": guest, "go.mod": "module guest\n\ngo 1.26\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("go", "build", "-o", "guest.wasm")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "GOFLAGS=", "GOWORK=off", "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	code, err := os.ReadFile(filepath.Join(dir, "guest.wasm"))
	if err != nil {
		t.Fatal(err)
	}
	return code
}

// A program is one of WASI that has been compiled.
type program struct {
	runtime  wazero.Runtime
	compiled wazero.CompiledModule
}

func (h *host) program(t testing.TB, code []byte) program {
	t.Helper()
	ctx := context.Background()
	r := wazero.NewRuntime(ctx)
	t.Cleanup(func() {
		if err := r.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	wasi_snapshot_preview1.MustInstantiate(ctx, r)
	h.provide(t, r)
	compiled, err := r.CompileModule(ctx, code)
	if err != nil {
		t.Fatal(err)
	}
	return program{r, compiled}
}

func (p program) run(t testing.TB) string {
	t.Helper()
	var out strings.Builder
	m, err := p.runtime.InstantiateModule(context.Background(), p.compiled, wazero.NewModuleConfig().WithName("").WithStdout(&out).WithStderr(&out))
	if err != nil {
		t.Fatal(err, out.String())
	}
	if err := m.Close(context.Background()); err != nil {
		t.Error(err)
	}
	return out.String()
}

func TestAGoProgram(t *testing.T) {
	code := goGuest(t)
	h := &host{slice: 100_000, limit: 1 << 40}
	plain := h.program(t, code).run(t)
	if h.refills > 0 {
		t.Error("the plain module asks for fuel")
	}
	metered := h.program(t, instrument(t, code)).run(t)
	if plain != metered || !strings.Contains(plain, "16383") || !strings.Contains(plain, "out of range") {
		t.Errorf("plain:\n%s\nmetered:\n%s", plain, metered)
	}
	if h.refills < 10 {
		t.Errorf("%d refills", h.refills)
	}
}

// stillCompiles says that what was valid is still valid, and nothing else: but for
// names, which are dropped if they are wrong; and for vector instructions, whose
// numbers the compiler reads in their shortest form only.
func stillCompiles(t *testing.T, code []byte) {
	out, err := Instrument(code)
	if err != nil || longVector(code) {
		return
	}
	ctx := context.Background()
	r := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter())
	defer func() { _ = r.Close(ctx) }()
	_, before := r.CompileModule(ctx, code)
	_, after := r.CompileModule(ctx, out)
	if before == nil && after != nil {
		t.Fatalf("%x no longer compiles: %v", code, after)
	}
	if before != nil && after == nil && !strings.Contains(before.Error(), "section") {
		t.Fatalf("%x compiles though it didn't: %v", code, before)
	}
}

// longVector says whether there may be such a number.
func longVector(code []byte) bool {
	for i := range len(code) - 1 {
		if code[i] == opVector && code[i+1] >= 0x80 {
			return true
		}
	}
	return false
}

// BenchmarkFuel measures programs with and without fuel, by turns; what it reports
// is the ratio of the medians.
func BenchmarkFuel(b *testing.B) {
	h := &host{slice: 1_000_000, limit: 1 << 40}
	code := readKernels(b)
	plain, metered := h.instance(b, code), h.instance(b, instrument(b, code))
	for _, k := range kernels {
		call := func(m api.Module) func() {
			f := m.ExportedFunction(k.name)
			return func() {
				if _, err := f.Call(context.Background(), k.arg); err != nil {
					b.Fatal(err)
				}
			}
		}
		b.Run(k.name, func(b *testing.B) { byTurns(b, h, call(plain), call(metered)) })
	}
	b.Run("go", func(b *testing.B) {
		code := goGuest(b)
		plain, metered := h.program(b, code), h.program(b, instrument(b, code))
		byTurns(b, h, func() { plain.run(b) }, func() { metered.run(b) })
	})
}

func byTurns(b *testing.B, h *host, plain, metered func()) {
	b.Helper()
	var took [2][]time.Duration
	h.spent = 0
	for b.Loop() {
		for i, f := range []func(){plain, metered} {
			start := time.Now()
			f()
			took[i] = append(took[i], time.Since(start))
		}
	}
	median := func(d []time.Duration) float64 {
		slices.Sort(d)
		return float64(d[len(d)/2])
	}
	b.ReportMetric(median(took[1])/median(took[0]), "ratio")
	b.ReportMetric(float64(h.spent)/float64(len(took[1]))/median(took[1]), "units/ns")
	b.ReportMetric(median(took[0]), "plain-ns")
}

func BenchmarkInstrument(b *testing.B) {
	code := goGuest(b)
	b.SetBytes(int64(len(code)))
	b.ReportAllocs()
	for b.Loop() {
		instrument(b, code)
	}
}
