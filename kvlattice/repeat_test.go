package kvlattice_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/cloudburst-nats/cloudburst/kvlattice"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// An executor is a worker that runs calls, each of which reads the key and writes it.
type executor struct {
	t        *testing.T
	name     string
	now      *int64
	register *kvlattice.Causal
}

func executors(t *testing.T) (a, b *executor) {
	t.Helper()
	now := new(int64)
	return &executor{t, "a", now, new(kvlattice.Causal)}, &executor{t, "b", now, new(kvlattice.Causal)}
}

// run runs a call that overwrites what its worker knows.
func (e *executor) run(call, value string) { e.write(call, value, e.register.Clone()) }

func (e *executor) write(call, value string, seen kvlattice.Lattice) {
	op := kvlattice.NewOverwrite(seen, text(value), nil).By(call, new(kvlattice.Trail), ts(0))
	e.register = decoded(e.t, op.Apply(e.register, e.name, ticking(e.now)))
}

// hears has a worker learn of all that another has stored.
func (e *executor) hears(o *executor) {
	e.t.Helper()
	merge(e.t, e.register, o.register)
}

func (e *executor) wants(values ...string) {
	e.t.Helper()
	if got := shown(e.register); !slices.Equal(got, values) {
		e.t.Errorf("%s shows %v, want %v", e.name, got, values)
	}
}

// A worker runs a call again that another one ran before. By then a later call has
// seen and replaced what the first execution wrote.
func TestRepeatReplacesNoLaterWrite(t *testing.T) {
	t.Parallel()
	story := func(name func(string) string) *executor {
		a, b := executors(t)
		a.run(name("1"), "1")
		b.hears(a)
		b.run(name("2"), "2")
		b.run(name("1"), "1")
		a.hears(b)
		a.run(name("1"), "1")
		return a
	}
	story(func(call string) string { return call }).wants("2")
	// Without names the register takes a repeat for another call.
	story(func(string) string { return "" }).wants("1")
}

func TestRepeatOfWriteThatStands(t *testing.T) {
	t.Parallel()
	a, b := executors(t)
	a.run("1", "x")
	b.hears(a)
	stored := fmt.Sprint(b.register.Encode())
	b.run("1", "x")
	if got := fmt.Sprint(b.register.Encode()); got != stored {
		t.Errorf("a repeat made %s of %s", got, stored)
	}
	b.run("1", "y") // its function has answered something else this time
	b.wants("y")
	a.hears(b)
	a.wants("y")
	a.write("2", "z", nil) // which has seen nothing
	a.run("1", "y")
	a.wants("z", "y")
}

// Two workers run a call at once, and neither knows of the other's execution.
func TestTwoExecutionsAreOneWrite(t *testing.T) {
	t.Parallel()
	for _, late := range []string{"a", "b"} {
		a, b := executors(t)
		a.run("1", "x")
		b.run("1", "x")
		if late == "a" {
			a, b = b, a
		}
		a.run("2", "y")
		a.hears(b)
		a.wants("y")
		b.hears(a)
		b.wants("y")
	}
	a, b := executors(t)
	a.run("1", "x")
	b.run("1", "x")
	a.hears(b)
	a.wants("x")
	a.run("2", "y")
	b.hears(a)
	b.wants("y")
}

// The names of writes tell two writes of one call to one key apart. The first of them isn't
// shown again.
func TestRepeatOfTwoWrites(t *testing.T) {
	t.Parallel()
	a, b := executors(t)
	run := func(e *executor) {
		trail := new(kvlattice.Trail)
		for i, call := range []string{"1", "1+1"} {
			op := kvlattice.NewOverwrite(nil, text(strconv.Itoa(i)), nil).By(call, trail, ts(0))
			e.register = decoded(t, op.Apply(e.register, e.name, ticking(e.now)))
		}
	}
	run(a)
	b.hears(a)
	run(b)
	b.wants("1")
	b.run("2", "2")
	run(b)
	b.wants("2")
	a.hears(b)
	run(a)
	a.wants("2")
}

