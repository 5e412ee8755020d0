package fuel

import "fmt"

// A malformed is what of a module can't be read, and where. It is a panic until
// Instrument returns it.
type malformed struct {
	section string
	offset  int // in the module
	msg     string
}

func (e *malformed) Error() string {
	if e.section == "" {
		return fmt.Sprintf("offset %#x: %s", e.offset, e.msg)
	}
	return fmt.Sprintf("%s section, offset %#x: %s", e.section, e.offset, e.msg)
}

// A reader takes a module apart. What isn't there is a panic of *malformed.
type reader struct {
	b       []byte
	pos     int
	base    int // offset of b in the module
	section string

	keep bool   // what is read is kept
	kept []byte // in its shortest form
}

func (r *reader) fail(format string, args ...any) {
	panic(&malformed{r.section, r.base + r.pos, fmt.Sprintf(format, args...)})
}

func (r *reader) left() int    { return len(r.b) - r.pos }
func (r *reader) rest() []byte { return r.b[r.pos:] }

func (r *reader) next() byte {
	if r.pos >= len(r.b) {
		r.fail("it ends too early")
	}
	r.pos++
	return r.b[r.pos-1]
}

func (r *reader) byte() byte {
	b := r.next()
	if r.keep {
		r.kept = append(r.kept, b)
	}
	return b
}

func (r *reader) bytes(n int) []byte {
	if n > r.left() {
		r.fail("it ends %d bytes too early", n-r.left())
	}
	r.pos += n
	b := r.b[r.pos-n : r.pos]
	if r.keep {
		r.kept = append(r.kept, b...)
	}
	return b
}

// sub returns a reader of the next n bytes.
func (r *reader) sub(n int) *reader {
	s := &reader{base: r.base + r.pos, section: r.section}
	s.b = r.bytes(n)
	return s
}

// uleb reads an unsigned number of 32 bits at most.
func (r *reader) uleb() uint32 {
	var v uint32
	for shift := 0; ; shift += 7 {
		b := r.next()
		if shift == 28 && b > 0x0f {
			r.fail("a number that is too large")
		}
		v |= uint32(b&0x7f) << shift
		if b < 0x80 {
			if r.keep {
				r.kept = uleb(r.kept, v)
			}
			return v
		}
	}
}

// sleb reads a signed number of the given bits.
func (r *reader) sleb(bits int) int64 {
	var v int64
	for shift := 0; ; shift += 7 {
		if shift >= bits {
			r.fail("a number that is too large")
		}
		b := r.next()
		if shift == 63 && b != 0 && b != 0x7f {
			r.fail("a number that is too large")
		}
		v |= int64(b&0x7f) << shift
		if b < 0x80 {
			if shift += 7; shift < 64 && b&0x40 != 0 {
				v |= -1 << shift
			}
			if v>>(bits-1) != 0 && v>>(bits-1) != -1 {
				r.fail("a number that is too large")
			}
			if r.keep {
				r.kept = sleb(r.kept, v)
			}
			return v
		}
	}
}

// length reads the length of something that follows, or the number of items of a
// list, each of which takes a byte at least.
func (r *reader) length() int {
	n := r.uleb()
	if uint64(n) > uint64(r.left()) { //nolint:gosec // not negative
		r.fail("a length of %d, and %d bytes are left", n, r.left())
	}
	return int(n)
}

// index reads an index that has to be less than n, which is how many there are.
func (r *reader) index(of string, n int) uint32 {
	at := r.pos
	i := r.uleb()
	if uint64(i) >= uint64(n) { //nolint:gosec // not negative
		r.pos = at
		r.fail("%s %d, and there are %d", of, i, n)
	}
	return i
}

func (r *reader) name() []byte { return r.bytes(r.length()) }

// done is called where a list ought to be read.
func (r *reader) done() {
	if r.left() > 0 {
		r.fail("%d bytes too many", r.left())
	}
}

// types reads a list of types of values.
func (r *reader) types() []byte {
	start := r.pos
	list := r.bytes(r.length())
	for i, t := range list {
		if !isValue(t) {
			r.pos = start + i
			r.without(newTypes, uint32(t))
			r.fail("the unknown type %#x", t)
		}
	}
	return list
}

// Types of values.
const (
	typeI32       = 0x7f
	typeI64       = 0x7e
	typeV128      = 0x7b
	typeFuncref   = 0x70
	typeExternref = 0x6f
)

func isValue(t byte) bool { return t >= typeV128 && t <= typeI32 || isReference(t) }

func isReference(t byte) bool { return t == typeFuncref || t == typeExternref }

// global reads the type of a global.
func (r *reader) global() []byte {
	start := r.pos
	t := r.bytes(2)
	if !isValue(t[0]) || t[1] > 1 {
		r.pos = start
		r.without(newTypes, uint32(t[0]))
		r.fail("the unknown type %#x of a global", t)
	}
	return t
}

func (r *reader) reference() byte {
	t := r.byte()
	if !isReference(t) {
		r.pos--
		r.without(newTypes, uint32(t))
		r.fail("the unknown type of references %#x", t)
	}
	return t
}

func (r *reader) limits() {
	flags := r.byte()
	if flags > 1 {
		r.without(newLimits, uint32(flags))
		r.fail("limits of the unknown kind %d", flags)
	}
	r.uleb()
	if flags == 1 {
		r.uleb()
	}
}
