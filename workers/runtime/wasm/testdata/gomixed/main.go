// A command in Go that has an export as reactors do.
package main

import (
	"io"
	"os"
)

func main() {
	if _, err := io.Copy(os.Stdout, os.Stdin); err != nil {
		panic(err)
	}
}

// handler is what a command never runs.
//
//go:wasmexport handler
func handler() { panic("it runs") }
