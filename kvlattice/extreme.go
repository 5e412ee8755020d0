package kvlattice

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// Max is the greatest of the JSON numbers and strings that were merged. Numbers
// are compared exactly, whatever their length, and come before all strings;
// strings are compared by their UTF-8 bytes. Of two texts for one value the
// shorter stays (1 rather than 1.0), then the one whose bytes come first.
type Max struct{ extreme }

// Min is the least of the JSON numbers and strings that were merged, which are
// ordered as for Max; every number is less than every string.
type Min struct{ extreme }

// NewMax returns the maximum of one number or string. Other JSON, text that
// isn't JSON, and a number whose exponent needs more than 32 bits are errors of
// wire.KindBadArgument.
func NewMax(v json.RawMessage) (*Max, error) {
	x, err := newExtreme(v)
	if err != nil {
		return nil, err
	}
	return &Max{x}, nil
}

// NewMin returns the minimum of one number or string. The errors are NewMax's.
func NewMin(v json.RawMessage) (*Min, error) {
	x, err := newExtreme(v)
	if err != nil {
		return nil, err
	}
	return &Min{x}, nil
}

// Kind returns KindMax.
func (m *Max) Kind() Kind { return KindMax }

// Merge keeps the greater of the two.
func (m *Max) Merge(other Lattice) (changed bool, err error) {
	o, ok := other.(*Max)
	if !ok {
		return false, differ(m, other)
	}
	return m.keep(o.extreme, o.compare(m.extreme)), nil
}

// Clone returns a copy that shares the text.
func (m *Max) Clone() Lattice { return &Max{m.extreme} }

// Encode returns the JSON as the body.
func (m *Max) Encode() (wire.Header, []byte) { return m.encode(KindMax) }

// Kind returns KindMin.
func (m *Min) Kind() Kind { return KindMin }

// Merge keeps the lesser of the two.
func (m *Min) Merge(other Lattice) (changed bool, err error) {
	o, ok := other.(*Min)
	if !ok {
		return false, differ(m, other)
	}
	return m.keep(o.extreme, m.compare(o.extreme)), nil
}

// Clone returns a copy that shares the text.
func (m *Min) Clone() Lattice { return &Min{m.extreme} }

// Encode returns the JSON as the body.
func (m *Min) Encode() (wire.Header, []byte) { return m.encode(KindMin) }

// An extreme is the text of a JSON number or string and what it is ordered by:
// the fields below text, from top to bottom.
type extreme struct {
	text   []byte // never written to
	isText bool
	sign   int    // of a number: -1, 0 or +1
	exp    int64  // of a number: where its point is, as in 0.digits × 10^exp
	digits string // of a number, with no zero at either end; of a string, itself
}

func newExtreme(v json.RawMessage) (extreme, error) {
	if !json.Valid(v) {
		return extreme{}, badArgument("a maximum or minimum must be JSON")
	}
	x := extreme{text: bytes.Clone(bytes.TrimSpace(v))}
	var err error
	switch first := x.text[0]; {
	case first == '"':
		x.isText = true
		err = json.Unmarshal(x.text, &x.digits)
	case first == '-' || first >= '0' && first <= '9':
		err = x.parse(string(x.text))
	default:
		err = fmt.Errorf("%.40s is neither a number nor a string", x.text)
	}
	if err != nil {
		return extreme{}, badArgument("a maximum or minimum: " + err.Error())
	}
	return x, nil
}

// parse reads a JSON number. Nothing is computed with its digits, so a huge
// exponent costs nothing; it only has to fit.
func (x *extreme) parse(text string) error {
	x.sign = +1
	if strings.HasPrefix(text, "-") {
		x.sign, text = -1, text[1:]
	}
	mantissa := text
	if e := strings.IndexAny(text, "eE"); e >= 0 {
		mantissa = text[:e]
		n, err := strconv.ParseInt(text[e+1:], 10, 32)
		if err != nil {
			return fmt.Errorf("exponent: %w", err)
		}
		x.exp = n
	}
	whole, fraction, _ := strings.Cut(mantissa, ".")
	x.exp += int64(len(whole))
	all := whole + fraction
	x.digits = strings.TrimLeft(all, "0")
	x.exp -= int64(len(all) - len(x.digits))
	if x.digits = strings.TrimRight(x.digits, "0"); x.digits == "" {
		x.sign, x.exp = 0, 0
	}
	return nil
}

// compare orders values: what is the same value is 0, whatever its text.
func (x extreme) compare(y extreme) int {
	switch {
	case x.isText && y.isText:
		return strings.Compare(x.digits, y.digits)
	case x.isText:
		return +1
	case y.isText:
		return -1
	case x.sign != y.sign:
		return cmp.Compare(x.sign, y.sign)
	}
	return x.sign * cmp.Or(cmp.Compare(x.exp, y.exp), strings.Compare(x.digits, y.digits))
}

// keep takes y in place of x if it is further out (ahead > 0), or as far with
// the better text, and says whether it did.
func (x *extreme) keep(y extreme, ahead int) bool {
	if cmp.Or(ahead, cmp.Compare(len(x.text), len(y.text)), bytes.Compare(x.text, y.text)) <= 0 {
		return false
	}
	*x = y
	return true
}

// Value returns the number or string as it was written.
func (x extreme) Value() wire.Value { return wire.Value{Body: x.text} }

// Size returns roughly how many bytes of memory it takes.
func (x extreme) Size() int {
	const fixed = 96 // the struct itself
	return fixed + len(x.text) + len(x.digits)
}

func (x extreme) encode(kind Kind) (wire.Header, []byte) {
	return wire.Header{HeaderKind: {string(kind)}}, x.text
}

func decodeMax(e Entry) (*Max, error) {
	m, err := NewMax(e.Body)
	if err != nil {
		return nil, damaged(KindMax, err.Error())
	}
	return m, nil
}

func decodeMin(e Entry) (*Min, error) {
	m, err := NewMin(e.Body)
	if err != nil {
		return nil, damaged(KindMin, err.Error())
	}
	return m, nil
}
