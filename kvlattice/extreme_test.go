package kvlattice_test

import (
	"encoding/json"
	"math/big"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cloudburst-nats/cloudburst/kvlattice"
	"github.com/cloudburst-nats/cloudburst/kvlattice/latticetest"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// extremes are in their order; what is on one line is one value, the text that
// stays first.
var extremes = [][]string{
	{"-1e2147483647"},
	{"-1e309"},
	{"-12345678901234567890.2"},
	{"-12345678901234567890.1"},
	{"-10", "-1e1", "-10.0", "-0.1e2"},
	{"-9"},
	{"-1e-400"},
	{"0", "-0", "0.0", "0e5", "-0e-7"},
	{"1e-2147483648"},
	{"1e-400"},
	{"0.09", "9e-2"},
	{"0.1", "1e-1", "1E-1", "0.10", "10e-2"},
	{"1", "1.0", "1e0", "1e00", "0.01e2"},
	{"9"},
	{"10", "1e1"},
	{"12345678901234567890"},
	{"12345678901234567891"},
	{"1e309"},
	{"1e2147483647"},
	{`""`},
	{`"1"`, `"\u0031"`},
	{`"a"`, `"\u0061"`},
	{`"a\""`, `"a\u0022"`},
	{`"ab"`},
	{`"é"`, `"\u00e9"`},
	{`"😀"`, `"\ud83d\ude00"`},
}

func newMax(s string) *kvlattice.Max {
	m, err := kvlattice.NewMax(json.RawMessage(s))
	if err != nil {
		panic(err)
	}
	return m
}

func newMin(s string) *kvlattice.Min {
	m, err := kvlattice.NewMin(json.RawMessage(s))
	if err != nil {
		panic(err)
	}
	return m
}

func anExtreme(random *rand.Rand) string {
	same := extremes[random.IntN(len(extremes))]
	return same[random.IntN(len(same))]
}

func TestMaxLaws(t *testing.T) {
	t.Parallel()
	latticetest.Laws(t, "max", func(random *rand.Rand) kvlattice.Lattice { return newMax(anExtreme(random)) })
}

func TestMinLaws(t *testing.T) {
	t.Parallel()
	latticetest.Laws(t, "min", func(random *rand.Rand) kvlattice.Lattice { return newMin(anExtreme(random)) })
}

// TestExtremesOfEveryPair takes the order from the table.
func TestExtremesOfEveryPair(t *testing.T) {
	t.Parallel()
	flat := slices.Concat(extremes...)
	order := func(text string) (value, rank int) {
		value = slices.IndexFunc(extremes, func(same []string) bool { return slices.Contains(same, text) })
		best := slices.SortedFunc(slices.Values(extremes[value]), func(a, b string) int {
			if len(a) != len(b) {
				return len(a) - len(b)
			}
			return strings.Compare(a, b)
		})
		return value, slices.Index(best, text)
	}
	for _, a := range flat {
		for _, b := range flat {
			valueA, rankA := order(a)
			valueB, rankB := order(b)
			wantMax, wantMin := a, a
			if valueB > valueA || valueB == valueA && rankB < rankA {
				wantMax = b
			}
			if valueB < valueA || valueB == valueA && rankB < rankA {
				wantMin = b
			}
			greatest, least := newMax(" "+a+"\n"), newMin(a)
			merge(t, greatest, newMax(b))
			merge(t, least, newMin(b))
			if got := string(greatest.Value().Body); got != wantMax {
				t.Errorf("max(%s, %s) = %s, want %s", a, b, got, wantMax)
			}
			if got := string(least.Value().Body); got != wantMin {
				t.Errorf("min(%s, %s) = %s, want %s", a, b, got, wantMin)
			}
		}
	}
}

// TestExtremeTwin checks the comparison of numbers against math/big.
func TestExtremeTwin(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	digits := func(n int) string {
		var b strings.Builder
		for range n {
			b.WriteByte("0019"[random.IntN(4)])
		}
		return b.String()
	}
	number := func() string {
		s := []string{"", "-"}[random.IntN(2)] + strings.TrimLeft("1"+digits(random.IntN(3)), []string{"", "1"}[random.IntN(2)])
		if s == "" || s == "-" || strings.HasPrefix(strings.TrimPrefix(s, "-"), "0") {
			s = strings.TrimRight(s, "019") + "0"
		}
		if random.IntN(2) == 0 {
			s += "." + digits(1+random.IntN(4))
		}
		if random.IntN(2) == 0 {
			s += "e" + []string{"", "+", "-"}[random.IntN(3)] + strconv.Itoa(random.IntN(6))
		}
		return s
	}
	for range 20_000 {
		a, b := number(), number()
		x, _ := new(big.Rat).SetString(a)
		y, _ := new(big.Rat).SetString(b)
		greatest, least := newMax(a), newMin(a)
		merge(t, greatest, newMax(b))
		merge(t, least, newMin(b))
		gotMax, _ := new(big.Rat).SetString(string(greatest.Value().Body))
		gotMin, _ := new(big.Rat).SetString(string(least.Value().Body))
		if x.Cmp(y) > 0 {
			x, y = y, x
		}
		if gotMin.Cmp(x) != 0 || gotMax.Cmp(y) != 0 {
			t.Fatalf("of %s and %s: minimum %s, maximum %s", a, b, least.Value().Body, greatest.Value().Body)
		}
	}
}

func TestExtremeRefuses(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"", "x", "1 2", "01", "+1", "NaN", "true", "null", "[1]", "{}", "1e2147483648", "1e-99999999999999999999", "0e99999999999"} {
		if _, err := kvlattice.NewMax(json.RawMessage(s)); wire.KindOf(err) != wire.KindBadArgument {
			t.Errorf("NewMax(%q): got %v, want an error of %q", s, err, wire.KindBadArgument)
		}
		if _, err := kvlattice.NewMin(json.RawMessage(s)); wire.KindOf(err) != wire.KindBadArgument {
			t.Errorf("NewMin(%q): got %v, want an error of %q", s, err, wire.KindBadArgument)
		}
	}
	if _, err := newMax("1").Merge(newMin("2")); wire.KindOf(err) != wire.KindLattice {
		t.Errorf("merging a min into a max: got %v, want an error of %q", err, wire.KindLattice)
	}
}

func FuzzDecodeExtreme(f *testing.F) {
	for _, same := range extremes {
		f.Add([]byte(same[0]))
	}
	f.Add([]byte("\"\xff\""))
	f.Fuzz(func(t *testing.T, body []byte) {
		survives(t, kvlattice.Entry{Header: header("Cb-Kind", "max"), Body: body})
		survives(t, kvlattice.Entry{Header: header("Cb-Kind", "min"), Body: body})
	})
}

func BenchmarkMaxMerge(b *testing.B) {
	b.ReportAllocs()
	x, y := newMax("1234567.5"), newMax("1234567.25")
	for b.Loop() {
		if _, err := x.Merge(y); err != nil {
			b.Fatal(err)
		}
	}
}
