package kvlattice_test

import (
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/cloudburst-nats/cloudburst/kvlattice"
	"github.com/cloudburst-nats/cloudburst/wire"
)

func entry(writer string, l kvlattice.Lattice) kvlattice.Entry {
	h, body := l.Encode()
	return kvlattice.Entry{Writer: writer, Header: h, Body: body}
}

func header(pairs ...string) wire.Header {
	h := make(wire.Header)
	for i := 0; i < len(pairs); i += 2 {
		h[pairs[i]] = []string{pairs[i+1]}
	}
	return h
}

func TestDecodeWhatWasPutByHand(t *testing.T) {
	t.Parallel()
	put := time.Unix(1_700_000_000, 5)
	for name, tt := range map[string]struct {
		entry   kvlattice.Entry
		deleted bool
		value   wire.Value
	}{
		"nats kv put":    {kvlattice.Entry{Body: []byte("5"), At: put}, false, jsonValue("5")},
		"with a type":    {kvlattice.Entry{Header: header("Content-Type", "text/plain"), Body: []byte("x"), At: put}, false, wire.Value{Body: []byte("x"), Type: "text/plain"}},
		"nats kv del":    {kvlattice.Entry{Header: header("KV-Operation", "DEL"), At: put}, true, wire.Value{}},
		"nats kv purge":  {kvlattice.Entry{Header: header("KV-Operation", "PURGE"), At: put}, true, wire.Value{}},
		"time ran out":   {kvlattice.Entry{Header: header("Nats-Marker-Reason", "MaxAge"), At: put}, true, wire.Value{}},
		"an explicit op": {kvlattice.Entry{Header: header("KV-Operation", "PUT"), Body: []byte("5"), At: put}, false, jsonValue("5")},
	} {
		l, err := kvlattice.Decode(tt.entry)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		r, ok := l.(*kvlattice.LWW)
		if !ok || r.Deleted() != tt.deleted || !reflect.DeepEqual(r.Value(), tt.value) || r.Timestamp() != at(put.UnixNano()) || r.Writer() != "" {
			t.Errorf("%s: got %+v", name, l)
		}
	}
	old, err := kvlattice.Decode(kvlattice.Entry{Body: []byte("5")})
	if err != nil || old.(*kvlattice.LWW).Timestamp() != at(0) {
		t.Errorf("without a time: got %+v, %v, want the zero timestamp", old, err)
	}
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	counter := func(components, body string) kvlattice.Entry {
		return kvlattice.Entry{Header: header("Cb-Kind", "counter", "Cb-Counter", components), Body: []byte(body)}
	}
	for name, tt := range map[string]struct {
		entry kvlattice.Entry
		want  wire.Kind
		says  []string
	}{
		"unknown kind":    {kvlattice.Entry{Header: header("Cb-Kind", "heap")}, wire.KindLattice, []string{"heap"}},
		"no timestamp":    {kvlattice.Entry{Header: header("Cb-Kind", "lww")}, wire.KindInvalid, []string{"lww", "Cb-Ts"}},
		"bad timestamp":   {kvlattice.Entry{Header: header("Cb-Kind", "lww", "Cb-Ts", "now")}, wire.KindInvalid, []string{"lww", "Cb-Ts", "now"}},
		"set of nothing":  {kvlattice.Entry{Header: header("Cb-Kind", "set")}, wire.KindInvalid, []string{"set"}},
		"set of null":     {kvlattice.Entry{Header: header("Cb-Kind", "set"), Body: []byte("null")}, wire.KindInvalid, []string{"set", "array"}},
		"set of object":   {kvlattice.Entry{Header: header("Cb-Kind", "set"), Body: []byte("{}")}, wire.KindInvalid, []string{"set"}},
		"header lost":     {counter("", "5"), wire.KindInvalid, []string{"counter", `"5"`, "add up to 0"}},
		"body replaced":   {counter("s|1|5", "6"), wire.KindInvalid, []string{"counter", `"6"`, "5"}},
		"body lost":       {counter("body", "5"), wire.KindInvalid, []string{"counter"}},
		"cut short":       {counter("s|1", "5"), wire.KindInvalid, []string{"s|1"}},
		"no operations":   {counter("s|1|5|n", "5"), wire.KindInvalid, []string{"pairs"}},
		"source twice":    {counter("s|1|5;s|1|5", "10"), wire.KindInvalid, []string{`"s"`, "twice"}},
		"operation twice": {counter("s|0|0|n|1+1|n|1+1", "2"), wire.KindInvalid, []string{"twice"}},
		"bad watermark":   {counter("s|-1|5", "5"), wire.KindInvalid, []string{"watermark"}},
		"bad total":       {counter("s|1|x", "5"), wire.KindInvalid, []string{"total"}},
		"bad name":        {counter("%zz|1|5", "5"), wire.KindInvalid, []string{"%zz"}},
		"no distance":     {counter("s|1|4|n|0+1", "5"), wire.KindInvalid, []string{"0+1"}},
		"distance wraps":  {counter("s|1|4|n|18446744073709551615+1", "5"), wire.KindInvalid, []string{"after"}},
		"no delta":        {counter("s|1|5|n|1", "5"), wire.KindInvalid, []string{"no delta"}},
		"bad attempt":     {counter("s|1|4|n|1x+1", "5"), wire.KindInvalid, []string{"1x+1"}},
	} {
		l, err := kvlattice.Decode(tt.entry)
		if l != nil || wire.KindOf(err) != tt.want {
			t.Errorf("%s: got %v, %v, want an error of %q", name, l, err, tt.want)
			continue
		}
		for _, part := range tt.says {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s: %q doesn't mention %s", name, err, part)
			}
		}
	}
}

