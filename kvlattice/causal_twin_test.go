package kvlattice_test

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cloudburst-nats/cloudburst/kvlattice"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// A naiveWrite is a write and all that its run had seen. A plain one, at level
// lww or by hand, has seen nothing.
type naiveWrite struct {
	id      int
	at      kvlattice.Timestamp
	writer  string
	deleted bool
	plain   bool
	seen    map[int]bool
	after   map[string]uint64
}

// A naiveRegister is the set of the writes that it has heard of.
type naiveRegister struct {
	all   []naiveWrite // of everybody, by id
	known map[int]bool
}

// current returns the writes that no other has replaced, the latest first.
func (n naiveRegister) current() []naiveWrite {
	var current []naiveWrite
	for id := range n.known {
		w := n.all[id]
		replaced := false
		for other := range n.known {
			if w.plain {
				replaced = replaced || n.replacesPlain(n.all[other], w)
			} else {
				replaced = replaced || n.all[other].seen[id]
			}
		}
		if !replaced {
			current = append(current, w)
		}
	}
	slices.SortFunc(current, func(a, b naiveWrite) int { return b.compare(a) })
	return current
}

// replacesPlain says whether o takes the place of the plain write w: as a later
// plain one, or because it has seen a plain one that is as late.
func (n naiveRegister) replacesPlain(o, w naiveWrite) bool {
	if o.plain {
		return o.compare(w) > 0
	}
	for id := range o.seen {
		if p := n.all[id]; p.plain && p.at.Compare(w.at) >= 0 {
			return true
		}
	}
	return false
}

func (w naiveWrite) compare(o naiveWrite) int {
	return cmp.Or(w.at.Compare(o.at), strings.Compare(w.writer, o.writer))
}

// values are the ids of the values that are shown, and what a reader of them
// must see of other namespaces.
func (n naiveRegister) values() (values []string, after map[string]uint64) {
	after = make(map[string]uint64)
	for _, w := range n.current() {
		if !w.deleted {
			values = append(values, strconv.Itoa(w.id))
		}
		for ns, rev := range w.after {
			after[ns] = max(after[ns], rev)
		}
	}
	return values, after
}

// A replica is what one worker has of the key, and what one of its runs read a
// while ago.
type replica struct {
	writer   string
	clock    *kvlattice.Clock
	register *kvlattice.Causal
	known    map[int]bool
	read     kvlattice.Lattice
	readIDs  map[int]bool
}

// A causalCluster plays workers that write one key over what they have read,
// lately or a while ago, hear of each other, and are replaced.
type causalCluster struct {
	random   *rand.Rand
	now      time.Time
	replicas []*replica
	all      []naiveWrite
	names    int
}

func newCausalCluster(seed uint64, replicas int) *causalCluster {
	c := &causalCluster{random: rand.New(rand.NewPCG(seed, 11)), now: time.Unix(1_700_000_000, 0)}
	for range replicas {
		c.replicas = append(c.replicas, c.replace(&replica{register: new(kvlattice.Causal), known: map[int]bool{}}))
	}
	return c
}

// replace returns a new worker that knows what another has stored. Its clock is
// up to a second off.
func (c *causalCluster) replace(gone *replica) *replica {
	c.names++
	skew := time.Duration(c.random.Int64N(int64(2*time.Second))) - time.Second
	return &replica{
		writer: "w" + strconv.Itoa(c.names), register: gone.register, known: gone.known,
		clock: kvlattice.NewClock(func() time.Time { return c.now.Add(skew) }),
	}
}

// look has a run read the key: what its worker has, and maybe what that hasn't
// heard of yet but the storage has.
func (r *replica) look(t *testing.T, more ...*replica) {
	t.Helper()
	r.read, r.readIDs = r.register.Clone(), maps.Clone(r.known)
	for _, o := range more {
		merge(t, r.read, o.register)
		maps.Copy(r.readIDs, o.known)
	}
}

// begin notes a write of a run that read the key when look was called last.
func (c *causalCluster) begin(r *replica) (kvlattice.Lattice, naiveWrite) {
	w := naiveWrite{id: len(c.all), writer: r.writer, deleted: c.random.IntN(5) == 0, seen: r.readIDs}
	if c.random.IntN(4) == 0 {
		w.after = map[string]uint64{"shop": 1 + c.random.Uint64N(99)}
	}
	c.all = append(c.all, w)
	if w.deleted {
		return kvlattice.NewCausalDelete(r.read, w.after), w
	}
	return kvlattice.NewOverwrite(r.read, wire.Value{Body: []byte(strconv.Itoa(w.id))}, w.after), w
}

// write has one run of the worker write, or two that are published together.
func (c *causalCluster) write(t *testing.T, r *replica) {
	t.Helper()
	var batch kvlattice.Lattice
	var writes []naiveWrite
	for range 1 + c.random.IntN(2) {
		switch c.random.IntN(6) {
		case 0:
			r.look(t, c.replicas[c.random.IntN(len(c.replicas))])
		case 1, 2, 3:
			r.look(t)
		}
		op, w := c.begin(r)
		writes = append(writes, w)
		if batch == nil {
			batch = op
		} else {
			merge(t, batch, op)
		}
	}
	n := 0
	r.register = batch.(*kvlattice.Overwrites).Apply(r.register, r.writer, func(after kvlattice.Timestamp) kvlattice.Timestamp {
		c.all[writes[n].id].at = r.clock.After(after)
		n++
		return c.all[writes[n-1].id].at
	})
	for _, w := range writes {
		r.known[w.id] = true
		maps.Copy(r.known, w.seen)
	}
}

