package fuel

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// sumTo adds the numbers to its argument in a loop.
func sumTo() []byte {
	return fn([]byte{1, 1, typeI64},
		opBlock, typeNone, opLoop, typeNone,
		opLocalGet, 0, 0x50, opBrIf, 1, // leave at 0
		opLocalGet, 1, opLocalGet, 0, opI64Add, opLocalSet, 1,
		opLocalGet, 0, opI64Const, 1, opI64Sub, opLocalSet, 0,
		opBr, 0, opEnd, opEnd,
		opLocalGet, 1)
}

func fib() []byte {
	return fn(none,
		opLocalGet, 0, opI64Const, 2, opI64LtS, opIf, typeI64, opLocalGet, 0, opElse,
		opLocalGet, 0, opI64Const, 1, opI64Sub, opCall, 0, opLocalGet, 0, opI64Const, 2, opI64Sub, opCall, 0, opI64Add, opEnd)
}

func TestFuelIsWhatIsExecuted(t *testing.T) {
	for name, c := range map[string]struct {
		body      []byte
		arg, want uint64
	}{
		"loop":      {sumTo(), 1000, 500500},
		"recursion": {fib(), 15, 610},
	} {
		h := &host{slice: 1000, limit: 1 << 40}
		if _, err := h.call(h.instance(t, exact(t, single(i64s, c.body))), "f", c.arg); err != nil {
			t.Fatal(err)
		}
		executed := h.spent
		m := h.instance(t, instrument(t, single(i64s, c.body)))
		got, err := h.call(m, "f", c.arg)
		if err != nil || got[0] != c.want {
			t.Fatalf("%s: %v, %v; want %d", name, got, err, c.want)
		}
		if h.spent < executed || h.spent > 2*executed {
			t.Errorf("%s: %d units spent; %d were executed", name, h.spent, executed)
		}
		if want := h.spent/1000 - h.spent/10000; h.refills < want || h.refills > h.spent/1000 {
			t.Errorf("%s: %d refills for %d units in slices of 1,000", name, h.refills, h.spent)
		}
	}
}

// sumDown adds the numbers up to its argument by calls at its end.
func sumDown(call ...byte) []byte {
	return fn(none, join([]byte{
		opLocalGet, 0, 0x50, opIf, typeNone, opLocalGet, 1, opReturn, opEnd,
		opLocalGet, 0, opI64Const, 1, opI64Sub, opLocalGet, 0, opLocalGet, 1, opI64Add,
	}, call)...)
}

// A million calls at the end of each other need no stack, and are paid for.
func TestTailCalls(t *testing.T) {
	for name, call := range map[string][]byte{"direct": {opReturnCall, 0}, "indirect": {opI32Const, 0, opReturnCallIndirect, 0, 0}} {
		code := bin(sec(secType, []byte{0x60, 2, typeI64, typeI64, 1, typeI64}), sec(secFunction, none), sec(secTable, []byte{typeFuncref, 0, 1}),
			sec(secExport, export("f", 0, 0)), sec(secElement, []byte{0, opI32Const, 0, opEnd, 1, 0}), sec(secCode, sumDown(call...)))
		h := &host{slice: 1000, limit: 1 << 40}
		got, err := h.call(h.instance(t, instrument(t, code)), "f", 1_000_000, 0)
		if err != nil || got[0] != 500_000_500_000 {
			t.Errorf("%s: got %v %v", name, got, err)
		}
		if h.spent < 10_000_000 || h.refills < h.spent/10_000 {
			t.Errorf("%s: %d units in %d refills", name, h.spent, h.refills)
		}
	}
}

