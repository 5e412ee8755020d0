package retwis

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloudburst-nats/cloudburst"
)

// platform starts one that ends with the test.
func platform(t *testing.T) *cloudburst.Client {
	t.Helper()
	server, err := cloudburst.Start(t.Context(), cloudburst.ServerConfig{Listen: "none", Store: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return server.Client()
}

func TestRun(t *testing.T) {
	ctx := t.Context()
	cfg := Config{Client: platform(t), Users: 50, Follows: 8, Posts: 100, Callers: 16, JSON: true}
	held := false
	cfg.Hold = func(ctx context.Context) {
		held = true
		useAsReader(ctx, t, cfg.Client)
	}
	var out bytes.Buffer
	if err := Run(ctx, cfg, &out); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	if !held {
		t.Error("Hold was not called")
	}
	var r report
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatalf("%v in %s", err, out.String())
	}
	want := map[kind]int{kindRegister: 50, kindFollow: 50, kindPost: 50, kindReply: 50, kindTimeline: 400}
	for _, row := range r.Calls {
		if row.Calls != want[row.Kind] || row.Errors != 0 || row.P50 <= 0 || row.P50 > row.P99 || row.PerSec == 0 {
			t.Errorf("%+v, want %d calls without errors", row, want[row.Kind])
		}
	}
	if len(r.Calls) != len(want) || r.Verdict.Posts != 100 || r.Verdict.Follows != 400 || r.Stored["KV_retwis"] == 0 {
		t.Errorf("report is %+v", r)
	}
	// The posts of a second clone would be on the same timelines.
	if err := Run(ctx, cfg, io.Discard); !errors.Is(err, cloudburst.ErrConflict) {
		t.Errorf("a second run in the same namespace: %v", err)
	}
	cfg.Namespace, cfg.Hold, cfg.Graph = "another", nil, "testdata/friends.txt"
	out.Reset()
	cfg.JSON = false
	if err := Run(ctx, cfg, &out); err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"5 people, 6 follows; 100 posts", "\nmix       500 in ", "verified  100 posts on 5 timelines"} {
		if !strings.Contains(out.String(), part) {
			t.Errorf("no %q in:\n%s", part, out.String())
		}
	}
}

