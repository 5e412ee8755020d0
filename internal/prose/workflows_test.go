package prose_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The forge runs what anybody can run here: .ci/run, and targets of the Makefile.
func TestWorkflowsRunWhatThereIs(t *testing.T) {
	makefile := read(t, "Makefile")
	check, nightly := read(t, ".github/workflows/check.yml"), read(t, ".github/workflows/nightly.yml")
	if !strings.Contains(check, "run: .ci/run\n") {
		t.Error("check.yml doesn't run .ci/run")
	}
	if info, err := os.Stat(filepath.Join(root, ".ci/run")); err != nil || info.Mode()&0o111 == 0 {
		t.Errorf(".ci/run can't be run: %v", err)
	}
	list := regexp.MustCompile(`target: \[(.*)\]`).FindStringSubmatch(nightly)
	if list == nil {
		t.Fatal("nightly.yml has no list of targets")
	}
	for target := range strings.SplitSeq(list[1], ", ") {
		if !regexp.MustCompile(`(?m)^` + target + `:`).MatchString(makefile) {
			t.Errorf("nightly.yml runs make %s, which the Makefile doesn't have", target)
		}
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, file))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
