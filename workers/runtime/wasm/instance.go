package wasm

import (
	"context"
	"fmt"
	"reflect"
	"time"

	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	"github.com/cloudburst-nats/cloudburst/workers/runtime/wasm/fuel"
)

// An instance is a module that can run: it has memory, globals and tables of its
// own. One call at a time owns it.
type instance struct {
	mod    api.Module
	mem    api.Memory // nil if the module has none
	linear *memory    // what mem is made of
	fuel   api.MutableGlobal
	in     *interior    // nil: it can't be put back
	init   api.Function // nil if there is none
	entry  api.Function
	stack  reflect.Value // of the entry
	ready  bool          // nothing has to run before the entry
	used   time.Time     // when it was put back
}

// newInstance makes an instance in the state that it is in before anything of it
// has run. A start function runs under x.
func (f *function) newInstance(x *execution) (inst *instance, err error) {
	defer func() {
		if p := recover(); p != nil { // wazero, without address space for the memory
			inst, err = nil, fmt.Errorf("no room for an instance: %v", p)
		}
	}()
	inst = &instance{}
	ctx := experimental.WithMemoryAllocator(x, experimental.MemoryAllocatorFunc(func(_, most uint64) experimental.LinearMemory {
		inst.linear = newMemory(most)
		return inst.linear
	}))
	inst.mod, err = f.wazero.InstantiateModule(ctx, f.compiled, f.config)
	if err != nil {
		if inst.linear != nil {
			inst.linear.Free()
		}
		return nil, err
	}
	if f.module.memory {
		inst.mem = inst.mod.Memory()
	}
	if g, ok := inst.mod.ExportedGlobal(fuel.Global).(api.MutableGlobal); ok {
		inst.fuel = g
	}
	inst.in, _ = interiorOf(inst.mod, f.module.dropped)
	inst.enter(f.entry)
	if f.init {
		inst.init = inst.mod.ExportedFunction(initExport)
	}
	inst.ready = !f.init && !f.prepare
	return inst, nil
}

// enter makes the entry, which has a stack of its own.
func (inst *instance) enter(name string) {
	inst.entry = inst.mod.ExportedFunction(name)
	inst.stack = stackOf(inst.entry)
}

func (inst *instance) close() error { return inst.mod.Close(context.Background()) }

// reset puts the instance back to an image. It says whether it could.
func (inst *instance) reset(img *image) bool {
	in := inst.in
	if in == nil || img == nil || in.references() > 0 {
		return false
	}
	in.reset()
	for _, g := range img.globals {
		in.engine.SetGlobalValue(g.index, g.lo, g.hi)
	}
	if in.buffer != nil && !inst.resetMemory(img) {
		return false
	}
	if inst.depth() > keepStack {
		inst.enter(inst.entry.Definition().ExportNames()[0])
	}
	return true
}

// resetMemory gives the memory its size and its bytes back. The API doesn't let a
// memory shrink: it is made a page too short behind wazero's back, and grown by
// that page, which is when the code that runs learns of it.
func (inst *instance) resetMemory(img *image) bool {
	used := len(*inst.in.buffer)
	pages := uint32(used / pageSize) //nolint:gosec // 65,536 at most
	if pages > img.pages {
		if img.pages == 0 {
			return false
		}
		pages = img.pages - 1
		*inst.in.buffer = (*inst.in.buffer)[:pages*pageSize]
	}
	if pages < img.pages {
		if _, ok := inst.mem.Grow(img.pages - pages); !ok {
			return false
		}
	}
	return inst.linear.reset(img, max(used, int(img.pages)*pageSize)) == nil
}

const (
	// keepStack is how large a stack an instance may keep from one call to the next.
	keepStack = 256 << 10
	// maxStack is how large a stack may be, which isn't in the guest's memory. That
	// is looked at once in a slice; wazero itself gives up at 80 MB.
	maxStack = 16 << 20
)

// depth is how large the stack of the entry is; 0 if it can't be told.
func (inst *instance) depth() int {
	if !inst.stack.IsValid() {
		return 0
	}
	return inst.stack.Len()
}