// put has somebody put a value or delete the key by hand, or at level lww.
func (c *causalCluster) put(t *testing.T, r *replica) {
	t.Helper()
	w := naiveWrite{id: len(c.all), at: r.clock.Now(), writer: []string{"", r.writer}[c.random.IntN(2)], plain: true, deleted: c.random.IntN(4) == 0}
	c.all = append(c.all, w)
	plain := kvlattice.NewLWW(wire.Value{Body: []byte(strconv.Itoa(w.id))}, w.at, w.writer)
	if w.deleted {
		plain = kvlattice.NewTombstone(w.at, w.writer)
	}
	merge(t, r.register, kvlattice.Lift(plain))
	r.known[w.id] = true
}

// settle has one worker see all there is, and fold the writers that are gone.
func (c *causalCluster) settle(t *testing.T, behind time.Duration) {
	t.Helper()
	base := c.replicas[0]
	for _, r := range c.replicas[1:] {
		merge(t, base.register, r.register)
		maps.Copy(base.known, r.known)
	}
	base.register.Settle("\x00time", uint64(c.now.Add(-behind).UnixNano()))
}

func (c *causalCluster) step(t *testing.T) {
	t.Helper()
	c.now = c.now.Add(time.Duration(c.random.Int64N(int64(time.Second))))
	i := c.random.IntN(len(c.replicas))
	r, o := c.replicas[i], c.replicas[c.random.IntN(len(c.replicas))]
	switch c.random.IntN(12) {
	case 0, 1, 2, 3:
		c.write(t, r)
	case 4:
		c.put(t, r)
	case 5:
		c.settle(t, 5*time.Second)
	case 6:
		c.replicas[i] = c.replace(r)
	case 7:
		r.register = decoded(t, r.register)
	default:
		merge(t, r.register, o.register)
		maps.Copy(r.known, o.known)
	}
}

// decoded returns a register as it is once written and read.
func decoded(t *testing.T, c *kvlattice.Causal) *kvlattice.Causal {
	t.Helper()
	l, err := kvlattice.Decode(entry("", c))
	if err != nil {
		t.Fatal(err)
	}
	return l.(*kvlattice.Causal)
}

// differs compares a worker's register with its twin.
func (c *causalCluster) differs(r *replica) error {
	want, after := naiveRegister{c.all, r.known}.values()
	var got []string
	for _, v := range r.register.Versions() {
		got = append(got, string(v.Body))
	}
	first := ""
	if len(want) > 0 {
		first = want[0]
	}
	switch {
	case !slices.Equal(got, want):
		return fmt.Errorf("%s shows %v, want %v", r.writer, got, want)
	case string(r.register.Value().Body) != first, r.register.Deleted() != (first == ""):
		return fmt.Errorf("%s has the value %q, deleted %t, want %q", r.writer, r.register.Value().Body, r.register.Deleted(), first)
	case !maps.Equal(r.register.After(), after):
		return fmt.Errorf("%s must be read after %v, want %v", r.writer, r.register.After(), after)
	}
	return nil
}

// TestCausalTwin checks the register against one that remembers every write and
// what each had seen: it shows those that no other write has seen.
func TestCausalTwin(t *testing.T) {
	t.Parallel()
	for seed := range uint64(400) {
		c := newCausalCluster(seed, 4)
		for step := range 100 {
			c.step(t)
			for _, r := range c.replicas {
				if err := c.differs(r); err != nil {
					for _, w := range c.all {
						if r.known[w.id] {
							t.Logf("%+v", w)
						}
					}
					h, b := r.register.Encode()
					t.Logf("%v %s", h, b)
					t.Fatalf("seed %d, step %d: %v", seed, step, err)
				}
			}
		}
	}
}

// TestCausalStaysBounded has a thousand workers come and go, two at a time, and
// makes ten thousand writes.
func TestCausalStaysBounded(t *testing.T) {
	t.Parallel()
	const writes, workers = 10_000, 1000
	c := newCausalCluster(1, 2)
	entries, bytes := 0, 0
	for n := range writes {
		c.now = c.now.Add(time.Second)
		r := c.replicas[n%2]
		if n > 0 && n%(writes/workers) == 0 {
			r = c.replace(r)
			c.replicas[n%2] = r
		}
		if c.random.IntN(2) == 0 { // else it hasn't heard of the other's last write
			o := c.replicas[(n+1)%2]
			merge(t, r.register, o.register)
			maps.Copy(r.known, o.known)
		}
		r.look(t)
		c.write(t, r)
		if err := c.differs(r); err != nil {
			t.Fatalf("write %d: %v", n, err)
		}
		if n%100 == 99 {
			c.settle(t, 2*time.Minute)
		}
		c.forget()
		clock := r.register.Clock()
		header := 0
		h, _ := r.register.Encode()
		for name, lines := range h {
			header += len(name) + len(lines[0])
		}
		entries, bytes = max(entries, clock.Len()), max(bytes, header)
	}
	t.Logf("at most %d entries and %d bytes of header", entries, bytes)
	// Two minutes and a hundred writes are 220 s, and every ten there is a new
	// worker.
	if entries > 26 || bytes > 1024 {
		t.Errorf("at most %d entries and %d bytes of header", entries, bytes)
	}
}

// forget drops from the twins what all of them know to be replaced: they would
// take longer with every write.
func (c *causalCluster) forget() {
	current := make(map[int]bool)
	for _, r := range c.replicas {
		for _, w := range (naiveRegister{c.all, r.known}).current() {
			current[w.id] = true
		}
	}
	var gone []int
	for id := range c.replicas[0].known {
		everywhere := !slices.ContainsFunc(c.replicas, func(r *replica) bool { return !r.known[id] })
		if everywhere && !current[id] {
			gone = append(gone, id)
		}
	}
	for _, id := range gone {
		c.all[id].seen = nil
		for _, r := range c.replicas {
			delete(r.known, id)
			delete(r.readIDs, id)
		}
	}
}
