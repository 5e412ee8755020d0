package wasm

import (
	"bytes"
	"os"
)

// An image is what instances are put back to: the memory, and the mutable globals
// that are no references. It doesn't change, and any number of instances may be
// put back to it at once.
type image struct {
	data    []byte // of memory; what follows is zero
	pages   uint32
	globals []global
	file    *os.File // holds data too, where that is quicker
	pagemap *os.File // the runtime's
}

const pageSize = 64 << 10

// imageOf takes the image of an instance.
func imageOf(inst *instance, pagemap *os.File) *image {
	in := inst.in
	img := &image{pagemap: pagemap}
	for _, g := range in.globals {
		if !g.reference {
			g.lo, g.hi = in.engine.GetGlobalValue(g.index)
			img.globals = append(img.globals, g)
		}
	}
	if in.buffer != nil {
		img.pages = inst.mem.Size() / pageSize
		data := bytes.TrimRight(*in.buffer, "\x00")
		if !img.share(data) {
			img.data = bytes.Clone(data)
		}
	}
	return img
}
