package broker

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// What is heard and what is read come in the order of each sender, once each.
func TestInbox(t *testing.T) {
	msg := func(from string, seq, last, number uint64) arrival {
		return arrival{Message: wire.Message{From: from, Value: wire.Value{Body: fmt.Appendf(nil, "%d", seq)}}, seq: seq, last: last, number: number}
	}
	in := newInbox()
	steps := []struct {
		name string
		do   func() bool
		want bool
	}{
		{"read before heard", func() bool { in.stored(msg("a", 3, 0, 1)); return in.hear(msg("a", 3, 0, 1)) }, true},
		{"the next of a sender", func() bool { return in.hear(msg("a", 5, 3, 2)) }, true},
		{"another sender's first", func() bool { return in.hear(msg("b", 6, 0, 1)) }, true},
		{"one is missing", func() bool { return in.hear(msg("a", 9, 7, 4)) }, false},
		{"it is read", func() bool { in.stored(msg("a", 7, 5, 3)); in.stored(msg("a", 9, 7, 4)); return true }, true},
		{"heard late", func() bool { return in.hear(msg("a", 7, 5, 3)) }, true},
		{"a sender that is run again", func() bool { return in.hear(msg("b", 11, 6, 1)) }, true},
		{"and goes on", func() bool { return in.hear(msg("b", 12, 11, 2)) }, true},
		{"without numbers each counts", func() bool { return in.hear(msg("c", 13, 0, 0)) && in.hear(msg("c", 14, 13, 0)) }, true},
	}
	for _, s := range steps {
		if got := s.do(); got != s.want {
			t.Errorf("%s: %v, want %v", s.name, got, s.want)
		}
	}
	var got []string
	for m := in.next(); m != nil; m = in.next() {
		got = append(got, m.From+string(m.Body))
	}
	if want := "a3 a5 b6 a7 a9 b12 c13 c14"; strings.Join(got, " ") != want {
		t.Errorf("got %v, want %s", got, want)
	}
}

func receive(t *testing.T, m *Mailbox, n int) map[string]string {
	t.Helper()
	got := make(map[string]string)
	for range n {
		msg, err := m.Receive(t.Context(), time.Minute)
		if err != nil || msg == nil {
			t.Fatalf("after %v: %v, %v", got, msg, err)
		}
		got[msg.From] += string(msg.Body)
	}
	return got
}

