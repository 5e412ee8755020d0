package fuel

// Opcodes that mean something here.
const (
	opUnreachable        = 0x00
	opNop                = 0x01
	opBlock              = 0x02
	opLoop               = 0x03
	opIf                 = 0x04
	opElse               = 0x05
	opEnd                = 0x0b
	opBr                 = 0x0c
	opBrIf               = 0x0d
	opBrTable            = 0x0e
	opReturn             = 0x0f
	opCall               = 0x10
	opCallIndirect       = 0x11
	opReturnCall         = 0x12
	opReturnCallIndirect = 0x13
	opDrop               = 0x1a
	opLocalGet           = 0x20
	opLocalSet           = 0x21
	opLocalTee           = 0x22
	opGlobalGet          = 0x23
	opGlobalSet          = 0x24
	opMemorySize         = 0x3f
	opMemoryGrow         = 0x40
	opI32Const           = 0x41
	opI64Const           = 0x42
	opI32LtU             = 0x49
	opI32GtU             = 0x4b
	opI64LtS             = 0x53
	opI64LeU             = 0x58
	opI64GeS             = 0x59
	opI32Add             = 0x6a
	opI32Sub             = 0x6b
	opI32Mul             = 0x6c
	opI32And             = 0x71
	opI32ShrU            = 0x76
	opI64Add             = 0x7c
	opI64Sub             = 0x7d
	opI64Mul             = 0x7e
	opI64Shl             = 0x86
	opI64ShrU            = 0x88
	opI64ExtendU         = 0xad
	opRefFunc            = 0xd2
	opBulk               = 0xfc // a prefix
	opVector             = 0xfd // a prefix

	typeNone = 0x40 // of a block
)

// Instructions with the prefix opBulk.
const (
	bulkMemoryInit = 8
	bulkDataDrop   = 9
	bulkMemoryCopy = 10
	bulkMemoryFill = 11
	bulkTableInit  = 12
	bulkElemDrop   = 13
	bulkTableCopy  = 14
	bulkTableGrow  = 15
	bulkTableFill  = 17
)

// An instruction is one of a function's or a constant expression's.
type instruction struct {
	start, end int    // in its reader
	op         byte   // or a prefix,
	sub        uint32 // and what follows that
	a, b       uint32 // indices, or a block's type
	raw        []byte // in its shortest form
}

// A scope is what an instruction can name. An index beyond it can't be let
// through: there is more in the module that is written, the counter above all.
type scope struct {
	*module
	locals int
	labels int
}

// instruction reads one. It is good until the next is read.
//
// It is written with all numbers in their shortest form. They may be longer, but
// readers differ in what they make of that: what is a number to one is an
// instruction to the next, which could be one that nobody pays for.
func (r *reader) instruction(s *scope) (in instruction) {
	in.start = r.pos
	r.keep, r.kept = true, r.kept[:0]
	in.op = r.byte()
	switch op := in.op; {
	case op == opCall, op == opReturnCall, op == opRefFunc:
		in.a = r.index("function", s.imported+len(s.functions))
	case op == opBlock, op == opLoop, op == opIf:
		in.a = r.blockType(s)
	case op == opBr, op == opBrIf:
		in.a = r.index("label", s.labels)
	case op == opBrTable:
		for range r.length() + 1 {
			r.index("label", s.labels)
		}
	case op == opCallIndirect, op == opReturnCallIndirect:
		in.a = r.index("type", len(s.types))
		in.b = r.uleb()
	case op >= opLocalGet && op <= opLocalTee:
		in.a = r.index("local", s.locals)
	case op == opGlobalGet, op == opGlobalSet:
		in.a = r.index("global", s.globals)
	case op == 0x1c: // select of a type
		r.types()
	case op == 0x25, op == 0x26: // table.get, table.set
		in.a = r.uleb()
	case op >= 0x28 && op <= 0x3e: // loads and stores
		r.memarg()
	case op == opMemorySize, op == opMemoryGrow:
		r.memory()
	case op == 0xd0: // ref.null
		r.reference()
	case op == opI32Const:
		r.sleb(32)
	case op == opI64Const:
		r.sleb(64)
	case op == 0x43:
		r.bytes(4)
	case op == 0x44:
		r.bytes(8)
	case op == opBulk:
		r.bulk(&in)
	case op == opVector:
		r.vector(&in)
	case op <= opNop, op == opElse, op == opEnd, op == opReturn, op == opDrop, op == 0x1b, op >= 0x45 && op <= 0xc4, op == 0xd1:
	default:
		r.pos = in.start
		r.without(newOps, uint32(op))
		r.fail("the unknown instruction %#x", op)
	}
	in.end = r.pos
	in.raw, r.keep = r.kept, false
	return in
}

// blockType reads the type of a block: 0x40, a type of values, or an index, which
// is returned plus 0x100.
func (r *reader) blockType(s *scope) uint32 {
	switch t := r.sleb(33); {
	case t >= 0 && t < int64(len(s.types)):
		return uint32(t) + firstIndexed //nolint:gosec // bounded just before
	case t >= 0:
		r.fail("type %d of a block, and there are %d", t, len(s.types))
	case t == -0x40, t >= -0x80 && isValue(byte(t&0x7f)):
		return uint32(t & 0x7f) //nolint:gosec // 7 bits
	default:
		r.without(newTypes, uint32(t&0x7f)) //nolint:gosec // 7 bits
		r.fail("the unknown type %d of a block", t)
	}
	return 0
}

const firstIndexed = 0x100

func (r *reader) memarg() {
	const named = 0x40 // a memory follows
	if align := r.uleb(); align&named != 0 {
		r.fail("it uses %v", memories)
	}
	r.uleb()
}

// memory reads the index of a memory: there is one, and its index is one byte.
func (r *reader) memory() {
	if i := r.byte(); i != 0 {
		r.pos--
		r.fail("memory %d: it uses %v", i, memories)
	}
}

// bulk reads the rest of an instruction with the prefix 0xfc.
func (r *reader) bulk(in *instruction) {
	switch in.sub = r.uleb(); in.sub {
	case 0, 1, 2, 3, 4, 5, 6, 7: // saturating conversions
	case bulkMemoryFill:
		r.memory()
	case bulkMemoryCopy:
		r.memory()
		r.memory()
	case bulkMemoryInit:
		in.a = r.uleb()
		r.memory()
	case bulkDataDrop, bulkElemDrop, bulkTableGrow, 16, bulkTableFill: // of one table or segment
		in.a = r.uleb()
	case bulkTableInit, bulkTableCopy: // of two
		in.a = r.uleb()
		in.b = r.uleb()
	default:
		r.pos = in.start
		r.without(newBulk, in.sub)
		r.fail("the unknown instruction 0xfc %d", in.sub)
	}
}

// vector reads the rest of an instruction with the prefix 0xfd.
func (r *reader) vector(in *instruction) {
	in.sub = r.uleb()
	switch op := in.sub; {
	case op <= 11, op == 92, op == 93: // loads and stores
		r.memarg()
	case op == 12, op == 13: // a constant, a shuffle
		r.bytes(16)
	case op >= 21 && op <= 34: // a lane
		r.byte()
	case op >= 84 && op <= 91: // loads and stores of a lane
		r.memarg()
		r.byte()
	case op <= 0xff:
	default:
		r.pos = in.start
		r.fail("the instruction 0xfd %d: it uses %v", op, relaxed)
	}
}
