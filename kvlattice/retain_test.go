package kvlattice

import (
	"fmt"
	"strings"
	"testing"
	"unsafe"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// within says whether a string is part of another one's memory.
func within(part, whole string) bool {
	if part == "" || whole == "" {
		return false
	}
	at, from := uintptr(unsafe.Pointer(unsafe.StringData(part))), uintptr(unsafe.Pointer(unsafe.StringData(whole)))
	return at >= from && at < from+uintptr(len(whole))
}

// What a cached lattice keeps of a message is a copy: names of some bytes would else keep
// headers of many kilobytes.
func TestLatticesKeepNoMessages(t *testing.T) {
	counter, clock := NewCounter(), &Causal{}
	for seq := uint64(1); seq <= 200; seq++ {
		counter.AddOp("CB_CALLS_default@x", "node", seq, 1, 1)
		clock.clock.Add(Dot{fmt.Sprintf("w-%d", seq), Timestamp{Wall: int64(seq)}})
		if seq == 200 {
			clock.versions = []version{{dot: Dot{"w-200", Timestamp{Wall: 200}}, value: wire.Value{Body: []byte("1")}}}
		}
	}
	arrive := func(l Lattice) (Lattice, []string) {
		h, body := l.Encode()
		var texts []string
		for name, values := range h {
			h[name] = []string{strings.Clone(values[0])} // as from the network
			texts = append(texts, h[name][0])
		}
		got, err := Decode(Entry{Header: h, Body: body})
		if err != nil {
			t.Fatal(err)
		}
		return got, texts
	}
	long := func(texts []string) string {
		longest := ""
		for _, text := range texts {
			if len(text) > len(longest) {
				longest = text
			}
		}
		return longest
	}
	l, texts := arrive(counter)
	for source, own := range l.(*Counter).sources {
		if within(source, long(texts)) {
			t.Errorf("the counter's source %q is part of a header of %d bytes", source, len(long(texts)))
		}
		for key := range own.recent {
			if within(key.node, long(texts)) {
				t.Fatalf("the counter's node %q is part of a header of %d bytes", key.node, len(long(texts)))
			}
		}
	}
	l, texts = arrive(clock)
	for writer := range l.(*Causal).clock.last {
		if within(writer, long(texts)) {
			t.Fatalf("the clock's writer %q is part of a header of %d bytes", writer, len(long(texts)))
		}
	}
}
