package fuel

// An instruction that works on any number of bytes or entries is replaced by a call
// of a function that is added to the module: it takes fuel for that number, and does
// it. A lot of memory it does half by half. A little memory is copied or filled
// where the instruction was, which is three times as fast.

const (
	// small is how many bytes are a little, and bulkWeight what they cost.
	small      = 512
	bulkWeight = small >> memoryShift
	// Units are bytes of memory or entries of a table shifted by this.
	memoryShift, tableShift = 2, 0
	// halve is how many bytes are a lot: 10 to 50 µs.
	halve = 256 << 10
)

// helped says whether the instruction is replaced by a call.
func (in *instruction) helped() bool {
	if in.op != opBulk {
		return false
	}
	switch in.sub {
	case bulkMemoryInit, bulkMemoryCopy, bulkMemoryFill, bulkTableInit, bulkTableCopy, bulkTableGrow, bulkTableFill:
		return true
	}
	return false
}

// inline says whether it is replaced only if it does a lot.
func (in *instruction) inline() bool {
	return in.op == opBulk && (in.sub == bulkMemoryCopy || in.sub == bulkMemoryFill)
}

// A bulk is such an instruction with its indices.
type bulk struct{ sub, a, b uint32 }

// bulks are those of a module.
type bulks struct {
	m    *module
	all  []bulk
	find map[bulk]uint32
}

// at returns the place of an instruction among them.
func (h *bulks) at(in *instruction) uint32 {
	b := bulk{in.sub, in.a, in.b}
	i, ok := h.find[b]
	if !ok {
		i = uint32(len(h.all)) //nolint:gosec // fewer than there are instructions
		h.find[b] = i
		h.all = append(h.all, b)
	}
	return i
}

// function is the index of the function that does one, and kind that of its type.
func (h *bulks) function(at uint32) uint32 { return h.m.refill() + 1 + uint32(len(h.m.functions)) + at } //nolint:gosec // a length

func (h *bulks) kind(at uint32) uint32 { return uint32(len(h.m.types)) + 1 + at } //nolint:gosec // a length

// funcType is the type of the function, which is that of the instruction.
func (b bulk) funcType(m *module) funcType {
	item := byte(typeFuncref)
	if int64(b.a) < int64(len(m.tables)) { // else it doesn't compile
		item = m.tables[b.a]
	}
	switch b.sub {
	case bulkTableGrow:
		return funcType{[]byte{item, typeI32}, []byte{typeI32}}
	case bulkTableFill:
		return funcType{[]byte{typeI32, item, typeI32}, nil}
	default:
		return funcType{[]byte{typeI32, typeI32, typeI32}, nil}
	}
}

func (b bulk) name() string {
	return Module + "." + map[uint32]string{
		bulkMemoryInit: "memory.init", bulkMemoryCopy: "memory.copy", bulkMemoryFill: "memory.fill", bulkTableInit: "table.init",
		bulkTableCopy: "table.copy", bulkTableGrow: "table.grow", bulkTableFill: "table.fill",
	}[b.sub]
}

// instruction is what was replaced.
func (b bulk) instruction(out []byte) []byte {
	out = uleb(uleb(append(out, opBulk), b.sub), b.a)
	switch b.sub {
	case bulkMemoryInit, bulkMemoryCopy, bulkTableInit, bulkTableCopy:
		out = uleb(out, b.b)
	}
	return out
}

// bulk writes the body of a function.
func (w *writer) bulk(b bulk, self uint32) {
	params := len(b.funcType(w.m).params)
	number := byte(params - 1) // the parameter that says how many
	w.own, w.region = uint32(params), 0
	w.out = append(w.out, 1, 1, typeI64) // a local
	shift, fixed := byte(tableShift), hostWeight
	switch b.sub {
	case bulkMemoryCopy, bulkMemoryFill:
		w.halves(b.sub == bulkMemoryCopy, self)
		fallthrough
	case bulkMemoryInit:
		shift, fixed = memoryShift, bulkWeight
	}
	w.less(fixed)
	w.out = append(w.out, opLocalGet, number, opI64ExtendU, opI64Const, shift, opI64ShrU, opI64Sub)
	w.check()
	for i := range params {
		w.out = append(w.out, opLocalGet, byte(i))
	}
	w.out = append(b.instruction(w.out), opEnd)
}

// halves writes that a lot is done by two calls of the same function, unless it
// reaches beyond the end of the memory: then nothing at all must be done.
func (w *writer) halves(copies bool, self uint32) {
	const to, from, number = 0, 1, 2
	inside := func(of byte) {
		w.out = append(w.out, opLocalGet, of, opI64ExtendU, opLocalGet, number, opI64ExtendU, opI64Add,
			opMemorySize, 0, opI64ExtendU, opI64Const, 16, opI64Shl, opI64LeU)
	}
	half := func(upper bool) {
		n := []byte{opLocalGet, number, opI32Const, 1, opI32ShrU}
		for i := byte(to); i <= number; i++ {
			switch {
			case i == number && upper:
				w.out = append(append(append(w.out, opLocalGet, number), n...), opI32Sub)
			case i == number:
				w.out = append(w.out, n...)
			case upper && (i == to || copies):
				w.out = append(append(append(w.out, opLocalGet, i), n...), opI32Add)
			default:
				w.out = append(w.out, opLocalGet, i)
			}
		}
		w.out = uleb(append(w.out, opCall), self)
	}
	w.out = append(sleb(append(w.out, opLocalGet, number, opI32Const), halve), opI32GtU)
	inside(to)
	w.out = append(w.out, opI32And)
	if copies {
		inside(from)
		w.out = append(w.out, opI32And)
	}
	w.out = append(w.out, opIf, typeNone)
	if copies { // where they overlap, what is overwritten has to be copied first
		w.out = append(w.out, opLocalGet, from, opLocalGet, to, opI32LtU, opIf, typeNone)
		half(true)
		half(false)
		w.out = append(w.out, opReturn, opEnd)
	}
	half(false)
	half(true)
	w.out = append(w.out, opReturn, opEnd)
}
