package fuel

import (
	"fmt"

	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
)

// Features are what modules may use: what WebAssembly 2.0 has, tail calls and extended
// constants. Instrument meters these, and refuses all else by name.
const Features = api.CoreFeaturesV2 | experimental.CoreFeaturesTailCall | experimental.CoreFeaturesExtendedConst

// A proposal is something that modules can use and that isn't supported, with what to do.
type proposal struct{ name, remedy string }

var (
	exceptions = proposal{"exception handling", "build without exceptions (C++: -fno-exceptions; Rust: panic = \"abort\")"}
	threads    = proposal{"threads and atomics", "build without -pthread"}
	collection = proposal{"garbage collection", "build for a runtime that brings its own"}
	references = proposal{"typed function references", "build without them"}
	memory64   = proposal{"64-bit memories", "build for wasm32"}
	memories   = proposal{"several memories", "build with one"}
	relaxed    = proposal{"relaxed vectors", "build without -mrelaxed-simd"}
	wide       = proposal{"wide arithmetic", "build without it"}
	pages      = proposal{"memory pages of another size", "build with the usual 64 KiB"}
)

func (p proposal) String() string { return fmt.Sprintf("%s (not supported): %s", p.name, p.remedy) }

// without fails if what a module has is one of a proposal's.
func (r *reader) without(what map[uint32]proposal, is uint32) {
	if p, known := what[is]; known {
		r.fail("it uses %v", p)
	}
}

// What the proposals add, by the numbers that it has in the binary format.
var (
	newSections = map[uint32]proposal{13: exceptions}
	newImports  = map[uint32]proposal{4: exceptions}
	newForms    = map[uint32]proposal{0x5e: collection, 0x5f: collection, 0x50: collection, 0x4f: collection, 0x4e: collection, 0x5d: {"stack switching", "build without it"}}
	newTypes    = map[uint32]proposal{
		0x69: exceptions, 0x74: exceptions, 0x63: references, 0x64: references, 0x6e: collection, 0x6d: collection, 0x6c: collection, 0x6b: collection, 0x6a: collection,
		0x71: collection, 0x72: collection, 0x73: collection,
	}
	newLimits = map[uint32]proposal{2: threads, 3: threads, 4: memory64, 5: memory64, 6: memory64, 7: memory64, 8: pages, 9: pages}
	newOps    = map[uint32]proposal{
		0x06: exceptions, 0x07: exceptions, 0x08: exceptions, 0x09: exceptions, 0x0a: exceptions, 0x18: exceptions, 0x19: exceptions, 0x1f: exceptions,
		0x14: references, 0x15: references, 0xd4: references, 0xd5: references, 0xd6: references, 0xd3: collection, 0xfb: collection, 0xfe: threads,
	}
	newBulk = map[uint32]proposal{19: wide, 20: wide, 21: wide, 22: wide}
)
