package deployments

import (
	"context"
	"encoding/json"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/cloudburst-nats/cloudburst/broker"
	"github.com/cloudburst-nats/cloudburst/broker/brokertest"
	"github.com/cloudburst-nats/cloudburst/dagengine"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// lines counts log lines by the entry that they are of.
type lines struct {
	mu  sync.Mutex // guards all
	all map[string]int
}

func (l *lines) Levels() []logrus.Level { return logrus.AllLevels }

func (l *lines) Fire(e *logrus.Entry) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all == nil {
		l.all = make(map[string]int)
	}
	for _, field := range []string{"key", "name"} {
		if name, ok := e.Data[field].(string); ok {
			l.all[name]++
		}
	}
	return nil
}

func (l *lines) of(name string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all[name]
}

// node starts gateway, janitor and keeper beside the bench's server, and ends them
// with the test.
func (s *bench) node() *lines {
	s.t.Helper()
	log := logrus.New()
	log.SetOutput(io.Discard)
	seen := new(lines)
	log.AddHook(seen)
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	n, err := StartNode(ctx, NodeConfig{Broker: broker.Config{Server: s.p.Server()}, Log: logrus.NewEntry(log)})
	if err != nil {
		s.t.Fatalf("start a node: %v", err)
	}
	s.t.Cleanup(func() {
		if err := n.Close(); err != nil {
			s.t.Errorf("node: %v", err)
		}
	})
	return seen
}

// put writes an entry as `nats kv put` does.
func (s *bench) put(bucket, key, value string) {
	s.t.Helper()
	if _, err := s.b.JetStream().Publish(s.t.Context(), "$KV."+bucket+"."+key, []byte(value)); err != nil {
		s.t.Fatalf("put %s in %s: %v", key, bucket, err)
	}
}

// request asks as `nats req` does, until the answer is the wanted one.
func (s *bench) request(name, arg, want string) {
	s.t.Helper()
	s.within(name+" "+arg+" answers "+want, func() (string, bool) {
		msg, err := s.b.Conn().Request("cb.fn."+name, []byte(arg), 5*time.Second)
		if err != nil {
			return err.Error(), false
		}
		return string(msg.Data), string(msg.Data) == want
	})
}

