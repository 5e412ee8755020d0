package wasm

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/tetratelabs/wazero/sys"

	"github.com/cloudburst-nats/cloudburst/wire"
	"github.com/cloudburst-nats/cloudburst/workers/runtime"
	"github.com/cloudburst-nats/cloudburst/workers/runtime/runtimetest"
)

// FuzzRequest calls what guests can import with any numbers, and anything in
// memory. It may end the guest, in one of a few ways, and no more.
func FuzzRequest(f *testing.F) {
	type imported struct {
		name string
		hostFunction
	}
	var all []imported
	for _, module := range []string{wasiModule, hostModule} {
		for name, h := range hostFunctions[module] {
			all = append(all, imported{name, h})
		}
	}
	slices.SortFunc(all, func(a, b imported) int {
		if a.name < b.name {
			return -1
		}
		return 1
	})
	edges := []uint64{0, 1, 64, 131064, 131072, math.MaxInt32, math.MaxUint32 - 7, math.MaxUint32, math.MaxUint64}
	for i := range all {
		for _, a := range edges {
			f.Add(uint8(i), a, uint64(8), uint64(2), uint64(64), []byte("g\x01\x00\x00\x00n\x01\x00\x00\x00k"))
			f.Add(uint8(i), uint64(0), a, uint64(2), uint64(64), []byte("\x40\x00\x00\x00\x08\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff"))
			f.Add(uint8(i), uint64(1), uint64(0), a, a, []byte{16: eventClock, 24: 1})
		}
	}
	fn := load(f, newRuntime(f, Config{MaxOutput: 1 << 16}), "")
	setup := fn.execute(f.Context(), nil)
	inst, err := fn.take(setup)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = inst.close() })
	functions := runtimetest.NewFunctions(map[string]func(wire.Value) (wire.Value, error){
		"echo": func(v wire.Value) (wire.Value, error) { return v, nil },
	})
	f.Fuzz(func(t *testing.T, which uint8, a, b, c, d uint64, memory []byte) {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Millisecond)
		defer cancel()
		x := fn.execute(ctx, &runtime.Call{Function: "test", Args: wire.Value{Body: []byte("argument")}, State: runtimetest.NewState(), Functions: functions})
		defer x.cancel(nil)
		x.inst = inst
		inst.mem.Write(0, memory[:min(len(memory), 4096)])
		h := all[int(which)%len(all)]
		defer func() {
			p := recover()
			err, _ := p.(error)
			_, exit := errors.AsType[*sys.ExitError](err)
			_, bounds := errors.AsType[boundsError](err)
			if p != nil && !exit && !bounds && !errors.Is(err, errEnded) && !errors.Is(err, errOutput) {
				panic(p)
			}
			if !inst.reset(fn.made) {
				t.Fatal("the instance can't be put back")
			}
		}()
		stack := []uint64{a, b, c, d, a, b, c, d, a, b}
		h.call(x, inst.mod, stack)
		if len(h.results) > 0 && h.name != "request" && stack[0] > 76 {
			t.Errorf("%s(%d, %d, %d, %d) = %d, which is no errno", h.name, a, b, c, d, stack[0])
		}
		if n := stack[0]; h.name == "request" && (n == 0 || int(n) != len(x.response)) { //nolint:gosec // a length
			t.Errorf("a response of %d bytes, and there are %d", n, len(x.response))
		}
	})
}

// FuzzLoad loads anything, and runs what can be loaded. The worst is an error.
func FuzzLoad(f *testing.F) {
	for _, name := range []string{"tables", "start", "foreign", "late", "once", "prepared", "command"} {
		code, err := os.ReadFile("testdata/" + name + ".wasm")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(code)
	}
	r, err := New(Config{Memory: 4 << 20})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = r.Close() })
	f.Fuzz(func(t *testing.T, code []byte) {
		path := filepath.Join(t.TempDir(), "image.wasm")
		if err := os.WriteFile(path, code, 0o600); err != nil {
			t.Fatal(err)
		}
		loaded, err := r.Load(t.Context(), runtime.Program{Function: "test", Path: path})
		if err != nil {
			if wire.KindOf(err) != wire.KindInvalid {
				t.Errorf("load: %v", err)
			}
			return
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		began := time.Now()
		for range 2 {
			if _, err := loaded.Invoke(ctx, &runtime.Call{Function: "test", Args: wire.Value{Body: []byte("argument")}}); err != nil {
				t.Log(err)
			}
		}
		if took := time.Since(began); took > time.Minute {
			t.Errorf("it ended after %v", took)
		}
		if err := loaded.Close(); err != nil {
			t.Error("close:", err)
		}
	})
}
