package broker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/cloudburst-nats/cloudburst/kvlattice"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// foreignServer runs a NATS server with this max_payload until the test ends.
func foreignServer(t *testing.T, maxPayload int32) (url string) {
	t.Helper()
	ns, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir(), MaxPayload: maxPayload, NoSigs: true, NoLog: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	ns.Start()
	t.Cleanup(ns.WaitForShutdown)
	t.Cleanup(ns.Shutdown)
	if !ns.ReadyForConnections(time.Minute) {
		t.Fatal("the server didn't start")
	}
	return ns.ClientURL()
}

// echoes is a platform on a server with this max_payload, whose function echo returns
// its argument.
func echoes(t *testing.T, maxPayload int32) *platform {
	t.Helper()
	p := &platform{t: t, url: foreignServer(t, maxPayload)}
	p.Broker = p.connect("first")
	t.Cleanup(p.ending.Wait)
	if err := p.EnsurePlatform(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.register("echo")
	p.work(func(d *Delivery) {
		v, err := p.Unpack(context.Background(), d.Call.Args)
		if err != nil {
			t.Errorf("unpack the argument of %s: %v", d.Call.Run, err)
		}
		p.ending.Add(1)
		d.Finish(context.Background(), &wire.Result{Run: d.Call.Run, Name: "echo", Status: wire.StatusOK, Started: time.Now(), Attempts: d.Call.Attempt, Value: v}, func(err error) {
			defer p.ending.Done()
			if err != nil {
				t.Errorf("finish %s: %v", d.Call.Run, err)
			}
		})
	})
	return p
}

// text returns JSON of so many bytes that doesn't compress to nothing.
func text(size int) []byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = 'a' + byte(i*i/7%26)
	}
	b[0], b[size-1] = '"', '"'
	return b
}

// What fits the server's max_payload, to the byte, goes through every door and comes
// back; what doesn't go in one message goes in chunks.
func TestPayloadsAtEveryDoor(t *testing.T) {
	for _, most := range []int{leastPayload, 300_000, 1 << 20, 4 << 20} {
		t.Run(fmt.Sprint(most), func(t *testing.T) {
			p := echoes(t, int32(most)) //nolint:gosec // as above
			nc := p.gateway()
			bucket, err := p.OpenBucket(t.Context(), "state")
			if err != nil {
				t.Fatal(err)
			}
			around := []int{most - 100_000, most - headerRoom - 300, most - headerRoom, most - 300, most - 100, most - 50, most - 1, most}
			for name, door := range map[string]func(size int) ([]byte, error){
				"nats req": func(size int) ([]byte, error) { return p.requested(nc, text(size)) },
				"nats pub": func(size int) ([]byte, error) { return p.published(nc, text(size)) },
				"the library": func(size int) ([]byte, error) {
					r, err := p.Call(t.Context(), wire.Call{Name: "echo", Args: wire.Value{Body: text(size)}})
					return r.Value.Body, err
				},
				"a named call of the library": func(size int) ([]byte, error) {
					r, err := p.Call(t.Context(), wire.Call{Run: wire.NewRunID(), Name: "echo", Args: wire.Value{Body: text(size)}})
					return r.Value.Body, err
				},
				"an input or a signal": func(size int) ([]byte, error) {
					run := wire.NewRunID()
					seq, err := p.PutInput(t.Context(), run, "node", "signal", wire.Input{Value: wire.Value{Body: text(size)}, Once: true})
					if err != nil {
						return nil, err
					}
					in, err := p.Inputs(t.Context(), run, "node", seq)
					return in["signal"].Body, err
				},
				"a message to a function": func(size int) ([]byte, error) {
					to := "box" + string(wire.NewRunID())
					if err := p.Send(t.Context(), "me", to, 1, wire.Value{Body: text(size)}); err != nil {
						return nil, err
					}
					box, err := p.OpenMailbox(to)
					if err != nil {
						return nil, err
					}
					defer box.Close()
					msg, err := box.Receive(t.Context(), 20*time.Second)
					if err != nil || msg == nil {
						return nil, fmt.Errorf("no message: %w", err)
					}
					return msg.Body, nil
				},
				"a key": func(size int) ([]byte, error) {
					key := "key" + string(wire.NewRunID())
					if _, err := bucket.PutSlot(t.Context(), key, kvlattice.Entry{Writer: "w", Body: text(size), Header: wire.Header{"Cb-Kind": {"set"}}}); err != nil {
						return nil, err
					}
					return bucket.read(t, key).Slots[0].Body, nil
				},
				"a dead letter": func(size int) ([]byte, error) { return p.buried(text(size)) },
			} {
				t.Run(name, func(t *testing.T) {
					sizes := around
					if !strings.HasPrefix(name, "nats ") { // ours go beyond
						sizes = append(sizes, most+1, 2*most+1)
					}
					for _, size := range sizes {
						if size < 2 {
							continue
						}
						if got, err := door(size); err != nil || !bytes.Equal(got, text(size)) {
							t.Fatalf("%d bytes, %d more than max_payload: %d bytes come back, %v", size, size-most, len(got), err)
						}
					}
				})
			}
			if err := nc.Publish("cb.fn.echo", text(most+1)); !errors.Is(err, nats.ErrMaxPayload) {
				t.Errorf("one byte more of a bare client: %v", err)
			}
		})
	}
}

// requested asks with a plain request, and puts a result together that comes as chunks.
func (p *platform) requested(nc *nats.Conn, body []byte) ([]byte, error) {
	msg, err := nc.RequestMsgWithContext(p.t.Context(), &nats.Msg{Subject: "cb.fn.echo", Data: body})
	if err != nil {
		return nil, err
	}
	return p.resultOf(msg)
}

