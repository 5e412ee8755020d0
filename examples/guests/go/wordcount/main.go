// Wordcount counts the words of a text: {"and":2,"the":5}. Words are letters, digits
// and all that isn't ASCII; capitals are taken for small letters. The text is a JSON
// string, or a value of any other type.
package main

import (
	"encoding/json"
	"strings"

	"github.com/cloudburst-nats/cloudburst/examples/guests/go/cloudburst"
)

func main() {
	arg, err := cloudburst.Argument()
	cloudburst.Must(err)
	text := string(arg.Body)
	if arg.IsJSON() && text != "" {
		cloudburst.Must(json.Unmarshal(arg.Body, &text))
	}
	counts := make(map[string]int)
	for word := range strings.FieldsFuncSeq(strings.ToLower(text), between) {
		counts[word]++
	}
	cloudburst.Must(cloudburst.Return(counts))
}

// between says whether a character separates words.
func between(r rune) bool {
	letter := r >= 'a' && r <= 'z'
	digit := r >= '0' && r <= '9'
	return !letter && !digit && r < 0x80
}
