package consistency_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/cloudburst-nats/cloudburst/consistency"
	"github.com/cloudburst-nats/cloudburst/kvlattice"
	"github.com/cloudburst-nats/cloudburst/kvlattice/latticetest"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// A watched bucket has somebody look after each write.
type watched struct {
	*latticetest.Memory
	look func()
}

func (w watched) PutBase(ctx context.Context, key string, e kvlattice.Entry, rev uint64) (uint64, error) {
	rev, err := w.Memory.PutBase(ctx, key, e, rev)
	w.look()
	return rev, err
}

func (w watched) PutSlot(ctx context.Context, key string, e kvlattice.Entry) (uint64, error) {
	rev, err := w.Memory.PutSlot(ctx, key, e)
	w.look()
	return rev, err
}

// A program is what a run writes, step by step.
type program []func(ctx context.Context, s *consistency.Session) error

var written = []string{"photo", "comment", "likes", "grow", "tags", "map"}

// somewhere returns a step that writes to one of the keys.
func somewhere(r *rand.Rand, i int) func(context.Context, *consistency.Session) error {
	key, n := written[r.IntN(len(written))], int64(r.IntN(9)-4)
	return func(ctx context.Context, s *consistency.Session) error {
		switch key {
		case "likes":
			return s.AddCounter(ctx, "ns", key, n)
		case "grow":
			return s.AddGrow(ctx, "ns", key, max(n, 1))
		case "tags":
			return s.AddSet(ctx, "ns", key, raw(fmt.Sprint(i)))
		case "map":
			return errors.Join(s.AddCounter(ctx, "ns", key, n, "n"), s.AddGrow(ctx, "ns", key, 2, "in", "g"))
		}
		if n == 0 {
			return s.Delete(ctx, "ns", key)
		}
		return s.Put(ctx, "ns", key, wire.Value{Body: []byte(fmt.Sprint(i))})
	}
}

// seen is what somebody sees of the keys who asks the storage.
func seen(t *testing.T, mem *latticetest.Memory) string {
	t.Helper()
	s := session(t, open(mem, ""), id(1_000_000, 1))
	text := ""
	for _, key := range written {
		v, _, err := s.Get(t.Context(), "ns", key)
		must(t, err)
		text += fmt.Sprintf("%s %s; ", key, v.Body)
	}
	return text
}

// prefixes returns what there is to see after each of the steps.
func prefixes(t *testing.T, p program) []string {
	t.Helper()
	mem := latticetest.NewMemory()
	all := []string{seen(t, mem)}
	for i := range p {
		fresh := latticetest.NewMemory()
		s, err := consistency.NewSession(consistency.Config{Identity: id(1, 1), Stores: open(fresh, "w"), Level: consistency.CausalKey})
		must(t, err)
		for _, step := range p[:i+1] {
			must(t, step(t.Context(), s))
		}
		must(t, s.Flush(t.Context()))
		all = append(all, seen(t, fresh))
	}
	return all
}

// torn runs a program at a level and returns what was shown while it was flushed that
// holds a write and not an earlier one of the run.
func torn(t *testing.T, level consistency.Level, p program, attempts int) string {
	t.Helper()
	legal, found := prefixes(t, p), ""
	mem := latticetest.NewMemory()
	var looking sync.Mutex // keys are written side by side
	w := watched{mem, func() {
		looking.Lock()
		defer looking.Unlock()
		if now := seen(t, mem); found == "" && !slices.Contains(legal, now) {
			found = now
		}
	}}
	for attempt := range attempts {
		s, err := consistency.NewSession(consistency.Config{
			Identity: id(1, attempt+1), Level: level,
			Stores: stores{kvlattice.New(kvlattice.Config{Writer: fmt.Sprint("w", attempt)}, w, nil)},
		})
		must(t, err)
		for _, step := range p {
			must(t, step(t.Context(), s))
		}
		must(t, s.Flush(t.Context()))
		if attempt == 0 {
			w.look = func() {} // a repeat is shown over what was there
		}
		if now := seen(t, mem); now != legal[len(p)] {
			t.Fatalf("after attempt %d at %s: %s\nwant %s", attempt+1, level, now, legal[len(p)])
		}
	}
	for _, key := range []string{"photo", "comment"} {
		all, err := session(t, open(mem, ""), id(9, 1)).Versions(t.Context(), "ns", key)
		must(t, err)
		if len(all) > 1 {
			t.Fatalf("%s has %d versions after one run: %s", key, len(all), all)
		}
	}
	return found
}

