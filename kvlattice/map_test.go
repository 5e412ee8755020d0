package kvlattice_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/cloudburst-nats/cloudburst/kvlattice"
	"github.com/cloudburst-nats/cloudburst/kvlattice/latticetest"
	"github.com/cloudburst-nats/cloudburst/wire"
)

func encoded(e kvlattice.Entry) string { return fmt.Sprintf("%q %q", e.Header, e.Body) }

func mergeField(m *kvlattice.Map, field string, l kvlattice.Lattice) {
	if _, err := m.MergeField(field, l); err != nil {
		panic(err)
	}
}

// field returns a random lattice for a field, which is always of the same kind.
func field(random *rand.Rand, name string, levels int) kvlattice.Lattice {
	switch name {
	case "register":
		values := []wire.Value{
			jsonValue("1"), jsonValue("null"), jsonValue(` {"a": "<é>"} `), jsonValue("\"\xff\""), jsonValue("not JSON"),
			{},
			{Body: []byte("text\n<é>\x00"), Type: "text/plain"},
			{Body: []byte{0xff, 0}, Type: "image/\xff"},
		}
		i := random.IntN(len(values) + 1)
		if i == len(values) {
			return kvlattice.NewTombstone(at(int64(i)), "w")
		}
		return kvlattice.NewLWW(values[i], at(int64(i)), []string{"", "w", "\xff"}[random.IntN(3)])
	case "counter":
		return op("s", 1+random.Uint64N(4), 1+random.IntN(2), random.Int64N(5))
	case "<é.set>":
		return set([]string{"1", `"\n"`, "[]"}[random.IntN(3)])
	case "orset":
		s := kvlattice.NewORSet()
		addTo(s, tag(1+random.Uint64N(4)), []string{"1", `"\n"`}[random.IntN(2)])
		if random.IntN(2) == 0 {
			s.Remove(json.RawMessage("1"))
		}
		return s
	case "zset":
		s, _ := randomRanks(random, false)
		return s
	case "max":
		return newMax(anExtreme(random))
	case "":
		return randomPriority(random)
	default:
		return randomMap(random, levels-1)
	}
}

func randomMap(random *rand.Rand, levels int) *kvlattice.Map {
	names := []string{"register", "counter", "<é.set>", "orset", "zset", "max", "", "map"}
	if levels == 1 {
		names = names[:len(names)-1]
	}
	m := kvlattice.NewMap()
	for range random.IntN(5) {
		name := names[random.IntN(len(names))]
		mergeField(m, name, field(random, name, levels))
	}
	return m
}

func TestMapLaws(t *testing.T) {
	t.Parallel()
	latticetest.Laws(t, "map", func(random *rand.Rand) kvlattice.Lattice { return randomMap(random, 4) })
}

// TestMapTwin checks the map against its fields merged one by one.
func TestMapTwin(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(9, 8))
	for range 500 {
		joined, twin := kvlattice.NewMap(), make(map[string]kvlattice.Lattice)
		for range 4 {
			next := randomMap(random, 2)
			merge(t, joined, next)
			for name, l := range next.All() {
				if twin[name] == nil {
					twin[name] = l.Clone()
				} else {
					merge(t, twin[name], l)
				}
			}
		}
		if joined.Len() != len(twin) {
			t.Fatalf("%d fields, want %d", joined.Len(), len(twin))
		}
		for name, l := range twin {
			got := entry("", joined.Field(name))
			if want := entry("", l); encoded(got) != encoded(want) {
				t.Fatalf("field %q: got %s, want %s", name, encoded(got), encoded(want))
			}
		}
	}
}

