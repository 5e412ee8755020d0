// Package prose reads the project's Markdown, so that tests can hold the documents to what
// they say: relative links lead somewhere, sentences are short, console blocks run.
//
// A document is a list of blocks. A fenced block has a language, and the language says what
// a test does with the block: see [Languages]. All other blocks are text, which sentences
// are read from. The package knows the Markdown that the project uses, and no more.
package prose

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// Languages are those that a fenced block may have.
//
// The block of a file begins with a comment that names the file, such as "# square.py".
var Languages = map[string]string{
	"console":  "commands after the prompt `$ ` and what they print: a test runs and compares them",
	"sh":       "commands that no test runs: other machines, containers, minutes. There is no prompt and no output",
	"text":     "what a program printed once: measurements and pictures",
	"go":       "a part of a program",
	"python":   "a file or a part of a program",
	"yaml":     "a file or a part of a file",
	"c":        "a file",
	"json":     "a message",
	"markdown": "a template",
}

// A Kind is what a block is.
type Kind int

// The kinds of blocks.
const (
	Text Kind = iota // a paragraph or an item of a list
	Heading
	Row // of a table
	Fence
)

// A Block is a part of a document.
type Block struct {
	Kind  Kind
	Lang  string // of a fence
	Line  int    // of its first line, from 1
	Lines []string
}

// Documents returns the Markdown files below a directory, relative to the directory.
func Documents(root string) ([]string, error) {
	var files []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		hidden := strings.HasPrefix(d.Name(), ".") && d.Name() != ".github" && path != root
		if d.IsDir() && (hidden || d.Name() == "node_modules" || d.Name() == "testdata" || d.Name() == "bin") {
			return filepath.SkipDir
		}
		if !d.IsDir() && filepath.Ext(path) == ".md" {
			rel, err := filepath.Rel(root, path)
			if err != nil {
				return err
			}
			files = append(files, rel)
		}
		return nil
	})
	return files, err
}

// Read reads a document's blocks.
func Read(path string) ([]Block, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return Parse(string(text)), nil
}

var item = regexp.MustCompile(`^\s*([-*]|\d+\.) `)

// Parse reads the blocks of a document's text.
func Parse(text string) []Block {
	var blocks []Block
	open := false // whether the next line may go on with the last block
	fence := ""   // what ends the fenced block that the line is in
	for i, line := range strings.Split(strings.TrimRight(text, "\n"), "\n") {
		trimmed := strings.TrimSpace(line)
		begin := func(kind Kind, lang string, lines ...string) {
			blocks = append(blocks, Block{Kind: kind, Lang: lang, Line: i + 1, Lines: lines})
		}
		switch {
		case fence != "":
			if trimmed == fence {
				fence = ""
				continue
			}
			last := &blocks[len(blocks)-1]
			last.Lines = append(last.Lines, line)
		case strings.HasPrefix(trimmed, "```"):
			mark := trimmed[:len(trimmed)-len(strings.TrimLeft(trimmed, "`"))]
			begin(Fence, strings.TrimSpace(strings.TrimLeft(trimmed, "`")))
			fence, open = mark, false
		case trimmed == "":
			open = false
		case strings.HasPrefix(line, "#"):
			begin(Heading, "", line)
			open = false
		case strings.HasPrefix(trimmed, "|"):
			begin(Row, "", line)
			open = false
		case open && !item.MatchString(line):
			last := &blocks[len(blocks)-1]
			last.Lines = append(last.Lines, line)
		default:
			begin(Text, "", line)
			open = true
		}
	}
	return blocks
}

var (
	codeSpan  = regexp.MustCompile("``.+?``|`[^`]*`")
	link      = regexp.MustCompile(`\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]*(?:\([^()]*\))?[^()\s]*)\)`)
	emphasis  = regexp.MustCompile(`\*+`)
	stop      = regexp.MustCompile(`([.?!])["')\]]*(\s+|$)`)
	shortened = regexp.MustCompile(`\b(e\.g|i\.e|vs|cf|[A-Z])\.$`)
)

// Links returns where the links of a block lead. Those in code are no links.
func (b Block) Links() []string {
	if b.Kind == Fence {
		return nil
	}
	var targets []string
	for _, m := range link.FindAllStringSubmatch(codeSpan.ReplaceAllString(strings.Join(b.Lines, " "), "code"), -1) {
		targets = append(targets, m[2])
	}
	return targets
}

// Code returns the inline code of a block.
func (b Block) Code() []string {
	if b.Kind == Fence {
		return nil
	}
	var spans []string
	for _, span := range codeSpan.FindAllString(strings.Join(b.Lines, " "), -1) {
		spans = append(spans, strings.TrimSpace(strings.Trim(span, "`")))
	}
	return spans
}

// Sentences returns the sentences of a text or of a table's cells, without markup. A code
// span is one word.
func (b Block) Sentences() []string {
	switch b.Kind {
	case Fence, Heading:
		return nil
	case Text, Row:
	}
	text := strings.Join(b.Lines, " ")
	if strings.ContainsAny(text, "`*[") { // most comments have no markup, and there are many
		text = codeSpan.ReplaceAllString(text, "code")
		text = emphasis.ReplaceAllString(link.ReplaceAllString(text, "$1"), "")
	}
	if b.Kind == Text {
		return Split(item.ReplaceAllString(text, ""))
	}
	var all []string
	for cell := range strings.SplitSeq(strings.Trim(strings.TrimSpace(text), "|"), "|") {
		all = append(all, Split(cell)...)
	}
	return all
}

// Split splits text into sentences.
func Split(text string) []string {
	var all []string
	begin := 0
	for _, at := range stop.FindAllStringIndex(text, -1) {
		if shortened.MatchString(text[max(begin, at[0]-3) : at[0]+1]) {
			continue
		}
		all = append(all, strings.TrimSpace(text[begin:at[1]]))
		begin = at[1]
	}
	if rest := strings.TrimSpace(text[begin:]); rest != "" {
		all = append(all, rest)
	}
	return all
}

var word = regexp.MustCompile(`[\p{L}\p{N}]`)

// Words counts the words of a sentence.
func Words(sentence string) int {
	n := 0
	for field := range strings.FieldsSeq(sentence) {
		if word.MatchString(field) {
			n++
		}
	}
	return n
}

var banned = []*regexp.Regexp{
	regexp.MustCompile(`^["(]*(What|Who|Whoever|Whatever|Whom|Whose)\b`),
	regexp.MustCompile(`^["(]*Of (the|a|an|all|what)\b`),
	regexp.MustCompile(`^["(]*For want of\b`),
	regexp.MustCompile(`\b(one that|one which|those of|that of|the former|the latter)\b`),
}

// Banned returns the words of a sentence that the style forbids: openings that stand for a
// noun, and pronouns for a thing that has a name. A question may open as it likes.
func Banned(sentence string) string {
	for i, re := range banned {
		if found := re.FindString(sentence); found != "" && (i > 0 || !strings.HasSuffix(sentence, "?")) {
			return found
		}
	}
	return ""
}

var anchorDrop = regexp.MustCompile(`[^\p{L}\p{N} _-]`)

// Anchor returns the name by which a link reaches a heading, as forges make it.
func Anchor(heading string) string {
	text := link.ReplaceAllString(strings.TrimSpace(strings.TrimLeft(heading, "#")), "$1")
	return strings.ReplaceAll(anchorDrop.ReplaceAllString(strings.ToLower(text), ""), " ", "-")
}