// A function that was called with fewer arguments than it calls another with, a free one,
// and the host's.
func TestTailCallsOfOthers(t *testing.T) {
	code := bin(sec(secType, []byte{0x60, 1, typeI64, 1, typeI64}, []byte{0x60, 9, typeI64, typeI64, typeI64, typeI64, typeI64, typeI64, typeI64, typeI64, typeI64, 1, typeI64}),
		sec(secFunction, none, []byte{1}, none), sec(secExport, export("f", 0, 0), export("g", 0, 2)),
		sec(secCode,
			fn(none, join(repeat(9, opLocalGet, 0), []byte{opReturnCall, 1})...),
			fn(none, join([]byte{opLocalGet, 0}, repeat(8, opLocalGet, 8, opI64Add))...),
			fn(none, opLocalGet, 0, opReturnCall, 0)))
	h := &host{slice: 1, limit: 1 << 40}
	m := h.instance(t, instrument(t, code))
	for _, name := range []string{"f", "g"} {
		if got, err := h.call(m, name, 3); err != nil || got[0] != 27 || h.spent < 18 {
			t.Errorf("%s: got %v %v for %d units, want 27", name, got, err, h.spent)
		}
	}
}

func TestExtendedConstants(t *testing.T) {
	code := bin(sec(secType, voids, []byte{0x60, 0, 1, typeI64}), sec(secFunction, []byte{1}), sec(secMemory, []byte{0, 1}),
		sec(secGlobal, []byte{typeI64, 0, opI64Const, 3, opI64Const, 4, opI64Mul, opI64Const, 5, opI64Sub, opI64Const, 1, opI64Add, opEnd}),
		sec(secExport, export("f", 0, 0)), sec(secCode, fn(none, opGlobalGet, 0)))
	h := &host{slice: 1000, limit: 1 << 40}
	if got, err := h.call(h.instance(t, instrument(t, code)), "f"); err != nil || got[0] != 8 {
		t.Errorf("got %v %v, want 8", got, err)
	}
}

func TestAnInstanceAsksForItsFirstSlice(t *testing.T) {
	h := &host{slice: 1 << 30, limit: 1 << 40}
	m := h.instance(t, instrument(t, single(i64s, fib())))
	if _, err := m.ExportedFunction("f").Call(t.Context(), 5); err != nil || h.refills != 1 {
		t.Errorf("%d refills, %v; want 1", h.refills, err)
	}
}

// A slice that is smaller than what one look takes is overdrawn, but goes on.
func TestASmallSliceGoesOn(t *testing.T) {
	for _, slice := range []int64{0, 1} {
		h := &host{slice: slice, limit: 1 << 40}
		m := h.instance(t, instrument(t, single(i64s, sumTo())))
		got, err := h.call(m, "f", 100)
		if err != nil || got[0] != 5050 || h.refills < 100 || h.spent > 1500 {
			t.Errorf("slices of %d: %v, %v, %d refills, %d spent", slice, got, err, h.refills, h.spent)
		}
	}
}

// tree is functions of which each calls the next twice.
func tree(depth int, leaf []byte) []byte {
	var kinds, bodies [][]byte
	for i := range depth {
		kinds = append(kinds, none)
		if i == depth-1 {
			bodies = append(bodies, leaf)
		} else {
			bodies = append(bodies, fn(none, opCall, byte(i+1), opCall, byte(i+1)))
		}
	}
	return bin(sec(secType, voids), sec(secFunction, kinds...), sec(secExport, export("f", 0, 0)), sec(secCode, bodies...))
}

// manyLeaves calls a function with a long body, that has no loop, again and again.
func manyLeaves(leaf []byte, call ...byte) []byte {
	return bin(sec(secType, voids), sec(secFunction, none, none), sec(secTable, []byte{typeFuncref, 0, 2}), sec(secExport, export("f", 0, 0)),
		sec(secElement, []byte{0, opI32Const, 0, opEnd, 1, 1}), sec(secCode, fn(none, join([]byte{opLoop, typeNone}, repeat(100, call...), []byte{opBr, 0, opEnd})...), leaf))
}

