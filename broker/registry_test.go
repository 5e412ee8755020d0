package broker

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/cloudburst-nats/cloudburst/wire"
)

func (p *platform) subjects(pool string) []string {
	p.t.Helper()
	s, err := p.js.Stream(p.t.Context(), CallsStream(pool))
	if err != nil {
		p.t.Fatal(err)
	}
	subjects := s.CachedInfo().Config.Subjects
	slices.Sort(subjects)
	return subjects
}

func (p *platform) lastSeq(bucket string) uint64 {
	p.t.Helper()
	_, last, err := p.bounds(p.t.Context(), bucketStream(bucket))
	if err != nil {
		p.t.Fatal(err)
	}
	return last
}

func TestRegisterFunctions(t *testing.T) {
	p := newPlatform(t)
	p.register("b", "a")
	fns, err := p.Functions(t.Context())
	if err != nil || len(fns) != 2 || fns[0].Name != "a" || fns[1].Name != "b" {
		t.Fatalf("got %v, %v, want a and b", fns, err)
	}
	if got := p.subjects(DefaultPool); !slices.Equal(got, []string{"cb.call.a", "cb.call.b"}) {
		t.Errorf("the pool listens on %v", got)
	}
	f, err := p.Function(t.Context(), "a")
	if err != nil || f.About != "about a" || f.Registered.IsZero() {
		t.Errorf("got %+v, %v", f, err)
	}
	_, err = p.Function(t.Context(), "c")
	wantKind(t, err, wire.KindUnknown)

	before := p.lastSeq(BucketFunctions)
	p.register("a", "b")
	if after := p.lastSeq(BucketFunctions); after != before {
		t.Errorf("an unchanged registration wrote %d entries", after-before)
	}
	p.register("a", "b", "c")
	if got := len(p.subjects(DefaultPool)); got != 3 {
		t.Errorf("the pool listens on %d subjects, want 3", got)
	}
}

