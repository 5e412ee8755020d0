// A reactor in Go.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"time"
)

func main() {}

//go:wasmexport handler
func handler() {
	if _, err := io.Copy(os.Stdout, os.Stdin); err != nil {
		panic(err)
	}
}

var calls int

// count returns how many calls this memory has seen, and a random number.
//
//go:wasmexport count
func count() {
	calls++
	_ = json.NewEncoder(os.Stdout).Encode([]uint64{uint64(calls), rand.Uint64() >> 12})
}

//go:wasmexport fail
func fail() { panic("on purpose") }

// sleep returns how many milliseconds it slept while another goroutine worked.
//
//go:wasmexport sleep
func sleep() {
	began := time.Now()
	done := make(chan int)
	go func() {
		n := 0
		for range 1000 {
			n++
		}
		done <- n
	}()
	time.Sleep(20 * time.Millisecond)
	if <-done != 1000 {
		panic("lost count")
	}
	fmt.Println(time.Since(began).Milliseconds())
}
