package cloudburst_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/sirupsen/logrus"

	"github.com/cloudburst-nats/cloudburst"
)

// passed counts the log lines of messages that were passed over, by the kind of subject.
type passed struct {
	mu  sync.Mutex // guards all
	all map[string]int
}

func (l *passed) Levels() []logrus.Level { return logrus.AllLevels }

func (l *passed) Fire(e *logrus.Entry) error {
	if subject, ok := e.Data["subject"].(string); ok && e.Message == "passed over a message that can't be read" {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.all[strings.Join(strings.Split(subject, ".")[:2], ".")]++
	}
	return nil
}

// rubbish is what no part of the platform sends, and some of it may be meant for another.
func rubbish() map[string][]byte {
	return map[string][]byte{
		"nothing": nil, "text": []byte("hello"), "half": []byte(`{"a":`), "null": []byte("null"), "list": []byte("[]"), "string": []byte(`"x"`),
		"number": []byte("-1"), "object": []byte("{}"), "deep": bytes.Repeat([]byte("["), 100_000), "bytes": {0xff, 0, 0xfe, '\r', '\n'},
		"huge": bytes.Repeat([]byte("x"), 300<<10), "huge JSON": []byte(`{"a":"` + strings.Repeat("x", 300<<10) + `"}`),
		"wrong types": []byte(`{"name":1,"slots":"many","keys":{"a":[]},"gone":7,"busy":"x","n":{},"run":[],"replicas":{},"server":3,"calls":true}`),
		"odd values":  []byte(`{"name":"../x","runtime":"cobol","image":"zz","busy":-7,"n":-1,"run":"*.>","calls":-3,"sha256":"..","size":-5}`),
	}
}

// listened are the subjects that a platform listens to, by those who do.
func listened(worker string) []string {
	return []string{
		// What is stored.
		"cb.call.square", "cb.call.twice", "cb.dag.twice.again", "cb.run.r.x", "cb.run.r.cancel", "cb.run.r.id", "cb.run.r.failed", "cb.run.$live.p.r",
		"cb.timer.r.0.x", "cb.fire.r.0.x", "cb.dead.square", "cb.blob.x", "cb.log.square", "cb.msg.to.from",
		"$KV.cb_results.r", "$KV.cb_workers.x", "$KV.cb_functions.x", "$KV.cb_dags.x", "$KV.state.x", "$KV.state.x.=.y",
		// Workers.
		"cb.at." + worker, "cb.slots." + worker, "cb.cache." + worker + ".find", "cb.cache.all.release", "cb.place.p",
		"cb.worker." + worker + ".prepare", "cb.worker." + worker + ".adopt", "cb.cancel.r", "cb.upd.state.x", "cb.inbox.to.from",
		// Servers, and everybody.
		"cb.fn.square", "cb.fn.twice", "cb.fn.nobody", "cb.stats." + worker, "cb.stats.nobody", "cb.event.registry.x", "cb.event.purged.KV_state",
		"cb.platform.topology", "cb.platform.full", "cb.platform.x", "$SRV.PING", "$SRV.INFO.square", "$SRV.STATS",
		"$JS.EVENT.ADVISORY.STREAM.DELETED.KV_state", "$JS.EVENT.ADVISORY.CONSUMER.DELETED.CB_CALLS_p.workers",
	}
}

