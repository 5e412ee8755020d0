package broker

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

func TestScans(t *testing.T) {
	p := newPlatform(t)
	for _, messages := range []int{0, 1, 2, 64, 65, 2500} {
		t.Run(fmt.Sprint(messages), func(t *testing.T) {
			stream := fmt.Sprint("S", messages)
			s, err := p.js.CreateStream(t.Context(), jetstream.StreamConfig{Name: stream, Subjects: []string{stream + ".*"}, AllowDirect: true})
			if err != nil {
				t.Fatal(err)
			}
			random := rand.New(rand.NewPCG(1, uint64(messages)))
			var all, odd []uint64 // what a scan should return
			for i := range messages {
				if _, err := p.put(t.Context(), &nats.Msg{Subject: fmt.Sprintf("%s.%d", stream, i%2)}); err != nil {
					t.Fatal(err)
				}
				seq := uint64(i + 1)
				if random.IntN(3) == 0 { // with holes
					if err := s.DeleteMsg(t.Context(), seq); err != nil {
						t.Fatal(err)
					}
					continue
				}
				all = append(all, seq)
				if i%2 == 1 {
					odd = append(odd, seq)
				}
			}
			for _, c := range []struct {
				filter string
				want   []uint64
			}{{stream + ".>", all}, {stream + ".1", odd}, {stream + ".nothing", nil}} {
				var forth, back []uint64
				keep := func(list *[]uint64) func(*nats.Msg) bool {
					return func(msg *nats.Msg) bool {
						*list = append(*list, sequenceOf(msg))
						return true
					}
				}
				if err := p.scan(t.Context(), stream, c.filter, 0, keep(&forth)); err != nil {
					t.Fatal(err)
				}
				if err := p.scanBack(t.Context(), stream, c.filter, 1<<62, keep(&back)); err != nil {
					t.Fatal(err)
				}
				slices.Reverse(back)
				if !slices.Equal(forth, c.want) || !slices.Equal(back, c.want) {
					t.Errorf("%s: forward %d messages, backward %d, want %d", c.filter, len(forth), len(back), len(c.want))
				}
			}
		})
	}
}

func TestScanBackIsBounded(t *testing.T) {
	p := newPlatform(t)
	if _, err := p.js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}, AllowDirect: true}); err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		if _, err := p.put(t.Context(), &nats.Msg{Subject: "s"}); err != nil {
			t.Fatal(err)
		}
	}
	var n int
	if err := p.scanBack(t.Context(), "S", "s", 100, func(*nats.Msg) bool { n++; return true }); err != nil {
		t.Fatal(err)
	}
	if n < 100 || n > 300 {
		t.Errorf("looked at %d messages, want about 100", n)
	}
}

func TestBySeq(t *testing.T) {
	p := newPlatform(t)
	if _, err := p.js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}, AllowDirect: true}); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := p.put(t.Context(), &nats.Msg{Subject: "s"}); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.api(t.Context(), "STREAM.MSG.DELETE.S", map[string]uint64{"seq": 2}); err != nil {
		t.Fatal(err)
	}
	for seq, want := range map[uint64]bool{1: true, 2: false, 3: true, 4: false} {
		msg, err := p.bySeq(t.Context(), "S", seq)
		if err != nil || (msg != nil) != want {
			t.Errorf("sequence %d: got %v, %v", seq, msg, err)
		}
	}
	if err := p.api(t.Context(), "STREAM.MSG.DELETE.S", map[string]uint64{"seq": 2}); !isGone(err) {
		t.Errorf("deleting what is gone: %v", err)
	}
}