func TestSnapshotJoin(t *testing.T) {
	t.Parallel()
	if l, err := (kvlattice.Snapshot{}).Join(); l != nil || err != nil {
		t.Errorf("an empty snapshot joins to %v, %v, want nil", l, err)
	}
	base := entry("", kvlattice.NewSet(json.RawMessage("1")))
	s := kvlattice.Snapshot{Base: &base, Slots: []kvlattice.Entry{
		entry("w1", kvlattice.NewSet(json.RawMessage("2"))), entry("w2", kvlattice.NewSet(json.RawMessage("3"), json.RawMessage("1"))),
	}}
	for range 2 { // joining must not change the snapshot
		l, err := s.Join()
		if err != nil || string(l.Value().Body) != "[1,2,3]" {
			t.Fatalf("got %v, %v, want [1,2,3]", l, err)
		}
	}
	s.Base = nil
	if l, err := s.Join(); err != nil || string(l.Value().Body) != "[1,2,3]" {
		t.Errorf("without a base: got %v, %v, want [1,2,3]", l, err)
	}
}

func TestSnapshotJoinOfDifferentKinds(t *testing.T) {
	t.Parallel()
	counter := kvlattice.NewCounter()
	counter.AddTotal("client", 1, 4)
	base := kvlattice.Entry{Body: []byte("5"), At: time.Unix(9, 0)} // put by hand
	s := kvlattice.Snapshot{Base: &base, Slots: []kvlattice.Entry{entry("w1", counter)}}
	_, err := s.Join()
	if wire.KindOf(err) != wire.KindLattice {
		t.Fatalf("got %v, want an error of %q", err, wire.KindLattice)
	}
	for _, part := range []string{"lww", "the base", "counter", `"w1"`} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q doesn't mention %s", err, part)
		}
	}
	// Deleting the plain value resolves it, in whatever order elements come.
	gone := entry("w2", kvlattice.NewTombstone(at(time.Unix(10, 0).UnixNano()), "w2"))
	for range 6 {
		s.Slots = append(s.Slots[:0:0], gone, entry("w1", counter))
		rand.Shuffle(2, func(i, j int) { s.Slots[i], s.Slots[j] = s.Slots[j], s.Slots[i] })
		if l, err := s.Join(); err != nil || string(l.Value().Body) != "4" {
			t.Fatalf("with the plain value deleted: got %v, %v, want 4", l, err)
		}
	}
}