func TestMapFieldOfTwoKinds(t *testing.T) {
	t.Parallel()
	nest := func(l kvlattice.Lattice) *kvlattice.Map {
		m := kvlattice.NewMap()
		mergeField(m, "likes", l)
		outer := kvlattice.NewMap()
		mergeField(outer, "post", m)
		return outer
	}
	a, b := nest(op("s", 1, 1, 5)), nest(set("1"))
	for _, other := range []string{"a", "m", "z"} { // whatever comes first
		mergeField(b, other, op("s", 2, 1, 1))
	}
	before := encoded(entry("", a))
	changed, err := a.Merge(b)
	if changed || wire.KindOf(err) != wire.KindLattice {
		t.Fatalf("got %t, %v, want an error of %q", changed, err, wire.KindLattice)
	}
	for _, part := range []string{"post.likes", "counter", "set"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q doesn't mention %s", err, part)
		}
	}
	if changed, err := a.MergeField("post", b.Field("post")); changed || wire.KindOf(err) != wire.KindLattice {
		t.Errorf("merging the field alone: got %t, %v, want an error of %q", changed, err, wire.KindLattice)
	}
	if changed, err := a.MergeField("post", set("1")); changed || wire.KindOf(err) != wire.KindLattice {
		t.Errorf("merging a set into a map: got %t, %v, want an error of %q", changed, err, wire.KindLattice)
	}
	if after := encoded(entry("", a)); after != before {
		t.Errorf("what was refused changed it\nbefore %s\nafter  %s", before, after)
	}
}

func TestMapRefuses(t *testing.T) {
	t.Parallel()
	m := kvlattice.NewMap()
	if _, err := m.MergeField("\xff", set("1")); wire.KindOf(err) != wire.KindBadArgument {
		t.Errorf("a name that isn't UTF-8: got %v, want an error of %q", err, wire.KindBadArgument)
	}
	for level := 1; level <= 4; level++ {
		outer := kvlattice.NewMap()
		_, err := outer.MergeField("in", m)
		if refused := wire.KindOf(err) == wire.KindBadArgument; refused != (level == 4) {
			t.Errorf("a map that is %d maps deep as a field: %v", level, err)
		}
		m = outer
	}
}

func TestMapLooksReadable(t *testing.T) {
	t.Parallel()
	inner, m := kvlattice.NewMap(), kvlattice.NewMap()
	mergeField(inner, "likes", op("calls@1", 1203, 1, 57))
	mergeField(m, "post", inner)
	mergeField(m, "nick", kvlattice.NewLWW(wire.Value{Body: []byte("<Ann>"), Type: "text/plain"}, at(1), "w"))
	mergeField(m, "gone", kvlattice.NewTombstone(at(2), "w"))
	mergeField(m, "tags", set("1", `"b"`))
	mergeField(m, "bytes", kvlattice.NewPriority(3, wire.Value{Body: []byte{0xff}, Type: "image/png"}))
	mergeField(m, "pretty", kvlattice.NewLWW(jsonValue("{\n \"a\": 1\n}\n"), at(3), ""))
	want := `{"bytes":"/w==","nick":"<Ann>","post":{"likes":57},"pretty":{"a":1},"tags":["b",1]}`
	h, body := m.Encode()
	if string(body) != want || string(m.Value().Body) != want {
		t.Errorf("got %s, want %s", body, want)
	}
	if got, want := wire.First(h, "Cb-Fields"), `"post":{"headers":{"Cb-Kind":"map"},"fields":{"likes":{"headers":{"Cb-Counter":"calls@1|0|0||1203+57","Cb-Kind":"counter"}}}}`; !strings.Contains(got, want) {
		t.Errorf("got %s, want it to contain %s", got, want)
	}
	back, err := kvlattice.Decode(kvlattice.Entry{Header: h, Body: body})
	if err != nil {
		t.Fatal(err)
	}
	if got := string(back.(*kvlattice.Map).Field("pretty").Value().Body); got != "{\n \"a\": 1\n}\n" {
		t.Errorf("once decoded a value is %q", got)
	}
	if r, ok := back.(*kvlattice.Map).Field("gone").(*kvlattice.LWW); !ok || !r.Deleted() {
		t.Errorf("once decoded a deleted register is %v", r)
	}
}

