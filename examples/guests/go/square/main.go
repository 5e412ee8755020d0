// Square squares a number. It needs nothing of the platform: the argument is what it
// reads, the result what it prints.
package main

import (
	"encoding/json"
	"fmt"
	"os"
)

func main() {
	var n float64
	if err := json.NewDecoder(os.Stdin).Decode(&n); err != nil {
		fmt.Fprintln(os.Stderr, "the argument is to be a number:", err)
		os.Exit(1)
	}
	if err := json.NewEncoder(os.Stdout).Encode(n * n); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