// endless has what goes on for ever, or for longer than that.
func endless() map[string][]byte {
	loop := func(code ...byte) []byte {
		return single(voids, fn(none, append(append([]byte{opLoop, typeNone}, code...), opEnd)...))
	}
	memory := sec(secMemory, []byte{0, 16})
	nop := fn(none, opNop)
	long := fn(none, repeat(20_000, opI32Const, 1, opDrop)...)
	unlikely := fn(none, join(repeat(20_000, opI32Const, 1, opDrop), []byte{opI32Const, 0, opIf, typeNone, opLoop, typeNone, opEnd, opEnd})...)
	bulk := func(code ...byte) []byte {
		return bin(sec(secType, voids), sec(secFunction, none), memory, sec(secExport, export("f", 0, 0)),
			sec(secCode, fn(none, join([]byte{opLoop, typeNone}, code, []byte{opBr, 0, opEnd})...)))
	}
	million := []byte{opI32Const, 0x80, 0x80, 0xc0, 0} // 1 << 20
	return map[string][]byte{
		"loop":          loop(opBr, 0),
		"br_if":         loop(opI32Const, 1, opBrIf, 0),
		"br_table":      loop(opI32Const, 5, opBrTable, 2, 0, 0, 0),
		"nested loops":  loop(opLoop, typeNone, opLoop, typeNone, opI32Const, 1, opBrIf, 1, opEnd, opEnd),
		"loop in block": loop(opBlock, typeNone, opBlock, typeNone, opBr, 2, opEnd, opEnd),
		"loop of a parameter": bin(sec(secType, voids, []byte{0x60, 1, typeI32, 0}), sec(secFunction, none), sec(secExport, export("f", 0, 0)),
			sec(secCode, fn(none, opI32Const, 1, opLoop, 1, opI32Const, 1, 0x6a, opBr, 0, opEnd))),
		"recursion": single(voids, fn(none, opCall, 0, opCall, 0)),
		"two that call each other": bin(sec(secType, voids), sec(secFunction, none, none), sec(secExport, export("f", 0, 0)),
			sec(secCode, fn(none, opLoop, typeNone, opCall, 1, opBr, 0, opEnd), fn(none, opNop))),
		"call_indirect": bin(sec(secType, voids), sec(secFunction, none), sec(secTable, []byte{typeFuncref, 0, 1}), sec(secExport, export("f", 0, 0)),
			sec(secElement, []byte{0, opI32Const, 0, opEnd, 1, 0}), sec(secCode, fn(none, opI32Const, 0, opCallIndirect, 0, 0, opI32Const, 0, opCallIndirect, 0, 0))),
		"tail calls": single(voids, fn(none, opReturnCall, 0)),
		"tail calls of each other": bin(sec(secType, voids), sec(secFunction, none, none), sec(secExport, export("f", 0, 0)),
			sec(secCode, fn(none, opReturnCall, 1), fn(none, opI32Const, 0, opIf, typeNone, opReturn, opEnd, opReturnCall, 0))),
		"tail calls, indirect": bin(sec(secType, voids), sec(secFunction, none), sec(secTable, []byte{typeFuncref, 0, 1}), sec(secExport, export("f", 0, 0)),
			sec(secElement, []byte{0, opI32Const, 0, opEnd, 1, 0}), sec(secCode, fn(none, opI32Const, 0, opReturnCallIndirect, 0, 0))),
		"long leaves by tail calls": bin(sec(secType, voids), sec(secFunction, none, none, none), sec(secExport, export("f", 0, 0)),
			sec(secCode, fn(none, opLoop, typeNone, opCall, 1, opBr, 0, opEnd), fn(none, opReturnCall, 2), long)),
		"tree":                     tree(60, nop),
		"tree of long leaves":      tree(60, long),
		"long leaves":              manyLeaves(long, opCall, 1),
		"long leaves, indirect":    manyLeaves(long, opI32Const, 0, opCallIndirect, 0, 0),
		"unlikely loops":           manyLeaves(unlikely, opCall, 1),
		"unlikely loops, indirect": manyLeaves(unlikely, opI32Const, 0, opCallIndirect, 0, 0),
		"fill":                     bulk(join([]byte{opI32Const, 0, opI32Const, 0}, million, []byte{opBulk, bulkMemoryFill, 0})...),
		"copy":                     bulk(join([]byte{opI32Const, 0, opI32Const, 0}, million, []byte{opBulk, bulkMemoryCopy, 0, 0})...),
		"grow":                     bulk(opI32Const, 0, opMemoryGrow, 0, opDrop),
		"ref.func": bin(sec(secType, voids), sec(secFunction, none), sec(secExport, export("f", 0, 0)),
			sec(secCode, fn(none, opLoop, typeNone, opRefFunc, 0, opDrop, opBr, 0, opEnd))),
	}
}

