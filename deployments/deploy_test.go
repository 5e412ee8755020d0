package deployments

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/cloudburst-nats/cloudburst/broker"
	"github.com/cloudburst-nats/cloudburst/broker/brokertest"
	"github.com/cloudburst-nats/cloudburst/wire"
	"github.com/cloudburst-nats/cloudburst/workers/runtime"
)

// texts is a runtime whose programs are texts: what one says is what it returns.
// "bad" doesn't load, and "wait" returns once its gate is open.
type texts struct {
	gate   chan struct{}
	loaded atomic.Int64 // now
	loads  atomic.Int64 // in all
}

func (r *texts) Load(_ context.Context, p runtime.Program) (runtime.Loaded, error) {
	text, err := p.Module()
	if err != nil {
		return nil, err
	}
	if string(text) == "bad" {
		return nil, &wire.Error{Op: "load", Kind: wire.KindInvalid, Msg: "it is bad"}
	}
	r.loaded.Add(1)
	r.loads.Add(1)
	return &text1{r, string(text), sync.OnceFunc(func() { r.loaded.Add(-1) })}, nil
}

type text1 struct {
	r     *texts
	text  string
	close func()
}

func (t *text1) Close() error { t.close(); return nil }

func (t *text1) Invoke(ctx context.Context, call *runtime.Call) (wire.Value, error) {
	if strings.HasPrefix(t.text, "wait") {
		select {
		case <-t.r.gate:
		case <-ctx.Done():
			return wire.Value{}, context.Cause(ctx)
		}
	}
	if call.Log != nil {
		fmt.Fprintf(call.Log, "said %s\nto %s\n", t.text, call.Run)
	}
	return wire.JSON(t.text)
}

// A bench is a platform with workers of the runtime above.
type bench struct {
	t       *testing.T
	p       *brokertest.Platform
	b       *broker.Broker
	runtime *texts
	dir     string
}

func newBench(t *testing.T, workers int) *bench {
	t.Helper()
	p := brokertest.Start(t)
	s := &bench{t: t, p: p, b: p.Broker(), runtime: &texts{gate: make(chan struct{})}, dir: t.TempDir()}
	t.Cleanup(func() { // after the workers have ended
		if n := s.runtime.loaded.Load(); n != 0 {
			t.Errorf("%d programs are still loaded", n)
		}
	})
	for i := range workers {
		s.worker(fmt.Sprint("worker", i))
	}
	return s
}

// worker starts a worker, and ends it with the test.
func (s *bench) worker(name string) {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan struct{}), make(chan error, 1)
	b := s.p.Connect(name)
	go func() {
		ended <- RunWorker(ctx, b, WorkerConfig{
			Ready:   sync.OnceFunc(func() { close(ready) }),
			Library: &LibraryConfig{Dir: s.dir, Runtimes: map[string]runtime.Runtime{"texts": s.runtime}},
		})
	}()
	select {
	case <-ready:
	case err := <-ended:
		s.t.Fatalf("the worker ended: %v", err)
	case <-time.After(time.Minute):
		s.t.Fatal("the worker doesn't get ready")
	}
	s.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			s.t.Errorf("worker: %v", err)
		}
	})
}

// deploy does what the client library does.
func (s *bench) deploy(f wire.Function, text string) (wire.Function, error) {
	s.t.Helper()
	digest, err := s.b.PutImage(s.t.Context(), []byte(text), nil)
	if err != nil {
		return f, err
	}
	f.Image, f.Size, f.Pool = digest, int64(len(text)), broker.DeployedPool
	if f.Runtime == "" {
		f.Runtime = "texts"
	}
	if err := s.b.PrepareFunction(s.t.Context(), f); err != nil {
		return f, err
	}
	if f, err = s.b.PublishFunction(s.t.Context(), f); err != nil {
		return f, err
	}
	return f, s.b.AdoptFunction(s.t.Context(), f)
}

func (s *bench) mustDeploy(name, text string) wire.Function {
	s.t.Helper()
	f, err := s.deploy(wire.Function{Name: name}, text)
	if err != nil {
		s.t.Fatalf("deploy %q: %v", text, err)
	}
	return f
}

func (s *bench) wantCall(name, want string) {
	s.t.Helper()
	r, err := s.b.Call(s.t.Context(), wire.Call{Name: name})
	if err != nil || r.Err != nil || string(r.Value.Body) != `"`+want+`"` {
		s.t.Errorf("call %s: %s, %v, %v; want %q", name, r.Value.Body, r.Err, err, want)
	}
}

