package broker

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// gateway opens a gateway and returns a plain NATS client.
func (p *platform) gateway() *nats.Conn {
	p.t.Helper()
	b := p.connect("gateway")
	c := b.NewCatalogue()
	g := b.NewGateway(c)
	p.start(c.Run)
	p.start(g.Run)
	<-g.Ready()
	var inside []nats.Option
	if p.server != nil {
		inside = p.server.inProcess()
	}
	client, err := nats.Connect(p.url, inside...)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(client.Close)
	return client
}

func ask(t *testing.T, nc *nats.Conn, subject, body string, header ...string) *nats.Msg {
	t.Helper()
	msg := nats.NewMsg(subject)
	msg.Data = []byte(body)
	for i := 0; i < len(header); i += 2 {
		msg.Header.Set(header[i], header[i+1])
	}
	answer, err := nc.RequestMsg(msg, time.Minute)
	if err != nil {
		t.Fatalf("%s: %v", subject, err)
	}
	return answer
}

func TestGatewayAnswersRequests(t *testing.T) {
	p := newPlatform(t)
	p.register("square")
	nc := p.gateway()
	calls := make(chan wire.Call, 10)
	p.work(func(d *Delivery) {
		calls <- d.Call
		p.succeed(d, "25")
	})
	if answer := ask(t, nc, "cb.fn.square", "5"); string(answer.Data) != "25" {
		t.Errorf("got %q, want 25", answer.Data)
	}
	if c := <-calls; c.Name != "square" || string(c.Args.Body) != "5" || c.Run == "" {
		t.Errorf("got call %+v", c)
	}
	ask(t, nc, "cb.fn.square", "5,6", "Content-Type", "text/csv", "Cb-Level", "causal", "Nats-Msg-Id", "my-run", "X-Other", "x")
	if c := <-calls; c.Args.Type != "text/csv" || c.Level != "causal" || c.Run != "my-run" {
		t.Errorf("got call %+v", c)
	}
	// A function that is registered now can be called now.
	p.register("square", "cube")
	ask(t, nc, "cb.fn.cube", "5")
	if err := nc.Publish("cb.fn.square", []byte("6")); err != nil { // a plain publish: nobody waits
		t.Fatal(err)
	}
	<-calls
	if c := <-calls; string(c.Args.Body) != "6" || c.Reply != "" {
		t.Errorf("got call %+v", c)
	}
}

func TestGatewayRefuses(t *testing.T) {
	p := newPlatform(t)
	p.register("square")
	nc := p.gateway()
	for _, test := range []struct {
		name, subject, body string
		header              []string
		code                string
		kind                wire.Kind
		mentions            string
	}{
		{"unknown name", "cb.fn.sqare", "5", nil, "404", wire.KindUnknown, "did you mean square"},
		{"nothing like it", "cb.fn.zebra", "5", nil, "404", wire.KindUnknown, "fn ls"},
		{"malformed JSON", "cb.fn.square", "{", nil, "400", wire.KindBadArgument, "not valid JSON"},
		{"malformed JSON that says so", "cb.fn.square", "hello", []string{"Content-Type", "application/json"}, "400", wire.KindBadArgument, "not valid JSON"},
		{"bad run id", "cb.fn.square", "5", []string{"Nats-Msg-Id", "a b"}, "400", wire.KindBadName, "Nats-Msg-Id"},
	} {
		t.Run(test.name, func(t *testing.T) {
			answer := ask(t, nc, test.subject, test.body, test.header...)
			if got := answer.Header.Get(micro.ErrorCodeHeader); got != test.code {
				t.Errorf("code %s, want %s", got, test.code)
			}
			var e wire.Error
			if err := json.Unmarshal(answer.Data, &e); err != nil {
				t.Fatalf("body %q: %v", answer.Data, err)
			}
			if e.Kind != test.kind || !strings.Contains(e.Msg, test.mentions) || answer.Header.Get(micro.ErrorHeader) == "" {
				t.Errorf("got %+v in %v, want kind %q, mentioning %q", e, answer.Header, test.kind, test.mentions)
			}
		})
	}
	if s := p.state(DefaultPool); s.Msgs != 0 {
		t.Errorf("%d refused calls were stored", s.Msgs)
	}
}

