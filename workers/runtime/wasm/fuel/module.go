package fuel

import (
	"encoding/binary"
	"slices"
)

// Sections of a module.
const (
	secCustom = iota
	secType
	secImport
	secFunction
	secTable
	secMemory
	secGlobal
	secExport
	secStart
	secElement
	secCode
	secData
	secDataCount
)

// order is where the sections with a number stand in a module.
var order = [...]byte{secType, secImport, secFunction, secTable, secMemory, secGlobal, secExport, secStart, secElement, secDataCount, secCode, secData}

var sectionNames = [...]string{"custom", "type", "import", "function", "table", "memory", "global", "export", "start", "element", "code", "data", "data count"}

type section struct {
	id   byte
	body *reader
}

// A module is what the rewriting has to know of one.
type module struct {
	sections []section

	types     []funcType
	tables    []byte // the type of what each holds
	globals   int    // imported and defined
	imported  int    // functions
	functions []function
}

type funcType struct{ params, results []byte }

// A function is one that the module defines.
type function struct {
	kind         int // its type
	body         *reader
	locals       int    // with the parameters
	declared     []byte // locals, as they are written
	size         int    // units in all
	calls, loops bool
	bulk         bool // copies or fills memory
}

// free says that the function isn't counted in itself but where it is called.
func (f *function) free() bool { return !f.calls && !f.loops && f.size <= freeSize }

// Bounds of what isn't bounded by the size of a module: a few bytes of it can
// declare any number of locals, for each of which an engine allocates memory.
const (
	maxLocals    = 50_000
	maxLocalsAll = 64 << 20
)

// split finds the sections.
func split(b []byte) *module {
	r := &reader{b: b}
	if len(b) < 8 || string(b[:4]) != "\x00asm" {
		r.fail("not a WebAssembly module")
	}
	r.pos = 4
	if v := binary.LittleEndian.Uint32(r.bytes(4)); v != 1 {
		r.fail("version %#x of the binary format: 1 is supported", v)
	}
	m := &module{}
	last := -1
	for r.left() > 0 {
		id := r.byte()
		if id > secDataCount {
			r.pos--
			r.without(newSections, uint32(id))
			r.fail("a section of the unknown kind %d", id)
		}
		r.section = sectionNames[id]
		body := r.sub(r.length())
		if id != secCustom {
			at := slices.Index(order[:], id)
			if at <= last {
				body.fail("it is not in its place")
			}
			last = at
		}
		m.sections = append(m.sections, section{id, body})
		r.section = ""
	}
	return m
}

// find returns a section to read; one that isn't there reads as an empty list.
func (m *module) find(id byte) *reader {
	for _, s := range m.sections {
		if s.id == id {
			fresh := *s.body
			return &fresh
		}
	}
	return &reader{b: []byte{0}}
}

// survey reads what rewriting has to know, and checks that counts are what is there.
func (m *module) survey() {
	r := m.find(secType)
	for range r.length() {
		if form := r.byte(); form != 0x60 {
			r.pos--
			r.without(newForms, uint32(form))
			r.fail("a type of the unknown form %#x", form)
		}
		m.types = append(m.types, funcType{r.types(), r.types()})
	}
	r.done()
	m.surveyImports()
	m.surveyTables()
	r = m.find(secMemory)
	for i := range r.length() {
		if i > 0 {
			r.fail("it uses %v", memories)
		}
		r.limits()
	}
	r.done()
	m.globals += m.find(secGlobal).length()
	m.find(secData).length()
	m.surveyFunctions()
}

func (m *module) surveyImports() {
	r := m.find(secImport)
	for range r.length() {
		start := r.pos
		if string(r.name()) == Module {
			r.pos = start
			r.fail("it imports the reserved module %q: it is metered already", Module)
		}
		r.name()
		switch kind := r.byte(); kind {
		case 0:
			r.index("type", len(m.types))
			m.imported++
		case 1:
			m.tables = append(m.tables, r.reference())
			r.limits()
		case 2:
			r.limits()
		case 3:
			r.global()
			m.globals++
		default:
			r.without(newImports, uint32(kind))
			r.fail("an import of the unknown kind %d", kind)
		}
	}
	r.done()
}

func (m *module) surveyTables() {
	r := m.find(secTable)
	for range r.length() {
		m.tables = append(m.tables, r.reference())
		r.limits()
	}
	r.done()
}

func (m *module) surveyFunctions() {
	r := m.find(secFunction)
	for range r.length() {
		m.functions = append(m.functions, function{kind: int(r.index("type", len(m.types)))})
	}
	r.done()
	r = m.find(secCode)
	if n := r.length(); n != len(m.functions) {
		r.fail("%d functions are declared, and %d defined", len(m.functions), n)
	}
	all := 0
	for i := range m.functions {
		f := &m.functions[i]
		f.body = r.sub(r.length())
		m.surveyFunction(f)
		if all += f.locals; all > maxLocalsAll {
			f.body.fail("over %d locals in all", maxLocalsAll)
		}
	}
	r.done()
}

// maxNested is how many blocks, and maxNestedLoops how many loops, may stand within
// each other: the compiler takes their square of time. With these it is seconds.
// Compilers of languages nest some thousand blocks at most, for large switches.
const maxNested, maxNestedLoops = 20_000, 500

// surveyFunction reads a function's locals and, once, its code.
func (m *module) surveyFunction(f *function) {
	r := f.body
	f.locals = len(m.types[f.kind].params)
	start := r.pos
	for range r.length() {
		n := r.uleb()
		if n > maxLocals || f.locals+int(n) > maxLocals {
			r.fail("over %d locals", maxLocals)
		}
		f.locals += int(n)
		if t := r.byte(); !isValue(t) {
			r.pos--
			r.without(newTypes, uint32(t))
			r.fail("the unknown type %#x", t)
		}
	}
	f.declared = r.b[start:r.pos]
	code := *r
	s := &scope{m, f.locals, 1}
	var loops []int // how many labels there were before each that is open
	for s.labels > 0 {
		in := code.instruction(s)
		if s.labels > maxNested || len(loops) > maxNestedLoops {
			code.fail("over %d blocks, or %d loops, within each other", maxNested, maxNestedLoops)
		}
		f.size += weight(&in)
		switch in.op {
		case opBlock, opIf:
			s.labels++
		case opLoop:
			loops = append(loops, s.labels)
			s.labels++
			f.loops = true
		case opEnd:
			s.labels--
			if last := len(loops) - 1; last >= 0 && loops[last] == s.labels {
				loops = loops[:last]
			}
		case opCall, opCallIndirect, opReturnCall, opReturnCallIndirect:
			f.calls = true
		case opBulk:
			f.calls = f.calls || in.helped()
			f.bulk = f.bulk || in.inline()
		}
	}
	code.done()
}

// arity is how many parameters and results a block's type has.
func (m *module) arity(t uint32) (params, results int) {
	switch {
	case t >= firstIndexed:
		kind := m.types[t-firstIndexed]
		return len(kind.params), len(kind.results)
	case t == typeNone:
		return 0, 0
	default:
		return 0, 1
	}
}