func TestSnapshotJoinSaysWhichElementIsDamaged(t *testing.T) {
	t.Parallel()
	s := kvlattice.Snapshot{Slots: []kvlattice.Entry{{Writer: "w7", Header: header("Cb-Kind", "set"), Body: []byte("[")}}}
	_, err := s.Join()
	if wire.KindOf(err) != wire.KindInvalid || !strings.Contains(err.Error(), `"w7"`) || !strings.Contains(err.Error(), "set") {
		t.Errorf("got %v, want an error of %q that names w7 and set", err, wire.KindInvalid)
	}
}

func FuzzDecodeLWW(f *testing.F) {
	f.Add("0000000000000001-00000002", "w1", "text/plain", "", []byte("x"))
	f.Add("0000000000000001-00000002", "", "", "DEL", []byte(nil))
	f.Fuzz(func(t *testing.T, stamp, writer, mime, operation string, body []byte) {
		survives(t, kvlattice.Entry{Body: body, Header: header(
			"Cb-Kind", "lww", "Cb-Ts", stamp, "Cb-Writer", writer, "Content-Type", mime, "KV-Operation", operation)})
		survives(t, kvlattice.Entry{Body: body, Header: header("Content-Type", mime, "KV-Operation", operation)})
	})
}

func FuzzDecodeCounter(f *testing.F) {
	f.Add("client|2|4;r|0|0|n|3+10;s|3|7|a|1x2-3,2+4|b|1+5", []byte("27"))
	f.Add("", []byte("0"))
	f.Add("body", []byte("4\nclient|2|4"))
	f.Fuzz(func(t *testing.T, components string, body []byte) {
		e := kvlattice.Entry{Header: header("Cb-Kind", "counter", "Cb-Counter", components), Body: body}
		survives(t, e)
	})
}

func FuzzDecodeSet(f *testing.F) {
	f.Add([]byte(`[1,"a",null,{"b":[]},1]`))
	f.Add([]byte(` [ ] `))
	f.Fuzz(func(t *testing.T, body []byte) {
		survives(t, kvlattice.Entry{Header: header("Cb-Kind", "set"), Body: body})
	})
}

// survives checks that what decodes at all encodes to something that decodes
// to an equal lattice, and that what doesn't decode is called damaged.
func survives(t *testing.T, e kvlattice.Entry) {
	t.Helper()
	l, err := kvlattice.Decode(e)
	if err != nil {
		if wire.KindOf(err) != wire.KindInvalid {
			t.Errorf("%v %q: got %v, want an error of %q", e.Header, e.Body, err, wire.KindInvalid)
		}
		return
	}
	again := entry("", l)
	back, err := kvlattice.Decode(again)
	if err != nil {
		t.Fatalf("%v %q encodes to %v %q: %v", e.Header, e.Body, again.Header, again.Body, err)
	}
	if twice := entry("", back); !reflect.DeepEqual(again, twice) {
		t.Errorf("%v %q encodes to %v %q, and that to %v %q", e.Header, e.Body, again.Header, again.Body, twice.Header, twice.Body)
	}
	if merge(t, back, l) || merge(t, l, back) {
		t.Errorf("%v %q isn't equal to itself once encoded", e.Header, e.Body)
	}
}

// TestSize matters to caches, which are bounded by it.
func TestSize(t *testing.T) {
	t.Parallel()
	const large = 100_000
	element := json.RawMessage(`"` + strings.Repeat("x", large) + `"`)
	counter := kvlattice.NewCounter()
	for i := range uint64(large / 32) {
		counter.AddOp("s", "", i+1, 1, 1)
	}
	for _, l := range []kvlattice.Lattice{kvlattice.NewSet(element), kvlattice.NewLWW(wire.Value{Body: element}, at(1), "w"), counter} {
		if n := l.Size(); n < large || n > 4*large {
			t.Errorf("a %s of about %d bytes says %d", l.Kind(), large, n)
		}
	}
}
