// Package fuel has a WebAssembly module count what it executes, and ask its host
// for more when a slice of that is used up.
//
// Code that a WebAssembly compiler has made can't be interrupted: not by a
// deadline, not by Go's scheduler, not by its garbage collector, which all others
// then wait for. So the module is rewritten before it is compiled. It gets a
// counter, and at the head of each loop and function takes from it about as many
// units as instructions follow; below zero, it calls its host:
//
//	fuel -= cost of what follows
//	if fuel < 0 { refill() }
//
// The counter is a global. A function that loops keeps it in a local meanwhile,
// and writes it back before it calls another and when it ends.
//
// The host's refill sets the counter anew, and so meters; or it panics, and so
// ends the guest. What lies between two looks at the counter is bounded by the
// size of a function: a function that neither loops nor calls isn't counted in
// itself but where it is called. What fills or copies memory or tables costs a unit
// for each eight bytes or entries, before it is done.
package fuel

import (
	"encoding/binary"
	"slices"
)

const (
	// Module is the module that the function Refill is imported from.
	Module = "cloudburst_fuel"
	// Refill names the function () -> () that the module then imports. It is called
	// when the counter has gone below zero.
	Refill = "refill"
	// Global names the counter that the module then exports: a mutable i64, 0 in the
	// beginning, so that an instance first of all asks for a slice.
	Global = "cloudburst_fuel"
)

// Instrument returns the module with metering added. It is an error, which names
// the place, if the module can't be read or uses what isn't known: threads,
// exceptions and garbage collection are not.
func Instrument(module []byte) (out []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			e, ok := p.(*Error)
			if !ok {
				panic(p)
			}
			out, err = nil, e
		}
	}()
	m := split(module)
	m.survey()
	return m.rewrite(), nil
}

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

type section struct {
	id     byte
	body   []byte
	offset int // of the body, in the module
}

// A module is what the rewriting has to know of one.
type module struct {
	sections []section

	types     []signature
	typeOf    []int  // the type of each function that it defines
	imported  uint64 // functions
	globals   uint64 // imported and defined
	functions []function
}

// A signature is a type of functions: how many parameters, which results.
type signature struct {
	params  int
	results []byte
}

// A function is one that the module defines.
type function struct {
	locals, code reader // where they are
	results      []byte // their types
	own          int    // local that is free for our use; so is the next, if there is bulk
	size         uint64 // in instructions, without loops
	calls, loops bool
	bulk         bool // it fills or copies, which is counted by how much
}

// keeps says that the function keeps the counter in a local, which a processor has
// in a register, from its beginning to its end but for its calls. That is cheaper in
// loops and dearer around calls. A function of several results would need a type
// of its own for it.
func (f *function) keeps() bool { return f.loops && len(f.results) < 2 }

// free says that the function isn't counted in itself, but where it is called.
func (f *function) free() bool { return !f.calls && !f.loops && !f.bulk }

func split(b []byte) *module {
	r := &reader{b: b}
	if len(b) < 8 || string(b[:4]) != "\x00asm" {
		r.fail("not a WebAssembly module")
	}
	r.pos = 4
	if v := binary.LittleEndian.Uint32(r.bytes(4)); v != 1 {
		r.fail("version %d of the binary format: 1 is known", v)
	}
	m := &module{}
	last := -1
	for r.left() > 0 {
		id := r.byte()
		if id > secDataCount {
			r.fail("a section of the unknown kind %d", id)
		}
		body := r.sub(r.length())
		if id != secCustom {
			at := slices.Index(order[:], id)
			if at <= last {
				body.fail("section %d is not in its place", id)
			}
			last = at
		}
		m.sections = append(m.sections, section{id, body.rest(), body.base + body.pos})
	}
	return m
}

// find returns a section to read; one that isn't there reads as an empty list.
func (m *module) find(id byte) *reader {
	for _, s := range m.sections {
		if s.id == id {
			return &reader{b: s.body, base: s.offset}
		}
	}
	return &reader{b: []byte{0}}
}

// survey reads what rewriting has to know. Lists that are longer than they can be
// are refused here, all of them: the engine would make room for them first.
func (m *module) survey() {
	for _, s := range m.sections {
		if s.id != secCustom && s.id != secStart && s.id != secDataCount {
			(&reader{b: s.body, base: s.offset}).count()
		}
	}
	r := m.find(secType)
	for range r.count() {
		if form := r.byte(); form != 0x60 {
			r.fail("a type of the unknown form %#x", form)
		}
		params := r.count()
		r.bytes(params)
		m.types = append(m.types, signature{params, r.bytes(r.count())})
	}
	r = m.find(secImport)
	for range r.count() {
		r.name()
		r.name()
		switch kind := r.importDesc(); kind {
		case 0:
			m.imported++
		case 3:
			m.globals++
		}
	}
	r = m.find(secGlobal)
	m.globals += uint64(r.count())
	r = m.find(secFunction)
	for range r.count() {
		t := r.uleb()
		if t >= uint64(len(m.types)) {
			r.fail("a function of type %d: there are %d types", t, len(m.types))
		}
		m.typeOf = append(m.typeOf, int(t)) //nolint:gosec // compared just before
	}
	r = m.find(secCode)
	if n := r.count(); n != len(m.typeOf) {
		r.fail("%d functions are declared, and %d defined", len(m.typeOf), n)
	}
	for _, t := range m.typeOf {
		m.functions = append(m.functions, surveyFunction(r.sub(r.length()), m.types[t]))
	}
}

// localsAtMost is what the engine permits.
const localsAtMost = 50_000

func surveyFunction(body *reader, of signature) function {
	f := function{locals: *body, results: of.results}
	total := uint64(of.params) //nolint:gosec // a length
	for range body.count() {
		if total += body.uleb(); total > localsAtMost {
			body.fail("over %d locals", localsAtMost)
		}
		body.byte()
	}
	f.own, f.code = int(total), *body //nolint:gosec // bounded just before
	f.locals.b = body.b[:body.pos]
	depth, loops := 1, []int(nil)
	for code := *body; code.left() > 0; {
		in := code.instruction()
		if len(loops) == 0 {
			f.size++
		}
		switch in.op {
		case opLoop:
			loops = append(loops, depth)
			depth++
			f.loops = true
		case opBlock, opIf:
			depth++
		case opEnd:
			depth--
			if len(loops) > 0 && loops[len(loops)-1] == depth {
				loops = loops[:len(loops)-1]
			}
		case opCall, opCallIndirect, opReturnCall, opReturnCallIndirect:
			f.calls = true
		case opMisc:
			f.bulk = f.bulk || in.bulk
		}
		if depth == 0 && code.left() > 0 {
			code.fail("code after a function's end")
		}
	}
	if depth != 0 {
		body.fail("a function without an end")
	}
	return f
}
