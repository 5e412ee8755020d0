package cloudburst_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cloudburst-nats/cloudburst"
)

// write writes a key of every kind; look reads what write has made of them.
func write(ctx context.Context, s *cloudburst.State) error {
	user := s.Map("map")
	return errors.Join(
		s.Max("max").Raise(ctx, 7), s.Max("max").Raise(ctx, 9.5), s.Max("max").Raise(ctx, -1),
		s.Min("min").Lower(ctx, "b"), s.Min("min").Lower(ctx, "a"), s.Min("min").Lower(ctx, "c"),
		s.Grow("grow").Add(ctx, 2), s.Grow("grow").Add(ctx, 3),
		s.ORSet("orset").Add(ctx, "x", "y", 1), s.ORSet("orset").Remove(ctx, "x", "neverwas"), s.ORSet("orset").Add(ctx, "z"),
		s.OrderedSet("zset").Put(ctx, "ann", 3), s.OrderedSet("zset").Put(ctx, "bob", 1), s.OrderedSet("zset").Put(ctx, "cid", 9),
		s.OrderedSet("zset").Put(ctx, "bob", 4), s.OrderedSet("zset").Remove(ctx, "cid"),
		s.Priority("priority").Put(ctx, 2, "second"), s.Priority("priority").Put(ctx, 1, "first"), s.Priority("priority").Put(ctx, 3, "third"),
		user.Put(ctx, "name", "Ida"), user.Put(ctx, "name", "Ada"), user.Put(ctx, "old", 1), user.Delete(ctx, "old"),
		user.Counter("likes").Add(ctx, 2), user.Counter("likes").Add(ctx, -1), user.Grow("visits").Add(ctx, 4),
		user.Set("tags").Add(ctx, "t"), user.ORSet("friends").Add(ctx, "bob"), user.Max("best").Raise(ctx, 5),
		user.OrderedSet("seen").Put(ctx, "home", 1), user.Map("in").Counter("deep").Add(ctx, 6),
	)
}

// A reading collects what is read, and the errors.
type reading struct {
	lines []string
	err   error
}

func (r *reading) add(name string, err error, what ...any) {
	r.lines = append(r.lines, strings.TrimSpace(name+" "+fmt.Sprintln(what...)))
	r.err = errors.Join(r.err, err)
}

func look(ctx context.Context, s *cloudburst.State) (string, error) {
	var r reading
	v, found, err := s.Max("max").Value(ctx)
	r.add("max", err, string(v.Body), found)
	v, found, err = s.Min("min").Value(ctx)
	r.add("min", err, string(v.Body), found)
	n, err := s.Grow("grow").Value(ctx)
	r.add("grow", err, n)
	members, err := cloudburst.Members[any](ctx, s.ORSet("orset"))
	r.add("orset", err, members)
	has, err := s.ORSet("orset").Has(ctx, "x")
	r.add("has x", err, has)
	length, err := s.ORSet("orset").Len(ctx)
	r.add("len", err, length)
	scored, err := s.OrderedSet("zset").Range(ctx, 0, 10)
	r.add("zset", err, scored)
	score, found, err := s.OrderedSet("zset").Score(ctx, "cid")
	r.add("score", err, score, found)
	length, err = s.OrderedSet("zset").Len(ctx)
	r.add("len", err, length)
	v, rank, found, err := s.Priority("priority").Get(ctx)
	r.add("priority", err, string(v.Body), rank, found)
	user := s.Map("map")
	names, err := user.Fields(ctx)
	r.add("fields", err, names)
	all, there, err := user.GetAll(ctx, "name", "old", "likes")
	r.add("all", err, there)
	for _, v := range all {
		r.add("-", nil, string(v.Body))
	}
	versions, err := user.Versions(ctx, "name")
	r.add("versions", err, len(versions))
	n, err = user.Counter("likes").Value(ctx)
	r.add("likes", err, n)
	n, err = user.Grow("visits").Value(ctx)
	r.add("visits", err, n)
	tags, err := cloudburst.Elements[string](ctx, user.Set("tags"))
	r.add("tags", err, tags)
	friends, err := cloudburst.Members[string](ctx, user.ORSet("friends"))
	r.add("friends", err, friends)
	n, err = user.Map("in").Counter("deep").Value(ctx)
	r.add("deep", err, n)
	return strings.Join(r.lines, "\n"), r.err
}

const (
	nothing = `max  false
min  false
grow 0
orset []
has x false
len 0
zset []
score 0 false
len 0
priority  0 false
fields []
all [false false false]
-
-
-
versions 0
likes 0
visits 0
tags []
friends []
deep 0`
	written = `max 9.5 true
min "a" true
grow 5
orset [y z 1]
has x false
len 3
zset [{ann 3} {bob 4}]
score 0 false
len 2
priority "first" 1 true
fields [best friends in likes name seen tags visits]
all [true false true]
- "Ada"
-
- 1
versions 1
likes 1
visits 4
tags [t]
friends [bob]
deep 6`
)