func TestWhatDoesNotEndIsEnded(t *testing.T) {
	for name, code := range endless() {
		h := &host{slice: 1_000_000, limit: 20}
		m := h.instance(t, instrument(t, code))
		start := time.Now()
		_, err := h.call(m, "f")
		if took := time.Since(start); took > time.Minute {
			t.Errorf("%s: 20 slices took %v", name, took)
		}
		if !errors.Is(err, errEmpty) && (err == nil || !strings.Contains(err.Error(), "stack overflow") || !strings.Contains(name, "recursion")) {
			t.Errorf("%s: %v, want it to end for want of fuel", name, err)
		}
		if over := h.spent - 21*h.slice; over < 0 || over > 22*300_000 {
			t.Errorf("%s: %d units for %d slices of %d", name, h.spent, h.refills, h.slice)
		}
	}
}

// With a slice of nothing, every look is a refill: they are close together.
func TestLooksAreClose(t *testing.T) {
	straight := repeat(50_000, opI32Const, 1, opDrop)
	skips := join(repeat(200, append([]byte{opBlock, typeNone, opI32Const, 1, opBrIf, 0}, append(repeat(3000, opNop, opI32Const, 1, opDrop), opEnd)...)...), repeat(10_000, opI32Const, 1, opDrop))
	interpreted := wazero.NewRuntimeConfigInterpreter() // which takes a long function at once
	for name, code := range map[string][]byte{
		"straight":      single(voids, fn(none, straight...)),
		"after a loop":  single(voids, fn(none, join([]byte{opLoop, typeNone, opEnd}, straight)...)),
		"in a loop":     single(voids, fn(none, join([]byte{opLoop, typeNone}, straight, []byte{opEnd})...)),
		"in an if":      single(voids, fn(none, join([]byte{opI32Const, 1, opIf, typeNone}, straight, []byte{opElse}, straight, []byte{opEnd}, straight)...)),
		"past branches": single(voids, fn(none, skips...)),
		"after calls":   tree(12, fn(none, repeat(60, opI32Const, 1, opDrop)...)),
		"tails": bin(sec(secType, i64s), sec(secFunction, none), sec(secExport, export("f", 0, 0)), sec(secCode, fn(none, join(
			[]byte{opLocalGet, 0, 0x50, opIf, typeNone, opI64Const, 0, opReturn, opEnd, opLocalGet, 0, opI64Const, 1, opI64Sub, opCall, 0, opDrop},
			repeat(500, opI32Const, 1, opDrop), []byte{opLocalGet, 0})...))),
	} {
		var args []uint64
		if name == "tails" {
			args = []uint64{1000}
		}
		h := &host{slice: 1 << 40, limit: 1 << 40}
		if _, err := h.call(h.instanceOf(t, exact(t, code), interpreted), "f", args...); err != nil {
			t.Fatal(name, err)
		}
		executed := h.spent
		h = &host{slice: 0, limit: 1 << 40}
		if _, err := h.call(h.instanceOf(t, instrument(t, code), interpreted), "f", args...); err != nil {
			t.Fatal(name, err)
		}
		if between := executed / (h.refills + 1); between > stretch {
			t.Errorf("%s: %d units between two looks", name, between)
		}
		if h.spent < executed {
			t.Errorf("%s: %d units charged for %d", name, h.spent, executed)
		}
	}
}

