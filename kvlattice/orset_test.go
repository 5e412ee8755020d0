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

func tag(seq uint64) kvlattice.Tag { return kvlattice.Tag{Source: "calls@1", Seq: seq} }

func addTo(s *kvlattice.ORSet, t kvlattice.Tag, element string) {
	if err := s.Add(t, json.RawMessage(element)); err != nil {
		panic(err)
	}
}

func members(s *kvlattice.ORSet) string { return string(s.Value().Body) }

// TestORSetLaws takes states that no truth allows: tags that are present here
// and settled there, and one tag for two elements. All replicas must still agree.
func TestORSetLaws(t *testing.T) {
	t.Parallel()
	latticetest.Laws(t, "orset", func(random *rand.Rand) kvlattice.Lattice {
		s := kvlattice.NewORSet()
		for range random.IntN(14) {
			tag := kvlattice.Tag{
				Source: []string{"a", "b|;\n"}[random.IntN(2)], Seq: 1 + random.Uint64N(4),
				Node: []string{"", "n"}[random.IntN(2)], N: uint32(random.IntN(2)),
			}
			element := json.RawMessage([]string{"1", `"é<"`, `{"a":[]}`}[random.IntN(3)])
			switch random.IntN(8) {
			case 0:
				s.Settle(tag.Source, tag.Seq)
			case 1, 2:
				s.Remove(element)
			case 3:
				renewal, err := s.Renewal(tag, element)
				if err != nil {
					panic(err)
				}
				if _, err := s.Merge(renewal); err != nil {
					panic(err)
				}
			default:
				addTo(s, tag, string(element))
			}
		}
		if random.IntN(3) == 0 { // what only removes
			s, _ = s.Removal(json.RawMessage("1"))
		}
		return s
	})
}

func TestORSetAddWinsOverConcurrentRemove(t *testing.T) {
	t.Parallel()
	a := kvlattice.NewORSet()
	addTo(a, tag(1), `"x"`)
	b := a.Clone().(*kvlattice.ORSet)
	if !a.Remove(json.RawMessage(` "x" `)) || a.Remove(json.RawMessage(`"x"`)) || a.Has(json.RawMessage(`"x"`)) || a.Len() != 0 {
		t.Errorf("removing leaves %s, %d", members(a), a.Len())
	}
	addTo(b, tag(2), `"x"`)
	merge(t, a, b)
	if members(a) != `["x"]` {
		t.Errorf("a removal took away what it hadn't observed: %s", members(a))
	}
	addTo(a, tag(1), `"x"`) // the first call, run again
	a.Remove(json.RawMessage(`"x"`))
	addTo(a, tag(1), `"x"`)
	addTo(a, tag(2), `"x"`)
	if merge(t, a, b); members(a) != "[]" {
		t.Errorf("calls that ran again brought back what was removed: %s", members(a))
	}
}

func TestORSetRenewal(t *testing.T) {
	t.Parallel()
	s := kvlattice.NewORSet()
	for seq := range uint64(1000) {
		renewal, err := s.Renewal(tag(seq+1), json.RawMessage("1"))
		if err != nil {
			t.Fatal(err)
		}
		merge(t, s, renewal)
		s.Settle("calls@1", seq)
	}
	fresh := s.Clone()
	if n, size := s.Unsettled()["calls@1"], s.Size(); members(s) != "[1]" || n > 1 || size > 1000 {
		t.Errorf("an element that is added all the time: %s, %d removed tags, %d bytes", members(s), n, size)
	}
	// A tag that is known takes no other's place, and neither does a removed one.
	addTo(s, tag(2000), "1")
	known, err := s.Renewal(tag(1000), json.RawMessage("1"))
	if err != nil {
		t.Fatal(err)
	}
	s.Remove(json.RawMessage("1"))
	addTo(s, tag(2001), "1")
	removed, err := s.Renewal(tag(2000), json.RawMessage("1"))
	if err != nil {
		t.Fatal(err)
	}
	for _, renewal := range []*kvlattice.ORSet{known, removed} {
		if n := renewal.Unsettled(); len(n) > 0 {
			t.Errorf("renewing a tag that is known removes %v", n)
		}
	}
	if fresh.(*kvlattice.ORSet).Len() != 1 || fresh.(*kvlattice.ORSet).Unsettled()["calls@1"] > 1 {
		t.Error("a clone changed")
	}
}

func TestORSetKeepsWhatRunsAddUnderOneTag(t *testing.T) {
	t.Parallel()
	s := kvlattice.NewORSet()
	addTo(s, tag(1), `"first run"`)
	s.Remove(json.RawMessage(`"first run"`))
	addTo(s, tag(1), `"second run"`)
	if got := members(s); got != `["second run"]` {
		t.Errorf("got %s", got)
	}
}