// stored is how the keys look to the nats CLI.
func stored() map[string]string {
	return map[string]string{
		"max": `9.5`, "min": `"a"`, "grow": `5`, "orset": `["y","z",1]`, "priority": `"first"`,
		"zset": `[{"member":"ann","score":3},{"member":"bob","score":4}]`,
		"map": `{"best":5,"friends":["bob"],"in":{"deep":6},"likes":1,"name":"Ada",` +
			`"seen":[{"member":"home","score":1}],"tags":["t"],"visits":4}`,
	}
}

func wantLook(t *testing.T, who string, s *cloudburst.State, want string) {
	t.Helper()
	if got, err := look(t.Context(), s); err != nil || got != want {
		t.Errorf("%s reads\n%s\n%v\nwant\n%s", who, got, err, want)
	}
}

func wantStored(t *testing.T, client *cloudburst.Client, namespace string) {
	t.Helper()
	kv, err := client.Broker().JetStream().KeyValue(t.Context(), namespace)
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range stored() {
		entry, err := kv.Get(t.Context(), key)
		if err != nil || string(entry.Value()) != want {
			t.Errorf("%s is stored as %s, %v; want %s", key, entry.Value(), err, want)
		}
	}
}

// A function reads its own writes, which nobody else sees before it has returned,
// and which then are plain JSON. What an attempt that fails has written is
// written once, by the one that doesn't.
func TestLatticesInAFunction(t *testing.T) {
	client := platform(t)
	serve(t, client, "default", func(w *cloudburst.Worker) {
		cloudburst.Handle(w, "write", func(ctx context.Context, s *cloudburst.Session, _ struct{}) ([]string, error) {
			before, err := look(ctx, &s.State)
			if err != nil {
				return nil, err
			}
			if err := write(ctx, &s.State); err != nil {
				return nil, err
			}
			own, err := look(ctx, &s.State)
			if err != nil {
				return nil, err
			}
			outside, err := look(ctx, client.State())
			if err == nil && s.Attempt() == 1 {
				err = errors.New("once more")
			}
			return []string{before, own, outside}, err
		}, cloudburst.Attempts(2), cloudburst.Backoff(1))
		cloudburst.Handle(w, "look", func(ctx context.Context, s *cloudburst.Session, _ struct{}) (string, error) {
			return look(ctx, &s.State)
		})
	})
	wantLook(t, "a client before", client.State(), nothing)
	got, err := cloudburst.Call[[]string](t.Context(), client, "write")
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{nothing, written, nothing} {
		if got[i] != want {
			t.Errorf("reading %d is\n%s\nwant\n%s", i, got[i], want)
		}
	}
	wantLook(t, "a client", client.State(), written)
	wantStored(t, client, cloudburst.DefaultNamespace)
	if got, err := cloudburst.Call[string](t.Context(), client, "look"); err != nil || got != written {
		t.Errorf("a function reads\n%s\n%v", got, err)
	}
}

