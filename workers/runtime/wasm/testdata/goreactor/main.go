// A reactor in Go: the argument comes out again.
package main

import (
	"io"
	"os"
)

func main() {}

//go:wasmexport handler
func handler() {
	if _, err := io.Copy(os.Stdout, os.Stdin); err != nil {
		panic(err)
	}
}
