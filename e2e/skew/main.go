// Command skew makes a clock wrong: it writes an overlay for `go build -overlay` by which
// the wall clock of the program that is built is off. The monotonic clock stays right, as
// on a machine whose time is set.
//
//	go run ./e2e/skew DIR
//	go build -overlay DIR/overlay.json -o bin/skewed ./cmd/cloudburst
//	CLOUDBURST_CLOCK=1m bin/skewed server
//
// A Go program asks the kernel for the time without a call of the C library, so that no
// preloaded library can change it. The overlay replaces time.Now in a copy of the standard
// library's own source, of whichever version builds the program.
//
// CLOUDBURST_CLOCK says how far ahead the clock is: "1m", "-5ms". With "45s,-1s,2s,-40s"
// it is 45 s ahead at first, and set back by 1 s every 2 s until it is 40 s behind.
package main

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

//go:embed skew.go.txt
var skewed string

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: skew DIR")
		os.Exit(2)
	}
	if err := write(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "skew:", err)
		os.Exit(1)
	}
}

// write makes the overlay and its files in a directory.
func write(dir string) error {
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return fmt.Errorf("find Go's source: %w", err)
	}
	std := filepath.Join(strings.TrimSpace(string(out)), "src", "time")
	source, err := os.ReadFile(filepath.Join(std, "time.go"))
	if err != nil {
		return fmt.Errorf("read Go's source: %w", err)
	}
	patched, err := patch(string(source))
	if err != nil {
		return fmt.Errorf("%s: %w", filepath.Join(std, "time.go"), err)
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	files := map[string]string{"time.go": patched, "skew.go": skewed}
	overlay := struct{ Replace map[string]string }{make(map[string]string)}
	for name, text := range files {
		path := filepath.Join(dir, name+".txt") // no source of the directory's module
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return err
		}
		overlay.Replace[filepath.Join(std, name)] = path
	}
	list, err := json.MarshalIndent(overlay, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "overlay.json"), append(list, '\n'), 0o600)
}

// asks is what time.Now asks for the time with.
const asks = "func Now() Time {\n\tsec, nsec, mono := runtimeNow()\n"

// patch returns the source of time.Now that asks skewedNow.
func patch(source string) (string, error) {
	if n := strings.Count(source, asks); n != 1 {
		return "", fmt.Errorf("time.Now isn't as expected in this version of Go (%d matches of %q): adapt e2e/skew", n, asks)
	}
	return strings.Replace(source, asks, strings.Replace(asks, "runtimeNow", "skewedNow", 1), 1), nil
}