func TestLatticesOfAClient(t *testing.T) {
	client := platform(t)
	s := client.State().In("shop")
	wantLook(t, "a client before", s, nothing)
	if err := write(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	wantLook(t, "a client", s, written)
	wantLook(t, "its other namespace", client.State(), nothing)
	wantStored(t, client, "shop")
	// What somebody has deleted with the nats CLI is nothing.
	kv, err := client.Broker().JetStream().KeyValue(t.Context(), "shop")
	if err != nil {
		t.Fatal(err)
	}
	for key := range stored() {
		if err := kv.Delete(t.Context(), key); err != nil {
			t.Error(err)
		}
	}
	wantLook(t, "after a deletion, a client", s, nothing)
}

// Many write one key at once, on two workers and as clients, and nothing is lost.
func TestLatticesAreWrittenConcurrently(t *testing.T) {
	client := platform(t)
	write := func(ctx context.Context, s *cloudburst.State, i int) error {
		m := s.Map("map")
		return errors.Join(
			s.Max("max").Raise(ctx, i), s.Min("min").Lower(ctx, i), s.Grow("grow").Add(ctx, int64(i)),
			s.ORSet("orset").Add(ctx, i, "all"), s.OrderedSet("zset").Put(ctx, fmt.Sprint(i), float64(i)),
			s.Priority("priority").Put(ctx, int64(i), i),
			m.Counter("n").Add(ctx, 1), m.Grow("g").Add(ctx, 1), m.ORSet("o").Add(ctx, i), m.Put(ctx, fmt.Sprint(i), i),
		)
	}
	pools := []string{"one", "two"}
	for _, pool := range pools {
		serve(t, client, pool, func(w *cloudburst.Worker) {
			cloudburst.Handle(w, pool, func(ctx context.Context, s *cloudburst.Session, i int) (int, error) {
				return i, write(ctx, &s.State, i)
			})
		})
	}
	const many = 20
	ctx := t.Context()
	var group sync.WaitGroup
	for i := range many {
		for _, pool := range pools {
			group.Go(func() {
				if _, err := cloudburst.Call[int](ctx, client, pool, i); err != nil {
					t.Error(err)
				}
			})
		}
		group.Go(func() {
			if err := write(ctx, client.State(), i); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	var numbers []int
	for i := range many {
		numbers = append(numbers, i)
	}
	for key, want := range map[string]any{
		"max": many - 1, "min": 0, "grow": 3 * many * (many - 1) / 2, "priority": 0,
	} {
		if got, err := cloudburst.Get[int](ctx, client.State(), key); err != nil || got != want {
			t.Errorf("%s is %d, %v; want %d", key, got, err, want)
		}
	}
	s := client.State()
	if n, err := s.ORSet("orset").Len(ctx); err != nil || n != many+1 {
		t.Errorf("%d elements, %v", n, err)
	}
	if top, err := s.OrderedSet("zset").Range(ctx, many-2, many); err != nil ||
		!slices.Equal(top, []cloudburst.Scored{{Member: "18", Score: 18}, {Member: "19", Score: 19}}) {
		t.Errorf("the highest are %v, %v", top, err)
	}
	var m map[string]json.RawMessage
	m, err := cloudburst.Get[map[string]json.RawMessage](ctx, s, "map")
	if err != nil || len(m) != many+3 || string(m["n"]) != fmt.Sprint(3*many) || string(m["g"]) != fmt.Sprint(3*many) {
		t.Errorf("the map holds %s, %v", m, err)
	}
	got, err := cloudburst.Members[int](ctx, s.Map("map").ORSet("o"))
	slices.Sort(got)
	if err != nil || !slices.Equal(got, numbers) {
		t.Errorf("the set in the map holds %v, %v", got, err)
	}
}

// An element that one worker removes while another adds it stays; one that was
// added before, and that the removal has seen, goes.
func TestRemovalAcrossWorkers(t *testing.T) {
	client := platform(t)
	var meet sync.WaitGroup
	serve(t, client, "one", func(w *cloudburst.Worker) {
		cloudburst.Handle(w, "add", func(ctx context.Context, s *cloudburst.Session, meeting bool) (bool, error) {
			err := s.ORSet("k").Add(ctx, "x", "y")
			if meeting {
				meet.Done()
				meet.Wait() // before either has stored anything
			}
			return true, err
		})
	})
	serve(t, client, "two", func(w *cloudburst.Worker) {
		cloudburst.Handle(w, "remove", func(ctx context.Context, s *cloudburst.Session, meeting bool) (bool, error) {
			had, err := s.ORSet("k").Has(ctx, "x")
			if err != nil {
				return false, err
			}
			err = s.ORSet("k").Remove(ctx, "x")
			if has, _ := s.ORSet("k").Has(ctx, "x"); has {
				err = errors.Join(err, errors.New("the run doesn't see its own removal"))
			}
			if meeting {
				meet.Done()
				meet.Wait()
			}
			return had, err
		})
	})
	// With a token each call sees what the one before has written.
	client = client.With(cloudburst.WithToken(cloudburst.NewToken()))
	call := func(name string, meeting bool) {
		t.Helper()
		if had, err := cloudburst.Call[bool](t.Context(), client, name, meeting); err != nil || !had {
			t.Errorf("%s: %v, %v", name, had, err)
		}
	}
	want := func(want ...string) {
		t.Helper()
		if got, err := cloudburst.Members[string](t.Context(), client.State().ORSet("k")); err != nil || !slices.Equal(got, want) {
			t.Errorf("the set holds %v, %v; want %v", got, err, want)
		}
	}
	for range 10 {
		call("add", false)
		want("x", "y")
		call("remove", false)
		want("y")
		call("add", false)
		meet.Add(2)
		var both sync.WaitGroup
		both.Go(func() { call("add", true) })
		both.Go(func() { call("remove", true) })
		both.Wait()
		want("x", "y")
	}
}

// What was refused for certain isn't counted with the next.
func TestRefusedCountIsNotCountedLater(t *testing.T) {
	client := platform(t)
	state, ctx := client.State(), t.Context()
	if err := state.Set("k").Add(ctx, 1); err != nil {
		t.Fatal(err)
	}
	if err := state.Counter("k").Add(ctx, 5); !errors.Is(err, cloudburst.ErrLattice) {
		t.Fatalf("counting on a set: %v", err)
	}
	kv, err := client.Broker().JetStream().KeyValue(ctx, cloudburst.DefaultNamespace)
	if err != nil {
		t.Fatal(err)
	}
	if err := kv.Purge(ctx, "k"); err != nil {
		t.Fatal(err)
	}
	if err := state.Counter("k").Add(ctx, 1); err != nil {
		t.Fatal(err)
	}
	if n, err := state.Counter("k").Value(ctx); n != 1 || err != nil {
		t.Errorf("counts %d, %v, want 1", n, err)
	}
}
