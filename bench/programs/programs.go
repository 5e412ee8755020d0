// Package programs holds programs that compute and do nothing else, four of those
// of the benchmarks game, as C and as WebAssembly modules: what does the sandbox
// cost? make prebuilt builds the modules again; a test tells when a source has
// changed since.
//
// A program reads N, a number in JSON, and writes a short result in JSON that is
// the same wherever it runs.
package programs

import (
	_ "embed" // for the sources and modules below
	"strings"
)

// A Program is one of them.
type Program struct {
	Name   string
	Source string // C of one file, which wants the library m and -ffp-contract=off
	Wasm   []byte // of the same: a command of WASI
	N      int    // how much it does by default: natively 0.2 to 1 s
}

//go:embed c/input.h
var input string

//go:embed c/nbody.c
var nbody string

//go:embed c/fannkuch.c
var fannkuch string

//go:embed c/mandelbrot.c
var mandelbrot string

//go:embed c/binarytrees.c
var binarytrees string

//go:embed prebuilt/nbody.wasm
var nbodyWasm []byte

//go:embed prebuilt/fannkuch.wasm
var fannkuchWasm []byte

//go:embed prebuilt/mandelbrot.wasm
var mandelbrotWasm []byte

//go:embed prebuilt/binarytrees.wasm
var binarytreesWasm []byte

// All returns the programs. Their modules are shared, and not to be written to.
func All() []Program {
	return []Program{
		{"nbody", whole(nbody), nbodyWasm, 10_000_000},
		{"fannkuch", whole(fannkuch), fannkuchWasm, 10},
		{"mandelbrot", whole(mandelbrot), mandelbrotWasm, 3500},
		{"binarytrees", whole(binarytrees), binarytreesWasm, 17},
	}
}

// whole makes one file of a source and what it includes.
func whole(source string) string {
	return strings.Replace(source, "#include \"input.h\"\n", input, 1)
}