func wantKind(t *testing.T, err error, kind wire.Kind, words ...string) {
	t.Helper()
	if wire.KindOf(err) != kind {
		t.Errorf("got %v, want a %v", err, kind)
		return
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q doesn't say %q", err, word)
		}
	}
}

func TestDeployedVersionsFollowEachOther(t *testing.T) {
	s := newBench(t, 2)
	for i := range 5 {
		text := fmt.Sprint("v", i+1)
		if f := s.mustDeploy("f", text); f.Version != i+1 {
			t.Errorf("version %d, want %d", f.Version, i+1)
		}
		for range 10 { // whichever worker takes it
			s.wantCall("f", text)
		}
	}
	back := func(to, want int) {
		t.Helper()
		f, err := s.b.RollBack(t.Context(), "f", to)
		if err == nil {
			err = s.b.AdoptFunction(t.Context(), f)
		}
		if err != nil || f.Version != want {
			t.Fatalf("roll back to %d: version %d, %v; want %d", to, f.Version, err, want)
		}
		for range 10 {
			s.wantCall("f", fmt.Sprint("v", want))
		}
	}
	back(0, 4)
	back(0, 3)
	back(5, 5)
	back(1, 1)
	_, err := s.b.RollBack(t.Context(), "f", 0)
	wantKind(t, err, wire.KindUnknown, "none before")
	_, err = s.b.RollBack(t.Context(), "f", 9)
	wantKind(t, err, wire.KindUnknown, "1, 2, 3, 4, 5")
	if f := s.mustDeploy("f", "v6"); f.Version != 6 {
		t.Errorf("after a rollback the next is version %d, want 6", f.Version)
	}
	versions, err := s.b.FunctionVersions(t.Context(), "f")
	if err != nil || len(versions) != 6 || versions[0].Version != 1 || versions[5].Version != 6 {
		t.Errorf("versions: %v, %v", versions, err)
	}
}

func TestCallsInHandEndWithTheirVersion(t *testing.T) {
	s := newBench(t, 1)
	s.mustDeploy("f", "wait for it")
	p, err := s.b.Start(t.Context(), wire.Call{Name: "f"})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := p.Stored(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the call is in hand", func() bool {
		lag, err := s.b.Lag(t.Context(), broker.DeployedPool)
		return err == nil && lag.AckPending == 1
	})
	s.mustDeploy("f", "v2")
	s.wantCall("f", "v2")
	close(s.runtime.gate)
	r, err := p.Wait(t.Context())
	if err != nil || string(r.Value.Body) != `"wait for it"` {
		t.Errorf("the call in hand returned %s, %v", r.Value.Body, err)
	}
}

func TestARefusedDeploymentChangesNothing(t *testing.T) {
	s := newBench(t, 2)
	_, err := s.deploy(wire.Function{Name: "f"}, "bad")
	wantKind(t, err, wire.KindInvalid, "it is bad")
	if _, err := s.b.Function(t.Context(), "f"); wire.KindOf(err) != wire.KindUnknown {
		t.Errorf("the first version was refused, and the function is there: %v", err)
	}
	s.mustDeploy("f", "good")
	for _, c := range []struct {
		f    wire.Function
		text string
		word string
	}{
		{wire.Function{Name: "f"}, "bad", "it is bad"},
		{wire.Function{Name: "f", Runtime: "cobol"}, "new", "cobol"},
		{wire.Function{Name: "f", Level: "best"}, "new", "best"},
		{wire.Function{Name: "f", Check: "1", Want: `"old"`}, "new", `wanted was "old"`},
	} {
		_, err := s.deploy(c.f, c.text)
		if err == nil || !strings.Contains(err.Error(), c.word) {
			t.Errorf("deploy %+v: %v; want it to say %q", c.f, err, c.word)
		}
		s.wantCall("f", "good")
	}
	if f, err := s.deploy(wire.Function{Name: "f", Check: "1", Want: `"new"`}, "new"); err != nil || f.Version != 2 {
		t.Errorf("version %d, %v; want 2: what was refused has none", f.Version, err)
	}
}

func TestDeploymentNeedsAWorker(t *testing.T) {
	s := newBench(t, 0)
	_, err := s.deploy(wire.Function{Name: "f"}, "v1")
	wantKind(t, err, wire.KindUnavailable, "no worker", "deployed")
	if err := s.b.RegisterFunctions(t.Context(), []wire.Function{{Name: "native", Pool: broker.DeployedPool}}); err != nil {
		t.Fatal(err)
	}
	_, err = s.b.PublishFunction(t.Context(), wire.Function{Name: "native", Image: "x"})
	wantKind(t, err, wire.KindConflict, "fn rm native")
	_, err = s.b.PublishFunction(t.Context(), wire.Function{Name: "other", Image: "x"})
	wantKind(t, err, wire.KindConflict, "--pool")
}