// Every place that names a function still names the same one.
func TestFunctionsKeepTheirPlaces(t *testing.T) {
	i64 := []byte{0x60, 0, 1, typeI64}
	item := func(index byte) []byte { // a digit more of what a table's entry returns
		return []byte{opI64Const, 10, 0x7e, opI32Const, index, opCallIndirect, 1, 0, opI64Add}
	}
	names := sized([]byte{1}, join([]byte{3, 1}, sized(nil, []byte("un")), []byte{2}, sized(nil, []byte("deux")), []byte{5}, sized(nil, []byte("broken"))))
	code := bin(
		sec(secType, voids, i64),
		sec(secImport, append(join(sized(nil, []byte("env")), sized(nil, []byte("host"))), 0, 0)),
		sec(secFunction, []byte{1}, []byte{1}, []byte{0}, []byte{1}, []byte{1}),
		sec(secTable, []byte{typeFuncref, 0, 8}),
		sec(secGlobal, []byte{typeFuncref, 0, opRefFunc, 1, opEnd}, []byte{typeI64, 1, opI64Const, 0, opEnd}),
		sec(secExport, export("one", 0, 1), export("two", 0, 2), export("all", 0, 4), export("broken", 0, 5)),
		sized([]byte{secStart}, []byte{3}),
		sec(secElement,
			[]byte{0, opI32Const, 0, opEnd, 2, 1, 2},                                          // functions, at an offset
			[]byte{4, opI32Const, 2, opEnd, 2, opRefFunc, 2, opEnd, 0xd0, typeFuncref, opEnd}, // expressions
			[]byte{2, 0, opI32Const, 4, opEnd, 0, 1, 1},                                       // of a table, with a kind
			[]byte{6, 0, opI32Const, 5, opEnd, typeFuncref, 1, opRefFunc, 2, opEnd},           //
			[]byte{1, 0, 1, 1}, []byte{5, typeFuncref, 1, opRefFunc, 2, opEnd}, // passive
			[]byte{3, 0, 2, 1, 2}, []byte{7, typeFuncref, 1, opRefFunc, 2, opEnd}, // declared
		),
		sec(secCode,
			fn(none, opI64Const, 1),
			fn(none, opI64Const, 2),
			fn(none, opCall, 0, opI64Const, 100, opGlobalSet, 1), // start
			fn(none, join(
				[]byte{opI64Const, 0}, item(0), item(1), item(2), item(4), item(5),
				[]byte{opI32Const, 6, opGlobalGet, 0, 0x26, 0}, item(6), // a global with a function
				[]byte{opI32Const, 7, opRefFunc, 2, 0x26, 0}, item(7),
				[]byte{opI32Const, 0, opI32Const, 0, opI32Const, 1, opBulk, bulkTableInit, 5, 0}, item(0), // a passive segment
				[]byte{opI64Const, 10, 0x7e, opCall, 2, opI64Add})...),
			fn(none, opUnreachable),
		),
		sized([]byte{secCustom}, join(sized(nil, []byte("name")), names)),
	)
	for name, module := range map[string][]byte{"plain": code, "instrumented": instrument(t, code)} {
		ctx := t.Context()
		r := wazero.NewRuntime(ctx)
		h := &host{slice: 1 << 40, limit: 1 << 40}
		h.provide(t, r)
		hosted := 0
		if _, err := r.NewHostModuleBuilder("env").NewFunctionBuilder().WithFunc(func() { hosted++ }).Export("host").Instantiate(ctx); err != nil {
			t.Fatal(err)
		}
		m, err := r.Instantiate(ctx, module)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got, err := m.ExportedFunction("all").Call(ctx)
		if err != nil || got[0] != 122121222 || hosted != 1 {
			t.Errorf("%s: %v, %v, host called %d times; want 122121222 and once", name, got, err, hosted)
		}
		if def := m.ExportedFunction("two").Definition(); def.Name() != "deux" {
			t.Errorf("%s: function two is named %q", name, def.Name())
		}
		if _, err := m.ExportedFunction("broken").Call(ctx); err == nil || !strings.Contains(err.Error(), ".broken(") {
			t.Errorf("%s: %v, want the stack to name the function", name, err)
		}
		if err := r.Close(ctx); err != nil {
			t.Error(err)
		}
	}
}

