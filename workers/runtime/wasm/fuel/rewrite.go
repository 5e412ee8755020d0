package fuel

import (
	"encoding/binary"
	"slices"
)

// rewrite writes the module anew. The import comes after the others, so that the
// functions that the module defines move up by one; all else that is added comes
// last, so that nothing else moves.
func (m *module) rewrite(plan func(*function) []point) []byte {
	h := &bulks{m: m, find: make(map[bulk]uint32)}
	code := m.codeSection(h, plan) // first: the other sections have to declare its helpers
	out := slices.Clone([]byte("\x00asm\x01\x00\x00\x00"))
	next := 0
	custom := func() {
		for ; next < len(m.sections) && m.sections[next].id == secCustom; next++ {
			out = m.custom(out, m.sections[next].body, h)
		}
	}
	for _, id := range order {
		custom()
		body := &reader{b: []byte{0}}
		there := next < len(m.sections) && m.sections[next].id == id
		if there {
			body = m.sections[next].body
			next++
		}
		if content := m.section(id, body, there, h, code); content != nil {
			out = sized(append(out, id), content)
		}
	}
	custom()
	return out
}

// section returns what a section is to be; nil if there is to be none.
func (m *module) section(id byte, r *reader, there bool, h *bulks, code []byte) []byte {
	switch {
	case id == secType:
		return m.typeSection(r, h)
	case id == secImport:
		item := sized(sized(nil, []byte(Module)), []byte(Refill))
		return added(nil, r, uleb(append(item, 0), uint32(len(m.types)))) //nolint:gosec // a length
	case id == secFunction:
		return m.functionSection(r, h)
	case id == secGlobal:
		return m.globalSection(r)
	case id == secExport:
		return m.exportSection(r)
	case !there:
		return nil
	case id == secStart:
		return uleb(nil, m.moved(r.index("function", m.imported+len(m.functions))))
	case id == secElement:
		return m.elementSection(r)
	case id == secCode:
		return code
	default:
		return r.b
	}
}

// added writes a list with more items.
func added(out []byte, r *reader, items ...[]byte) []byte {
	n := r.length()
	out = append(uleb(out, uint32(n+len(items))), r.rest()...) //nolint:gosec // a length
	for _, item := range items {
		out = append(out, item...)
	}
	return out
}

// moved is the new index of a function.
func (m *module) moved(index uint32) uint32 {
	if index >= m.refill() {
		return index + 1
	}
	return index
}

// refill is the index of the function that is imported.
func (m *module) refill() uint32 { return uint32(m.imported) } //nolint:gosec // a length

// typeSection adds the types of what is imported and of helpers.
func (m *module) typeSection(r *reader, h *bulks) []byte {
	items := [][]byte{{0x60, 0, 0}}
	for _, b := range h.all {
		kind := b.funcType(m)
		items = append(items, sized(sized([]byte{0x60}, kind.params), kind.results))
	}
	return added(nil, r, items...)
}

func (m *module) functionSection(r *reader, h *bulks) []byte {
	if len(m.functions) == 0 {
		return nil
	}
	var items [][]byte
	for i := range h.all {
		items = append(items, uleb(nil, h.kind(uint32(i)))) //nolint:gosec // a length
	}
	return added(nil, r, items...)
}

func (m *module) globalSection(r *reader) []byte {
	n := r.length()
	out := uleb(nil, uint32(n)+1) //nolint:gosec // a length
	for range n {
		out = append(out, r.global()...)
		out = m.constant(out, r)
	}
	r.done()
	return append(out, typeI64, 0x01, opI64Const, 0, opEnd) // a mutable i64, 0 at first
}

