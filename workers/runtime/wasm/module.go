package wasm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// A module is what its binary says of itself, as far as that matters before it is
// compiled. What compiling checks isn't checked here.
type module struct {
	imports []imported
	exports map[string]bool // functions
	memory  bool
	pages   uint64 // of memory at the start
	start   bool   // runs something when it is instantiated
	golang  bool   // was built by Go
	tables  span   // the section's body, in the binary
	dropped bool   // may drop segments
}

type imported struct{ module, name string }

// A span is a section: its header begins at whole, its body at from.
type span struct{ whole, from, to int }

const (
	sectionCustom    = 0
	sectionImport    = 2
	sectionTable     = 4
	sectionMemory    = 5
	sectionExport    = 7
	sectionStart     = 8
	sectionDataCount = 12
)

const (
	kindFunction = iota
	kindTable
	kindMemory
	kindGlobal
	kindTag
)

var (
	magic     = []byte("\x00asm")
	version1  = []byte{1, 0, 0, 0}
	component = []byte{1, 0} // the second half of a component's version
)

// parse reads the sections of a module.
func parse(code []byte) (*module, error) {
	switch {
	case len(code) == 0:
		return nil, errors.New("the file is empty; a WebAssembly module is expected")
	case !bytes.HasPrefix(code, magic[:min(len(code), len(magic))]):
		return nil, errors.New("not a WebAssembly module: it doesn't begin with \\0asm")
	case len(code) < 8:
		return nil, errors.New("the module is cut short: it ends within its first 8 bytes")
	case bytes.Equal(code[6:8], component):
		return nil, errors.New("a component, and only core modules can be run: build for wasm32-wasip1 (WASI preview 1)")
	case !bytes.Equal(code[4:8], version1):
		return nil, fmt.Errorf("WebAssembly version %d, and only version 1 can be run", binary.LittleEndian.Uint32(code[4:]))
	}
	m := &module{exports: make(map[string]bool)}
	r := &reader{b: code, at: 8}
	for r.at < len(code) && r.err == nil {
		whole := r.at
		id, size := r.byte(), r.u32()
		from := r.at
		if r.skip(size); r.err != nil {
			return nil, fmt.Errorf("the module is cut short: section %d begins at %d, has %d bytes, and the file ends at %d", id, whole, size, len(code))
		}
		body := &reader{b: code[:r.at], at: from}
		if m.section(id, body, span{whole, from, r.at}); body.err != nil {
			return nil, fmt.Errorf("section %d of the module can't be read: %w", id, body.err)
		}
	}
	return m, r.err
}

func (m *module) section(id byte, r *reader, at span) {
	switch id {
	case sectionCustom:
		m.golang = m.golang || r.name() == "go:buildid"
	case sectionImport:
		m.readImports(r)
	case sectionTable:
		m.tables = at
	case sectionMemory:
		if n := r.u32(); n > 0 {
			m.memory = true
			_, m.pages, _ = r.limits()
		}
	case sectionExport:
		for range r.count() {
			name, kind := r.name(), r.byte()
			r.u32()
			if kind == kindFunction {
				m.exports[name] = true
			}
		}
	case sectionStart:
		m.start = true
	case sectionDataCount:
		m.dropped = true // without that section there can't be memory.init and data.drop
	}
}

func (m *module) readImports(r *reader) {
	for range r.count() {
		from, name, kind := r.name(), r.name(), r.byte()
		if r.err != nil {
			return
		}
		if kind == kindTag {
			r.fail(fmt.Errorf("it imports the exception %q of %q: exception handling isn't supported; build without exceptions", name, from))
			return
		}
		if kind != kindFunction {
			r.fail(fmt.Errorf("it imports %q of %q, which is no function; the wrong ABI", name, from))
			return
		}
		r.u32()
		m.imports = append(m.imports, imported{from, name})
	}
}

// functions lists what the module exports.
func (m *module) functions() string {
	names := make([]string, 0, len(m.exports))
	for name := range m.exports {
		names = append(names, name)
	}
	slices.Sort(names)
	if len(names) == 0 {
		return "none"
	}
	const most = 20
	if len(names) > most {
		names = append(names[:most], "…")
	}
	return strings.Join(names, ", ")
}

// maxTable bounds the entries of all tables. They aren't within the memory of a
// guest, which could otherwise make its host allocate 32 GiB with one instruction.
const maxTable = 1 << 20

// boundTables returns the module with a maximum for each of its tables.
func boundTables(code []byte) ([]byte, error) {
	m, err := parse(code)
	if err != nil || m.tables == (span{}) {
		return code, err
	}
	r := &reader{b: code[:m.tables.to], at: m.tables.from}
	n := r.count()
	body := binary.AppendUvarint(nil, uint64(n))
	left := uint64(maxTable)
	for range n {
		kind := r.byte()
		flags, least, most := r.limits()
		if r.err != nil {
			break
		}
		if flags > 1 || kind != 0x70 && kind != 0x6f {
			return nil, errors.New("it has a table of a kind that isn't known")
		}
		if least > left {
			return nil, fmt.Errorf("its tables have %d entries and more, and %d is the most", least, maxTable)
		}
		if flags == 0 || most > left {
			most = max(least, left/uint64(n))
		}
		left -= most
		body = append(body, kind, 1)
		body = binary.AppendUvarint(body, least)
		body = binary.AppendUvarint(body, most)
	}
	if r.err != nil || r.at != m.tables.to {
		return nil, errors.New("its tables can't be read")
	}
	out := append(make([]byte, 0, len(code)+len(body)), code[:m.tables.whole]...)
	out = append(out, sectionTable)
	out = binary.AppendUvarint(out, uint64(len(body)))
	out = append(out, body...)
	return append(out, code[m.tables.to:]...), nil
}

// A reader reads a module's binary. After the first error it reads zeros.
type reader struct {
	b   []byte
	at  int
	err error
}

var errShort = errors.New("it is cut short")

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

func (r *reader) byte() byte {
	if r.err != nil || r.at >= len(r.b) {
		r.fail(errShort)
		return 0
	}
	r.at++
	return r.b[r.at-1]
}

func (r *reader) u32() uint32 {
	if r.err != nil {
		return 0
	}
	v, n := binary.Uvarint(r.b[r.at:min(len(r.b), r.at+5)])
	if n <= 0 || v > 1<<32-1 {
		r.fail(errors.New("a number in it is cut short or too large"))
		return 0
	}
	r.at += n
	return uint32(v)
}

// count reads how many follow, each of which takes a byte at least.
func (r *reader) count() uint32 {
	n := r.u32()
	if int64(n) > int64(len(r.b)-r.at) {
		r.fail(errShort)
		return 0
	}
	return n
}

func (r *reader) skip(n uint32) []byte {
	if r.err != nil || int64(n) > int64(len(r.b)-r.at) {
		r.fail(errShort)
		return nil
	}
	r.at += int(n)
	return r.b[r.at-int(n) : r.at]
}

func (r *reader) name() string { return string(r.skip(r.u32())) }

func (r *reader) limits() (flags byte, least, most uint64) {
	flags, least = r.byte(), uint64(r.u32())
	if flags&1 != 0 {
		most = uint64(r.u32())
	}
	return flags, least, most
}