func TestSections(t *testing.T) {
	custom := func(name string, body ...byte) []byte {
		return sized([]byte{secCustom}, append(sized(nil, []byte(name)), body...))
	}
	base := func(extra ...[]byte) []byte {
		return join(bin(custom("first", 1, 2, 3), sec(secType, i64s), sec(secFunction, none), sec(secExport, export("f", 0, 0)), sec(secCode, fib())), join(extra...))
	}
	for name, c := range map[string]struct {
		code        []byte
		keeps, lets []string
	}{
		"custom":           {base(custom("other", 9)), []string{"first", "other"}, nil},
		"debug":            {base(custom(".debug_info", 9)), []string{"first"}, []string{".debug_info"}},
		"unreadable names": {base(custom("name", 1, 3, 200)), []string{"first"}, []string{"name"}},
		"names of nothing": {base(custom("name", 1, 5, 1, 77, 2, 'x', 'x')), nil, []string{"xx"}},
		"names, not UTF-8": {base(custom("name", 1, 4, 1, 0, 1, 0xff)), nil, []string{"name"}},
		"module's name":    {base(custom("name", 0, 3, 2, 'm', 'n')), []string{"mn"}, nil},
		"no code":          {bin(), nil, nil},
	} {
		out := instrument(t, c.code)
		for _, text := range c.keeps {
			if !strings.Contains(string(out), text) {
				t.Errorf("%s: %q is gone", name, text)
			}
		}
		for _, text := range c.lets {
			if strings.Contains(string(out), text) {
				t.Errorf("%s: %q is still there", name, text)
			}
		}
		(&host{slice: 1, limit: 1}).instance(t, out)
	}
}

// What an instruction that moves memory does, it does in halves too: the same
// bytes, and nothing if some are beyond the end.
func TestALotOfMemory(t *testing.T) {
	three := []byte{0x60, 3, typeI32, typeI32, typeI32, 0}
	body := func(op ...byte) []byte {
		return fn(none, join([]byte{opLocalGet, 0, opLocalGet, 1, opLocalGet, 2, opBulk}, op)...)
	}
	code := bin(sec(secType, three), sec(secFunction, none, none), sec(secMemory, []byte{0, 32}), sec(secExport, export("copy", 0, 0), export("fill", 0, 1), export("memory", 2, 0)),
		sec(secCode, body(bulkMemoryCopy, 0, 0), body(bulkMemoryFill, 0)))
	const size, lot = 32 << 16, halve*3 + 12345
	h := &host{slice: 1000, limit: 1 << 40}
	plain, metered := h.instance(t, code), h.instance(t, instrument(t, code))
	for _, c := range []struct {
		name     string
		to, from uint64
		n        uint64
	}{
		{"copy", 100, 200, 10},
		{"copy", 0, size / 2, lot},
		{"copy", size / 2, 0, lot},
		{"copy", 1000, 3, lot},
		{"copy", 3, 1000, lot},
		{"copy", 3, 3, lot},
		{"copy", halve, 0, lot},
		{"copy", 0, halve + 1, lot},
		{"copy", size - 5, 0, 5},
		{"copy", 0, 0, size},
		{"copy", size, size, 0},
		{"copy", size - lot + 1, 0, lot},
		{"copy", 0, size - lot + 1, lot},
		{"copy", 0, 0, 1<<32 - 1},
		{"copy", 1<<32 - 1, 0, lot},
		{"copy", size + 1, 0, 0},
		{"fill", 100, 1, 10},
		{"fill", 5, 0x1ff, lot},
		{"fill", 0, 3, size},
		{"fill", size - lot, 4, lot},
		{"fill", size - lot + 1, 5, lot},
		{"fill", 0, 6, 1<<32 - 1},
		{"fill", size + 1, 1, 0},
	} {
		var after [2][]byte
		var failed [2]bool
		for i, m := range []api.Module{plain, metered} {
			after[i], _ = m.Memory().Read(0, size)
			for j := range after[i] {
				after[i][j] = byte(j * j >> 7)
			}
			_, err := h.call(m, c.name, c.to, c.from, c.n)
			failed[i] = err != nil
		}
		if failed[0] != failed[1] || !slices.Equal(after[0], after[1]) {
			t.Errorf("%s(%d, %d, %d): failed %v, the same bytes: %v", c.name, c.to, c.from, c.n, failed, slices.Equal(after[0], after[1]))
		}
		if !failed[1] && h.spent < int64(c.n>>memoryShift) {
			t.Errorf("%s of %d bytes costs %d", c.name, c.n, h.spent)
		}
		if !failed[1] && c.n == size && h.refills < size/halve {
			t.Errorf("%s of %d bytes: %d refills", c.name, c.n, h.refills)
		}
	}
}