// The calls ask for the level: one that isn't there has them fail. Workers elsewhere
// serve them.
func TestRunAtLevel(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	cfg := Config{Client: platform(t), Users: 20, Follows: 3, Posts: 20, Callers: 4, Served: true, Answers: true, Level: cloudburst.Causal, JSON: true}
	w := cloudburst.NewWorker(cfg.Client, cloudburst.Pool(Pool), cloudburst.Namespace(DefaultNamespace))
	Handle(w)
	served := make(chan error, 1)
	go func() { served <- w.Serve(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	<-w.Ready()
	if err := Run(ctx, cfg, io.Discard); err != nil {
		t.Error(err)
	}
	cfg.Namespace, cfg.Level = "another", "perfect"
	if err := Run(ctx, cfg, io.Discard); err == nil || !strings.Contains(err.Error(), "perfect") {
		t.Errorf("at a level that isn't there: %v", err)
	}
}

// useAsReader uses the clone as the tutorial does.
func useAsReader(ctx context.Context, t *testing.T, c *cloudburst.Client) {
	t.Helper()
	sure := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	p, err := cloudburst.Call[Published](ctx, c, "post", Draft{User: 0, Text: "the last word"})
	sure(err)
	a, err := cloudburst.Call[Published](ctx, c, "reply", Answer{User: 0, To: p.ID, Text: "but one"})
	sure(err)
	page, err := cloudburst.Call[Page](ctx, c, "timeline", Query{User: 0, Limit: 2})
	sure(err)
	want := []Post{{ID: a.ID, Text: "but one", To: p.ID}, {ID: p.ID, Text: "the last word"}}
	if !slices.Equal(page.Posts, want) {
		t.Errorf("timeline is %+v, want %+v", page.Posts, want)
	}
	all, err := cloudburst.Call[Page](ctx, c, "timeline", Query{User: 0})
	sure(err)
	elements, err := cloudburst.Elements[string](ctx, c.State().In(DefaultNamespace).Set("timeline:0"))
	sure(err)
	if len(all.Posts) != len(elements) {
		t.Errorf("the timeline without a limit has %d posts, the state %d", len(all.Posts), len(elements))
	}
	// A reply that is there while what it answers is not, as nobody has read yet.
	state := c.State().In(DefaultNamespace)
	sure(state.Put(ctx, "post:orphan", Post{ID: "orphan", User: 77, To: "nothing"}))
	sure(state.Set("timeline:77").Add(ctx, "orphan"))
	page, err = cloudburst.Call[Page](ctx, c, "timeline", Query{User: 77, Answers: true})
	sure(err)
	if len(page.Posts) != 1 || page.Orphans != 1 {
		t.Errorf("a reply to nothing is shown as %+v, want it to be counted", page)
	}
	for _, bad := range []struct{ name, arg string }{{"post", `{"user":99}`}, {"reply", `{"user":0,"to":"nothing"}`}} {
		_, err := cloudburst.Call[Published](ctx, c, bad.name, json.RawMessage(bad.arg))
		if !errors.Is(err, cloudburst.ErrFunction) {
			t.Errorf("%s %s: %v", bad.name, bad.arg, err)
		}
	}
}

// The check must find what is wrong, and nothing else, on a real store.
func TestVerifyFindsWhatIsWrong(t *testing.T) {
	ctx := t.Context()
	cfg := Config{Client: platform(t), Users: 20, Follows: 5, Posts: 40, Timelines: 20, Callers: 8}.withDefaults()
	g, err := cfg.people()
	if err != nil {
		t.Fatal(err)
	}
	stop, err := cfg.serve(ctx)
	if err != nil {
		t.Fatal(err)
	}
	d := newDriver(cfg.Client, g, mix(cfg.rng(2), cfg.Users, cfg.Posts, cfg.Timelines))
	err = d.drive(ctx, &report{Callers: cfg.Callers}, io.Discard)
	if err := errors.Join(err, stop()); err != nil {
		t.Fatal(err)
	}
	m := replay(g, d.ops, d.runs, d.acked)
	state := stored{cfg.Client.State().In(cfg.Namespace)}
	find := func() []string {
		t.Helper()
		v, err := check(ctx, m, state, 8, func() {})
		if err != nil {
			t.Fatal(err)
		}
		return v.Wrong
	}
	if wrong := find(); len(wrong) > 0 {
		t.Fatalf("wrong from the start: %q", wrong)
	}
	// An entry that only the state knows.
	if err := state.State.Set("timeline:3").Add(ctx, "forged"); err != nil {
		t.Fatal(err)
	}
	want := []string{`timeline:3 has "forged", which does not belong there`}
	if wrong := find(); !slices.Equal(wrong, want) {
		t.Errorf("with a forged entry: %q, want %q", wrong, want)
	}
	// An entry that the state has lost.
	bucket, err := cfg.Client.Broker().OpenBucket(ctx, cfg.Namespace)
	if err != nil {
		t.Fatal(err)
	}
	snapshot, err := bucket.Read(ctx, "timeline:7", 0)
	if err != nil || snapshot.Base == nil || len(snapshot.Slots) > 0 {
		t.Fatalf("timeline:7 of a drained worker is %+v, %v", snapshot, err)
	}
	var ids []string
	if err := json.Unmarshal(snapshot.Base.Body, &ids); err != nil || len(ids) < 2 {
		t.Fatalf("timeline:7 has %q, %v", ids, err)
	}
	base := *snapshot.Base
	if base.Body, err = json.Marshal(ids[1:]); err != nil {
		t.Fatal(err)
	}
	if _, err := bucket.PutBase(ctx, "timeline:7", base, base.Rev); err != nil {
		t.Fatal(err)
	}
	want = append(want, "timeline:7 lacks "+quoted(ids[0]))
	if wrong := find(); !slices.Equal(wrong, want) {
		t.Errorf("with a lost entry: %q, want %q", wrong, want)
	}
	// A key that somebody deleted by hand.
	kv, err := cfg.Client.Broker().JetStream().KeyValue(ctx, cfg.Namespace)
	if err != nil {
		t.Fatal(err)
	}
	if err := kv.Delete(ctx, "timeline=3A9"); err != nil {
		t.Fatal(err)
	}
	if wrong := find(); len(wrong) <= len(want) || !strings.Contains(strings.Join(wrong, "\n"), "timeline:9") {
		t.Errorf("with a deleted timeline: %q", wrong)
	}
}

func TestRunIsCancelled(t *testing.T) {
	client := platform(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	over := errors.New("enough")
	// The first line of the mix is shown once it has begun.
	out := writerFunc(func(line string) {
		if strings.HasPrefix(line, "follow ") {
			cancel(over)
		}
	})
	cfg := Config{Client: client, Users: 20, Follows: 5, Posts: 50_000, Callers: 8}
	if err := Run(ctx, cfg, out); !errors.Is(err, over) {
		t.Errorf("a cancelled run: %v", err)
	}
}

type writerFunc func(string)

func (f writerFunc) Write(b []byte) (int, error) {
	f(string(b))
	return len(b), nil
}

func TestFailedCallsAreCounted(t *testing.T) {
	client := platform(t) // where nobody serves the clone
	g := generate(Config{}.rng(1), 2, 1)
	d := newDriver(client, g, []op{
		{kind: kindPost, text: "into the void"}, {kind: kindReply, text: "hello?"}, {kind: kindTimeline},
	})
	if err := each(t.Context(), len(d.ops), 3, d.step); err != nil {
		t.Fatal(err)
	}
	for _, k := range []kind{kindPost, kindReply, kindTimeline} {
		if tally := d.tally[k]; tally.errors != 1 || len(tally.took) != 0 {
			t.Errorf("%s: %+v", k, tally)
		}
	}
	if err := outcome(d, verdict{}); !errors.Is(err, cloudburst.ErrUnknown) || !strings.Contains(err.Error(), "3 calls failed") {
		t.Errorf("outcome: %v", err)
	}
	if err := outcome(d, verdict{Wrong: []string{"x"}}); !strings.Contains(err.Error(), "differs from the reference in 1 places") {
		t.Errorf("outcome: %v", err)
	}
	if m := replay(g, d.ops, d.runs, d.acked); len(m.doubtful) != 1 || len(m.posts) != 0 {
		t.Errorf("model: %d doubtful and %d posts", len(m.doubtful), len(m.posts))
	}
}

func TestConfigRefuses(t *testing.T) {
	err := Config{Users: 10, Follows: 10, Posts: -1, Slots: -2, Timelines: 1}.Validate()
	for _, part := range []string{"no client", "9 others at most, not 10", "-1 posts", "-2 slots"} {
		if !errors.Is(err, cloudburst.ErrBadArgument) || !strings.Contains(err.Error(), part) {
			t.Errorf("no %q in %v", part, err)
		}
	}
}

func TestInspect(t *testing.T) {
	commands := Inspect("nats://127.0.0.1:4222")
	if len(commands) != 5 {
		t.Fatalf("%d commands", len(commands))
	}
	for _, c := range commands {
		if !strings.HasPrefix(c, "nats --server nats://127.0.0.1:4222 ") {
			t.Errorf("no server in %q", c)
		}
	}
	if c := Inspect("")[0]; !strings.HasPrefix(c, "nats req ") {
		t.Errorf("without a server: %q", c)
	}
}

func TestProgressOfLines(t *testing.T) {
	var out bytes.Buffer
	p := begin(&out, "mix", 3)
	for range 3 {
		p.step()
	}
	took := p.end()
	if want := fmt.Sprintf("mix       3 in %s (%s/s)\n", round(took), count(rate(3, took))); out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
	if took <= 0 || took > time.Minute {
		t.Errorf("took %s", took)
	}
}
