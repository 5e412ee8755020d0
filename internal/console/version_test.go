package console

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

func TestVersionIsTheNewestOfTheChangelog(t *testing.T) {
	changes, err := os.ReadFile("../../CHANGELOG.md")
	if err != nil {
		t.Fatal(err)
	}
	newest := regexp.MustCompile(`(?m)^## \[(\d+\.\d+\.\d+)\]`).FindSubmatch(changes)
	if newest == nil || "v"+string(newest[1]) != version {
		t.Errorf("the newest version of CHANGELOG.md: got %q, want %s", newest, version)
	}
	out, _, _ := shell{}.run(t.Context(), "version")
	if !strings.HasPrefix(out, "cloudburst "+version+" (") {
		t.Errorf("cloudburst version: got %q, want %s in front", out, version)
	}
}