func TestWhatCanNotBeReadIsAnError(t *testing.T) {
	good := single(i64s, sumTo())
	code := func(locals []byte, code ...byte) []byte { return single(voids, fn(locals, code...)) }
	for name, c := range map[string]struct {
		code []byte
		says string
	}{
		"nothing":                  {nil, "not a WebAssembly module"},
		"text":                     {[]byte("(module)  "), "not a WebAssembly module"},
		"component":                {[]byte("\x00asm\x0d\x00\x01\x00"), "version"},
		"cut":                      {good[:len(good)-5], "code section, offset"},
		"atomics":                  {code(none, 0xfe, 0x10, 2, 0), "code section, offset 0x1e: it uses threads and atomics (not supported)"},
		"exceptions":               {code(none, 0x06, typeNone, opEnd), "code section, offset 0x1e: it uses exception handling"},
		"relaxed":                  {code(none, opVector, 0x80, 2), "0xfd 256"},
		"bulk":                     {code(none, opBulk, 18), "0xfc 18"},
		"taken":                    {bin(sec(secType, voids), sec(secFunction, none), sec(secExport, export(Global, 0, 0)), sec(secCode, fn(none))), "reserved"},
		"metered":                  {instrument(t, good), "metered already"},
		"order":                    {bin(sec(secFunction, none), sec(secType, voids), sec(secCode, fn(none))), "place"},
		"twice":                    {bin(sec(secType, voids), sec(secType, voids)), "place"},
		"section":                  {bin([]byte{13, 0}), "it uses exception handling"},
		"many types":               {bin([]byte{secType, 5, 0xff, 0xff, 0xff, 0xff, 0x0f}), "type section"},
		"many data":                {bin([]byte{secData, 5, 0xff, 0xff, 0xff, 0xff, 0x0f}), "data section"},
		"many locals":              {code([]byte{1, 0xff, 0xff, 0xff, 0xff, 0x0f, typeI32}), "locals"},
		"many labels":              {code(none, opI32Const, 0, opBrTable, 0xff, 0xff, 0xff, 0xff, 0x0f), "length"},
		"nested loops":             {code(none, bytes.Repeat([]byte{opLoop, typeNone}, 502)...), "within each other"},
		"nested blocks":            {code(none, bytes.Repeat([]byte{opBlock, typeNone}, 20_002)...), "within each other"},
		"shared memory":            {bin(sec(secMemory, []byte{3, 1, 1})), "it uses threads and atomics"},
		"64-bit memory":            {bin(sec(secMemory, []byte{4, 1})), "it uses 64-bit memories"},
		"two memories":             {bin(sec(secMemory, []byte{0, 1}, []byte{0, 1})), "it uses several memories"},
		"a load of another memory": {code(none, opI32Const, 0, 0x28, 0x42, 1, 0, opDrop), "it uses several memories"},
		"a structure":              {bin(sec(secType, []byte{0x5f, 0})), "it uses garbage collection"},
		"call_ref":                 {code(none, 0x14, 0), "it uses typed function references"},
		"a tag":                    {bin(sec(secImport, []byte{1, 'm', 1, 't', 4, 0, 0})), "it uses exception handling"},
		"wide":                     {code(none, opBulk, 19), "it uses wide arithmetic"},
		"a section of nobody":      {bin([]byte{99, 0}), "a section of the unknown kind 99"},
		"type":                     {bin(sec(secType, []byte{0x60, 1, 0x63, 0x70, 0})), "type"},
		"label":                    {code(none, opBr, 1), "label 1, and there are 1"},
		"no end":                   {bin(sec(secType, voids), sec(secFunction, none), sec(secCode, []byte{3, 0, opBlock, typeNone})), "early"},
		"long end":                 {code(none, opEnd, opNop), "too many"},
		"many tables":              {[]byte("\x00asm\x01\x00\x00\x00\x04\x06\xb8\xb8\xb8000"), "table section"},
		// Beyond the end of what there is, is what is added: it must stay out of reach.
		"counter, get":    {code(none, opGlobalGet, 0, opDrop), "global 0"},
		"counter, set":    {code(none, opI64Const, 0, opGlobalSet, 0), "global 0"},
		"counter, export": {bin(sec(secExport, export("g", 3, 0))), "global 0"},
		"local":           {code(none, opI64Const, 0, opLocalSet, 0), "local 0"},
		"call":            {code(none, opCall, 1), "function 1"},
		"start":           {bin(sized([]byte{secStart}, []byte{0})), "function 0"},
		"call's type":     {code(none, opI32Const, 0, opCallIndirect, 1, 0), "type 1"},
		"block's type":    {code(none, opBlock, 1, opEnd), "type 1"},
		"constant":        {bin(sec(secGlobal, []byte{typeI32, 0, opCall, 0, opEnd})), "function 0"},
		"constant code":   {bin(sec(secGlobal, []byte{typeI32, 0, opBlock, typeNone, opEnd, opEnd})), "in a constant"},
		"element":         {bin(sec(secElement, []byte{8, 0})), "unknown kind 8"},
	} {
		_, err := Instrument(c.code)
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want it to say %q", name, err, c.says)
		}
	}
	for i := range good {
		_, _ = Instrument(good[:i]) // and doesn't panic
	}
}

