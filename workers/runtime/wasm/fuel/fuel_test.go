package fuel

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
)

// A module as tests write it: sections in their binary form.
func bin(sections ...[]byte) []byte {
	return append([]byte("\x00asm\x01\x00\x00\x00"), bytes.Join(sections, nil)...)
}

func sec(id byte, items ...[]byte) []byte {
	return sized([]byte{id}, append(uleb(nil, uint64(len(items))), bytes.Join(items, nil)...))
}

// fn is a function's body with locals as they are written.
func fn(locals []byte, code ...byte) []byte {
	return sized(nil, append(append(locals, code...), opEnd))
}

func export(name string, kind, index byte) []byte {
	return append(sized(nil, []byte(name)), kind, index)
}

var (
	voids = []byte{0x60, 0, 0}
	i64s  = []byte{0x60, 1, 0x7e, 1, 0x7e}
	none  = []byte{0}
)

// A host refills slices and counts how often; beyond its limit it ends the guest.
type host struct {
	slice, refills, limit int64
	spent                 int64
}

var errEmpty = errors.New("no more fuel")

func (h *host) refill(_ context.Context, mod api.Module, _ []uint64) {
	g, ok := mod.ExportedGlobal(Global).(api.MutableGlobal)
	if !ok {
		panic("no counter")
	}
	if h.refills > 0 {
		h.spent += h.slice - int64(g.Get())
	}
	if h.refills++; h.refills > h.limit {
		panic(errEmpty)
	}
	g.Set(uint64(h.slice))
}

// run instantiates a module that may be instrumented and calls an export.
func run(t testing.TB, code []byte, h *host, name string, args ...uint64) ([]uint64, error) {
	t.Helper()
	ctx := context.Background()
	r := wazero.NewRuntime(ctx)
	defer r.Close(ctx)
	_, err := r.NewHostModuleBuilder(Module).NewFunctionBuilder().WithGoModuleFunction(api.GoModuleFunc(h.refill), nil, nil).Export(Refill).Instantiate(ctx)
	if err != nil {
		t.Fatal(err)
	}
	m, err := r.Instantiate(ctx, code)
	if err != nil {
		t.Fatal(err)
	}
	return m.ExportedFunction(name).Call(ctx, args...)
}