func TestRegisterReportsAllProblemsAtOnce(t *testing.T) {
	p := newPlatform(t)
	p.register("a", "b")
	if err := p.ApplyDAG(t.Context(), DAGRecord{Name: "d", Version: "1", Spec: json.RawMessage(`{}`)}); err != nil {
		t.Fatal(err)
	}
	err := p.RegisterFunctions(t.Context(), []wire.Function{{Name: "a", Pool: "gpu"}, {Name: "b", Pool: "gpu"}, {Name: "d", Pool: "gpu"}, {Name: "fine", Pool: "gpu"}})
	wantKind(t, err, wire.KindConflict)
	for _, want := range []string{`"a"`, `"b"`, `"d"`, `pool "default"`, `pool "gpu"`, "DAG has that name"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q doesn't mention %s", err, want)
		}
	}
	if _, err := p.Function(t.Context(), "fine"); wire.KindOf(err) != wire.KindUnknown {
		t.Errorf("a refused registration was made in part: %v", err)
	}
	err = p.RegisterFunctions(t.Context(), []wire.Function{{Name: "x y"}, {Name: "ok"}, {Name: "ok"}, {Name: "z", Pool: "other"}})
	for _, want := range []string{"x y", "named twice", `pool "other"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v doesn't mention %s", err, want)
		}
	}
}

func TestConcurrentRegistrationsLoseNothing(t *testing.T) {
	p := newPlatform(t)
	var wg sync.WaitGroup
	for i := range 8 {
		b := p.connect(fmt.Sprint(i))
		wg.Go(func() {
			if err := b.RegisterFunctions(t.Context(), []wire.Function{{Name: fmt.Sprint("f", i)}, {Name: "shared"}}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	fns, err := p.Functions(t.Context())
	if err != nil || len(fns) != 9 {
		t.Errorf("got %d functions, %v, want 9", len(fns), err)
	}
	if got := len(p.subjects(DefaultPool)); got != 9 {
		t.Errorf("the pool listens on %d subjects, want 9", got)
	}
}

func TestRemoveFunction(t *testing.T) {
	p := newPlatform(t)
	p.register("a", "b")
	rec := DAGRecord{Name: "d", Version: "1", Spec: json.RawMessage(`{}`), Functions: []string{"a"}}
	if err := p.ApplyDAG(t.Context(), rec); err != nil {
		t.Fatal(err)
	}
	err := p.RemoveFunction(t.Context(), "a")
	wantKind(t, err, wire.KindConflict)
	if !strings.Contains(err.Error(), "DAG d") {
		t.Errorf("%q doesn't name the DAG", err)
	}
	wantKind(t, p.RemoveFunction(t.Context(), "nobody"), wire.KindUnknown)
	if err := p.RemoveFunction(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	if got := p.subjects(DefaultPool); !slices.Equal(got, []string{"cb.call.a", "cb.call.d"}) {
		t.Errorf("the pool listens on %v", got)
	}
	// It may move to another pool now.
	if err := p.RegisterFunctions(t.Context(), []wire.Function{{Name: "b", Pool: "gpu"}}); err != nil {
		t.Fatal(err)
	}
	if got := p.subjects("gpu"); !slices.Equal(got, []string{"cb.call.b"}) {
		t.Errorf("the new pool listens on %v", got)
	}
}

func TestDAGs(t *testing.T) {
	p := newPlatform(t)
	ctx := t.Context()
	p.register("f")
	if err := p.RegisterFunctions(ctx, []wire.Function{{Name: "g", Pool: "gpu"}}); err != nil {
		t.Fatal(err)
	}
	v1 := DAGRecord{
		Name: "d", Version: "1", Pool: DefaultPool, Spec: json.RawMessage(`{"v": 1}`), Functions: []string{"f", "g"},
		Subjects: map[string][]string{"default": {"x"}, "gpu": {"y"}},
	}
	if err := p.ApplyDAG(ctx, v1); err != nil {
		t.Fatal(err)
	}
	if got := p.subjects("gpu"); !slices.Equal(got, []string{"cb.call.g", "cb.dag.d.y"}) {
		t.Errorf("gpu listens on %v", got)
	}
	before := p.lastSeq(BucketDAGs)
	if err := p.ApplyDAG(ctx, v1); err != nil || p.lastSeq(BucketDAGs) != before {
		t.Errorf("applying the same again: %v, wrote %d entries", err, p.lastSeq(BucketDAGs)-before)
	}
	changed := v1
	changed.Spec = json.RawMessage(`{"v":2}`)
	wantKind(t, p.ApplyDAG(ctx, changed), wire.KindConflict)

	// Another version; its node y has moved, and the DAG as a whole too.
	v2 := changed
	v2.Version, v2.Pool, v2.Subjects = "2", "gpu", map[string][]string{"default": {"x", "y"}}
	if err := p.ApplyDAG(ctx, v2); err != nil {
		t.Fatal(err)
	}
	if got := p.subjects("default"); !slices.Equal(got, []string{"cb.call.f", "cb.dag.d.x", "cb.dag.d.y"}) {
		t.Errorf("default listens on %v", got)
	}
	if got := p.subjects("gpu"); !slices.Equal(got, []string{"cb.call.d", "cb.call.g"}) {
		t.Errorf("gpu listens on %v", got)
	}
	newest, err := p.DAG(ctx, "d")
	if err != nil || newest.Version != "2" {
		t.Errorf("got version %q, %v, want 2", newest.Version, err)
	}
}

func TestRemoveDAGLetsRunsEnd(t *testing.T) {
	p := newPlatform(t)
	ctx := t.Context()
	p.register("f")
	rec := DAGRecord{Name: "d", Version: "1", Spec: json.RawMessage(`{"v":1}`), Functions: []string{"f"}, Subjects: map[string][]string{"default": {"x"}}}
	if err := p.ApplyDAG(ctx, rec); err != nil {
		t.Fatal(err)
	}
	if err := p.RemoveDAG(ctx, "d"); err != nil {
		t.Fatal(err)
	}
	_, err := p.DAG(ctx, "d")
	wantKind(t, err, wire.KindUnknown)
	old, err := p.DAGVersion(ctx, "d", "1")
	if err != nil || string(compact(old.Spec)) != `{"v":1}` {
		t.Errorf("for runs in flight: got %s, %v", old.Spec, err)
	}
	if got := p.subjects("default"); !slices.Equal(got, []string{"cb.call.f", "cb.dag.d.x"}) {
		t.Errorf("listens on %v, want the node for runs in flight, and the DAG no longer", got)
	}
	wantKind(t, p.RemoveDAG(ctx, "d"), wire.KindUnknown)
	list, err := p.DAGs(ctx)
	if err != nil || len(list) != 0 {
		t.Errorf("got %v, %v, want none", list, err)
	}
}

func TestApplyDAGChecks(t *testing.T) {
	p := newPlatform(t)
	p.register("f")
	spec := json.RawMessage(`{}`)
	for _, test := range []struct {
		name string
		rec  DAGRecord
		want wire.Kind
	}{
		{"name of a function", DAGRecord{Name: "f", Version: "1", Spec: spec}, wire.KindConflict},
		{"unknown function", DAGRecord{Name: "d", Version: "1", Spec: spec, Functions: []string{"nobody"}}, wire.KindUnknown},
		{"bad name", DAGRecord{Name: "d.e", Version: "1", Spec: spec}, wire.KindBadName},
		{"no version", DAGRecord{Name: "d", Spec: spec}, wire.KindBadName},
		{"version with a star", DAGRecord{Name: "d", Version: "1.*", Spec: spec}, wire.KindBadName},
		{"bad node", DAGRecord{Name: "d", Version: "1", Spec: spec, Subjects: map[string][]string{"p": {">"}}}, wire.KindBadName},
		{"no spec", DAGRecord{Name: "d", Version: "1"}, wire.KindInvalid},
	} {
		t.Run(test.name, func(t *testing.T) { wantKind(t, p.ApplyDAG(t.Context(), test.rec), test.want) })
	}
}

func TestCatalogueFollowsTheRegistry(t *testing.T) {
	p := newPlatform(t)
	p.register("a", "b")
	c := p.connect("other").NewCatalogue()
	p.start(c.Run)
	<-c.Ready()
	if _, ok := c.Lookup("a"); !ok {
		t.Fatal("what was registered before is not listed")
	}
	p.register("square")
	eventually(t, "a new function is listed", func() bool { _, ok := c.Lookup("square"); return ok })
	if err := p.RemoveFunction(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a removed function is gone", func() bool { _, ok := c.Lookup("b"); return !ok })
	rec := DAGRecord{Name: "d", Version: "1.0", Spec: json.RawMessage(`{}`)}
	if err := p.ApplyDAG(t.Context(), rec); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a new DAG is listed", func() bool { e, ok := c.Lookup("d"); return ok && e.DAG != nil })
	if _, ok := c.Version("d", "1.0"); !ok {
		t.Error("its version is not listed")
	}
	// By hand: nobody tells, and a value that can't be read is no entry.
	for key, body := range map[string]string{"byhand": `{"name":"byhand","pool":"default"}`, "a": `not JSON`} {
		if _, err := p.put(t.Context(), &nats.Msg{Subject: bucketSubject(BucketFunctions, key), Data: []byte(body)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range c.Entries() {
		names = append(names, e.Name)
	}
	if want := []string{"byhand", "d", "square"}; !slices.Equal(names, want) {
		t.Errorf("got %v, want %v", names, want)
	}
}

func TestCatalogueSuggestsNearNames(t *testing.T) {
	c := &Catalogue{reg: newRegistry()}
	for _, name := range []string{"square", "squares", "cube", "resize_image", "a", "b"} {
		c.reg.functions[name] = wire.Function{Name: name}
	}
	for _, test := range []struct{ name, want string }{
		{"sqare", "square,squares"}, {"Square", "square,squares"}, {"resizeimage", "resize_image"}, {"zebra", ""}, {"", "a,b"},
	} {
		if got := strings.Join(c.Near(test.name), ","); got != test.want {
			t.Errorf("near %q: got %q, want %q", test.name, got, test.want)
		}
	}
}

func TestCatalogueOfTenThousandFunctions(t *testing.T) {
	p := newPlatform(t)
	r := newRegistry()
	for i := range 10_000 {
		f := wire.Function{Name: fmt.Sprintf("function_%05d", i), Pool: DefaultPool}
		if err := r.put(BucketFunctions, f.Name, f); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.putAll(t.Context(), r.messages()); err != nil {
		t.Fatal(err)
	}
	c := p.NewCatalogue()
	p.start(c.Run)
	<-c.Ready()
	if got := len(c.Entries()); got != 10_000 {
		t.Errorf("got %d entries, want 10000", got)
	}
}

func TestRegisterManyFunctionsAtOnce(t *testing.T) {
	p := newPlatform(t)
	names := make([]string, 1000)
	for i := range names {
		names[i] = fmt.Sprintf("function_%05d", i)
	}
	p.register(names...)
	if got := len(p.subjects(DefaultPool)); got != len(names) {
		t.Errorf("the pool listens on %d subjects, want %d", got, len(names))
	}
}
