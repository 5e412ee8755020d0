package prose_test

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/cloudburst-nats/cloudburst/internal/prose"
)

const (
	columns       = 100 // of Markdown and comments
	documentWords = 30  // of a sentence in a document
)

func TestDocumentsAreEasyToRead(t *testing.T) {
	for file, blocks := range documents(t) {
		for _, b := range blocks {
			for i, line := range b.Lines {
				if b.Kind == prose.Text && utf8.RuneCountInString(line) > columns && strings.Contains(line[:columns], " ") {
					t.Errorf("%s:%d: the line has %d columns; want %d at most", file, b.Line+i, utf8.RuneCountInString(line), columns)
				}
			}
			for _, s := range b.Sentences() {
				if n := prose.Words(s); n > documentWords {
					t.Errorf("%s:%d: the sentence has %d words; want %d at most: %s", file, b.Line, n, documentWords, s)
				}
				if found := prose.Banned(s); found != "" {
					t.Errorf("%s:%d: %q: name the thing first: %s", file, b.Line, found, s)
				}
			}
		}
	}
}

// The language of a block says what tests do with the block, so that none is passed over in
// silence.
func TestBlocksSayWhatTheyAre(t *testing.T) {
	for file, blocks := range documents(t) {
		for _, b := range blocks {
			if b.Kind != prose.Fence {
				continue
			}
			if prose.Languages[b.Lang] == "" {
				t.Errorf("%s:%d: a block of %q; want a language of prose.Languages", file, b.Line, b.Lang)
			}
			prompt := slices.ContainsFunc(b.Lines, func(line string) bool { return strings.HasPrefix(line, "$ ") })
			if prompt != (b.Lang == "console") {
				t.Errorf("%s:%d: a block of %q; want console if it has the prompt `$ `, sh if no test can run it", file, b.Line, b.Lang)
			}
		}
	}
}

func TestSentences(t *testing.T) {
	for _, test := range []struct {
		text string
		want []string
	}{
		{"One. Two three! Four?", []string{"One.", "Two three!", "Four?"}},
		{"A `x. y` is a word (see [here](a.md)). Then 0.5 s", []string{"A code is a word (see here).", "Then 0.5 s"}},
		{"- an item of\n  two lines\n- another", []string{"an item of   two lines", "another"}},
		{"| a cell. Two | **three** |", []string{"a cell.", "Two", "three"}},
		{"## A heading. Two\n\n```sh\nls. x\n```", nil},
	} {
		var got []string
		for _, b := range prose.Parse(test.text) {
			got = append(got, b.Sentences()...)
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("sentences of %q: got %q, want %q", test.text, got, test.want)
		}
	}
}

func TestBanned(t *testing.T) {
	for sentence, want := range map[string]string{
		"What a run reads is its level.":    "What",
		"What does a run read?":             "",
		"Of the three, none is dead.":       "Of the",
		"A value is one that merges.":       "one that",
		"A run reads what others wrote.":    "",
		"Whoever sees all of them goes on.": "Whoever",
	} {
		if got := prose.Banned(sentence); got != want {
			t.Errorf("Banned(%q): got %q, want %q", sentence, got, want)
		}
	}
}
