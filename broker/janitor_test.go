package broker

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/cloudburst-nats/cloudburst/wire"
)

func (p *platform) state(pool string) jetstream.StreamState {
	p.t.Helper()
	s, err := p.js.Stream(p.t.Context(), CallsStream(pool))
	if err != nil {
		p.t.Fatal(err)
	}
	return s.CachedInfo().State
}

func TestJanitorPurgesOnlyWhatIsSettled(t *testing.T) {
	p := newPlatform(t)
	p.register("f")
	j := p.NewJanitor(JanitorConfig{MinCalls: 1})
	for i := range 10 {
		p.publish(wire.Call{Run: wire.RunID(fmt.Sprint(i)), Name: "f"})
	}
	calls := make([]*Delivery, 6)
	for i := range calls {
		calls[i] = p.take()
	}
	sweep := func(settled uint64) {
		t.Helper()
		eventually(t, "the floor rises", func() bool {
			m, err := p.marks(t.Context(), DefaultPool)
			return err == nil && m.floor == settled
		})
		if err := j.sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	ack := func(seqs ...int) {
		t.Helper()
		for _, seq := range seqs {
			if err := calls[seq-1].Ack(); err != nil {
				t.Fatal(err)
			}
		}
	}
	sweep(0)
	if s := p.state(DefaultPool); s.Msgs != 10 {
		t.Fatalf("nothing is settled, and %d of 10 calls are left", s.Msgs)
	}
	ack(1, 2, 4, 5) // 3 is in hand
	sweep(2)
	if s := p.state(DefaultPool); s.FirstSeq != 3 || s.Msgs != 8 {
		t.Fatalf("1, 2, 4 and 5 are settled: got %d calls from %d on, want 8 from 3", s.Msgs, s.FirstSeq)
	}
	ack(3)
	sweep(5)
	if s := p.state(DefaultPool); s.FirstSeq != 6 || s.Msgs != 5 {
		t.Fatalf("5 are settled: got %d calls from %d on, want 5 from 6", s.Msgs, s.FirstSeq)
	}
	// What is left is still handed out.
	ack(6)
	for seq := 7; seq <= 10; seq++ {
		d := p.take()
		if d.Call.Seq != uint64(seq) {
			t.Errorf("got call %d, want %d", d.Call.Seq, seq)
		}
		if err := d.Ack(); err != nil {
			t.Fatal(err)
		}
	}
	sweep(10)
	if s := p.state(DefaultPool); s.Msgs != 1 || s.FirstSeq != 10 {
		t.Errorf("all are settled: got %d calls from %d on, want the newest alone", s.Msgs, s.FirstSeq)
	}
}

func TestPurgeable(t *testing.T) {
	for _, test := range []struct{ floor, last, want uint64 }{
		{0, 0, 0}, {0, 5, 0}, {3, 5, 3}, {5, 5, 4}, {7, 5, 4}, {1, 1, 0},
	} {
		if got := purgeable(test.floor, jetstream.StreamState{LastSeq: test.last}); got != test.want {
			t.Errorf("floor %d, last %d: got %d, want %d", test.floor, test.last, got, test.want)
		}
	}
}

func TestGain(t *testing.T) {
	state := jetstream.StreamState{FirstSeq: 11, LastSeq: 20, Msgs: 10, Bytes: 1000}
	for _, test := range []struct{ through, calls, bytes uint64 }{
		{0, 0, 0}, {10, 0, 0}, {11, 1, 100}, {19, 9, 900}, {100, 10, 1000},
	} {
		if calls, bytes := gain(test.through, state); calls != test.calls || bytes != test.bytes {
			t.Errorf("through %d: got %d calls, %d bytes, want %d, %d", test.through, calls, bytes, test.calls, test.bytes)
		}
	}
}

func TestJanitorWaitsForAGain(t *testing.T) {
	p := newPlatform(t)
	p.register("f")
	for range 20 {
		p.publish(wire.Call{Name: "f"})
		if err := p.take().Ack(); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "all is settled", func() bool {
		m, err := p.marks(t.Context(), DefaultPool)
		return err == nil && m.floor == 20
	})
	if err := p.NewJanitor(JanitorConfig{}).sweep(t.Context()); err != nil || p.state(DefaultPool).Msgs != 20 {
		t.Errorf("purged for next to nothing: %d calls left, %v", p.state(DefaultPool).Msgs, err)
	}
	// Several at once.
	p.start(p.NewJanitor(JanitorConfig{MinCalls: 5}).Run)
	p.start(p.connect("second").NewJanitor(JanitorConfig{MinCalls: 5}).Run)
	eventually(t, "the stream is purged", func() bool { return p.state(DefaultPool).Msgs == 1 })
}

func TestPoolsAndLag(t *testing.T) {
	p := newPlatform(t)
	p.register("f")
	if err := p.RegisterFunctions(t.Context(), []wire.Function{{Name: "g", Pool: "gpu"}}); err != nil {
		t.Fatal(err)
	}
	pools, err := p.Pools(t.Context())
	if err != nil || !slices.Equal(pools, []string{"default", "gpu"}) {
		t.Errorf("got %v, %v", pools, err)
	}
	for range 3 {
		p.publish(wire.Call{Name: "f"})
	}
	p.take()
	eventually(t, "2 are pending, 1 in hand", func() bool {
		lag, err := p.Lag(t.Context(), DefaultPool)
		return err == nil && lag.Pending == 2 && lag.AckPending == 1
	})
	_, err = p.Lag(t.Context(), "nobody")
	wantKind(t, err, wire.KindUnknown)
}

func TestWatermarks(t *testing.T) {
	p := newPlatform(t)
	p.register("f")
	w := p.NewWatermarks()
	_, source, err := w.Pool(t.Context(), DefaultPool)
	if err != nil || !strings.HasPrefix(source, "CB_CALLS_default@") {
		t.Fatalf("got source %q, %v", source, err)
	}
	for range 2 {
		p.publish(wire.Call{Name: "f"})
		if err := p.take().Ack(); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the mark rises", func() bool {
		floor, err := w.Settled(t.Context(), source)
		return err == nil && floor == 2
	})
	// A stream that is made anew begins at 1 again: another source.
	if err := p.js.DeleteStream(t.Context(), CallsStream(DefaultPool)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the mark of a stream that is gone is 0", func() bool {
		floor, err := w.Settled(t.Context(), source)
		return err == nil && floor == 0
	})
	p.register("f")
	eventually(t, "the new stream is another source", func() bool {
		_, now, err := w.Pool(t.Context(), DefaultPool)
		return err == nil && now != source
	})
	if floor, err := w.Settled(t.Context(), source); err != nil || floor != 0 {
		t.Errorf("the old source is settled up to %d, %v, want 0", floor, err)
	}
}
