package broker

import (
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// TestRunOfAStoredCall publishes calls as the platform does and as plain clients do, and
// looks whose they are taken for.
func TestRunOfAStoredCall(t *testing.T) {
	p := newPlatform(t)
	p.register("f")
	for _, tt := range []struct {
		name string
		send func() error
		want wire.RunID // empty: that of its place in the stream
	}{
		{"a caller's", func() error { return p.Dispatch(t.Context(), wire.Call{Run: "r/ship", Name: "f"}) }, "r/ship"},
		{"inside of another run", func() error {
			return p.Dispatch(t.Context(), wire.Call{Run: wire.Contained("r", 0, "ship"), Name: "f", Depth: 1})
		}, "r/ship=dag"},
		{"begun again", func() error { return p.Dispatch(t.Context(), wire.Call{Run: "r", Name: "f", Epoch: 1}) }, "r"},
		{"a plain client's", func() error { return p.plain("order-1") }, "order-1"},
		{"a plain client's, like one inside of another", func() error { return p.plain("s/ship=dag") }, ""},
		{"a plain client's, like a replayed one", func() error { return p.plain("r-1=replay") }, ""},
		{"a plain client's, like one of another call", func() error { return p.plain("CB_CALLS_default-1") }, ""},
		{"a plain client's, like a node's", func() error { return p.plain("r:0:ship") }, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.send(); err != nil {
				t.Fatal(err)
			}
			d := p.take()
			read, err := p.delivery(d.msg)
			if err != nil {
				t.Fatal(err)
			}
			if err := d.Ack(); err != nil {
				t.Fatal(err)
			}
			want := tt.want
			if want == "" {
				want = placeOf(&read.Call)
			}
			if read.Call.Run != want {
				t.Errorf("it is of run %q, want %q", read.Call.Run, want)
			}
			stored, err := p.bySeq(t.Context(), read.Call.Stream, read.Call.Seq)
			if err != nil || stored == nil || runOf(stored) != want {
				t.Errorf("listed, it is of another run than %q (%v)", want, err)
			}
		})
	}
}

// plain calls f as a plain NATS client does.
func (p *platform) plain(id string) error {
	_, err := p.put(p.t.Context(), &nats.Msg{Subject: CallSubject("f"), Header: nats.Header{wire.HeaderRun: {id}}, Data: []byte("1")})
	return err
}