// A deletion is a write like others, and may be replaced or repeated.
func TestRepeatedCausalDeletion(t *testing.T) {
	t.Parallel()
	a, b := executors(t)
	remove := func(e *executor) {
		op := kvlattice.NewCausalDelete(e.register.Clone(), nil).By("2", new(kvlattice.Trail), ts(0))
		e.register = decoded(t, op.Apply(e.register, e.name, ticking(e.now)))
	}
	a.run("1", "1")
	remove(a)
	b.hears(a)
	b.run("1", "1")
	b.wants()
	b.run("3", "3")
	remove(b)
	b.wants("3")
}

// A caller makes a call after the other. Calls run on any of some workers, which hear of
// each other late. Each is run again at random, there or elsewhere, at once or later.
func TestRepeatsAtRandom(t *testing.T) {
	t.Parallel()
	back := 0
	for _, named := range []bool{true, false} {
		for seed := range uint64(300) {
			if wrong := repeats(t, rand.New(rand.NewPCG(seed, 7)), named); wrong == "" {
				continue
			} else if named {
				t.Fatalf("seed %d: %s", seed, wrong)
			}
			back++
		}
	}
	if back == 0 {
		t.Error("repeats of writes without a name did no harm: the test can't see any")
	}
}

func repeats(t *testing.T, random *rand.Rand, named bool) (wrong string) {
	t.Helper()
	name := func(n int) string {
		if !named {
			return ""
		}
		return fmt.Sprintf("%03d", n)
	}
	now := new(int64)
	stored := &executor{t, "storage", now, new(kvlattice.Causal)}
	workers := make([]*executor, 3)
	for i := range workers {
		workers[i] = &executor{t, fmt.Sprint("w", i), now, new(kvlattice.Causal)}
	}
	for n := 1; n < 40; n++ {
		w := workers[random.IntN(len(workers))]
		w.hears(stored) // an execution reads what is stored; only an old one doesn't
		w.run(name(n), strconv.Itoa(n))
		if random.IntN(3) == 0 { // another worker runs it at the same time
			o := workers[random.IntN(len(workers))]
			o.run(name(n), strconv.Itoa(n))
		}
		stored.hears(w) // and the call is acknowledged
		for range random.IntN(4) {
			o := workers[random.IntN(len(workers))]
			if random.IntN(2) == 0 {
				o.hears(stored)
			}
			again := 1 + random.IntN(n)
			o.run(name(again), strconv.Itoa(again))
			stored.hears(o)
		}
		if got := shown(stored.register); !slices.Equal(got, []string{strconv.Itoa(n)}) {
			return fmt.Sprintf("after call %d there is %v", n, got)
		}
	}
	return ""
}

// What a register remembers of replaced calls has a bound, in number and in time.
func TestReplacedCallsAreForgotten(t *testing.T) {
	t.Parallel()
	size := func(e *executor) (n int) {
		h, _ := e.register.Encode()
		for _, line := range h {
			n += len(line[0])
		}
		return n
	}
	a, _ := executors(t)
	at := time.Now().UnixNano()
	run := func(value string) string {
		at++
		call := strconv.FormatInt(at, 36) + ".1"
		a.run(call, value)
		return call
	}
	var last string
	for range 1000 {
		last = run("x")
	}
	if got := size(a); got > 64*40 {
		t.Errorf("after a thousand calls the headers take %d bytes", got)
	}
	run("y")
	a.run(last, "x")
	a.wants("y")
	at += int64(3 * time.Minute)
	run("z")
	run("z")
	if got := size(a); got > 200 {
		t.Errorf("three minutes later the headers take %d bytes", got)
	}
}

func TestDecodeRefusesDamagedReplaced(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"a", "a:", ":b", "a:c  b:b", "a:b b:c", "a:b a:b", "a:b:c", "\x01:b"} {
		h := header("Cb-Kind", "causal", "Cb-Clock", "0", "Cb-Dot", "w:5", "Cb-Replaced", text)
		if l, err := kvlattice.Decode(kvlattice.Entry{Header: h, Body: []byte("1")}); wire.KindOf(err) != wire.KindInvalid {
			t.Errorf("%q: got %v, error %v, want one of %q", text, l, err, wire.KindInvalid)
		}
	}
}
