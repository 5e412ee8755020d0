package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The overlay replaces files that are there, or that it adds, by files that it wrote.
func TestOverlayOfThisGo(t *testing.T) {
	dir := t.TempDir()
	if err := write(dir); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "overlay.json"))
	if err != nil {
		t.Fatal(err)
	}
	var overlay struct{ Replace map[string]string }
	if err := json.Unmarshal(text, &overlay); err != nil || len(overlay.Replace) != 2 {
		t.Fatalf("the overlay %s: %v", text, err)
	}
	for was, is := range overlay.Replace {
		text, err := os.ReadFile(is)
		if err != nil || !strings.Contains(string(text), "skewedNow()") {
			t.Errorf("%s doesn't have the skewed clock: %v", is, err)
		}
		if _, err := os.Stat(was); (err == nil) != (filepath.Base(was) == "time.go") {
			t.Errorf("%s: %v", was, err)
		}
	}
}

func TestAnotherSourceIsRefused(t *testing.T) {
	for _, source := range []string{"", "func Now() Time {\n\treturn other()\n}\n", asks + asks} {
		if _, err := patch(source); err == nil || !strings.Contains(err.Error(), "adapt") {
			t.Errorf("of %q: %v", source, err)
		}
	}
}
