package kvlattice

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// A counter's components are one line of text. For
//
//	source   settled  total   recent
//	calls@1  1200     57      1203 (node "a", attempt 1): +2, 1207 (node "a", attempt 2): -1
//	client7  3        9
//
// it reads
//
//	calls@1|1200|57|a|3+2,4x2-1;client7|3|9
//
// An operation is its distance from the one before it (the first one's from
// the watermark), its attempt if that isn't 1, and its delta. That is 4 to 8
// bytes in practice. Names are escaped as path segments of a URL.

// maxComponents is how many bytes of components travel as a header. A message
// may have 64 KiB of headers in all; a counter with thousands of sources, or
// of operations that a stuck call keeps from being settled, is past that.
const maxComponents = 16 << 10

// inBody is the header of a counter whose components follow the number in the
// body, on a line of their own.
const inBody = "body"

// Encode returns the total as the body, and the components as a header unless
// they are too long for one.
func (c *Counter) Encode() (wire.Header, []byte) {
	h := wire.Header{HeaderKind: {string(KindCounter)}}
	body := c.Value().Body
	switch text := c.appendText(nil); {
	case len(text) > maxComponents:
		h[HeaderCounter] = []string{inBody}
		body = append(append(body, '\n'), text...)
	case len(text) > 0:
		h[HeaderCounter] = []string{string(text)}
	}
	return h, body
}

func (c *Counter) appendText(b []byte) []byte {
	for i, source := range slices.Sorted(maps.Keys(c.sources)) {
		if i > 0 {
			b = append(b, ';')
		}
		own := c.sources[source]
		b = append(b, url.PathEscape(source)...)
		b = append(b, '|')
		b = strconv.AppendUint(b, own.settled, 10)
		b = append(b, '|')
		b = strconv.AppendInt(b, own.total, 10)
		b = own.appendRecent(b)
	}
	return b
}

// appendRecent writes the operations of each node together, so that its name
// is written once.
func (c *component) appendRecent(b []byte) []byte {
	keys := slices.SortedFunc(maps.Keys(c.recent), func(x, y opKey) int {
		return cmp.Or(strings.Compare(x.node, y.node), cmp.Compare(x.seq, y.seq))
	})
	before := c.settled
	for i, key := range keys {
		if i == 0 || keys[i-1].node != key.node {
			b = append(b, '|')
			b = append(b, url.PathEscape(key.node)...)
			b = append(b, '|')
			before = c.settled
		} else {
			b = append(b, ',')
		}
		o := c.recent[key]
		b = strconv.AppendUint(b, key.seq-before, 10)
		if o.attempt != 1 {
			b = append(b, 'x')
			b = strconv.AppendUint(b, uint64(o.attempt), 10)
		}
		if o.delta >= 0 {
			b = append(b, '+')
		}
		b = strconv.AppendInt(b, o.delta, 10)
		before = key.seq
	}
	return b
}

func decodeCounter(e Entry) (*Counter, error) {
	number, text := string(e.Body), wire.First(e.Header, HeaderCounter)
	if text == inBody {
		number, text, _ = strings.Cut(number, "\n")
	}
	c := NewCounter()
	if text != "" {
		for part := range strings.SplitSeq(text, ";") {
			if err := c.parseSource(part); err != nil {
				return nil, damaged(KindCounter, HeaderCounter+": "+err.Error())
			}
		}
	}
	// The body was written from the components: a difference means that one of
	// the two was changed or lost on the way.
	if total := strconv.FormatInt(c.Total(), 10); total != number {
		return nil, damaged(KindCounter, fmt.Sprintf("the body says %.40q, the components add up to %s", number, total))
	}
	return c, nil
}

func (c *Counter) parseSource(text string) error {
	fields := strings.Split(text, "|")
	if len(fields) < 3 || len(fields)%2 == 0 {
		return fmt.Errorf("%.80q isn't source|settled|total and pairs of node|operations", text)
	}
	source, err := nameIn(fields[0])
	if err != nil {
		return fmt.Errorf("source: %w", err)
	}
	if _, twice := c.sources[source]; twice {
		return fmt.Errorf("source %q occurs twice", source)
	}
	own := new(component)
	if own.settled, err = strconv.ParseUint(fields[1], 10, 64); err != nil {
		return fmt.Errorf("watermark of %q: %w", source, err)
	}
	if own.total, err = strconv.ParseInt(fields[2], 10, 64); err != nil {
		return fmt.Errorf("total of %q: %w", source, err)
	}
	for pair := range slices.Chunk(fields[3:], 2) {
		if err := own.parseRecent(pair[0], pair[1]); err != nil {
			return fmt.Errorf("operations of %q: %w", source, err)
		}
	}
	c.sources[source] = own
	return nil
}

func (c *component) parseRecent(name, text string) error {
	node, err := nameIn(name)
	if err != nil {
		return err
	}
	seq := c.settled
	for part := range strings.SplitSeq(text, ",") {
		gap, o, err := parseOp(part)
		if err != nil {
			return fmt.Errorf("%.60q isn't distance, attempt and delta: %w", part, err)
		}
		if gap == 0 || gap > math.MaxUint64-seq {
			return fmt.Errorf("%.60q isn't after the operation before it", part)
		}
		seq += gap
		key := opKey{seq, node}
		if _, twice := c.recent[key]; twice {
			return fmt.Errorf("number %d of node %q occurs twice", seq, node)
		}
		c.set(key, o)
	}
	return nil
}

// nameIn reads a name that was escaped within a longer text. It is a copy: what keeps the
// name doesn't keep the text, which is that of a whole message.
func nameIn(escaped string) (string, error) {
	name, err := url.PathUnescape(escaped)
	return strings.Clone(name), err
}

func parseOp(text string) (gap uint64, o op, err error) {
	sign := strings.IndexAny(text, "+-")
	if sign < 0 {
		return 0, op{}, errors.New("no delta")
	}
	distance, attempt, again := strings.Cut(text[:sign], "x")
	if !again {
		attempt = "1"
	}
	n, err := strconv.ParseUint(attempt, 10, 32)
	if err != nil {
		return 0, op{}, err
	}
	if gap, err = strconv.ParseUint(distance, 10, 64); err != nil {
		return 0, op{}, err
	}
	delta, err := strconv.ParseInt(text[sign:], 10, 64)
	return gap, op{attempt: uint32(n), delta: delta}, err
}
