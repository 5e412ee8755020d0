package cloudburst_test

import (
	"context"
	"errors"
	"testing"

	"github.com/cloudburst-nats/cloudburst"
)

// writers write one key as each of the kinds.
func writers() map[string]func(context.Context, *cloudburst.State) error {
	return map[string]func(context.Context, *cloudburst.State) error{
		"lww":     func(ctx context.Context, s *cloudburst.State) error { return s.Put(ctx, "k", 1) },
		"counter": func(ctx context.Context, s *cloudburst.State) error { return s.Counter("k").Add(ctx, 1) },
		"set":     func(ctx context.Context, s *cloudburst.State) error { return s.Set("k").Add(ctx, 1) },
		"max":     func(ctx context.Context, s *cloudburst.State) error { return s.Max("k").Raise(ctx, 1) },
		"min":     func(ctx context.Context, s *cloudburst.State) error { return s.Min("k").Lower(ctx, 1) },
		"grow":    func(ctx context.Context, s *cloudburst.State) error { return s.Grow("k").Add(ctx, 1) },
		"orset":   func(ctx context.Context, s *cloudburst.State) error { return s.ORSet("k").Add(ctx, 1) },
		"zset":    func(ctx context.Context, s *cloudburst.State) error { return s.OrderedSet("k").Put(ctx, "m", 1) },
		"priority": func(ctx context.Context, s *cloudburst.State) error {
			return s.Priority("k").Put(ctx, 1, 1)
		},
		"map": func(ctx context.Context, s *cloudburst.State) error { return s.Map("k").Max("best").Raise(ctx, 1) },
	}
}

// A key is of one kind: to write it as another is refused, to a client at once
// and to a function when it ends, and what it holds stays.
func TestWritingAKeyAsAnotherKind(t *testing.T) {
	client := platform(t)
	kinds := writers()
	serve(t, client, "default", func(w *cloudburst.Worker) {
		cloudburst.Handle(w, "as", func(ctx context.Context, s *cloudburst.Session, args struct{ Holds, Kind string }) (bool, error) {
			return true, kinds[args.Kind](ctx, s.In(args.Holds))
		}, cloudburst.Attempts(1))
	})
	ctx := t.Context()
	for holds, first := range kinds {
		s := client.State().In(holds)
		if err := first(ctx, s); err != nil {
			t.Fatal(err)
		}
		before, _, err := s.Get(ctx, "k")
		if err != nil {
			t.Fatal(err)
		}
		for kind, write := range kinds {
			if kind == holds {
				continue
			}
			if err := write(ctx, s); !errors.Is(err, cloudburst.ErrLattice) {
				t.Errorf("a client writes a %s as a %s: %v", holds, kind, err)
			}
			if _, err := cloudburst.Call[bool](ctx, client, "as", holds, kind); !errors.Is(err, cloudburst.ErrLattice) {
				t.Errorf("a function writes a %s as a %s: %v", holds, kind, err)
			}
		}
		if after, _, err := s.Get(ctx, "k"); err != nil || string(after.Body) != string(before.Body) {
			t.Errorf("a %s holds %s, then %s, %v", holds, before.Body, after.Body, err)
		}
	}
}

// A field is of one kind, and reading it as another is refused as well.
func TestFieldsAreOfOneKind(t *testing.T) {
	client := platform(t)
	ctx := t.Context()
	user := client.State().Map("user")
	if err := errors.Join(user.Put(ctx, "k", "Ada"), user.Counter("n").Add(ctx, 1)); err != nil {
		t.Fatal(err)
	}
	for kind, write := range writers() {
		if err := write(ctx, &user.State); kind != "lww" && !errors.Is(err, cloudburst.ErrLattice) {
			t.Errorf("a register in a map is written as a %s: %v", kind, err)
		}
	}
	if err := user.Put(ctx, "n", 1); !errors.Is(err, cloudburst.ErrLattice) {
		t.Errorf("a counter in a map is put: %v", err)
	}
	if err := user.Delete(ctx, "n"); !errors.Is(err, cloudburst.ErrLattice) {
		t.Errorf("a counter in a map is deleted: %v", err)
	}
	if _, _, err := user.Max("k").Value(ctx); !errors.Is(err, cloudburst.ErrLattice) {
		t.Errorf("a register in a map is read as a max: %v", err)
	}
	if _, err := client.State().ORSet("user").Has(ctx, 1); !errors.Is(err, cloudburst.ErrLattice) {
		t.Errorf("a map is read as a set: %v", err)
	}
	deep := user.Map("1").Map("2").Map("3").Map("4")
	if err := deep.Put(ctx, "k", 1); !errors.Is(err, cloudburst.ErrBadArgument) {
		t.Errorf("five maps within each other: %v", err)
	}
	v, _, err := client.State().Get(ctx, "user")
	if err != nil || string(v.Body) != `{"k":1,"n":1}` {
		t.Errorf("the map holds %s, %v", v.Body, err)
	}
}

func TestValuesThatLatticesRefuse(t *testing.T) {
	client := platform(t)
	ctx, s := t.Context(), client.State()
	for what, err := range map[string]error{
		"a maximum of arrays":       s.Max("k").Raise(ctx, []int{1}),
		"a maximum of channels":     s.Max("k").Raise(ctx, make(chan int)),
		"a minimum of null":         s.Min("k").Lower(ctx, nil),
		"counting down":             s.Grow("k").Add(ctx, -1),
		"counting down in a map":    s.Map("k").Grow("n").Add(ctx, -1),
		"an element that is a func": s.ORSet("k").Add(ctx, 1, func() {}),
		"removing a func":           s.ORSet("k").Remove(ctx, func() {}),
		"an element of raw bytes":   s.ORSet("k").Add(ctx, cloudburst.Value{Body: []byte("{")}),
		"no finite score":           s.OrderedSet("k").Put(ctx, "m", 1/zero()),
		"a member that isn't UTF-8": s.OrderedSet("k").Put(ctx, "\xff", 1),
		"a field that isn't UTF-8":  s.Map("k").Put(ctx, "\xff", 1),
	} {
		if !errors.Is(err, cloudburst.ErrBadArgument) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, found, err := s.Get(ctx, "k"); found || err != nil {
		t.Errorf("the key is there: %v", err)
	}
}

func zero() float64 { return 0 }
