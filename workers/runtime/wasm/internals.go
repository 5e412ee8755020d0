package wasm

import (
	"reflect"
	"slices"

	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
)

// An interior is what of an instance wazero's API doesn't show, and what has to be
// put back so that the instance can be used again. It is found by name. If another
// version of wazero has it elsewhere, there is no interior, and every call gets an
// instance of its own: that is slower, and as safe.
type interior struct {
	engine   engine
	globals  []global // the mutable ones, as they were made
	tables   []table
	elements []segment[uintptr]
	data     []segment[byte]
	buffer   *[]byte       // the memory, as long as the guest thinks it is; nil if there is none
	refs     reflect.Value // functions that the guest has made references to
	made     int           // of them, when it was instantiated
}

type engine interface {
	GetGlobalValue(i uint32) (lo, hi uint64)
	SetGlobalValue(i uint32, lo, hi uint64)
}

// A global is the value of a mutable one.
type global struct {
	index     uint32
	reference bool // means nothing to another instance
	lo, hi    uint64
}

// A table is one of functions, and what it was. Its entries mean nothing to
// another instance.
type table struct {
	now *[]uintptr
	was []uintptr
}

// A segment is what memory.init and table.init copy from, until it is dropped.
type segment[T any] struct {
	now *[]T
	was []T
}

// interiorOf looks into an instance that hasn't run yet. segments says whether it
// may drop segments.
func interiorOf(mod api.Module, segments bool) (in *interior, ok bool) {
	defer func() {
		if recover() != nil { // reflection that found something else
			in, ok = nil, false
		}
	}()
	in = new(interior)
	inst := reflect.ValueOf(mod).Elem()
	inner := inst.FieldByName("Engine")
	if in.engine, ok = reflect.TypeAssert[engine](inner); !ok {
		return nil, false
	}
	in.refs = inner.Elem().Elem().FieldByName("localFunctionInstances")
	in.made = in.refs.Len()
	internal, ok := mod.(experimental.InternalModule)
	if !ok {
		return nil, false
	}
	for i := range uint32(internal.NumGlobal()) { //nolint:gosec // far fewer
		field := inst.FieldByName("Globals").Index(int(i)).Elem().FieldByName("Type")
		if !field.FieldByName("Mutable").Bool() {
			continue
		}
		g := global{index: i}
		kind := internal.Global(int(i)).Type()
		g.reference = kind == api.ValueTypeExternref || kind == valueTypeFuncref
		g.lo, g.hi = in.engine.GetGlobalValue(i)
		in.globals = append(in.globals, g)
	}
	for _, t := range inst.FieldByName("Tables").Seq2() {
		now := slice[uintptr](t.Elem().FieldByName("References"))
		in.tables = append(in.tables, table{now, slices.Clone(*now)})
	}
	for _, e := range inst.FieldByName("ElementInstances").Seq2() {
		now := slice[uintptr](e)
		in.elements = append(in.elements, segment[uintptr]{now, *now})
	}
	if segments {
		for _, d := range inst.FieldByName("DataInstances").Seq2() {
			now := slice[byte](d)
			in.data = append(in.data, segment[byte]{now, *now})
		}
	}
	if mem := inst.FieldByName("MemoryInstance"); !mem.IsNil() {
		in.buffer = slice[byte](mem.Elem().FieldByName("Buffer"))
	}
	return in, true
}

const valueTypeFuncref = 0x70

// slice returns where a slice is; it panics if it isn't one of T.
func slice[T any](v reflect.Value) *[]T {
	return v.Addr().Interface().(*[]T) //nolint:forcetypeassert,errcheck // interiorOf recovers
}

// portable says whether what the guest has done to its instance so far means the
// same in another one: references to functions don't.
func (in *interior) portable() bool {
	for _, t := range in.tables {
		if !slices.Equal(*t.now, t.was) {
			return false
		}
	}
	for _, g := range in.globals {
		if lo, hi := in.engine.GetGlobalValue(g.index); g.reference && (lo != g.lo || hi != g.hi) {
			return false
		}
	}
	for _, e := range in.elements {
		if len(*e.now) != len(e.was) {
			return false
		}
	}
	for _, d := range in.data {
		if len(*d.now) != len(d.was) {
			return false
		}
	}
	return true
}

// reset puts back everything but the memory and the values of globals that are
// no references.
func (in *interior) reset() {
	for _, t := range in.tables {
		switch {
		case len(*t.now) != len(t.was):
			*t.now = slices.Clone(t.was)
		case !slices.Equal(*t.now, t.was):
			copy(*t.now, t.was)
		}
	}
	for _, e := range in.elements {
		*e.now = e.was
	}
	for _, d := range in.data {
		*d.now = d.was
	}
	for _, g := range in.globals {
		if g.reference {
			in.engine.SetGlobalValue(g.index, g.lo, g.hi)
		}
	}
}

// references counts the functions that the guest has made references to. Each
// takes memory of the host until the instance is closed.
func (in *interior) references() int { return in.refs.Len() - in.made }

// stackOf returns the stack of a function, of which only the length can be used;
// the zero Value if it isn't found.
func stackOf(f api.Function) reflect.Value {
	v := reflect.ValueOf(f)
	if v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Struct {
		return reflect.Value{}
	}
	stack := v.Elem().FieldByName("stack")
	if stack.Kind() != reflect.Slice {
		return reflect.Value{}
	}
	return stack
}
