package fuel

import (
	"bytes"
	"unicode/utf8"
)

// custom copies a custom section. The names of functions move with them: they are
// what a guest's stack shows. What debuggers read is dropped, since it says where
// code was before; and names that can't be read.
func (m *module) custom(out []byte, r *reader, h *bulks) []byte {
	name := r.name()
	if bytes.HasPrefix(name, []byte(".debug_")) {
		return out
	}
	if string(name) != "name" {
		return sized(append(out, secCustom), r.b)
	}
	names, ok := m.names(r, h)
	if !ok {
		return out
	}
	return sized(append(out, secCustom), append(sized(nil, name), names...))
}

func (m *module) names(r *reader, h *bulks) (out []byte, ok bool) {
	defer func() {
		if p := recover(); p != nil {
			if _, unreadable := p.(*malformed); !unreadable {
				panic(p)
			}
			out, ok = nil, false
		}
	}()
	for last := -1; r.left() > 0; {
		id := r.byte()
		sub := r.sub(r.length())
		if int(id) <= last {
			r.fail("names in the wrong order")
		}
		last = int(id)
		switch id {
		case 0:
			out = sized(append(out, id), sized(nil, utf8Name(sub)))
			sub.done()
		case 1:
			out = sized(append(out, id), m.functionNames(sub, h))
		}
	}
	return out, true
}

func (m *module) functionNames(r *reader, h *bulks) []byte {
	n := r.length()
	out := uleb(nil, uint32(n+len(h.all))) //nolint:gosec // a length
	for range n {
		out = uleb(out, m.moved(r.index("function", m.imported+len(m.functions))))
		out = sized(out, utf8Name(r))
	}
	r.done()
	for i, b := range h.all {
		out = uleb(out, h.function(uint32(i))) //nolint:gosec // a length
		out = sized(out, []byte(b.name()))
	}
	return out
}

func utf8Name(r *reader) []byte {
	name := r.name()
	if !utf8.Valid(name) {
		r.fail("a name that isn't UTF-8")
	}
	return name
}
