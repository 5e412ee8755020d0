package fuel

import "fmt"

// An Error says what of a module can't be read, and where.
type Error struct {
	Offset int // in the module
	Msg    string
}

func (e *Error) Error() string { return fmt.Sprintf("offset %#x: %s", e.Offset, e.Msg) }

// A reader takes a module apart. What isn't there is a panic of *Error, which
// Instrument returns.
type reader struct {
	b    []byte
	pos  int
	base int // offset of b in the module
}

func (r *reader) fail(format string, args ...any) {
	panic(&Error{r.base + r.pos, fmt.Sprintf(format, args...)})
}

func (r *reader) left() int    { return len(r.b) - r.pos }
func (r *reader) rest() []byte { return r.b[r.pos:] }

func (r *reader) byte() byte { return r.bytes(1)[0] }

func (r *reader) bytes(n int) []byte {
	if n > r.left() {
		r.fail("it ends here, %d bytes early", n-r.left())
	}
	r.pos += n
	return r.b[r.pos-n : r.pos]
}

// sub returns a reader of the next n bytes.
func (r *reader) sub(n int) *reader {
	s := &reader{base: r.base + r.pos}
	s.b = r.bytes(n)
	return s
}

// uleb reads an unsigned number of 32 bits at most.
func (r *reader) uleb() uint64 {
	var v uint64
	for shift := 0; ; shift += 7 {
		b := r.byte()
		if shift == 28 && b > 0x0f {
			r.fail("a number that is too large")
		}
		v |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return v
		}
	}
}

// skipSigned reads over a signed number of the given bits.
func (r *reader) skipSigned(bits int) {
	for most := (bits + 6) / 7; r.byte() >= 0x80; {
		if most--; most == 0 {
			r.fail("a number that is too large")
		}
	}
}

// length reads the length of something that follows.
func (r *reader) length() int {
	n := r.uleb()
	if n > uint64(r.left()) { //nolint:gosec // not negative
		r.fail("a length of %d: there are %d bytes", n, r.left())
	}
	return int(n) //nolint:gosec // compared just before
}

// count reads the number of items of a list: each takes a byte at least.
func (r *reader) count() int { return r.length() }

func (r *reader) name() []byte { return r.bytes(r.length()) }

// importDesc reads over what is imported and returns its kind.
func (r *reader) importDesc() byte {
	kind := r.byte()
	switch kind {
	case 0:
		r.uleb()
	case 1:
		r.byte()
		r.limits()
	case 2:
		r.limits()
	case 3:
		r.bytes(2)
	default:
		r.fail("an import of the unknown kind %d", kind)
	}
	return kind
}

func (r *reader) limits() {
	flags := r.byte()
	if flags > 1 {
		r.fail("limits of the unknown kind %d: shared and 64-bit memories are not known", flags)
	}
	r.uleb()
	if flags == 1 {
		r.uleb()
	}
}

// Opcodes that mean something to us.
const (
	opBlock              = 0x02
	opLoop               = 0x03
	opIf                 = 0x04
	opEnd                = 0x0b
	opBr                 = 0x0c
	opBrTable            = 0x0e
	opReturn             = 0x0f
	opCall               = 0x10
	opCallIndirect       = 0x11
	opReturnCall         = 0x12
	opReturnCallIndirect = 0x13
	opRefFunc            = 0xd2
	opMisc               = 0xfc
)

// An instruction is one of a function's or constant expression's.
type instruction struct {
	op    byte
	raw   []byte // with what follows the opcode
	index uint64 // of call, return_call and ref.func: the function
	bulk  bool   // the last operand says how much of a memory or table it changes
}

func (r *reader) instruction() (in instruction) {
	start := r.pos
	in.op = r.byte()
	switch op := in.op; {
	case op == opCall, op == opReturnCall, op == opRefFunc:
		in.index = r.uleb()
	case op == opBlock, op == opLoop, op == opIf:
		r.skipSigned(33)
	case op == opBrTable:
		for range r.count() + 1 {
			r.uleb()
		}
	case op == opCallIndirect, op == opReturnCallIndirect:
		r.uleb()
		r.uleb()
	case op == 0x1c: // select of a type
		r.bytes(r.count())
	case op == 0x0c, op == 0x0d, op >= 0x20 && op <= 0x26, op == 0x3f, op == 0x40: // br, variables, tables, memory's size
		r.uleb()
	case op >= 0x28 && op <= 0x3e: // loads and stores
		r.memarg()
	case op == 0x41:
		r.skipSigned(32)
	case op == 0x42:
		r.skipSigned(64)
	case op == 0x43:
		r.bytes(4)
	case op == 0x44:
		r.bytes(8)
	case op == 0xd0:
		r.byte()
	case op == opMisc:
		in.bulk = r.bulk()
	case op == 0xfd:
		r.vector()
	case op <= 0x01, op == 0x05, op == opEnd, op == 0x0f, op == 0x1a, op == 0x1b, op >= 0x45 && op <= 0xc4, op == 0xd1:
	default:
		r.pos = start
		r.fail("the unknown instruction %#x: threads, exceptions and garbage collection are not supported", op)
	}
	in.raw = r.b[start:r.pos]
	return in
}

func (r *reader) memarg() {
	r.uleb()
	r.uleb()
}

// bulk reads over an instruction with the prefix 0xfc, and says whether it is one
// whose last operand is a length.
func (r *reader) bulk() bool {
	switch op := r.uleb(); op {
	case 0, 1, 2, 3, 4, 5, 6, 7: // saturating conversions
		return false
	case 9, 13, 16: // drop a segment; the size of a table
		r.uleb()
		return false
	case 11, 15, 17: // memory.fill, table.grow, table.fill
		r.uleb()
		return true
	case 8, 10, 12, 14: // init and copy, of two memories, tables or segments
		r.uleb()
		r.uleb()
		return true
	default:
		r.fail("the unknown instruction 0xfc %d", op)
		return false
	}
}

// vector reads over an instruction with the prefix 0xfd.
func (r *reader) vector() {
	switch op := r.uleb(); {
	case op <= 11, op == 92, op == 93: // loads and stores
		r.memarg()
	case op == 12, op == 13: // a constant, a shuffle
		r.bytes(16)
	case op >= 21 && op <= 34: // a lane
		r.byte()
	case op >= 84 && op <= 91: // loads and stores of a lane
		r.memarg()
		r.byte()
	case op <= 275:
	default:
		r.fail("the unknown instruction 0xfd %d", op)
	}
}
