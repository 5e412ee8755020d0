package fuel

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// A module as tests write it: sections in their binary form.
func bin(sections ...[]byte) []byte {
	return append([]byte("\x00asm\x01\x00\x00\x00"), bytes.Join(sections, nil)...)
}

func sec(id byte, items ...[]byte) []byte {
	return sized([]byte{id}, append(uleb(nil, uint32(len(items))), bytes.Join(items, nil)...))
}

// fn is a function's body with locals as they are written.
func fn(locals []byte, code ...byte) []byte {
	return sized(nil, append(append(bytes.Clone(locals), code...), opEnd))
}

func export(name string, kind, index byte) []byte {
	return append(sized(nil, []byte(name)), kind, index)
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func repeat(n int, code ...byte) []byte { return bytes.Repeat(code, n) }

var (
	voids = []byte{0x60, 0, 0}
	i64s  = []byte{0x60, 1, typeI64, 1, typeI64}
	none  = []byte{0}
)

// single is a module of one function that is exported as f.
func single(kind, body []byte) []byte {
	return bin(sec(secType, kind), sec(secFunction, none), sec(secExport, export("f", 0, 0)), sec(secCode, body))
}

// A host refills slices and counts them; beyond its limit it ends the guest.
type host struct {
	slice, limit   int64
	refills, spent int64
}

var errEmpty = errors.New("no more fuel")

func (h *host) refill(_ context.Context, mod api.Module, _ []uint64) {
	g := counterOf(mod)
	h.spent += h.slice - int64(g.Get())
	if h.refills++; h.refills > h.limit {
		panic(errEmpty)
	}
	g.Set(uint64(h.slice))
}

func counterOf(mod api.Module) api.MutableGlobal {
	return mod.ExportedGlobal(Global).(api.MutableGlobal)
}

// instance instantiates a module that may be instrumented.
func (h *host) instance(t testing.TB, code []byte) api.Module {
	t.Helper()
	return h.instanceOf(t, code, wazero.NewRuntimeConfig())
}

func (h *host) instanceOf(t testing.TB, code []byte, config wazero.RuntimeConfig) api.Module {
	t.Helper()
	ctx := context.Background()
	r := wazero.NewRuntimeWithConfig(ctx, config.WithCoreFeatures(Features))
	t.Cleanup(func() {
		if err := r.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	h.provide(t, r)
	m, err := r.Instantiate(ctx, code)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func (h *host) provide(t testing.TB, r wazero.Runtime) {
	t.Helper()
	_, err := r.NewHostModuleBuilder(Module).NewFunctionBuilder().WithGoModuleFunction(api.GoModuleFunc(h.refill), nil, nil).Export(Refill).Instantiate(context.Background())
	if err != nil {
		t.Fatal(err)
	}
}

// call calls an export with a full slice, and counts what it spends.
func (h *host) call(m api.Module, name string, args ...uint64) ([]uint64, error) {
	h.refills, h.spent = 0, 0
	g, metered := m.ExportedGlobal(Global).(api.MutableGlobal)
	if metered {
		g.Set(uint64(h.slice))
	}
	res, err := m.ExportedFunction(name).Call(context.Background(), args...)
	if metered {
		h.spent += h.slice - int64(g.Get())
	}
	return res, err
}

func instrument(t testing.TB, code []byte) []byte {
	t.Helper()
	out, err := Instrument(code)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// exact is the dumb twin of Instrument: each instruction pays for itself when it
// is executed.
func exact(t testing.TB, code []byte) []byte {
	t.Helper()
	m := split(code)
	m.survey()
	return m.rewrite(func(f *function) (points []point) {
		r := *f.body
		for s := (scope{m, f.locals, 1}); s.labels > 0; {
			in := r.instruction(&s)
			cost := weight(&in)
			switch in.op {
			case opBlock, opLoop, opIf:
				s.labels++
			case opEnd:
				s.labels--
			case opCallIndirect, opReturnCallIndirect:
				cost -= freeSize
			}
			if cost > 0 {
				points = append(points, point{at: in.start, cost: cost})
			}
		}
		return points
	})
}