func openMailbox(t *testing.T, b *Broker, to string) *Mailbox {
	t.Helper()
	m, err := b.OpenMailbox(to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

// Messages reach a receiver that listens and one that doesn't yet, in order and
// once, while the connection is lost now and then.
func TestMessages(t *testing.T) {
	p := newPlatform(t)
	sender := p.connect("sender")
	send := func(from string, number uint64, body string) {
		t.Helper()
		if err := sender.Send(t.Context(), from, "run.x/node", number, wire.Value{Body: []byte(body)}); err != nil {
			t.Error(err)
		}
	}
	send("a/1", 1, "1")
	send("a/1", 2, "2")
	m := openMailbox(t, p.Broker, "run.x/node")
	if got := receive(t, m, 2); got["a/1"] != "12" {
		t.Fatal(got)
	}
	if msg, err := m.Receive(t.Context(), 0); msg != nil || err != nil {
		t.Fatal(msg, err)
	}
	var sending sync.WaitGroup
	for _, from := range []string{"b", "c", "d"} {
		sending.Go(func() {
			for i := range 100 {
				send(from, uint64(i+1), fmt.Sprintf("%d,", i))
				if from == "b" && i%25 == 10 {
					_ = p.nc.ForceReconnect() // of the receiver
				}
				send(from, uint64(i+1), "again")
			}
		})
	}
	got := receive(t, m, 300)
	sending.Wait()
	for _, from := range []string{"b", "c", "d"} {
		for i, part := range strings.Split(strings.TrimSuffix(got[from], ","), ",") {
			if part != fmt.Sprint(i) {
				t.Fatalf("%s: message %d is %s", from, i, part)
			}
		}
	}
	// A plain client's has no number, and comes too.
	if err := sender.nc.Publish("cb.msg.run=2Ex/node.me", []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if got := receive(t, m, 1); got["me"] != "hello" {
		t.Fatal(got)
	}
	again := openMailbox(t, p.Broker, "run.x/node")
	if got := receive(t, again, 303); len(got) != 5 {
		t.Errorf("a second attempt received from %d senders, want all 5", len(got))
	}
	m.Discard()
	for range 1000 {
		left, _, err := p.page(t.Context(), StreamMessages, ">", 0, 10)
		if err != nil {
			t.Fatal(err)
		}
		if len(left) == 0 {
			return
		}
		<-time.After(10 * time.Millisecond)
	}
	t.Error("what was discarded is still there")
}

func TestMessagesThatCannotBe(t *testing.T) {
	p := newPlatform(t)
	for _, to := range []string{"", "a b", "..", strings.Repeat("x", 300)} {
		if err := p.Send(t.Context(), "me", to, 1, wire.Value{}); wire.KindOf(err) != wire.KindBadName {
			t.Errorf("to %q: %v", to, err)
		}
		if _, err := p.OpenMailbox(to); wire.KindOf(err) != wire.KindBadName {
			t.Errorf("mailbox %q: %v", to, err)
		}
	}
	if err := p.Send(t.Context(), "me", "you", 1, wire.Value{Body: make([]byte, MaxValue+1)}); wire.KindOf(err) != wire.KindTooLarge {
		t.Errorf("a message of %d bytes: %v", MaxValue+1, err)
	}
	large := wire.Value{Body: []byte(strings.Repeat("large ", 1<<19)), Type: "text/plain"}
	if err := p.Send(t.Context(), "me", "you", 1, large); err != nil {
		t.Fatal(err)
	}
	m := openMailbox(t, p.Broker, "you")
	msg, err := m.Receive(t.Context(), time.Minute)
	if err != nil || msg == nil || msg.Type != large.Type || string(msg.Body) != string(large.Body) {
		t.Errorf("a large message came as %.20v, %v", msg, err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := m.Receive(ended, time.Hour); err == nil {
		t.Error("a receiver whose context has ended went on")
	}
	p.nc.Close()
	if _, err := m.Receive(t.Context(), time.Hour); wire.KindOf(err) != wire.KindUnavailable {
		t.Errorf("on a closed connection: %v", err)
	}
}

// Whatever somebody publishes to a mailbox is a message, or is passed over; the next
// one comes.
func TestAnythingInAMailboxIsReceived(t *testing.T) {
	p := newPlatform(t)
	box, err := p.OpenMailbox("run-1")
	if err != nil {
		t.Fatal(err)
	}
	defer box.Close()
	for _, m := range []struct {
		body, chunks, typ, want string
	}{
		{body: "not JSON", typ: "text/plain; charset=utf-8", want: "not JSON"},
		{body: "\xff\xfe", typ: "application/octet-stream", want: "\xff\xfe"},
		{body: "", want: "null"},
		{body: "no manifest", chunks: "1"},
		{body: `"last"`, want: `"last"`},
	} {
		msg := nats.NewMsg(messageSubject(subjectMsg, "run-1", "hand"))
		msg.Data = []byte(m.body)
		if m.chunks != "" {
			msg.Header.Set(wire.HeaderChunks, m.chunks)
		}
		if _, err := p.js.PublishMsg(t.Context(), msg); err != nil {
			t.Fatal(err)
		}
		if m.chunks != "" {
			continue // passed over
		}
		got, err := box.Receive(t.Context(), 30*time.Second)
		if err != nil || got == nil || string(got.Body) != m.want || got.Type != m.typ {
			t.Errorf("%q was received as %+v, %v; want %q of type %q", m.body, got, err, m.want, m.typ)
		}
	}
}

// A mailbox reads the messages that it doesn't hold from the stream, in order.
func TestAMailboxThatNobodyEmptiesLosesNothing(t *testing.T) {
	p := newPlatform(t)
	sender := p.connect("sender")
	box := openMailbox(t, p.connect("receiver"), "crowded")
	send := func(from, to int) {
		t.Helper()
		for i := from; i <= to; i++ {
			if err := sender.Send(t.Context(), "ann", "crowded", uint64(i), wire.Value{Body: fmt.Appendf(nil, "%d ", i)}); err != nil {
				t.Fatal(err)
			}
		}
	}
	var want strings.Builder
	const all = 3 * mailboxHears
	for i := range all + 1 {
		fmt.Fprint(&want, i+1, " ")
	}
	send(1, 1)
	got := receive(t, box, 1)["ann"] // from now on it listens
	send(2, all)
	got += receive(t, box, all-1)["ann"]
	send(all+1, all+1)
	got += receive(t, box, 1)["ann"]
	if got != want.String() {
		t.Errorf("got %s, want %s", got, want.String())
	}
}

// Thousands of runs may wait for a message, each with a mailbox.
func TestMailboxesTakeLittleMemory(t *testing.T) {
	b := newPlatform(t).connect("receiver")
	const boxes, most = 200, 32 << 10 // bytes each, the server's part included
	inUse := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := inUse()
	for i := range boxes {
		openMailbox(t, b, fmt.Sprint("box", i))
	}
	if after := inUse(); after > before+boxes*most {
		t.Errorf("a mailbox takes %d B, %d at most", (after-before)/boxes, most)
	}
}
