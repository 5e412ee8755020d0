package kvlattice_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/cloudburst-nats/cloudburst/kvlattice"
	"github.com/cloudburst-nats/cloudburst/wire"
)

func causalEntry(clock, versions, body string) kvlattice.Entry {
	return kvlattice.Entry{Header: header("Cb-Kind", "causal", "Cb-Clock", clock, "Cb-Versions", versions), Body: []byte(body)}
}

func TestDecodeRefusesDamagedCausal(t *testing.T) {
	t.Parallel()
	const two = `{"v":[{"w":"v","t":"6","n":1},{"w":"w","t":"5","n":1}]}`
	for name, e := range map[string]kvlattice.Entry{
		"a size past all bounds":     causalEntry("0 w:5", `{"v":[{"w":"w","t":"5","n":9223372036854775807}]}`, "[1]"),
		"a size past the body":       causalEntry("0 w:5", `{"v":[{"w":"w","t":"5","n":2}]}`, "[1]"),
		"another body":               causalEntry("0 v:6 w:5", two, "xxxxx"),
		"another separator":          causalEntry("0 v:6 w:5", two, "[1;2]"),
		"a value that isn't JSON":    causalEntry("0 v:6 w:5", two, "[a,2]"),
		"body cut short":             causalEntry("0 v:6 w:5", two, "[1,2"),
		"more in the body":           causalEntry("0 v:6 w:5", two, "[1,2,3]"),
		"body lost":                  causalEntry("0 v:6 w:5", two, ""),
		"two that are all the body":  causalEntry("0 v:6 w:5", `{"v":[{"w":"v","t":"6","n":-1},{"w":"w","t":"5","n":-1}]}`, "1"),
		"a body, and nothing in it":  causalEntry("0 w:5", `{"v":[{"w":"w","t":"5","del":true}]}`, "1"),
		"base 64 without its quotes": causalEntry("0 w:5", `{"v":[{"w":"w","t":"5","n":4,"b64":true}]}`, "[1234]"),
		"damaged base 64":            causalEntry("0 w:5", `{"v":[{"w":"w","t":"5","n":5,"b64":true}]}`, `["Y?="]`),
		"one write twice":            causalEntry("0 w:5", `{"v":[{"w":"w","t":"5","n":1},{"w":"w","t":"5","n":1}]}`, "[1,2]"),
		"a writer of two words":      causalEntry("0", `{"v":[{"w":"a b","t":"5","n":1}]}`, "[1]"),
		"no clock":                   causalEntry("", two, "[1,2]"),
		"no versions":                causalEntry("0 w:5", "", "1"),
	} {
		if l, err := kvlattice.Decode(e); wire.KindOf(err) != wire.KindInvalid {
			t.Errorf("%s: got %v, error %v, want one of %q", name, l, err, wire.KindInvalid)
		}
	}
}

// Values come back byte for byte, whatever they are and how many there are.
func TestCausalKeepsValuesByteForByte(t *testing.T) {
	t.Parallel()
	values := []wire.Value{
		{Body: []byte(" {\"a\" : 1}\r\n")},
		{Body: []byte("not JSON")},
		{Body: []byte(`"quoted"`), Type: "text/plain"},
		{Body: []byte{0xff, 0, '\n', ']'}, Type: "image/png"},
		{Body: []byte("1"), Type: "text/x; charset=\xff"},
		{Body: []byte("[1,2]")},
	}
	var now int64
	c := new(kvlattice.Causal)
	for i, v := range values {
		c = kvlattice.NewOverwrite(nil, v, map[string]uint64{"shop": uint64(i + 1)}).Apply(c, "w", ticking(&now))
		if i == 3 {
			merge(t, c, kvlattice.Lift(kvlattice.NewLWW(wire.Value{Body: []byte("by hand")}, ts(now), "\xfe")))
		}
		l, err := kvlattice.Decode(entry("", c))
		if err != nil {
			t.Fatal(err)
		}
		back := l.(*kvlattice.Causal)
		if got, want := back.Versions(), c.Versions(); !reflect.DeepEqual(got, want) || len(want) < i+1 {
			t.Errorf("%d values: got %q, want %q", i+1, got, want)
		}
		if merge(t, back, c) || merge(t, c, l) {
			t.Errorf("%d values: what is stored isn't what was written: %v", i+1, entry("", c))
		}
	}
}

// What nats kv get shows is in the order of Versions, the plain one among them.
func TestCausalBodyIsLatestFirst(t *testing.T) {
	t.Parallel()
	now := int64(10)
	c := kvlattice.NewOverwrite(nil, text("1"), nil).Apply(nil, "w", ticking(&now))
	merge(t, c, kvlattice.Lift(kvlattice.NewLWW(text("2"), ts(20), "")))
	now = 30
	c = kvlattice.NewOverwrite(nil, text("3"), nil).Apply(c, "v", ticking(&now))
	if _, body := c.Encode(); string(body) != "[3,2,1]" || strings.Join(shown(c), ",") != "3,2,1" {
		t.Errorf("body %s, versions %v, want the latest first", body, shown(c))
	}
}