// A number may be longer than it has to be. Not all readers agree on what that is: to
// some, what looks like a constant here ends a block and begins a loop.
func TestNumbersAreWrittenShort(t *testing.T) {
	hidden := []byte{opEnd, opLoop, typeNone, opBr, 0, opEnd, opBlock, typeNone}
	for name, c := range map[string]struct{ long, short []byte }{
		"prefix":   {join([]byte{opVector, 0x8c, 0}, hidden, hidden, []byte{opDrop}), join([]byte{opVector, 12}, hidden, hidden, []byte{opDrop})},
		"constant": {[]byte{opI32Const, 0xff, 0xff, 0xff, 0xff, 0x7f, opDrop}, []byte{opI32Const, 0x7f, opDrop}},
		"local":    {[]byte{opLocalGet, 0x80, 0x80, 0, opDrop}, []byte{opLocalGet, 0, opDrop}},
		"memarg":   {[]byte{opI32Const, 0, 0x28, 0x82, 0, 0x85, 0x80, 0, opDrop}, []byte{opI32Const, 0, 0x28, 2, 5, opDrop}},
		"block":    {[]byte{opBlock, 0xc0, 0x7f, opEnd}, []byte{opBlock, typeNone, opEnd}},
		"table":    {[]byte{opI32Const, 0, opBrTable, 0x81, 0, 0x80, 0, 0}, []byte{opI32Const, 0, opBrTable, 1, 0, 0}},
	} {
		code := bin(sec(secType, []byte{0x60, 1, typeI32, 0}), sec(secFunction, none), sec(secMemory, []byte{0, 1}), sec(secCode, fn(none, c.long...)))
		out := instrument(t, code)
		if !strings.Contains(string(out), string(append(c.short, opEnd))) {
			t.Errorf("%s: %x becomes %x, want %x in it", name, c.long, out, c.short)
		}
		(&host{}).instance(t, out)
	}
}

func TestTheModuleDoesNotGrowMuch(t *testing.T) {
	loops := repeat(100_000, opLoop, typeNone, opEnd)
	code := single(voids, fn(none, loops...))
	if out := instrument(t, code); len(out) > 25*len(code) {
		t.Errorf("%d bytes become %d", len(code), len(out))
	}
	deep := single(voids, fn(none, join(repeat(maxNested-1, opBlock, typeNone), repeat(100_000, opI32Const, 0, opBrIf, 0), repeat(maxNested-1, opEnd))...))
	start := time.Now()
	instrument(t, deep)
	if took := time.Since(start); took > time.Minute {
		t.Errorf("%d nested blocks took %v", maxNested, took)
	}
}
