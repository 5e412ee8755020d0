package deployed

import "encoding/binary"

// constant returns a WASI command that prints a text: a module of a hundred bytes
// or so, with the text in its memory, and data if there is any.
func constant(text string, data []byte) []byte {
	const iov, at = 0, 32 // where the vector of fd_write is, and the text
	const page = 65536    // the data comes after the first
	vector := binary.LittleEndian.AppendUint32(nil, at)
	vector = binary.LittleEndian.AppendUint32(vector, uint32(len(text))) //nolint:gosec // short
	memory := make([]byte, at, at+len(text))
	copy(memory[iov:], vector)
	memory = append(memory, text...)

	m := []byte("\x00asm\x01\x00\x00\x00")
	m = section(m, 1, vec( // types
		[]byte{0x60, 4, 0x7f, 0x7f, 0x7f, 0x7f, 1, 0x7f},
		[]byte{0x60, 0, 0},
	))
	m = section(m, 2, vec(concat(name("wasi_snapshot_preview1"), name("fd_write"), []byte{0x00, 0})))
	m = section(m, 3, vec([]byte{1}))
	m = section(m, 5, vec(binary.AppendUvarint([]byte{0x00}, uint64(1+(len(data)+page-1)/page))))
	m = section(m, 7, vec(
		concat(name("memory"), []byte{0x02, 0}),
		concat(name("_start"), []byte{0x00, 1}),
	))
	body := []byte{
		0,       // no locals
		0x41, 1, // stdout
		0x41, iov,
		0x41, 1, // one vector
		0x41, 16, // where to put what was written
		0x10, 0, // fd_write
		0x1a, // drop
		0x0b,
	}
	m = section(m, 10, vec(sized(body)))
	return section(m, 11, vec(
		concat([]byte{0x00, 0x41, 0, 0x0b}, sized(memory)),
		concat([]byte{0x00, 0x41, 0x80, 0x80, 0x04, 0x0b}, sized(data)), // at page
	))
}

func section(m []byte, id byte, body []byte) []byte { return append(append(m, id), sized(body)...) }

// sized puts the length before the bytes.
func sized(b []byte) []byte {
	return append(binary.AppendUvarint(nil, uint64(len(b))), b...)
}

func name(s string) []byte { return sized([]byte(s)) }

// vec puts the number of items before them.
func vec(items ...[]byte) []byte {
	return append(binary.AppendUvarint(nil, uint64(len(items))), concat(items...)...)
}

func concat(parts ...[]byte) []byte {
	var all []byte
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}
