package broker

import (
	"context"
	"encoding/json"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// A platform is a server of its own with everything that EnsurePlatform makes.
type platform struct {
	*Broker
	t      *testing.T
	server *Server
	url    string         // of a NATS server of the test's own, without server
	ending sync.WaitGroup // calls that succeed

	heardAt map[string]*nats.Subscription // by the inbox
}

func newPlatform(t *testing.T) *platform {
	t.Helper()
	s, err := StartServer(t.Context(), ServerConfig{Listen: "none", Store: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Shutdown)
	p := &platform{t: t, server: s, heardAt: make(map[string]*nats.Subscription)}
	p.Broker = p.connect("first")
	t.Cleanup(p.ending.Wait) // before that connection closes
	if err := p.EnsurePlatform(t.Context()); err != nil {
		t.Fatal(err)
	}
	return p
}

// connect returns what another process would have.
func (p *platform) connect(name string) *Broker {
	p.t.Helper()
	b, err := Connect(p.t.Context(), Config{Server: p.server, URL: p.url, Name: name})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(b.Close)
	return b
}

func (p *platform) register(names ...string) {
	p.t.Helper()
	fns := make([]wire.Function, len(names))
	for i, name := range names {
		fns[i] = wire.Function{Name: name, Pool: DefaultPool, Runtime: "native", About: "about " + name}
	}
	if err := p.RegisterFunctions(p.t.Context(), fns); err != nil {
		p.t.Fatal(err)
	}
}

// start runs fn until the test ends, and waits for it then.
func (p *platform) start(fn func(context.Context) error) {
	ctx, cancel := context.WithCancel(p.t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := fn(ctx); err != nil {
			p.t.Error(err)
		}
	})
	p.t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
}

// work has calls of the default pool handled, one at a time and in order. Callers are told
// for good that somebody is there, since a busy machine may keep it from saying so in time.
func (p *platform) work(handle func(*Delivery)) {
	there := &nats.Msg{Subject: bucketSubject(BucketWorkers, loneSubject+DefaultPool), Data: []byte("{}")}
	if _, err := p.put(p.t.Context(), there); err != nil {
		p.t.Fatal(err)
	}
	var puller *Puller
	puller = p.NewPuller(DefaultPool, 1, func(d *Delivery) {
		handle(d)
		puller.Release()
	})
	p.start(puller.Run)
}

// succeed ends a call with a JSON value.
func (p *platform) succeed(d *Delivery, value string) {
	p.answer(d, value, func(err error) {
		if err != nil {
			p.t.Errorf("finish %s: %v", d.Call.Run, err)
		}
	})
}

// answer ends a call with a JSON value, and tells then what came of storing the value.
func (p *platform) answer(d *Delivery, value string, then func(error)) {
	r := &wire.Result{Run: d.Call.Run, Name: d.Call.Name, Status: wire.StatusOK, Worker: "w1", Started: time.Now(), Took: time.Millisecond, Attempts: d.Call.Attempt, Value: wire.Value{Body: []byte(value)}}
	p.ending.Add(1)
	d.Finish(context.Background(), r, func(err error) {
		defer p.ending.Done()
		then(err)
	})
}

// publish stores a call and returns its run.
func (p *platform) publish(call wire.Call) wire.RunID {
	p.t.Helper()
	if call.Run == "" {
		call.Run = wire.NewRunID()
	}
	if err := p.Dispatch(p.t.Context(), call); err != nil {
		p.t.Fatal(err)
	}
	return call.Run
}

// take takes the next call out of the default pool and leaves it unsettled.
func (p *platform) take() *Delivery {
	p.t.Helper()
	consumer, err := p.js.Consumer(p.t.Context(), CallsStream(DefaultPool), CallsConsumer)
	if err != nil {
		p.t.Fatal(err)
	}
	msg, err := consumer.Next()
	if err != nil {
		p.t.Fatal(err)
	}
	d := &Delivery{b: p.Broker, msg: &nats.Msg{Subject: msg.Subject(), Reply: msg.Reply(), Header: msg.Headers(), Data: msg.Data()}}
	d.Call.Args = wire.Value{Body: msg.Data(), Type: msg.Headers().Get(wire.HeaderType)}
	if err := parseAck(msg.Reply(), &d.Call); err != nil {
		p.t.Fatal(err)
	}
	d.Call.Name, d.Call.Node = parseCallSubject(msg.Subject())
	d.Call.Run = wire.RunID(msg.Headers().Get(wire.HeaderRun))
	d.Call.Level = msg.Headers().Get(wire.HeaderLevel)
	if d.Call.Node != "" {
		d.Call.Run, d.Call.DAG = wire.RunID(msg.Headers().Get(wire.HeaderOf)), msg.Headers().Get(wire.HeaderDAG)
	}
	return d
}

// eventually returns once ok does, and fails the test if that takes too long.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline.C:
			t.Fatalf("%s: not within a minute", what)
		case <-tick.C:
		}
	}
}

func wantKind(t *testing.T, err error, want wire.Kind) {
	t.Helper()
	if got := wire.KindOf(err); got != want {
		t.Fatalf("got %v (kind %q), want kind %q", err, got, want)
	}
}

func toJSON(t *testing.T, v any) string {
	t.Helper()
	body, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}