func TestGatewayTellsOfAFullBacklog(t *testing.T) {
	p := newPlatform(t)
	p.register("square")
	nc := p.gateway()
	s, err := p.js.Stream(t.Context(), CallsStream(DefaultPool))
	if err != nil {
		t.Fatal(err)
	}
	cfg := s.CachedInfo().Config
	cfg.MaxBytes = 1000
	if _, err := p.js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	answer := ask(t, nc, "cb.fn.square", `"`+strings.Repeat("x", 2000)+`"`)
	var e wire.Error
	if err := json.Unmarshal(answer.Data, &e); err != nil || e.Kind != wire.KindBusy || answer.Header.Get(micro.ErrorCodeHeader) != "503" {
		t.Errorf("got %v %s, want busy", answer.Header, answer.Data)
	}
	if err := p.js.DeleteStream(t.Context(), CallsStream(DefaultPool)); err != nil {
		t.Fatal(err)
	}
	answer = ask(t, nc, "cb.fn.square", "5")
	if answer.Header.Get(micro.ErrorCodeHeader) != "503" {
		t.Errorf("without a stream: got %v %s", answer.Header, answer.Data)
	}
}

func TestGatewayAnswersRepeatsWithTheSameResult(t *testing.T) {
	p := newPlatform(t)
	p.register("square")
	nc := p.gateway()
	var calls atomic.Int32
	begin := make(chan struct{})
	p.work(func(d *Delivery) {
		<-begin
		p.succeed(d, fmt.Sprint(calls.Add(1)))
	})
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			if answer := ask(t, nc, "cb.fn.square", "5", "Nats-Msg-Id", "once"); string(answer.Data) != "1" {
				t.Errorf("got %q, want 1", answer.Data)
			}
		})
	}
	eventually(t, "the call is stored", func() bool { return p.state(DefaultPool).Msgs == 1 })
	close(begin)
	wg.Wait()
	if answer := ask(t, nc, "cb.fn.square", "5", "Nats-Msg-Id", "once"); string(answer.Data) != "1" || answer.Header.Get(wire.HeaderStatus) != "ok" {
		t.Errorf("later: got %q in %v", answer.Data, answer.Header)
	}
	if calls.Load() != 1 {
		t.Errorf("ran %d times, want once", calls.Load())
	}
}

func TestGatewayOutlivesTheServer(t *testing.T) {
	p := newPlatform(t)
	p.register("square")
	nc := p.gateway()
	p.work(func(d *Delivery) {
		p.answer(d, "25", func(error) {}) // while the server is away, no result can be stored
	})
	ask(t, nc, "cb.fn.square", "5")
	p.server.Shutdown()
	if err := p.server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "requests are answered again", func() bool {
		answer, err := nc.Request("cb.fn.square", []byte("5"), time.Second)
		return err == nil && string(answer.Data) == "25"
	})
	p.register("square", "cube")
	eventually(t, "the registry is followed again", func() bool {
		answer, err := nc.Request("cb.fn.cube", []byte("5"), time.Second)
		return err == nil && string(answer.Data) == "25"
	})
}

func TestGatewayRefusesRepliesThatAreNoInbox(t *testing.T) {
	p := newPlatform(t)
	p.register("square")
	nc := p.gateway()
	sub, err := nc.SubscribeSync("my.reply")
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.PublishRequest("cb.fn.square", "my.reply", []byte("5")); err != nil {
		t.Fatal(err)
	}
	answer, err := sub.NextMsg(time.Minute)
	if err != nil || answer.Header.Get(micro.ErrorCodeHeader) != "400" {
		t.Errorf("got %+v, %v, want a 400", answer, err)
	}
}