func (s *bench) within(what string, look func() (got string, ok bool)) {
	s.t.Helper()
	var got string
	for began := time.Now(); time.Since(began) < 30*time.Second; {
		var ok bool
		if got, ok = look(); ok {
			return
		}
		select {
		case <-s.t.Context().Done():
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
	s.t.Fatalf("%s: not within 30 s; got %s", what, got)
}

func (s *bench) image(text string) string {
	s.t.Helper()
	digest, err := s.b.PutImage(s.t.Context(), []byte(text), nil)
	if err != nil {
		s.t.Fatal(err)
	}
	return digest
}

// What wire.md says of functions and DAGs is enough to make them with a NATS client.
func TestWhatHandsWriteIsTakenUp(t *testing.T) {
	s := newBench(t, 1)
	s.node()
	s.put(broker.BucketFunctions, "hand", `{"name":"hand","runtime":"texts","image":"`+s.image("by hand")+`"}`)
	s.request("hand", "", `"by hand"`)
	f, err := s.b.Function(t.Context(), "hand")
	if err != nil || f.Version != 1 || f.Pool != broker.DeployedPool || f.Registered.IsZero() {
		t.Errorf("the function is %+v, %v; want version 1 in pool deployed", f, err)
	}
	s.put(broker.BucketFunctions, "hand", `{"name":"hand","runtime":"texts","version":1,"image":"`+s.image("once more")+`"}`)
	s.request("hand", "", `"once more"`)
	s.within("a changed version is the next one", func() (string, bool) {
		all, err := s.b.FunctionVersions(t.Context(), "hand")
		if err != nil || len(all) != 2 {
			return wire.KindOf(err).String(), false
		}
		return all[1].Image, all[1].Version == 2 && all[1].Image != all[0].Image
	})

	for _, dag := range [][2]string{
		{"yaml", "nodes: [{name: hand}]"},
		{"json", `{"name":"json","nodes":[{"name":"one","function":"hand"},{"name":"hand"}],"edges":[{"from":"one","to":"hand"}]}`},
		{"spec", `{"name":"spec","spec":{"name":"spec","nodes":[{"name":"hand"}]}}`},
		{"nested", "nodes: [{name: in, dag: yaml}]"},
	} {
		name, text := dag[0], dag[1]
		s.put(broker.BucketDAGs, name, text)
		s.request(name, "1", `"once more"`)
		rec, err := s.b.DAG(t.Context(), name)
		if err != nil || rec.Version == "" || rec.Pool != broker.DeployedPool {
			t.Errorf("the DAG is %+v, %v", rec, err)
			continue
		}
		if _, err := s.b.DAGVersion(t.Context(), name, rec.Version); err != nil {
			t.Errorf("its version isn't kept: %v", err)
		}
	}

	// Somebody edits the record that there is.
	rec, err := s.b.DAG(t.Context(), "json")
	if err != nil {
		t.Fatal(err)
	}
	was := rec.Version
	rec.Spec = json.RawMessage(`{"name":"json","nodes":[{"name":"hand"},{"name":"two","function":"hand"}]}`)
	body, err := json.Marshal(rec)
	if err != nil {
		t.Fatal(err)
	}
	s.put(broker.BucketDAGs, "json", string(body))
	s.request("json", "1", `{"hand":"once more","two":"once more"}`)
	if rec, err = s.b.DAG(t.Context(), "json"); err != nil || rec.Version == was {
		t.Errorf("an edited graph has version %s, %v; want another than %s", rec.Version, err, was)
	}
	if list, err := Broken(t.Context(), s.b); err != nil || len(list) > 0 {
		t.Errorf("broken: %v, %v; want none", list, err)
	}
}

// badEntries is what no entry should look like, by bucket and key, and what is said
// of each.
var badEntries = []struct{ bucket, key, value, want string }{
	{broker.BucketFunctions, "text", "not JSON", "JSON"},
	{broker.BucketFunctions, "null", "null", "name"},
	{broker.BucketFunctions, "list", "[]", "JSON"},
	{broker.BucketFunctions, "empty", "", "JSON"},
	{broker.BucketFunctions, "other", `{"name":"another"}`, "another name"},
	{broker.BucketFunctions, "pool", `{"name":"pool","pool":"a.b"}`, "pool"},
	{broker.BucketFunctions, "a.b.c", `{"name":"a"}`, "another name"},
	{broker.BucketDAGs, "words", "this is no graph", "graph"},
	{broker.BucketDAGs, "nothing", "", "empty"},
	{broker.BucketDAGs, "void", "null", "nodes"},
	{broker.BucketDAGs, "circle", `{"nodes":[{"name":"a"},{"name":"b"}],"edges":[{"from":"a","to":"b"},{"from":"b","to":"a"}]}`, "cycle"},
	{broker.BucketDAGs, "absent", `{"nodes":[{"name":"nobody"}]}`, "nobody"},
	{broker.BucketDAGs, "inside", `{"nodes":[{"name":"a","dag":"nowhere"}]}`, "nowhere"},
	{broker.BucketDAGs, "misnamed", `{"name":"f","nodes":[{"name":"f"}]}`, "another name"},
	{broker.BucketDAGs, "record", `{"name":"record","version":"1","pool":"deployed","spec":"text"}`, "graph"},
	{broker.BucketDAGs, "x.1", `{"nodes":[]}`, "version"},
}

// One bad entry never stops the rest: not the start of a server or a worker, no
// deployment, no DAG, no call.
func TestBadEntriesStopNothing(t *testing.T) {
	p := brokertest.Start(t)
	s := &bench{t: t, p: p, b: p.Broker(), runtime: &texts{gate: make(chan struct{})}, dir: t.TempDir()}
	for _, bad := range badEntries {
		s.put(bad.bucket, bad.key, bad.value)
	}
	s.put(broker.BucketWorkers, "w-bad", "not JSON")
	seen := s.node()
	s.worker("worker")
	s.mustDeploy("f", "fine")
	g, err := dagengine.Parse([]byte("name: g\nnodes: [{name: f}]"))
	if err != nil {
		t.Fatal(err)
	}
	have, err := s.b.Survey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	rec, err := RecordOf(g, have)
	if err == nil {
		err = s.b.ApplyDAG(t.Context(), rec)
	}
	if err != nil {
		t.Fatalf("apply a DAG beside bad entries: %v", err)
	}
	s.request("g", "1", `"fine"`)
	list, err := Broken(t.Context(), s.b)
	if err != nil {
		t.Fatal(err)
	}
	reasons := make(map[string]string)
	for _, e := range list {
		reasons[e.Bucket+" "+e.Key] = e.Reason
	}
	for _, bad := range badEntries {
		reason, ok := reasons[bad.bucket+" "+bad.key]
		if !ok || !strings.Contains(reason, bad.want) {
			t.Errorf("%s %s: %q is broken, and it says %q: want %q in it", bad.bucket, bad.key, bad.value, reason, bad.want)
		}
	}
	if len(list) != len(badEntries) {
		t.Errorf("%d are broken, %d were written: %v", len(list), len(badEntries), list)
	}
	// The registry changes some more times: each bad entry is told of once.
	for _, name := range []string{"one", "two", "three"} {
		s.put(broker.BucketDAGs, name, "nodes: [{name: f}]")
		s.request(name, "1", `"fine"`)
	}
	for _, bad := range badEntries {
		if n := seen.of(bad.key); n != 1 {
			t.Errorf("%d log lines tell of %s, want 1", n, bad.key)
		}
	}
	// What was missing comes, what was wrong is mended, the rest is removed.
	s.mustDeploy("nobody", "at last")
	s.request("absent", "1", `"at last"`)
	s.put(broker.BucketDAGs, "words", "nodes: [{name: f}]")
	s.request("words", "1", `"fine"`)
	for _, name := range []string{"void", "circle", "inside", "misnamed", "record", "nothing"} {
		if err := s.b.RemoveDAG(t.Context(), name); err != nil {
			t.Errorf("remove %s: %v", name, err)
		}
	}
	for _, name := range []string{"text", "null", "list", "empty", "other", "pool"} {
		if err := s.b.RemoveFunction(t.Context(), name); err != nil {
			t.Errorf("remove %s: %v", name, err)
		}
	}
	if list, err := Broken(t.Context(), s.b); err != nil || len(list) != 2 {
		t.Errorf("left are %v, %v; want the two that no command names", list, err)
	}
}

// A function whose name a hand gives to a DAG goes on, and its worker can start again.
func TestADAGByHandDoesNotTakeAFunctionsName(t *testing.T) {
	s := newBench(t, 1)
	s.node()
	s.mustDeploy("f", "mine")
	s.put(broker.BucketDAGs, "f", "nodes: [{name: f}]")
	s.within("the DAG is broken", func() (string, bool) {
		list, err := Broken(t.Context(), s.b)
		return wire.KindOf(err).String(), len(list) == 1 && strings.Contains(list[0].Reason, "a function has that name")
	})
	s.mustDeploy("f", "still mine")
	s.worker("another")
	s.request("f", "1", `"still mine"`)
}

// A call whose image somebody deleted fails within seconds, and its error names the image.
// Once the image is there again, calls run.
func TestAMissingImageIsNamed(t *testing.T) {
	s := newBench(t, 0)
	f := wire.Function{Name: "f", Runtime: "texts", Pool: broker.DeployedPool, Image: s.image("lost")}
	if _, err := s.b.PublishFunction(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	images, err := s.b.JetStream().ObjectStore(t.Context(), broker.BucketImages)
	if err == nil {
		err = images.Delete(t.Context(), f.Image)
	}
	if err != nil {
		t.Fatal(err)
	}
	s.worker("one")
	s.worker("two")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r, err := s.b.Call(ctx, wire.Call{Name: "f"})
	if err != nil || r.Err == nil {
		t.Fatalf("the call returned %s, %v; want a failure", r.Value.Body, err)
	}
	wantKind(t, r.Err, wire.KindInvalid, `load "f@1"`, f.Image, "deploy it again")
	if dead, err := s.b.Dead(ctx, broker.DeadFilter{}); err != nil || len(dead) != 1 {
		t.Errorf("%d dead letters, %v; want the call", len(dead), err)
	}
	s.image("lost")
	s.wantCall("f", "lost")
}
