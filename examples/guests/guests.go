// Package guests holds example functions for cloudburst's WebAssembly runtime,
// built from the sources in its directories: for tests and demonstrations that are
// to run where there are no compilers. make prebuilt builds them again; a test
// tells when a source has changed since. README.md says what there is.
package guests

import _ "embed" // for the modules below

// square: a number in, its square out. It uses nothing but standard input and output.
var (
	//go:embed prebuilt/square-c.wasm
	SquareC []byte
	//go:embed prebuilt/square-as.wasm
	SquareAssemblyScript []byte
)

// counter: the name of a page in, as a JSON string; how often it was visited, this
// time included, out. It counts in the lattice "visits:<page>".
var (
	//go:embed prebuilt/counter-c.wasm
	CounterC []byte
	//go:embed prebuilt/counter-as.wasm
	CounterAssemblyScript []byte
)

// WordCountC is wordcount: a text in, an object of how often each word is in it out.
//
//go:embed prebuilt/wordcount-c.wasm
var WordCountC []byte

// PongAssemblyScript is pong: it puts its id under the key in its argument, and answers
// one message, a number, with the next number.
//
//go:embed prebuilt/pong-as.wasm
var PongAssemblyScript []byte
