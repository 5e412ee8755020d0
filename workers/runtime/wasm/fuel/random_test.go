package fuel

import (
	"encoding/binary"
	"flag"
	"hash/crc32"
	"math/rand/v2"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

var seeds = flag.Int("seeds", 100, "how many random modules are tried")

// A composer writes random functions that are valid and end: each loop and call
// takes one from a budget, without which it returns.
type composer struct {
	*rand.Rand
	out    []byte
	labels []label // from the outside to the inside
	size   int     // how much may still be written
	self   int     // functions before it can be called
}

type label struct {
	value bool // a branch to it takes an i64
	loop  bool
}

// Indices of random modules.
const (
	budget, hash    = 0, 1 // globals
	typeF, typeV    = 0, 1 // (i32 i64) -> i64, and (i64) -> i64 for loops of a parameter
	local32         = 0    // parameters
	local64, locals = 1, 6 // and those from local64 on are i64
	randomFunctions = 6
)

func (c *composer) emit(code ...byte) { c.out = append(c.out, code...) }

func (c *composer) local() byte { return byte(local64 + c.IntN(locals-local64)) }

// value leaves an i64 on the stack.
func (c *composer) value(depth int) {
	if c.size--; c.size < 0 || depth > 6 {
		c.emit(opLocalGet, c.local())
		return
	}
	switch c.IntN(12) {
	case 0:
		c.out = sleb(append(c.out, opI64Const), c.Int64()>>c.IntN(64))
	case 1, 2, 3:
		c.emit(opLocalGet, c.local())
	case 4, 5:
		c.value(depth + 1)
		c.value(depth + 1)
		c.emit([]byte{opI64Add, opI64Sub, 0x7e, 0x83, 0x85, 0x89}[c.IntN(6)])
	case 6:
		c.value(depth + 1)
		c.emit(0xa7, opI32Const, 0xff, 7, opI32And, 0x29, 3, 8) // load, from the first 2,055 bytes
	case 7: // a block, if or loop of a value
		c.block(depth, true)
	case 8:
		c.call(depth)
	case 9:
		c.emit(opGlobalGet, hash)
	default:
		c.emit(opLocalGet, local32, opI64ExtendU)
	}
}

// truth leaves an i32.
func (c *composer) truth(depth int) {
	c.value(depth + 1)
	if c.IntN(2) == 0 {
		c.emit(0x50) // i64.eqz
		return
	}
	c.value(depth + 1)
	c.emit(opI64LtS)
}

// pay takes one from the budget, and returns if it is used up.
func (c *composer) pay() {
	c.emit(opGlobalGet, budget, opI64Const, 1, opI64Sub, opGlobalSet, budget)
	c.emit(opGlobalGet, budget, opI64Const, 0, opI64LtS, opIf, typeNone, opLocalGet, local64, opReturn, opEnd)
}

func (c *composer) call(depth int) {
	c.emit(opLocalGet, local32)
	c.value(depth + 1)
	at := byte(c.IntN(c.self + 1))
	switch {
	case c.self == 0 || int(at) == c.self: // the shortest one: it isn't counted in itself
		c.emit(opCall, randomFunctions)
	case c.IntN(3) == 0:
		c.emit(opI32Const, at, opCallIndirect, typeF, 0)
	default:
		c.emit(opCall, at)
	}
}

// block writes something with a label, that leaves a value or nothing.
func (c *composer) block(depth int, value bool) {
	kind := byte(typeNone)
	if value {
		kind = typeI64
	}
	body := func(l label) {
		c.labels = append(c.labels, l)
		if l.loop {
			c.pay()
		}
		c.statements(depth + 1)
		if value {
			c.value(depth + 1)
		}
		if l.loop && c.IntN(3) > 0 { // once more, perhaps
			c.truth(depth)
			c.emit(opBrIf, 0)
		}
		c.labels = c.labels[:len(c.labels)-1]
	}
	switch c.IntN(6) {
	case 5: // perhaps the end, by another function's
		c.truth(depth)
		c.emit(opIf, kind, opLocalGet, local32)
		c.labels = append(c.labels, label{value: value})
		c.value(depth + 1)
		c.labels = c.labels[:len(c.labels)-1]
		if at := byte(c.IntN(c.self + 1)); c.IntN(2) == 0 {
			c.emit(opI32Const, at, opReturnCallIndirect, typeF, 0)
		} else {
			c.emit(opReturnCall, at)
		}
		if value {
			c.emit(opElse)
			body(label{value: value})
		}
	case 0:
		c.truth(depth)
		c.emit(opIf, kind)
		body(label{value: value})
		if value || c.IntN(2) == 0 {
			c.emit(opElse)
			body(label{value: value})
		}
	case 1, 2:
		c.emit(opLoop, kind)
		body(label{loop: true})
	case 3:
		if value { // a loop of a parameter
			c.value(depth + 1)
			c.emit(opLoop, typeV)
			c.emit(opLocalSet, c.local())
			body(label{loop: true, value: true})
			break
		}
		fallthrough
	default:
		c.emit(opBlock, kind)
		body(label{value: value})
	}
	c.emit(opEnd)
}

// branch writes one to any label, or several.
func (c *composer) branch(depth int) {
	l := c.IntN(len(c.labels))
	target := c.labels[len(c.labels)-1-l]
	if target.value {
		c.value(depth + 1)
	}
	switch c.IntN(3) {
	case 0:
		c.truth(depth)
		c.emit(opBrIf, byte(l))
	case 1:
		c.truth(depth) // only sometimes
		c.emit(opIf, typeNone)
		c.labels = append(c.labels, label{})
		if target.value {
			c.value(depth + 1)
		}
		c.labels = c.labels[:len(c.labels)-1]
		c.emit(opBr, byte(l)+1, opEnd)
	default:
		var same []byte
		for i := range c.labels {
			if at := c.labels[len(c.labels)-1-i]; at.value == target.value {
				same = append(same, byte(i))
			}
		}
		c.value(depth + 1)
		c.emit(0xa7, opI32Const, 7, opI32And, opBrTable, 3)
		for range 3 {
			c.emit(same[c.IntN(len(same))])
		}
		c.emit(byte(l))
		return // what comes now is never executed
	}
	if target.value {
		c.emit(opDrop)
	}
}

func (c *composer) statements(depth int) {
	for range c.IntN(4) {
		if c.size--; c.size < 0 || depth > 6 {
			return
		}
		switch c.IntN(10) {
		case 0, 1, 2:
			c.value(depth + 1)
			c.emit(opLocalSet, c.local())
		case 3:
			c.value(depth + 1)
			c.emit(opGlobalGet, hash, opI64Const, 31, 0x7e, opI64Add, opGlobalSet, hash)
		case 4:
			c.value(depth + 1)
			c.emit(0xa7, opI32Const, 0xff, 7, opI32And)
			c.value(depth + 1)
			c.emit(0x37, 3, 8) // store
		case 5, 6, 7:
			c.block(depth, false)
		case 8:
			c.branch(depth)
		default:
			c.bulk(depth)
		}
	}
}

func (c *composer) bulk(depth int) {
	for range 2 {
		c.value(depth + 1)
		c.emit(0xa7, opI32Const, 0xff, 7, opI32And)
	}
	c.value(depth + 1)
	c.emit(0xa7, opI32Const, 0xff, 15, opI32And)
	if c.IntN(2) == 0 {
		c.emit(opBulk, bulkMemoryCopy, 0, 0)
	} else {
		c.emit(opBulk, bulkMemoryFill, 0)
	}
}

// compose returns a random module.
func compose(seed uint64) []byte {
	var kinds, bodies [][]byte
	items := []byte{0, opI32Const, 0, opEnd, randomFunctions}
	exports := [][]byte{export("hash", 3, hash), export("budget", 3, budget), export("memory", 2, 0)}
	for i := range randomFunctions {
		c := &composer{Rand: rand.New(rand.NewPCG(seed, uint64(i))), size: 150, self: i}
		c.labels = []label{{value: true}}
		c.pay()
		for c.size > 0 {
			c.statements(0)
		}
		c.value(0)
		kinds = append(kinds, []byte{typeF})
		bodies = append(bodies, fn([]byte{1, locals - 2, typeI64}, c.out...))
		items = append(items, byte(i))
		exports = append(exports, export(string(rune('a'+i)), 0, byte(i)))
	}
	kinds = append(kinds, []byte{typeF})
	bodies = append(bodies, fn(none, opLocalGet, 1, opI64Const, 3, opI64Add))
	return bin(
		sec(secType, []byte{0x60, 2, typeI32, typeI64, 1, typeI64}, []byte{0x60, 1, typeI64, 1, typeI64}),
		sec(secFunction, kinds...), sec(secTable, []byte{typeFuncref, 0, randomFunctions}), sec(secMemory, []byte{0, 1}),
		sec(secGlobal, []byte{typeI64, 1, opI64Const, 0, opEnd}, []byte{typeI64, 1, opI64Const, 0, opEnd}),
		sec(secExport, exports...), sec(secElement, items), sec(secCode, bodies...))
}

// Whatever a module does, it does with fuel too, and pays for all of it. That is
// asked of wazero's interpreter: its compiler (1.12.0) has one in two hundred of the
// plain modules do something else, see wazero's issue 2516.
func TestRandomModules(t *testing.T) {
	var charged, executed, looks int64
	for seed := range uint64(*seeds) {
		code := compose(seed)
		h := &host{slice: 1 << 40, limit: 1 << 40}
		few := &host{slice: 50, limit: 1 << 40}
		on := func(h *host, code []byte) api.Module {
			return h.instanceOf(t, code, wazero.NewRuntimeConfigInterpreter())
		}
		instances := []struct {
			h *host
			m api.Module
		}{{h, on(h, code)}, {h, on(h, exact(t, code))}, {h, on(h, instrument(t, code))}, {few, on(few, instrument(t, code))}}
		for i := range randomFunctions {
			var want [4]uint64
			var spent []int64
			for at, in := range instances {
				in.m.ExportedGlobal("budget").(api.MutableGlobal).Set(200)
				res, err := in.h.call(in.m, string(rune('a'+i)), uint64(i*7), seed*0x9e3779b97f4a7c15)
				if err != nil {
					t.Fatalf("seed %d, function %d, as %d: %v", seed, i, at, err)
				}
				memory, _ := in.m.Memory().Read(0, 1<<16)
				got := [4]uint64{res[0], in.m.ExportedGlobal("hash").Get(), in.m.ExportedGlobal("budget").Get(), uint64(crc32.ChecksumIEEE(memory))}
				if at == 0 {
					want = got
				} else if got != want {
					t.Fatalf("seed %d, function %d, as %d: %x, want %x", seed, i, at, got, want)
				}
				spent = append(spent, in.h.spent)
			}
			if spent[2] != spent[3] || spent[2] < spent[1] {
				t.Errorf("seed %d, function %d: %d units charged, %d in small slices; %d executed", seed, i, spent[2], spent[3], spent[1])
			}
			executed += spent[1]
			charged += spent[2]
			looks += few.refills
		}
	}
	t.Logf("%d units executed, %d charged, %d refills", executed, charged, looks)
	if charged > 4*executed {
		t.Errorf("%d units charged for %d", charged, executed)
	}
}

func FuzzInstrument(f *testing.F) {
	for seed := range uint64(20) {
		f.Add(compose(seed))
	}
	for _, code := range endless() {
		f.Add(code)
	}
	f.Add(single(i64s, sumTo()))
	f.Add(binary.LittleEndian.AppendUint32([]byte("\x00asm"), 1))
	f.Fuzz(stillCompiles)
}