// Whatever comes in on the subjects that the platform listens to, with or without headers
// and an inbox for the answer: it goes on, and the log has a line for each kind and not for
// each message.
func TestGarbageStopsNothing(t *testing.T) {
	lines := &passed{all: make(map[string]int)}
	log := logrus.New()
	log.SetOutput(io.Discard)
	log.AddHook(lines)
	server, err := cloudburst.Start(t.Context(), cloudburst.ServerConfig{Listen: "none", Store: t.TempDir(), Log: logrus.NewEntry(log)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	client := server.Client()
	serve(t, client, "p", func(w *cloudburst.Worker) {
		cloudburst.Handle(w, "square", func(_ context.Context, _ *cloudburst.Session, x int) (int, error) { return x * x, nil })
		cloudburst.Handle(w, "echo", func(_ context.Context, _ *cloudburst.Session, v any) (any, error) { return v, nil })
		cloudburst.Handle(w, "count", func(ctx context.Context, s *cloudburst.Session, key string) (int64, error) {
			if err := s.Counter(key).Add(ctx, 1); err != nil {
				return 0, err
			}
			return s.Counter(key).Value(ctx)
		})
		cloudburst.Handle(w, "await", func(ctx context.Context, s *cloudburst.Session, _ struct{}) (string, error) {
			msg, ok, err := s.Recv(ctx, time.Minute)
			if err != nil || !ok {
				return "", errors.Join(err, errors.New("no message came"))
			}
			var text string
			return text, errors.Join(msg.Decode(&text), s.Put(ctx, "heard", text))
		})
	})
	apply(
		t, client,
		"{name: twice, nodes: [{name: square}, {name: again, function: square}], edges: [{from: square, to: again}]}",
		"{name: gate, nodes: [{name: square}, {name: open, function: echo, signal: go}], edges: [{from: square, to: open, arg: x}]}",
	)
	workers, err := client.Broker().Workers(t.Context())
	if err != nil || len(workers) != 1 {
		t.Fatalf("%d workers, %v; want one", len(workers), err)
	}
	g := &garbled{t: t, client: client}
	g.works("before")
	conn := client.Broker().Conn()
	inbox := conn.NewInbox()
	sent := 0
	for _, subject := range listened(workers[0].ID) {
		for what, body := range rubbish() {
			for _, reply := range []string{"", inbox} {
				msg := &nats.Msg{Subject: subject, Reply: reply, Data: body}
				if reply != "" {
					msg.Header = nats.Header{
						"Cb-Subject": {"cb.call.square"}, "Cb-Ack": {"$JS.ACK.x.y.z"}, "Cb-Session": {"s2:???"}, "Cb-Run": {"*.>"}, "Cb-Epoch": {"-1"}, "Cb-Item": {"9/3"},
						"Cb-Depth": {"x"}, "Cb-Dag": {"@"}, "Cb-Level": {"best"}, "Cb-Number": {"-4"}, "Cb-Reply": {"cb.fn.square"}, "Cb-To": {"$JS.API.x"}, "Cb-Digest": {"x"},
					}
				}
				if err := conn.PublishMsg(msg); err != nil {
					t.Fatalf("%s on %s: %v", what, subject, err)
				}
				sent++
			}
		}
	}
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
	g.works("after")
	lines.mu.Lock()
	defer lines.mu.Unlock()
	t.Logf("%d messages of garbage; log lines: %v", sent, lines.all)
	if lines.all["cb.at"] == 0 {
		t.Error("no line tells of what a worker was sent")
	}
	for subject, n := range lines.all {
		if n > 10 { // one a minute
			t.Errorf("%d log lines tell of %s", n, subject)
		}
	}
}

type garbled struct {
	t      *testing.T
	client *cloudburst.Client
}

// works uses each part of the platform once.
func (g *garbled) works(when string) {
	t := g.t
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	named := func(id string) *cloudburst.Client {
		return g.client.With(cloudburst.WithRunID(cloudburst.RunID(id + "-" + when)))
	}
	if n, err := cloudburst.Call[int](ctx, g.client, "square", 3); n != 9 || err != nil {
		t.Errorf("%s: a call returns %d, %v", when, n, err)
	}
	if n, err := cloudburst.Call[int](ctx, named("dag"), "twice", 3); n != 81 || err != nil {
		t.Errorf("%s: a DAG returns %d, %v", when, n, err)
	}
	if n, err := cloudburst.Call[int64](ctx, g.client, "count", "n-"+when); n != 1 || err != nil {
		t.Errorf("%s: a counter holds %d, %v", when, n, err)
	}
	later, err := cloudburst.Go[int](ctx, named("later").With(cloudburst.After(time.Second)), "square", 4)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := later.Wait(ctx); n != 16 || err != nil {
		t.Errorf("%s: a call that waits for its time returns %d, %v", when, n, err)
	}
	heard, err := cloudburst.Go[string](ctx, named("await"), "await")
	if err != nil {
		t.Fatal(err)
	}
	if err := g.client.Send(ctx, "await-"+when, "hi"); err != nil {
		t.Errorf("%s: send: %v", when, err)
	}
	if text, err := heard.Wait(ctx); text != "hi" || err != nil {
		t.Errorf("%s: a message is %q, %v", when, text, err)
	}
	gate, err := cloudburst.Go[cloudburst.Value](ctx, named("gate"), "gate", 2)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.client.Signal(ctx, gate.Run(), "go", true); err != nil {
		t.Errorf("%s: signal: %v", when, err)
	}
	if v, err := gate.Wait(ctx); string(v.Body) != `{"signal":true,"x":4}` || err != nil {
		t.Errorf("%s: a run that awaits a signal returns %s, %v", when, v.Body, err)
	}
	ended, err := cloudburst.Go[string](ctx, named("ended"), "await")
	if err != nil {
		t.Fatal(err)
	}
	if err := g.client.Cancel(ctx, ended.Run()); err != nil {
		t.Errorf("%s: cancel: %v", when, err)
	}
	if _, err := ended.Wait(ctx); !errors.Is(err, cloudburst.ErrCancelled) {
		t.Errorf("%s: a run that was cancelled: %v", when, err)
	}
}
