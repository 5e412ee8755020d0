package prose_test

import (
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cloudburst-nats/cloudburst/internal/prose"
)

const root = "../.."

// documents reads all of the project's Markdown, by path from the root.
func documents(t *testing.T) map[string][]prose.Block {
	t.Helper()
	files, err := prose.Documents(root)
	if err != nil {
		t.Fatal(err)
	}
	docs := make(map[string][]prose.Block, len(files))
	for _, file := range files {
		blocks, err := prose.Read(filepath.Join(root, file))
		if err != nil {
			t.Fatal(err)
		}
		docs[file] = blocks
	}
	if docs["README.md"] == nil || docs["docs/wire.md"] == nil {
		t.Fatalf("found %d documents, and not all: %v", len(files), files)
	}
	return docs
}

func TestLinksLeadSomewhere(t *testing.T) {
	docs := documents(t)
	checked := 0
	for file, blocks := range docs {
		for _, b := range blocks {
			for _, target := range b.Links() {
				u, err := url.Parse(target)
				if err != nil {
					t.Errorf("%s:%d: link %q: %v", file, b.Line, target, err)
					continue
				}
				if u.Scheme != "" {
					continue
				}
				checked++
				if why := dead(docs, file, u); why != "" {
					t.Errorf("%s:%d: link %q: %s", file, b.Line, target, why)
				}
			}
		}
	}
	if checked < 50 {
		t.Errorf("checked %d links; want all of them, which are more than 50", checked)
	}
}

// dead returns why a relative link leads nowhere, or "".
func dead(docs map[string][]prose.Block, from string, u *url.URL) string {
	to := from
	if u.Path != "" {
		to = filepath.Join(filepath.Dir(from), u.Path)
		if _, err := os.Stat(filepath.Join(root, to)); err != nil {
			return "there is no such file"
		}
	}
	if u.Fragment == "" {
		return ""
	}
	for _, b := range docs[to] {
		if b.Kind == prose.Heading && prose.Anchor(b.Lines[0]) == u.Fragment {
			return ""
		}
	}
	return to + " has no such heading"
}

// Every decision is in the index, and every page of docs is on the map.
func TestEveryPageIsListed(t *testing.T) {
	docs := documents(t)
	listed := make(map[string]bool)
	for _, index := range []string{"docs/index.md", "docs/adr/README.md"} {
		for _, b := range docs[index] {
			for _, target := range b.Links() {
				path, _, _ := strings.Cut(target, "#")
				listed[filepath.Join(filepath.Dir(index), path)] = true
			}
		}
	}
	for file := range docs {
		if strings.HasPrefix(file, "docs/") && file != "docs/index.md" && !listed[file] {
			t.Errorf("%s: neither docs/index.md nor docs/adr/README.md links to it", file)
		}
	}
}