func instrument(t testing.TB, code []byte) []byte {
	t.Helper()
	out, err := Instrument(code)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// sumTo adds the numbers to its argument in a loop.
func sumTo() []byte {
	return fn([]byte{1, 1, 0x7e},
		0x02, 0x40, 0x03, 0x40,
		0x20, 0, 0x50, 0x0d, 1, // leave at 0
		0x20, 1, 0x20, 0, 0x7c, 0x21, 1, // local 1 += local 0
		0x20, 0, 0x42, 1, 0x7d, 0x21, 0, // local 0 -= 1
		0x0c, 0, 0x0b, 0x0b,
		0x20, 1)
}

func fib() []byte {
	return fn(none,
		0x20, 0, 0x42, 2, 0x53, 0x04, 0x7e, 0x20, 0, 0x05, // if n < 2: n
		0x20, 0, 0x42, 1, 0x7d, 0x10, 0, 0x20, 0, 0x42, 2, 0x7d, 0x10, 0, 0x7c, 0x0b)
}

func TestResultsAreTheSame(t *testing.T) {
	for name, c := range map[string]struct {
		code    []byte
		arg     uint64
		refills int64 // with slices of 1,000
	}{
		"loop": {bin(sec(1, i64s), sec(3, none), sec(7, export("f", 0, 0)), sec(10, sumTo())), 1000, 12},
		"fib":  {bin(sec(1, i64s), sec(3, none), sec(7, export("f", 0, 0)), sec(10, fib())), 15, 10},
	} {
		h := &host{slice: 1000, limit: 1 << 40}
		want, err := run(t, c.code, h, "f", c.arg)
		if err != nil {
			t.Fatal(err)
		}
		if h.refills != 0 {
			t.Errorf("%s: the plain module asks for fuel", name)
		}
		got, err := run(t, instrument(t, c.code), h, "f", c.arg)
		if err != nil || got[0] != want[0] {
			t.Errorf("%s: %v, %v; want %v", name, got, err, want)
		}
		if h.refills < c.refills {
			t.Errorf("%s: %d refills, want %d at least", name, h.refills, c.refills)
		}
	}
}

func TestWhatDoesNotEndIsEnded(t *testing.T) {
	loop := []byte{0x03, 0x40}
	for name, code := range map[string][]byte{
		"loop": bin(sec(1, voids), sec(3, none), sec(7, export("f", 0, 0)), sec(10, fn(none, append(loop, 0x0c, 0, 0x0b)...))),
		"br_table": bin(sec(1, voids), sec(3, none), sec(7, export("f", 0, 0)), sec(10,
			fn(none, append(loop, 0x41, 5, 0x0e, 2, 0, 0, 0, 0x0b)...))),
		"exponential tree": bin(sec(1, voids), sec(3, bytes.Split([]byte{0, 9, 0, 9, 0, 9, 0, 9, 0, 9, 0, 9, 0, 9, 0, 9}, []byte{9})[:1]...), sec(7, export("f", 0, 0)), sec(10,
			fn(none, append(loop, 0x10, 0, 0x10, 0, 0x0c, 0, 0x0b)...))),
		"call_indirect": bin(sec(1, voids), sec(3, none), sec(4, []byte{0x70, 0, 1}), sec(7, export("f", 0, 0)),
			sec(9, []byte{0, 0x41, 0, 0x0b, 1, 0}), sec(10, fn(none, 0x41, 0, 0x11, 0, 0))),
	} {
		h := &host{slice: 1000, limit: 50}
		_, err := run(t, instrument(t, code), h, "f")
		if name == "call_indirect" || name == "exponential tree" {
			h.limit = 50
		}
		if !errors.Is(err, errEmpty) {
			t.Errorf("%s: %v, want it to end for want of fuel", name, err)
		}
	}
}

// A doubling tree of functions that neither loop nor recurse.
func TestATreeOfCallsIsCounted(t *testing.T) {
	const depth = 40
	var types, bodies [][]byte
	for i := range depth {
		types = append(types, none)
		if i == depth-1 {
			bodies = append(bodies, fn(none, 0x01))
		} else {
			bodies = append(bodies, fn(none, 0x10, byte(i+1), 0x10, byte(i+1)))
		}
	}
	h := &host{slice: 1000, limit: 50}
	_, err := run(t, instrument(t, bin(sec(1, voids), sec(3, types...), sec(7, export("f", 0, 0)), sec(10, bodies...))), h, "f")
	if !errors.Is(err, errEmpty) {
		t.Errorf("%v, want it to end for want of fuel", err)
	}
}

// Filling memory again and again, without a loop, takes time too.
func TestBulkIsCountedByItsLength(t *testing.T) {
	const times, size = 20, 1 << 20
	var code []byte
	for range times {
		code = append(code, 0x41, 0, 0x41, 7, 0x41)
		code = append(sleb(code, size), 0xfc, 11, 0) // memory.fill
	}
	module := bin(sec(1, voids), sec(3, none), sec(5, []byte{0, 16}), sec(7, export("f", 0, 0), export("m", 2, 0)), sec(10, fn(none, code...)))
	h := &host{slice: size / 8, limit: 1 << 40}
	if _, err := run(t, instrument(t, module), h, "f"); err != nil || h.refills < times/2 || h.refills > times+1 {
		t.Errorf("%d refills, %v; want one for each megabyte or two", h.refills, err)
	}
}

// Every place that names a function still names the same one.
func TestFunctionsKeepTheirPlaces(t *testing.T) {
	i64 := []byte{0x60, 0, 1, 0x7e}
	code := bin(
		sec(1, voids, i64),
		sec(2, append(append(sized(nil, []byte("env")), sized(nil, []byte("host"))...), 0, 0)),
		sec(3, []byte{1}, []byte{1}, []byte{0}, []byte{1}),
		sec(4, []byte{0x70, 0, 8}),
		sec(6, []byte{0x70, 0, 0xd2, 1, 0x0b}, []byte{0x7e, 1, 0x42, 0, 0x0b}),
		sec(7, export("one", 0, 1), export("two", 0, 2), export("all", 0, 4)),
		sized([]byte{8}, []byte{3}), // start
		sec(9,
			[]byte{0, 0x41, 0, 0x0b, 2, 1, 2},                            // functions, at an offset
			[]byte{4, 0x41, 2, 0x0b, 2, 0xd2, 2, 0x0b, 0xd0, 0x70, 0x0b}, // expressions
			[]byte{2, 0, 0x41, 4, 0x0b, 0, 1, 1},                         // of a table, with a kind
			[]byte{6, 0, 0x41, 5, 0x0b, 0x70, 1, 0xd2, 2, 0x0b},
			[]byte{1, 0, 1, 1}, []byte{5, 0x70, 1, 0xd2, 2, 0x0b}, // passive
			[]byte{3, 0, 2, 1, 2}, []byte{7, 0x70, 1, 0xd2, 2, 0x0b}, // declared
		),
		sec(10,
			fn(none, 0x42, 1),
			fn(none, 0x42, 2),
			fn(none, 0x10, 0, 0x42, 100, 0x24, 1), // start: the host, and global 1 = -28 (sleb of 100)
			// digits of table entries, of global 0 and of direct calls
			fn(none,
				0x41, 0, 0x11, 1, 0, 0x42, 10, 0x7e, 0x41, 1, 0x11, 1, 0, 0x7c,
				0x42, 10, 0x7e, 0x41, 2, 0x11, 1, 0, 0x7c,
				0x42, 10, 0x7e, 0x41, 4, 0x11, 1, 0, 0x7c,
				0x42, 10, 0x7e, 0x41, 5, 0x11, 1, 0, 0x7c,
				0x42, 10, 0x7e, 0x41, 6, 0x23, 0, 0x26, 0, 0x41, 6, 0x11, 1, 0, 0x7c,
				0x42, 10, 0x7e, 0x10, 2, 0x7c),
		),
		sized([]byte{0}, append(sized(nil, []byte("name")), sized([]byte{1}, append([]byte{2, 1}, append(sized(nil, []byte("un")), append([]byte{2}, sized(nil, []byte("deux"))...)...)...))...)),
	)
	for name, module := range map[string][]byte{"plain": code, "instrumented": instrument(t, code)} {
		ctx := t.Context()
		r := wazero.NewRuntime(ctx)
		h := &host{slice: 1 << 40, limit: 1 << 40}
		if _, err := r.NewHostModuleBuilder(Module).NewFunctionBuilder().WithGoModuleFunction(api.GoModuleFunc(h.refill), nil, nil).Export(Refill).Instantiate(ctx); err != nil {
			t.Fatal(err)
		}
		hosted := 0
		if _, err := r.NewHostModuleBuilder("env").NewFunctionBuilder().WithFunc(func() { hosted++ }).Export("host").Instantiate(ctx); err != nil {
			t.Fatal(err)
		}
		compiled, err := r.CompileModule(ctx, module)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		m, err := r.InstantiateModule(ctx, compiled, wazero.NewModuleConfig())
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got, err := m.ExportedFunction("all").Call(ctx)
		if err != nil || got[0] != 1221212 || hosted != 1 {
			t.Errorf("%s: %v, %v, host called %d times; want 1221212 and once", name, got, err, hosted)
		}
		if def := m.ExportedFunction("two").Definition(); def.Name() != "deux" {
			t.Errorf("%s: function two is named %q", name, def.Name())
		}
		if err := r.Close(ctx); err != nil {
			t.Error(err)
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
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "GOFLAGS=", "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	code, err := os.ReadFile(filepath.Join(dir, "guest.wasm"))
	if err != nil {
		t.Fatal(err)
	}
	return code
}

func TestARealProgramPrintsTheSame(t *testing.T) {
	code := goGuest(t)
	var printed []string
	h := &host{slice: 100_000, limit: 1 << 40}
	for _, module := range [][]byte{code, instrument(t, code)} {
		ctx := t.Context()
		r := wazero.NewRuntime(ctx)
		wasi_snapshot_preview1.MustInstantiate(ctx, r)
		if _, err := r.NewHostModuleBuilder(Module).NewFunctionBuilder().WithGoModuleFunction(api.GoModuleFunc(h.refill), nil, nil).Export(Refill).Instantiate(ctx); err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		if _, err := r.InstantiateWithConfig(ctx, module, wazero.NewModuleConfig().WithStdout(&out).WithStderr(&out)); err != nil {
			t.Fatal(err, out.String())
		}
		printed = append(printed, out.String())
		if err := r.Close(ctx); err != nil {
			t.Error(err)
		}
	}
	if printed[0] != printed[1] || !strings.Contains(printed[0], "16383") || !strings.Contains(printed[0], "out of range") {
		t.Errorf("plain:\n%s\ninstrumented:\n%s", printed[0], printed[1])
	}
	if h.refills < 10 {
		t.Errorf("%d refills", h.refills)
	}
}

func TestWhatCanNotBeReadIsAnError(t *testing.T) {
	good := bin(sec(1, i64s), sec(3, none), sec(7, export("f", 0, 0)), sec(10, sumTo()))
	for name, c := range map[string]struct {
		code []byte
		says string
	}{
		"nothing":   {nil, "not a WebAssembly module"},
		"text":      {[]byte("(module)  "), "not a WebAssembly module"},
		"component": {[]byte("\x00asm\x0d\x00\x01\x00"), "version"},
		"cut":       {good[:len(good)-5], "length"},
		"atomics":   {bin(sec(1, voids), sec(3, none), sec(10, fn(none, 0xfe, 0x10, 2, 0))), "0xfe"},
		"taken":     {bin(sec(1, voids), sec(3, none), sec(7, export(Global, 0, 0)), sec(10, fn(none))), "exports"},
		"lists":     {[]byte("\x00asm\x01\x00\x00\x00\x04\x06\xb8\xb8\xb8000"), "there are"},
		"order":     {bin(sec(3, none), sec(1, voids), sec(10, fn(none))), "place"},
	} {
		_, err := Instrument(c.code)
		var e *Error
		if !errors.As(err, &e) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want it to say %q", name, err, c.says)
		}
	}
}

func FuzzInstrument(f *testing.F) {
	f.Add(bin(sec(1, i64s), sec(3, none), sec(7, export("f", 0, 0)), sec(10, sumTo())))
	f.Add(bin(sec(1, i64s), sec(3, none), sec(7, export("f", 0, 0)), sec(10, fib())))
	ctx := context.Background()
	r := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter())
	f.Fuzz(func(t *testing.T, code []byte) {
		out, err := Instrument(code)
		if err != nil {
			return
		}
		plain, err := r.CompileModule(ctx, code)
		if err != nil {
			return // it wasn't valid before
		}
		defer plain.Close(ctx)
		metered, err := r.CompileModule(ctx, out)
		if err != nil {
			t.Fatalf("%x no longer compiles: %v", code, err)
		}
		metered.Close(ctx)
	})
}

func BenchmarkMetering(b *testing.B) {
	loop := bin(sec(1, i64s), sec(3, none), sec(7, export("f", 0, 0)), sec(10, sumTo()))
	tree := bin(sec(1, i64s), sec(3, none), sec(7, export("f", 0, 0)), sec(10, fib()))
	for _, c := range []struct {
		name string
		code []byte
		arg  uint64
	}{{"loop", loop, 10_000_000}, {"fib", tree, 27}} {
		for _, metered := range []bool{false, true} {
			name, code := c.name+"/plain", c.code
			if metered {
				name, code = c.name+"/metered", instrument(b, c.code)
			}
			b.Run(name, func(b *testing.B) {
				ctx := b.Context()
				r := wazero.NewRuntime(ctx)
				defer r.Close(ctx)
				h := &host{slice: 100_000, limit: 1 << 40}
				if _, err := r.NewHostModuleBuilder(Module).NewFunctionBuilder().WithGoModuleFunction(api.GoModuleFunc(h.refill), nil, nil).Export(Refill).Instantiate(ctx); err != nil {
					b.Fatal(err)
				}
				m, err := r.Instantiate(ctx, code)
				if err != nil {
					b.Fatal(err)
				}
				f := m.ExportedFunction("f")
				for b.Loop() {
					if _, err := f.Call(ctx, c.arg); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