func TestAWorkerThatStartsLaterServesWhatIsThere(t *testing.T) {
	s := newBench(t, 1)
	s.mustDeploy("f", "v1")
	s.mustDeploy("g", "w1")
	loads := s.runtime.loads.Load()
	s.worker("late")
	if s.runtime.loads.Load() != loads {
		t.Error("it has loaded what nobody called")
	}
	for range 20 {
		s.wantCall("f", "v1")
		s.wantCall("g", "w1")
	}
	if err := s.b.RemoveFunction(t.Context(), "f"); err != nil {
		t.Fatal(err)
	}
	_, err := s.b.Call(t.Context(), wire.Call{Name: "f"})
	wantKind(t, err, wire.KindUnknown)
	if f := s.mustDeploy("f", "again"); f.Version != 1 {
		t.Errorf("version %d, want 1: it was removed with its versions", f.Version)
	}
	s.wantCall("f", "again")
}

func TestADamagedImageIsPulledAgain(t *testing.T) {
	s := newBench(t, 1)
	f := s.mustDeploy("f", "v1")
	dir := t.TempDir()
	for range 2 {
		if got := taken(t, newShelf(s.b, dir), &f); got != "v1" { // as after a restart
			t.Errorf("the shelf has %q", got)
		}
		kept := filepath.Join(dir, f.Image, "image")
		if text, err := os.ReadFile(kept); err != nil || string(text) != "v1" {
			t.Errorf("the disk has %q, %v", text, err)
		}
		if err := os.WriteFile(kept, []byte("v"), 0o600); err != nil { // cut short
			t.Fatal(err)
		}
	}
	// One that is damaged in the store itself is named, and never run.
	images, err := s.b.JetStream().ObjectStore(t.Context(), broker.BucketImages)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := images.Put(t.Context(), jetstream.ObjectMeta{Name: f.Image}, strings.NewReader("worse")); err != nil {
		t.Fatal(err)
	}
	_, err = newShelf(s.b, t.TempDir()).take(t.Context(), &f, &runtime.Program{})
	wantKind(t, err, wire.KindInvalid, "something else")
	if n, err := s.b.DropImages(t.Context(), 0); n != 0 || err != nil {
		t.Fatalf("dropped %d images that are in use, %v", n, err)
	}
	if err := s.b.RemoveFunction(t.Context(), "f"); err != nil {
		t.Fatal(err)
	}
	if n, err := s.b.DropImages(t.Context(), 0); n != 1 || err != nil {
		t.Fatalf("dropped %d images, %v; want the one that nothing names", n, err)
	}
	_, err = newShelf(s.b, t.TempDir()).take(t.Context(), &f, &runtime.Program{})
	wantKind(t, err, wire.KindUnknown, "deploy the function again")
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 {
		t.Errorf("the directory holds %v, %v: want one image", left, err)
	}
}