// Whoever is shown a write of a run is shown all that the run wrote before, of whatever
// kind and however often it went back to a key.
func TestWritesOfARunKeepTheirOrder(t *testing.T) {
	seed := rand.Uint64()
	unordered := 0
	for round := range uint64(150) {
		random := rand.New(rand.NewPCG(seed, round))
		p := make(program, 2+random.IntN(8))
		for i := range p {
			p[i] = somewhere(random, i)
		}
		for _, level := range []consistency.Level{consistency.Causal, consistency.SessionCausal} {
			if got := torn(t, level, p, 2); got != "" {
				t.Fatalf("seed %d, round %d at %s: somebody is shown\n%s\nwhich is no beginning of\n%q", seed, round, level, got, prefixes(t, p))
			}
		}
		if torn(t, consistency.CausalKey, p, 1) != "" {
			unordered++
		}
	}
	if unordered == 0 {
		t.Error("at a level without order nothing was shown out of order: the test sees nothing")
	}
}

// A run that writes a register again replaces its own version, and not that of another
// run, which it was never shown.
func TestWriteAgainKeepsWhatItsRunWasNotShown(t *testing.T) {
	ctx := t.Context()
	for _, level := range []consistency.Level{consistency.Causal, consistency.SessionCausal} {
		mem := latticetest.NewMemory()
		at := func(seq uint64, bucket kvlattice.Bucket) *consistency.Session {
			s, err := consistency.NewSession(consistency.Config{
				Identity: id(seq, 1), Level: level, Stores: stores{kvlattice.New(kvlattice.Config{Writer: fmt.Sprint("w", seq)}, bucket, nil)},
			})
			must(t, err)
			return s
		}
		puts := 0
		w := watched{mem, func() {
			if puts++; puts == 1 { // the photo is stored, the comment isn't yet
				other := at(2, mem)
				must(t, other.Merge(ctx, "ns", "photo", kvlattice.NewLWW(wire.Value{Body: []byte(`"by hand"`)}, kvlattice.Timestamp{Wall: 1}, "")))
				must(t, other.Flush(ctx))
			}
		}}
		s := at(1, w)
		for _, write := range [][2]string{{"photo", `"1"`}, {"comment", `"look"`}, {"photo", `"2"`}} {
			must(t, s.Put(ctx, "ns", write[0], wire.Value{Body: []byte(write[1])}))
		}
		must(t, s.Flush(ctx))
		if puts != 3 {
			t.Errorf("%s: %d writes were stored, want 3", level, puts)
		}
		all, err := at(3, mem).Versions(ctx, "ns", "photo")
		must(t, err)
		var shown []string
		for _, v := range all {
			shown = append(shown, string(v.Body))
		}
		slices.Sort(shown)
		if !slices.Equal(shown, []string{`"2"`, `"by hand"`}) {
			t.Errorf("%s: the photo has the versions %s", level, shown)
		}
	}
}

// A flush that fails half-way stores the rest when it is tried again, in the same order.
func TestFlushGoesOnWhereItFailed(t *testing.T) {
	ctx := t.Context()
	mem := latticetest.NewMemory()
	puts := 0
	mem.Fault(func(op latticetest.Op) latticetest.Outcome {
		if puts++; puts == 2 {
			return latticetest.Fails
		}
		return latticetest.Works
	})
	s, err := consistency.NewSession(consistency.Config{Identity: id(1, 1), Stores: open(mem, "w"), Level: consistency.SessionCausal})
	must(t, err)
	for i, key := range []string{"a", "n", "a", "n", "a"} {
		if key == "n" {
			must(t, s.AddCounter(ctx, "ns", key, 1))
		} else {
			must(t, s.Put(ctx, "ns", key, wire.Value{Body: []byte(fmt.Sprint(i))}))
		}
	}
	if err := s.Flush(ctx); err == nil {
		t.Fatal("the flush didn't fail")
	}
	must(t, s.AddCounter(ctx, "ns", "n", 5))
	must(t, s.Flush(ctx))
	must(t, s.Flush(ctx)) // nothing is left
	look := session(t, open(mem, ""), id(2, 1))
	n, err := look.Counter(ctx, "ns", "n")
	must(t, err)
	v, _, err := look.Get(ctx, "ns", "a")
	must(t, err)
	if n != 7 || string(v.Body) != "4" {
		t.Errorf("counted %d, a is %s; want 7 and 4", n, v.Body)
	}
}
