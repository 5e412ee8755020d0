//go:build !linux

package wasm

import "os"

// A memory is the linear memory of one instance, on Go's heap.
type memory struct {
	all  []byte
	most uint64
}

func newMemory(most uint64) *memory { return &memory{most: most} }

// Reallocate returns the first size bytes. New ones are zero.
func (m *memory) Reallocate(size uint64) []byte {
	if size > m.most {
		return nil
	}
	if size > uint64(len(m.all)) {
		all := make([]byte, min(max(size, size+size/4), m.most))
		copy(all, m.all)
		m.all = all
	}
	return m.all[:size:size]
}

// Free drops the memory.
func (m *memory) Free() { m.all = nil }

// reset makes the first used bytes, beyond which there are only zeros, what the
// image says.
func (m *memory) reset(img *image, used int) error {
	clear(m.all[copy(m.all, img.data):max(len(img.data), used)])
	return nil
}

func (img *image) share([]byte) bool { return false }

func (img *image) close() {}

func openPagemap() *os.File { return nil }