// taken is what a shelf gives to the runtime of texts.
func taken(t *testing.T, s *shelf, f *wire.Function) string {
	t.Helper()
	defer s.close()
	var p runtime.Program
	done, err := s.take(t.Context(), f, &p)
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	text, err := p.Module()
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestLogsAreKept(t *testing.T) {
	s := newBench(t, 1)
	s.mustDeploy("f", "hello")
	r, err := s.b.Call(t.Context(), wire.Call{Name: "f", Run: "run-1"})
	if err != nil || r.Err != nil {
		t.Fatal(err, r.Err)
	}
	s.wantCall("f", "hello")
	var lines []broker.LogLine
	eventually(t, "the lines are there", func() bool {
		lines = nil
		err := s.b.Logs(t.Context(), broker.LogFilter{Function: "f", Run: "run-1"}, func(l broker.LogLine) error {
			lines = append(lines, l)
			return nil
		})
		return err == nil && len(lines) == 2
	})
	if l := lines[1]; lines[0].Text != "said hello" || l.Text != "to run-1" || l.Version != 1 || l.Worker == "" || time.Since(l.Time) > time.Minute {
		t.Errorf("got %+v", lines)
	}
	// Followed, what comes later comes too.
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	texts := make(chan string, 100)
	followed := make(chan error, 1)
	go func() {
		followed <- s.b.Logs(ctx, broker.LogFilter{Last: 1, Follow: true}, func(l broker.LogLine) error {
			texts <- l.Text
			return nil
		})
	}()
	<-texts // the last of those that there are
	if _, err := s.b.Call(t.Context(), wire.Call{Name: "f", Run: "run-2"}); err != nil {
		t.Fatal(err)
	}
	for want := range map[string]bool{"said hello": true} {
		if got := <-texts; got != want {
			t.Errorf("followed %q, want %q", got, want)
		}
	}
	if got := <-texts; got != "to run-2" {
		t.Errorf("followed %q", got)
	}
	cancel()
	if err := <-followed; err != nil {
		t.Errorf("followed: %v", err)
	}
}

func TestImagesWithPathsOutsideAreRefused(t *testing.T) {
	image := func(names ...string) []byte {
		var b bytes.Buffer
		w := zip.NewWriter(&b)
		for _, name := range names {
			f, err := w.Create(name)
			if err == nil {
				_, err = f.Write([]byte("x"))
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	read := func(image []byte) error {
		files, err := filesOf(bytes.NewReader(image), int64(len(image)))
		if err != nil {
			return err
		}
		return fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				_, err = fs.ReadFile(files, name)
			}
			return err
		})
	}
	whole := image("main.py", "lib/a.py")
	if err := read(whole); err != nil {
		t.Error(err)
	}
	if err := read([]byte("def handler(_): pass")); err != nil {
		t.Error(err)
	}
	stored, err := Pack([]string{"main.py"}, func(string) ([]byte, bool, error) { return []byte("x"), false, nil })
	if err != nil || read(stored) != nil {
		t.Fatal(err, read(stored))
	}
	noise := make([]byte, 1000)
	rand.Read(noise)
	for name, bad := range map[string][]byte{
		"up": image("../evil.py"), "absolute": image("/evil.py"), "hidden": image(`a\..\evil.py`), "twice": image("a.py", "a.py"), "both": image("a", "a/b"),
		"a long name": image(strings.Repeat("n", 256) + ".py"), "a deep one": image(strings.Repeat("d/", 2000) + "a.py"),
		"cut": whole[:len(whole)/2], "noise": append([]byte("PK\x03\x04"), noise...), "changed": bytes.Replace(stored, []byte("main.pyx"), []byte("main.pyy"), 1),
	} {
		t.Run(name, func(t *testing.T) { wantKind(t, read(bad), wire.KindInvalid) })
	}
}

func TestStoringAnImageTellsHowFarItIs(t *testing.T) {
	s := newBench(t, 0)
	image := make([]byte, 3<<20)
	rand.Read(image)
	var told []int64
	if _, err := s.b.PutImage(t.Context(), image, func(done int64) { told = append(told, done) }); err != nil {
		t.Fatal(err)
	}
	if len(told) < 3 || !slices.IsSorted(told) || told[len(told)-1] != int64(len(image)) {
		t.Errorf("told of %v, of %d bytes", told, len(image))
	}
}

// A large image has longer to get ready, and a worker that needs longer still is told apart
// from none.
func TestLargeImagesHaveLonger(t *testing.T) {
	small, large := wire.Function{Size: 1 << 10}.LoadWithin(), wire.Function{Size: 40 << 20}.LoadWithin()
	if small != 2*time.Minute || large < 8*time.Minute {
		t.Errorf("got %v and %v", small, large)
	}
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-deadline.C:
			t.Fatalf("not within a minute: %s", what)
		case <-tick.C:
		}
	}
}

func TestOldVersionsAreForgottenButThoseThatDAGsPin(t *testing.T) {
	s := newBench(t, 0) // nobody loads them
	publish := func() {
		t.Helper()
		if _, err := s.b.PublishFunction(t.Context(), wire.Function{Name: "f", Image: "x"}); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		publish()
	}
	if err := s.b.ApplyDAG(t.Context(), broker.DAGRecord{Name: "d", Version: "1", Spec: []byte(`{}`), Functions: []string{"f@2"}}); err != nil {
		t.Fatal(err)
	}
	err := s.b.ApplyDAG(t.Context(), broker.DAGRecord{Name: "d", Version: "2", Spec: []byte(`{}`), Functions: []string{"f@4"}})
	wantKind(t, err, wire.KindUnknown, "no version 4")
	wantKind(t, s.b.RemoveFunction(t.Context(), "f"), wire.KindConflict, "DAG d")
	for range 110 {
		publish()
	}
	versions, err := s.b.FunctionVersions(t.Context(), "f")
	if err != nil || len(versions) != 101 || versions[0].Version != 2 || versions[1].Version != 14 || versions[100].Version != 113 {
		t.Errorf("%d versions, %v", len(versions), err)
	}
}
