// A reactor in Go that prepares once for all calls.
package main

import (
	"encoding/json"
	"os"
)

func main() {}

var squares []int

//go:wasmexport cloudburst_prepare
func prepare() {
	for i := range 100_000 {
		squares = append(squares, i*i)
	}
}

//go:wasmexport handler
func handler() {
	var i int
	if err := json.NewDecoder(os.Stdin).Decode(&i); err != nil {
		panic(err)
	}
	squares[7]++ // nobody else is to see that
	_ = json.NewEncoder(os.Stdout).Encode(squares[i])
}