// gather returns all answers to a question of the micro protocol.
func gather[T any](t *testing.T, nc *nats.Conn, subject string, want int) []T {
	t.Helper()
	sub, err := nc.SubscribeSync(nats.NewInbox())
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.PublishRequest(subject, sub.Subject, nil); err != nil {
		t.Fatal(err)
	}
	var all []T
	for {
		wait := time.Minute
		if len(all) == want {
			wait = 50 * time.Millisecond // there should be no more
		}
		msg, err := sub.NextMsg(wait)
		if err != nil {
			return all
		}
		var v T
		if err := json.Unmarshal(msg.Data, &v); err != nil {
			t.Fatal(err)
		}
		all = append(all, v)
	}
}

func TestGatewaysSpeakTheMicroProtocol(t *testing.T) {
	p := newPlatform(t)
	p.register("square", "cube")
	if err := p.ApplyDAG(t.Context(), DAGRecord{Name: "chain", Version: "7", Spec: []byte("{}"), Functions: []string{"square"}}); err != nil {
		t.Fatal(err)
	}
	p.gateway()
	nc := p.gateway() // two of them give one answer
	pings := gather[micro.Ping](t, nc, "$SRV.PING", 3)
	if len(pings) != 3 || pings[0].Name != "chain" || pings[0].Type != micro.PingResponseType || pings[0].Metadata["version"] != "7" {
		t.Fatalf("got %+v", pings)
	}
	if one := gather[micro.Ping](t, nc, "$SRV.PING.square."+pings[2].ID, 1); len(one) != 1 || one[0].Name != "square" {
		t.Errorf("by id: got %+v", one)
	}
	if none := gather[micro.Ping](t, nc, "$SRV.PING.square.another", 0); len(none) != 0 {
		t.Errorf("by another id: got %+v", none)
	}
	infos := gather[micro.Info](t, nc, "$SRV.INFO.square", 1)
	if len(infos) != 1 || infos[0].Type != micro.InfoResponseType || infos[0].Description != "about square" || infos[0].Endpoints[0].Subject != "cb.fn.square" {
		t.Errorf("got %+v", infos)
	}
	if n := len(gather[micro.Info](t, nc, "$SRV.INFO", 3)); n != 3 {
		t.Errorf("got %d infos, want 3", n)
	}

	for worker, calls := range map[string]uint64{"w1": 3, "w2": 1} {
		err := p.PublishStats(worker, map[string]FunctionStats{"square": {Calls: calls, Errors: 1, Took: time.Duration(calls) * time.Second, LastError: "boom"}})
		if err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the numbers arrive", func() bool {
		stats := gather[micro.Stats](t, nc, "$SRV.STATS.square", 1)
		if len(stats) != 1 || len(stats[0].Endpoints) != 1 {
			return false
		}
		e := stats[0].Endpoints[0]
		return stats[0].Type == micro.StatsResponseType && !stats[0].Started.IsZero() && e.NumRequests == 4 && e.NumErrors == 2 &&
			e.ProcessingTime == 4*time.Second && e.AverageProcessingTime == time.Second && e.LastError == "boom" && e.Subject == "cb.fn.square"
	})
}

func TestGatewayHasFewSubscriptions(t *testing.T) {
	p := newPlatform(t)
	names := make([]string, 500)
	for i := range names {
		names[i] = fmt.Sprint("f", i)
	}
	p.register(names...)
	b := p.connect("gateway")
	c := b.NewCatalogue()
	g := b.NewGateway(c)
	p.start(c.Run)
	p.start(g.Run)
	<-g.Ready()
	if n := b.nc.NumSubscriptions(); n > 8 {
		t.Errorf("%d subscriptions for 500 functions", n)
	}
	if n := len(gather[micro.Ping](t, p.nc, "$SRV.PING", 500)); n != 500 {
		t.Errorf("%d of 500 functions answer", n)
	}
}
