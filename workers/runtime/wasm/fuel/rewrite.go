package fuel

import (
	"encoding/binary"
	"slices"
)

// rewrite writes the module anew. The import comes after the others, so that the
// functions that the module defines move up by one; type and global come last, so
// that nothing else moves.
func (m *module) rewrite() []byte {
	out := slices.Clone([]byte("\x00asm\x01\x00\x00\x00"))
	next := 0
	for _, id := range order {
		for next < len(m.sections) && m.sections[next].id == secCustom {
			out = m.custom(out, m.sections[next])
			next++
		}
		s := section{id: id, body: []byte{0}}
		there := next < len(m.sections) && m.sections[next].id == id
		if there {
			s = m.sections[next]
			next++
		}
		if body := m.section(s, there); body != nil {
			out = append(out, id)
			out = sized(out, body)
		}
	}
	for ; next < len(m.sections); next++ {
		out = m.custom(out, m.sections[next])
	}
	return out
}

// section returns what a section is to be; nil if there is to be none.
func (m *module) section(s section, there bool) []byte {
	r := &reader{b: s.body, base: s.offset}
	switch s.id {
	case secType:
		return added(r, []byte{0x60, 0, 0})
	case secImport:
		item := sized(sized(nil, []byte(Module)), []byte(Refill))
		return added(r, uleb(append(item, 0), uint64(len(m.types))))
	case secGlobal:
		return m.globalSection(r)
	case secExport:
		return m.exportSection(r)
	case secStart:
		if !there {
			return nil
		}
		return uleb(nil, m.moved(r.uleb()))
	case secElement:
		if !there {
			return nil
		}
		return m.elementSection(r)
	case secCode:
		return m.codeSection(there)
	default:
		if !there {
			return nil
		}
		return s.body
	}
}

// added returns a list with one more item.
func added(r *reader, item []byte) []byte {
	n := r.count()
	return append(append(uleb(nil, uint64(n)+1), r.rest()...), item...) //nolint:gosec // a length
}

// moved is the new index of a function.
func (m *module) moved(index uint64) uint64 {
	if index >= m.imported {
		return index + 1
	}
	return index
}

func (m *module) globalSection(r *reader) []byte {
	n := r.count()
	out := uleb(nil, uint64(n)+1) //nolint:gosec // a length
	for range n {
		out = append(out, r.bytes(2)...)
		out = m.constant(out, r)
	}
	return append(out, 0x7e, 0x01, 0x42, 0, opEnd) // a mutable i64, 0 at first
}

// constant copies a constant expression.
func (m *module) constant(out []byte, r *reader) []byte {
	for {
		in := r.instruction()
		out = m.copied(out, in)
		if in.op == opEnd {
			return out
		}
	}
}

// copied copies an instruction, with the new index of the function it names.
func (m *module) copied(out []byte, in instruction) []byte {
	switch in.op {
	case opCall, opReturnCall, opRefFunc:
		return uleb(append(out, in.op), m.moved(in.index))
	default:
		return append(out, in.raw...)
	}
}

func (m *module) exportSection(r *reader) []byte {
	n := r.count()
	out := uleb(nil, uint64(n)+1) //nolint:gosec // a length
	for range n {
		name := r.name()
		if string(name) == Global {
			r.fail("it exports %q itself", name)
		}
		kind, index := r.byte(), r.uleb()
		if kind == 0 {
			index = m.moved(index)
		}
		out = uleb(append(sized(out, name), kind), index)
	}
	return uleb(append(sized(out, []byte(Global)), 0x03), m.globals)
}

// elementSection copies the segments of tables, of all eight kinds: bit 0 says
// that it is passive or declared, bit 1 that a table or declaration follows, bit
// 2 that its items are expressions.
func (m *module) elementSection(r *reader) []byte {
	n := r.count()
	out := uleb(nil, uint64(n)) //nolint:gosec // a length
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
		if flags&3 != 0 {
			out = append(out, r.byte()) // the kind of item
		}
		items := r.count()
		out = uleb(out, uint64(items)) //nolint:gosec // a length
		for range items {
			if flags&4 != 0 {
				out = m.constant(out, r)
			} else {
				out = uleb(out, m.moved(r.uleb()))
			}
		}
	}
	return out
}

