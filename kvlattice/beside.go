package kvlattice

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// beside adds what only lattices read to a value that users see: one line of
// JSON, as the named header. A message may have 64 KiB of headers in all, so
// what is too long for one follows the value in the body, on a line of its own.
// The value is one line.
func beside(h wire.Header, name string, value []byte, notes any) (wire.Header, []byte) {
	text := readable(notes)
	if len(text) <= maxComponents {
		h[name] = []string{string(text)}
		return h, value
	}
	h[name] = []string{inBody}
	return h, append(append(value, '\n'), text...)
}

// readBeside reads into notes what stands beside the value that it returns.
func readBeside(e Entry, name string, notes any) (value []byte, err error) {
	value, text := e.Body, wire.First(e.Header, name)
	if text == inBody {
		first, rest, _ := strings.Cut(string(e.Body), "\n")
		value, text = []byte(first), rest
	}
	if err := json.Unmarshal([]byte(text), notes); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return value, nil
}

// A directory numbers names in the order that they are met, so that each is
// written once.
type directory struct {
	names  []string
	number map[string]uint64
}

func (d *directory) of(name string) uint64 {
	n, ok := d.number[name]
	if !ok {
		if d.number == nil {
			d.number = make(map[string]uint64)
		}
		n = uint64(len(d.names))
		d.names = append(d.names, name)
		d.number[name] = n
	}
	return n
}

// nameOf returns the n-th of the names.
func nameOf(names []string, n uint64) (string, error) {
	if n >= uint64(len(names)) {
		return "", errors.New("a number names nobody")
	}
	return names[n], nil
}

// readable returns v as JSON on one line, with nothing escaped that needn't be.
func readable(v any) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic("kvlattice: what a lattice holds is not JSON: " + err.Error())
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// headroom is how much deeper than a text JSON may nest that holds the text:
// four maps within each other and a set, with some to spare.
const headroom = 8

// fits says whether JSON text can stand within other JSON: encoding/json reads
// no more than ten thousand levels. Text with few brackets needn't be parsed.
func fits(text string) bool {
	const few = 1000
	if strings.Count(text, "[")+strings.Count(text, "{") < few {
		return true
	}
	return json.Valid([]byte(strings.Repeat("[", headroom) + text + strings.Repeat("]", headroom)))
}

// textual returns an error of wire.KindBadArgument unless all names are UTF-8:
// JSON can't hold anything else.
func textual(what string, names ...string) error {
	for _, name := range names {
		if !utf8.ValidString(name) {
			return badArgument(what + " must be UTF-8")
		}
	}
	return nil
}

func badArgument(msg string) error {
	return &wire.Error{Kind: wire.KindBadArgument, Msg: msg}
}
