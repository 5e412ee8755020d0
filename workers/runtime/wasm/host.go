package wasm

import (
	"context"
	"errors"
	"fmt"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/cloudburst-nats/cloudburst/workers/runtime/guest"
	"github.com/cloudburst-nats/cloudburst/workers/runtime/wasm/fuel"
)

// What a guest may import, besides WASI.
const (
	hostModule = "cloudburst"
	wasiModule = "wasi_snapshot_preview1"
	fuelModule = fuel.Module
)

// What an operation of the host costs in fuel: an instruction each would let a
// guest that does nothing else keep its processor, as it were, for nothing.
const (
	fuelRequest  = 2000
	fuelSystem   = 200
	fuelPerBytes = 16 // bytes that are copied for a unit
)

const (
	i32 = api.ValueTypeI32
	i64 = api.ValueTypeI64
)

// A hostFunction is one that guests can import. The parameters are in stack, and
// the result goes to its first element.
type hostFunction struct {
	params, results []api.ValueType
	call            func(x *execution, mod api.Module, stack []uint64)
}

// hostFunctions are all that there are, by module and name.
var hostFunctions = map[string]map[string]hostFunction{
	wasiModule: wasiFunctions(),
	hostModule: {
		"request":  {[]api.ValueType{i32, i32}, []api.ValueType{i32}, (*execution).request},
		"response": {[]api.ValueType{i32}, nil, (*execution).respond},
	},
	fuelModule: {
		fuel.Refill: {nil, nil, func(x *execution, mod api.Module, _ []uint64) { x.refill(mod) }},
	},
}

// browsers are modules that programs for other hosts import from.
var browsers = map[string]string{
	"go": "a browser (GOOS=js)", "gojs": "a browser (GOOS=js)", "wbg": "a browser (wasm-bindgen)", "__wbindgen_placeholder__": "a browser (wasm-bindgen)",
	"wasi_unstable": "an early WASI", "a": "a browser (Emscripten)",
}

// checkImports refuses a module that needs what there isn't.
func checkImports(m *module) error {
	for _, i := range m.imports {
		if i.module == fuelModule {
			return fmt.Errorf("it imports %q of %q, which is for the host alone", i.name, i.module)
		}
		known, ok := hostFunctions[i.module]
		if !ok {
			if host, browser := browsers[i.module]; browser {
				return fmt.Errorf("it imports %q of %q: it was built for %s; build for wasm32-wasip1", i.name, i.module, host)
			}
			return fmt.Errorf("it imports %q of %q: wrong ABI, there are %s (WASI preview 1) and %s to import from; build for wasm32-wasip1", i.name, i.module, wasiModule, hostModule)
		}
		if _, ok := known[i.name]; !ok {
			return fmt.Errorf("it imports %q of %q, which has no such function", i.name, i.module)
		}
	}
	if len(m.imports) > 0 && !m.memory {
		return errors.New("it imports functions but has no memory of its own")
	}
	return nil
}

// provide makes what the module imports.
func provide(ctx context.Context, r wazero.Runtime, imports []imported) error {
	byModule := make(map[string]map[string]bool)
	for _, i := range imports {
		if byModule[i.module] == nil {
			byModule[i.module] = make(map[string]bool)
		}
		byModule[i.module][i.name] = true
	}
	for name, wanted := range byModule {
		b := r.NewHostModuleBuilder(name)
		for fn := range wanted {
			h := hostFunctions[name][fn]
			b.NewFunctionBuilder().WithName(fn).WithGoModuleFunction(api.GoModuleFunc(func(ctx context.Context, mod api.Module, stack []uint64) {
				h.call(executionOf(ctx), mod, stack)
			}), h.params, h.results).Export(fn)
		}
		if _, err := b.Instantiate(ctx); err != nil {
			return fmt.Errorf("provide %s: %w", name, err)
		}
	}
	return nil
}

// request carries out a request of package guest and returns the length of the
// response.
func (x *execution) request(mod api.Module, stack []uint64) {
	x.check()
	mem := mod.Memory()
	ptr, n := uint32(stack[0]), uint32(stack[1]) //nolint:gosec // that is the ABI
	request, ok := mem.Read(ptr, n)
	if !ok {
		panic(boundsError{"request", ptr, n, mem.Size()})
	}
	x.need("cloudburst.request")
	x.pass()
	x.response = x.host.Serve(request)
	x.told = noteError(x.told, x.response)
	x.check()
	x.charge(fuelRequest + int64(n)/fuelPerBytes + int64(len(x.response))/fuelPerBytes)
	stack[0] = uint64(len(x.response))
}

// A complaint is an error that a guest was told in a response.
type complaint struct{ kind, msg string }

func noteError(last complaint, response []byte) complaint {
	if len(response) == 0 || response[0] != guest.StatusError {
		return last
	}
	kind, rest, _ := guest.CutField(response[1:])
	msg, _, _ := guest.CutField(rest)
	return complaint{string(kind), string(msg)}
}

// respond copies the last response into the guest's memory.
func (x *execution) respond(mod api.Module, stack []uint64) {
	mem := mod.Memory()
	ptr := uint32(stack[0]) //nolint:gosec // that is the ABI
	if !mem.Write(ptr, x.response) {
		panic(boundsError{"response", ptr, uint32(len(x.response)), mem.Size()}) //nolint:gosec // 64 MiB
	}
	x.charge(fuelSystem + int64(len(x.response))/fuelPerBytes)
}

// need notes that the guest asks for something that only a call has, and ends a
// guest that has none.
func (x *execution) need(what string) {
	x.asked |= askedCall
	if x.call == nil {
		panic(noCallError{what})
	}
}

// A noCallError ends a guest that asks for a call where there is none.
type noCallError struct{ what string }

func (e noCallError) Error() string {
	return fmt.Sprintf("%s can't be used before there is a call: not in a start function nor in %s", e.what, prepareExport)
}

// A boundsError ends a guest that hands out a pointer to what isn't its memory.
type boundsError struct {
	what           string
	ptr, n, memory uint32
}

func (e boundsError) Error() string {
	return fmt.Sprintf("out of bounds memory access: cloudburst.%s of %d bytes at %d, of a memory of %d", e.what, e.n, e.ptr, e.memory)
}