// constant copies a constant expression.
func (m *module) constant(out []byte, r *reader) []byte {
	for s := (scope{m, 0, 0}); ; {
		in := r.instruction(&s)
		switch {
		case in.op == opEnd:
			return append(out, opEnd)
		case in.op == opGlobalGet, in.op == opRefFunc, in.op == 0xd0, in.op >= opI32Const && in.op <= 0x44, in.op == opVector && in.sub == 12,
			in.op >= opI32Add && in.op <= opI32Mul, in.op >= opI64Add && in.op <= opI64Mul:
			out = m.copied(out, &in)
		default:
			r.pos = in.start
			r.fail("the instruction %#x in a constant", in.op)
		}
	}
}

// copied copies an instruction, with the new index of the function it names.
func (m *module) copied(out []byte, in *instruction) []byte {
	switch in.op {
	case opCall, opReturnCall, opRefFunc:
		return uleb(append(out, in.op), m.moved(in.a))
	default:
		return append(out, in.raw...)
	}
}

func (m *module) exportSection(r *reader) []byte {
	n := r.length()
	out := uleb(nil, uint32(n)+1) //nolint:gosec // a length
	for range n {
		name := r.name()
		if string(name) == Global {
			r.fail("it exports the reserved name %q", name)
		}
		kind := r.byte()
		out = append(sized(out, name), kind)
		switch kind {
		case 0:
			out = uleb(out, m.moved(r.index("function", m.imported+len(m.functions))))
		case 3:
			out = uleb(out, r.index("global", m.globals))
		default:
			out = uleb(out, r.uleb())
		}
	}
	r.done()
	return uleb(append(sized(out, []byte(Global)), 3), uint32(m.globals)) //nolint:gosec // a length
}

// elementSection copies the segments of tables, of all eight kinds: bit 0 says
// that it is passive or declared, bit 1 that a table or declaration follows, bit
// 2 that its items are expressions.
func (m *module) elementSection(r *reader) []byte {
	n := r.length()
	out := uleb(nil, uint32(n)) //nolint:gosec // a length
	for range n {
		flags := r.uleb()
		if flags > 7 {
			r.fail("elements of the unknown kind %d", flags)
		}
		out = uleb(out, flags)
		if flags&1 == 0 {
			if flags&2 != 0 {
				out = uleb(out, r.uleb())
			}
			out = m.constant(out, r)
		}
		switch {
		case flags&3 == 0: // functions
		case flags&4 != 0:
			out = append(out, r.reference())
		default:
			out = append(out, r.byte()) // the kind of items
		}
		items := r.length()
		out = uleb(out, uint32(items)) //nolint:gosec // a length
		for range items {
			if flags&4 != 0 {
				out = m.constant(out, r)
			} else {
				out = uleb(out, m.moved(r.index("function", m.imported+len(m.functions))))
			}
		}
	}
	r.done()
	return out
}

func (m *module) codeSection(h *bulks, plan func(*function) []point) []byte {
	w := &writer{m: m, counter: uint32(m.globals), bulks: h} //nolint:gosec // a length
	var bodies []byte
	for i := range m.functions {
		f := &m.functions[i]
		w.out = w.out[:0]
		w.function(f, plan(f))
		bodies = sized(bodies, w.out)
	}
	for i, b := range h.all {
		w.out = w.out[:0]
		w.bulk(b, h.function(uint32(i))) //nolint:gosec // a length
		bodies = sized(bodies, w.out)
	}
	return append(uleb(nil, uint32(len(m.functions)+len(h.all))), bodies...) //nolint:gosec // a length
}

func uleb(out []byte, v uint32) []byte { return binary.AppendUvarint(out, uint64(v)) }

func sleb(out []byte, v int64) []byte {
	for {
		b := byte(v & 0x7f)
		v >>= 7
		if v == 0 && b&0x40 == 0 || v == -1 && b&0x40 != 0 {
			return append(out, b)
		}
		out = append(out, b|0x80)
	}
}

// sized writes the length of something, and then that.
func sized(out, body []byte) []byte {
	return append(binary.AppendUvarint(out, uint64(len(body))), body...)
}