func TestORSetRefuses(t *testing.T) {
	t.Parallel()
	s := kvlattice.NewORSet()
	deep := strings.Repeat("[", 9999) + strings.Repeat("]", 9999)
	for what, err := range map[string]error{
		"not JSON":              s.Add(tag(1), json.RawMessage("{")),
		"not UTF-8":             s.Add(tag(1), json.RawMessage("\"\xff\"")),
		"too deep":              s.Add(tag(1), json.RawMessage(deep)),
		"no sequence":           s.Add(tag(0), json.RawMessage("1")),
		"a source not in UTF-8": s.Add(kvlattice.Tag{Source: "\xff", Seq: 1}, json.RawMessage("1")),
		"a node not in UTF-8":   s.Add(kvlattice.Tag{Node: "\xff", Seq: 1}, json.RawMessage("1")),
	} {
		if wire.KindOf(err) != wire.KindBadArgument {
			t.Errorf("%s: got %v, want an error of %q", what, err, wire.KindBadArgument)
		}
	}
	if _, err := s.Renewal(tag(0), json.RawMessage("1")); wire.KindOf(err) != wire.KindBadArgument {
		t.Errorf("renewing without a sequence: got %v, want an error of %q", err, wire.KindBadArgument)
	}
	if s.Remove(json.RawMessage("{")) || s.Has(json.RawMessage("{")) || members(s) != "[]" {
		t.Errorf("refused elements left %s", members(s))
	}
	addTo(s, tag(1), strings.Repeat("[", 5000)+strings.Repeat("]", 5000)) // which isn't too deep
	survives(t, entry("", s))
}

func TestORSetLooksReadable(t *testing.T) {
	t.Parallel()
	s := kvlattice.NewORSet()
	s.Settle("calls@1", 1200)
	addTo(s, tag(1300), `"bob"`)
	s.Remove(json.RawMessage(`"bob"`))
	addTo(s, kvlattice.Tag{Source: "calls@1", Seq: 1303, Node: "a", N: 1}, `"ann"`)
	addTo(s, kvlattice.Tag{Source: "client", Seq: 2}, `{"x":1}`)
	h, body := s.Encode()
	if want := `["ann",{"x":1}]`; string(body) != want {
		t.Errorf("got %s, want %s", body, want)
	}
	want := `{"sources":["calls@1","client"],"nodes":["a",""],"present":[[[0,1303,0,1]],[[1,2,1,0]]],` +
		`"removed":{"\"bob\"":[[0,1300,1,0]]},"settled":{"calls@1":1200}}`
	if got := wire.First(h, "Cb-Tags"); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func largeORSet() *kvlattice.ORSet {
	s := kvlattice.NewORSet()
	for i := range uint64(1000) {
		addTo(s, tag(100_000+i), fmt.Sprintf(`{"user":%d}`, i))
	}
	return s
}

func TestORSetTooLongForAHeader(t *testing.T) {
	t.Parallel()
	s := largeORSet()
	e := entry("", s)
	value, _, _ := strings.Cut(string(e.Body), "\n")
	if wire.First(e.Header, "Cb-Tags") != "body" || value != members(s) {
		t.Errorf("headers %v, first line %.80s", e.Header, value)
	}
	survives(t, e)
	back, err := kvlattice.Decode(e)
	if err != nil {
		t.Fatal(err)
	}
	if merge(t, s, back) || back.(*kvlattice.ORSet).Len() != 1000 {
		t.Errorf("it isn't itself once decoded")
	}
}

func FuzzDecodeORSet(f *testing.F) {
	f.Add(`{"sources":["s"],"nodes":["","a"],"present":[[[0,1,0,0],[0,7,1,2]],[[0,3,0,0]]],"removed":{"\"x\"":[[0,9,0,0]]},"settled":{"s":5}}`, []byte(`[1,"y"]`))
	f.Add(`{"sources":["s","s"],"nodes":[""],"present":[[[0,1,0,0]],[[1,1,0,0]]],"removed":{"1":[[0,1,0,0]]," 1":[[0,2,0,0]]}}`, []byte(`[1, 1]`))
	f.Add("body", []byte("[]\n{}"))
	f.Add("{}", []byte("[]"))
	f.Fuzz(func(t *testing.T, tags string, body []byte) {
		survives(t, kvlattice.Entry{Header: header("Cb-Kind", "orset", "Cb-Tags", tags), Body: body})
	})
}

// BenchmarkORSetMergeOneIntoThousand renews the elements in turn, and settles
// once for each thousand.
func BenchmarkORSetMergeOneIntoThousand(b *testing.B) {
	b.ReportAllocs()
	s, seq := largeORSet(), uint64(200_000)
	elements := slices.Collect(s.All())
	for b.Loop() {
		seq++
		renewal, err := s.Renewal(tag(seq), elements[seq%1000])
		if err != nil {
			b.Fatal(err)
		}
		if _, err := s.Merge(renewal); err != nil {
			b.Fatal(err)
		}
		if seq%1000 == 0 {
			s.Settle("calls@1", seq)
		}
	}
}

func BenchmarkORSetMergeKnownOneIntoThousand(b *testing.B) {
	b.ReportAllocs()
	s, one := largeORSet(), kvlattice.NewORSet()
	addTo(one, tag(100_500), `{"user":500}`)
	for b.Loop() {
		if _, err := s.Merge(one); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkORSetEncodeThousand(b *testing.B) {
	b.ReportAllocs()
	s := largeORSet()
	for b.Loop() {
		s.Encode()
	}
}

func BenchmarkORSetDecodeThousand(b *testing.B) {
	b.ReportAllocs()
	e := entry("", largeORSet())
	for b.Loop() {
		if _, err := kvlattice.Decode(e); err != nil {
			b.Fatal(err)
		}
	}
}