func (m *module) codeSection(there bool) []byte {
	if !there {
		return nil
	}
	out := uleb(nil, uint64(len(m.functions)))
	var body []byte
	for i := range m.functions {
		body = m.function(body[:0], &m.functions[i])
		out = sized(out, body)
	}
	return out
}

// function writes a function with its looks at the counter.
func (m *module) function(out []byte, f *function) []byte {
	locals := f.locals
	if f.free() {
		out = append(out, locals.rest()...)
		for code := f.code; code.left() > 0; {
			out = m.copied(out, code.instruction())
		}
		return out
	}
	out = append(out, m.locals(&locals, f)...)
	w := writer{m: m, f: f, costs: m.costs(f), out: out}
	if f.keeps() {
		w.loadCounter()
	}
	if f.calls {
		w.look(w.costs[0])
	}
	if f.keeps() {
		w.begin()
	}
	for code := f.code; code.left() > 0; {
		w.write(code.instruction())
	}
	if f.keeps() {
		w.storeCounter()
		w.out = append(w.out, opEnd)
	}
	return w.out
}

// locals returns the function's, and after them those of our own: an i64, and an
// i32 where there is bulk.
func (m *module) locals(r *reader, f *function) []byte {
	if !f.bulk {
		return added(r, []byte{1, 0x7e})
	}
	n := r.count()
	return append(append(uleb(nil, uint64(n)+2), r.rest()...), 1, 0x7e, 1, 0x7f) //nolint:gosec // a length
}

// costs returns what the function and each of its loops, in order, execute at
// most between two looks at the counter, in instructions. A call of a function
// that isn't counted costs what that does.
func (m *module) costs(f *function) []uint64 {
	costs := []uint64{1}
	type open struct {
		depth, cost int
	}
	within := []open{{0, 0}}
	depth := 1
	for code := f.code; code.left() > 0; {
		in := code.instruction()
		cost := &costs[within[len(within)-1].cost]
		*cost++
		switch in.op {
		case opCall, opReturnCall:
			if at := in.index - m.imported; in.index >= m.imported && at < uint64(len(m.functions)) && m.functions[at].free() {
				*cost += m.functions[at].size
			}
		case opLoop:
			within = append(within, open{depth, len(costs)})
			costs = append(costs, 1)
			depth++
		case opBlock, opIf:
			depth++
		case opEnd:
			depth--
			if top := within[len(within)-1]; top.depth == depth && len(within) > 1 {
				within = within[:len(within)-1]
			}
		}
	}
	return costs
}

// custom copies a custom section. The names of functions move with them: they are
// what a guest's stack shows. Names that can't be read are dropped.
func (m *module) custom(out []byte, s section) []byte {
	r := &reader{b: s.body, base: s.offset}
	if string(r.name()) != "name" {
		return sized(append(out, secCustom), s.body)
	}
	names, ok := m.names(r)
	if !ok {
		return out
	}
	return sized(append(out, secCustom), append(sized(nil, []byte("name")), names...))
}

func (m *module) names(r *reader) (out []byte, ok bool) {
	defer func() {
		if p := recover(); p != nil {
			if _, unreadable := p.(*Error); !unreadable {
				panic(p)
			}
			out, ok = nil, false
		}
	}()
	for r.left() > 0 {
		id := r.byte()
		sub := r.sub(r.length())
		if id != 1 { // of locals and others: no use
			continue
		}
		n := sub.count()
		list := uleb(nil, uint64(n)) //nolint:gosec // a length
		for range n {
			index := m.moved(sub.uleb())
			list = sized(uleb(list, index), sub.name())
		}
		out = sized(append(out, id), list)
	}
	return out, true
}

func uleb(out []byte, v uint64) []byte { return binary.AppendUvarint(out, v) }

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
