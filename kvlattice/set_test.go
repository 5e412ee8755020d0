package kvlattice_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cloudburst-nats/cloudburst/kvlattice"
	"github.com/cloudburst-nats/cloudburst/kvlattice/latticetest"
	"github.com/cloudburst-nats/cloudburst/wire"
)

var elements = [...]string{
	"0", "1", "1.0", "-1e3", `"1"`, "true", "null", `""`, `"a\"]b"`, `"é"`, `"\u00e9"`, "[]", "[1,[2]]", `{"a":1,"b":2}`, `{"b":2,"a":1}`,
}

func randomSet(random *rand.Rand) (*kvlattice.Set, []string) {
	s, twin := kvlattice.NewSet(), []string{}
	for range random.IntN(8) {
		element := elements[random.IntN(len(elements))]
		if added, err := s.Add(json.RawMessage(" " + element + "\n")); err != nil || added == slices.Contains(twin, element) {
			panic(fmt.Sprintf("adding %s to %v: %t, %v", element, twin, added, err))
		} else if added {
			twin = append(twin, element)
		}
	}
	return s, twin
}

func TestSetLaws(t *testing.T) {
	t.Parallel()
	latticetest.Laws(t, "set", func(random *rand.Rand) kvlattice.Lattice {
		s, _ := randomSet(random)
		return s
	})
}

// TestSetTwin checks the set against a slice.
func TestSetTwin(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(5, 6))
	for range 1000 {
		a, twin := randomSet(random)
		b, other := randomSet(random)
		merge(t, a, b)
		for _, element := range other {
			if !slices.Contains(twin, element) {
				twin = append(twin, element)
			}
		}
		slices.Sort(twin)
		if got, want := string(a.Value().Body), "["+strings.Join(twin, ",")+"]"; got != want {
			t.Fatalf("got %s, want %s", got, want)
		}
		if a.Len() != len(twin) {
			t.Fatalf("%s: Len() = %d, want %d", a.Value().Body, a.Len(), len(twin))
		}
		for _, element := range elements {
			if got, want := a.Has(json.RawMessage(element)), slices.Contains(twin, element); got != want {
				t.Fatalf("%s: Has(%s) = %t, want %t", a.Value().Body, element, got, want)
			}
		}
		var all []string
		for element := range a.All() {
			all = append(all, string(element))
		}
		if !slices.Equal(all, twin) {
			t.Fatalf("All() = %q, want %q", all, twin)
		}
	}
}

func TestSetRefusesWhatIsNotJSON(t *testing.T) {
	t.Parallel()
	s := kvlattice.NewSet(json.RawMessage("1"))
	for _, element := range []string{"", "x", "1 2", "{", "'a'", "[1,]"} {
		if _, err := s.Add(json.RawMessage(element)); wire.KindOf(err) != wire.KindBadArgument {
			t.Errorf("Add(%q): got %v, want an error of %q", element, err, wire.KindBadArgument)
		}
		if s.Has(json.RawMessage(element)) {
			t.Errorf("Has(%q) is true", element)
		}
	}
	if got := string(s.Value().Body); got != "[1]" {
		t.Errorf("refused elements left %s, want [1]", got)
	}
}

func TestNewSetPanicsOnWhatIsNotJSON(t *testing.T) {
	t.Parallel()
	defer func() {
		if recover() == nil {
			t.Error("NewSet took what isn't JSON")
		}
	}()
	kvlattice.NewSet(json.RawMessage("{"))
}

func BenchmarkSetMergeOneIntoThousand(b *testing.B) {
	b.ReportAllocs()
	s := kvlattice.NewSet()
	for i := range 1000 {
		merge := kvlattice.NewSet(json.RawMessage(fmt.Sprintf(`{"user":%d}`, i)))
		if _, err := s.Merge(merge); err != nil {
			b.Fatal(err)
		}
	}
	one := kvlattice.NewSet(json.RawMessage(`{"user":500}`))
	for b.Loop() {
		if _, err := s.Merge(one); err != nil {
			b.Fatal(err)
		}
	}
}

// An element that the array of all couldn't be read with is refused.
func TestSetElementsThatNestTooDeep(t *testing.T) {
	t.Parallel()
	nested := func(depth int) json.RawMessage {
		return json.RawMessage(strings.Repeat("[", depth) + strings.Repeat("]", depth))
	}
	s := kvlattice.NewSet(nested(9000))
	for _, depth := range []int{9999, 10_000, 10_001} {
		if _, err := s.Add(nested(depth)); wire.KindOf(err) != wire.KindBadArgument {
			t.Errorf("%d levels: %v", depth, err)
		}
		if s.Has(nested(depth)) {
			t.Errorf("%d levels: it is in the set", depth)
		}
	}
	h, body := s.Encode()
	read, err := kvlattice.Decode(kvlattice.Entry{Header: h, Body: body})
	if err != nil || string(read.Value().Body) != string(s.Value().Body) {
		t.Errorf("read again: %v", err)
	}
	// What somebody else has written is an error, not a panic.
	body = slices.Concat([]byte("["), nested(9995), []byte("]"))
	if _, err := kvlattice.Decode(kvlattice.Entry{Header: h, Body: body}); wire.KindOf(err) != wire.KindInvalid {
		t.Errorf("an array with 9,995 levels in it: %v", err)
	}
}