// resultOf reads a result as a client does that knows docs/wire.md.
func (p *platform) resultOf(msg *nats.Msg) ([]byte, error) {
	chunks, status := msg.Header.Get(wire.HeaderChunks), msg.Header.Get(wire.HeaderStatus)
	if status != "ok" {
		return nil, fmt.Errorf("status %q: %.300s", status, msg.Data)
	}
	most := int(p.nc.MaxPayload())
	if chunks == "" {
		if len(msg.Data) > most-50 {
			p.t.Errorf("%d bytes and headers came in one message of %d", len(msg.Data), most)
		}
		return msg.Data, nil
	}
	v, err := p.Unpack(p.t.Context(), wire.Value{Body: msg.Data, Type: manifestType})
	if len(v.Body) < most-1000 {
		p.t.Errorf("a result of %d bytes came as chunks to a bare client, though %d fit", len(v.Body), most)
	}
	return v.Body, err
}

// published publishes to the calls' stream so that with its headers the message is of
// max_payload less what the body lacks of it, and waits at an inbox for the result.
func (p *platform) published(nc *nats.Conn, body []byte) ([]byte, error) {
	asked, inbox := len(body), nats.NewInbox()
	sub, err := nc.SubscribeSync(inbox)
	if err != nil {
		return nil, err
	}
	defer func() { _ = sub.Unsubscribe() }()
	msg := &nats.Msg{Subject: "cb.call.echo", Data: body, Header: nats.Header{wire.HeaderReply: {inbox}}}
	if over := msg.Size() - len(msg.Subject) - int(nc.MaxPayload()); over > 0 {
		if body = text(len(body) - over); len(body) < 2 {
			return nil, errors.New("no room for a body")
		}
		msg.Data = body
	}
	ack, err := nc.RequestMsgWithContext(p.t.Context(), msg)
	if err != nil {
		return nil, err
	}
	if _, _, err := parsePubAck(ack); err != nil {
		return nil, err
	}
	answer, err := sub.NextMsg(20 * time.Second)
	if err != nil {
		return nil, err
	}
	got, err := p.resultOf(answer)
	if err != nil || !bytes.Equal(got, body) {
		return got, errors.Join(err, errors.New("not what was sent"))
	}
	return text(asked), nil
}

// buried buries a call with a long failure, and reads its letter.
func (p *platform) buried(body []byte) ([]byte, error) {
	h := nats.Header{}
	args, err := p.pack(p.t.Context(), h, body)
	if err != nil {
		return nil, err
	}
	v := wire.Value{Body: args}
	if wire.First(wire.Header(h), wire.HeaderChunks) != "" {
		v.Type = manifestType
	}
	d := &Delivery{b: p.Broker, Call: wire.Call{Run: wire.NewRunID(), Name: "echo", Args: v, Stream: "S", Seq: uint64(len(body)), Stored: time.Now()}}
	if err := d.Bury(p.t.Context(), &wire.Error{Kind: wire.KindFunction, Msg: strings.Repeat("because ", 4000)}); err != nil {
		return nil, err
	}
	letters, err := p.Dead(p.t.Context(), DeadFilter{Limit: 1})
	if err != nil {
		return nil, err
	}
	v, err = p.Unpack(p.t.Context(), letters[0].Args)
	return v.Body, err
}

// A bare client that asks again gets the same, whole.
func TestRepeatedRequestsGetLargeResultsWhole(t *testing.T) {
	p := echoes(t, 1<<20)
	nc := p.gateway()
	for range 2 {
		answer := ask(t, nc, "cb.fn.echo", string(text(900_000)), "Nats-Msg-Id", "again")
		if got, err := p.resultOf(answer); err != nil || !bytes.Equal(got, text(900_000)) || answer.Header.Get(wire.HeaderChunks) != "" {
			t.Errorf("%d bytes, chunks %q, %v", len(got), answer.Header.Get(wire.HeaderChunks), err)
		}
	}
}

// A value over the limit is refused with both numbers, and one of the limit isn't.
func TestValuesOverTheLimit(t *testing.T) {
	p := echoes(t, leastPayload)
	most := p.valueAtMost()
	if most < 8<<20 || most >= MaxValue {
		t.Errorf("with a max_payload of %d the limit is %d bytes", leastPayload, most)
	}
	r, err := p.Call(t.Context(), wire.Call{Name: "echo", Args: wire.Value{Body: text(most)}})
	if err != nil || !bytes.Equal(r.Value.Body, text(most)) {
		t.Errorf("a call of %d bytes: %d come back, %v", most, len(r.Value.Body), err)
	}
	_, err = p.Call(t.Context(), wire.Call{Name: "echo", Args: wire.Value{Body: text(most + 1)}})
	if want := fmt.Sprintf("too large: %d bytes; the limit is %d: store parts of it under keys and pass references", most+1, most); wire.KindOf(err) != wire.KindTooLarge || !strings.Contains(err.Error(), want) {
		t.Errorf("one byte more: %v, want %q", err, want)
	}
	if got := newPlatform(t).valueAtMost(); got != MaxValue {
		t.Errorf("with the usual max_payload the limit is %d bytes, want %d", got, MaxValue)
	}
}

func TestAServerWithTooLittleRoomIsRefused(t *testing.T) {
	_, err := Connect(t.Context(), Config{URL: foreignServer(t, leastPayload-1)})
	if wire.KindOf(err) != wire.KindConflict || !strings.Contains(err.Error(), "max_payload is 65535 bytes, and calls need 65536 at least") {
		t.Errorf("got %v", err)
	}
}