func TestMapSettlesItsFields(t *testing.T) {
	t.Parallel()
	inner, m := kvlattice.NewMap(), kvlattice.NewMap()
	mergeField(inner, "n", op("calls@1", 3, 1, 5))
	mergeField(inner, "n", op("calls@1", 9, 1, 2))
	removed := kvlattice.NewORSet()
	addTo(removed, tag(4), "1")
	removed.Remove(json.RawMessage("1"))
	mergeField(m, "in", inner)
	mergeField(m, "set", removed)
	mergeField(m, "register", kvlattice.NewLWW(jsonValue("1"), at(1), "w"))
	if n := m.Unsettled(); len(n) != 1 || n["calls@1"] != 3 {
		t.Errorf("unsettled: %v, want 3 of calls@1", n)
	}
	m.Settle("calls@1", 5)
	if n := m.Unsettled(); len(n) != 1 || n["calls@1"] != 1 {
		t.Errorf("once settled up to 5: %v, want 1 of calls@1", n)
	}
	if got, want := string(m.Value().Body), `{"in":{"n":7},"register":1,"set":[]}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestMapWithLargeFields(t *testing.T) {
	t.Parallel()
	m, inner, counter := kvlattice.NewMap(), kvlattice.NewMap(), kvlattice.NewCounter()
	for i := range uint64(5000) {
		counter.AddOp("s", "", 1+2*i, 1, 1)
	}
	mergeField(inner, "counter", counter)
	mergeField(inner, "orset", largeORSet())
	mergeField(m, "in", inner)
	mergeField(m, "zset", largeRanking())
	e := entry("", m)
	value, _, _ := strings.Cut(string(e.Body), "\n")
	if wire.First(e.Header, "Cb-Fields") != "body" || value != string(m.Value().Body) || !json.Valid([]byte(value)) {
		t.Errorf("headers %v, first line %.80s", e.Header, value)
	}
	survives(t, e)
}

// TestMapWithDeepField has a value that JSON could not hold within maps.
func TestMapWithDeepField(t *testing.T) {
	t.Parallel()
	deep, m := strings.Repeat("[", 9999)+strings.Repeat("]", 9999), kvlattice.NewMap()
	mergeField(m, "register", kvlattice.NewLWW(jsonValue(deep), at(1), "w"))
	survives(t, entry("", m))
	back, err := kvlattice.Decode(entry("", m))
	if err != nil || string(back.(*kvlattice.Map).Field("register").Value().Body) != deep {
		t.Errorf("once decoded it is another value, %v", err)
	}
}

// TestSizeOfMapAndSuch matters to caches, which are bounded by it.
func TestSizeOfMapAndSuch(t *testing.T) {
	t.Parallel()
	const large = 100_000
	text := `"` + strings.Repeat("x", large) + `"`
	m, orset, zset := kvlattice.NewMap(), kvlattice.NewORSet(), kvlattice.NewOrderedSet()
	addTo(orset, tag(1), text)
	ranked{member: text, wall: 1}.to(zset)
	mergeField(m, "field", kvlattice.NewSet(json.RawMessage(text)))
	for _, l := range []kvlattice.Lattice{m, orset, zset, newMax(text), newMin(text), kvlattice.NewPriority(1, jsonValue(text))} {
		if n := l.Size(); n < large || n > 4*large {
			t.Errorf("a %s of about %d bytes says %d", l.Kind(), large, n)
		}
	}
	before := orset.Size()
	addTo(orset, tag(2), text)
	orset.Remove(json.RawMessage(text))
	if orset.Settle("calls@1", 2); orset.Size() > before-large {
		t.Errorf("what was removed from an orset and settled still counts: %d bytes", orset.Size())
	}
}

func TestDecodeMapRefuses(t *testing.T) {
	t.Parallel()
	deep := `{"headers":{"Cb-Kind":"map"}}`
	value := `{}`
	for range 3 {
		deep, value = `{"headers":{"Cb-Kind":"map"},"fields":{"in":`+deep+`}}`, `{"in":`+value+`}`
	}
	for name, tt := range map[string]struct {
		notes, body string
		want        wire.Kind
		says        string
	}{
		"no notes":            {``, `{}`, wire.KindInvalid, "Cb-Fields"},
		"null":                {`{}`, `null`, wire.KindInvalid, "object"},
		"a field lost":        {`{"n":{"headers":{"Cb-Kind":"counter"}}}`, `{}`, wire.KindInvalid, `"n"`},
		"a note lost":         {`{}`, `{"n":1}`, wire.KindInvalid, `"n"`},
		"no kind":             {`{"n":{"as":"none"}}`, `{"n":1}`, wire.KindInvalid, "kind"},
		"a causal register":   {`{"n":{"headers":{"Cb-Kind":"causal"}}}`, `{"n":1}`, wire.KindInvalid, "causal"},
		"an unknown kind":     {`{"n":{"headers":{"Cb-Kind":"heap"}}}`, `{"n":1}`, wire.KindLattice, "heap"},
		"an unknown way":      {`{"n":{"headers":{"Cb-Kind":"set"},"as":"magic"}}`, `{"n":[]}`, wire.KindInvalid, "magic"},
		"text that is none":   {`{"n":{"headers":{"Cb-Kind":"set"},"as":"text"}}`, `{"n":[]}`, wire.KindInvalid, `"n"`},
		"bytes that are none": {`{"n":{"headers":{"Cb-Kind":"set"},"as":"base64"}}`, `{"n":"?"}`, wire.KindInvalid, `"n"`},
		"too deep":            {`{"in":` + deep + `}`, `{"in":` + value + `}`, wire.KindInvalid, "maps"},
	} {
		l, err := kvlattice.Decode(kvlattice.Entry{Header: header("Cb-Kind", "map", "Cb-Fields", tt.notes), Body: []byte(tt.body)})
		if l != nil || wire.KindOf(err) != tt.want {
			t.Errorf("%s: got %v, %v, want an error of %q", name, l, err, tt.want)
		} else if !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %q doesn't mention %s", name, err, tt.says)
		}
	}
}

func FuzzDecodeMap(f *testing.F) {
	m := kvlattice.NewMap()
	for _, name := range []string{"register", "counter", "<é.set>", "orset", "zset", "max", "", "map"} {
		mergeField(m, name, field(rand.New(rand.NewPCG(1, 1)), name, 4))
	}
	e := entry("", m)
	f.Add(wire.First(e.Header, "Cb-Fields"), e.Body)
	f.Add(`{"n":{"headers":{"Cb-Kind":"lww","Cb-Ts":"0000000000000001-00000002"},"raw":{"Cb-Writer":"/w=="},"as":"text"}}`, []byte(`{"n":"\ud800"}`))
	f.Add("body", []byte("{}\n{}"))
	f.Fuzz(func(t *testing.T, fields string, body []byte) {
		e := kvlattice.Entry{Header: header("Cb-Kind", "map", "Cb-Fields", fields), Body: body}
		if _, err := kvlattice.Decode(e); wire.KindOf(err) == wire.KindLattice {
			return // a field of a kind that isn't known here
		}
		survives(t, e)
	})
}

func BenchmarkMapMergeOneFieldIntoHundred(b *testing.B) {
	b.ReportAllocs()
	m, one := kvlattice.NewMap(), kvlattice.NewMap()
	for i := range 100 {
		mergeField(m, fmt.Sprint("field-", i), op("calls@1", 1, 1, 5))
	}
	mergeField(one, "field-50", op("calls@1", 2, 1, 5))
	for b.Loop() {
		if _, err := m.Merge(one); err != nil {
			b.Fatal(err)
		}
	}
}
