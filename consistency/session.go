package consistency

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/cloudburst-nats/cloudburst/kvlattice"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// State is one namespace: what a session needs of a *kvlattice.Store.
type State interface {
	// View returns what a reader is shown of the key, with every write of it up to
	// revision after.
	View(ctx context.Context, key string, after uint64) (kvlattice.View, error)
	// Read returns a copy of the key's lattice and the newest revision in it,
	// likewise; nil if there is none.
	Read(ctx context.Context, key string, after uint64) (kvlattice.Lattice, uint64, error)
	// Merge returns when delta is stored, with a revision at which the key holds it.
	Merge(ctx context.Context, key string, delta kvlattice.Lattice) (uint64, error)
	// Ahead returns when the key was last written, as far as is known, if no right
	// clock can have said that; else the zero Timestamp.
	Ahead(key string) kvlattice.Timestamp
	// Shown raises and returns the newest revision that a session of level Causal
	// was shown on this worker.
	Shown(rev uint64) uint64
}

// Stores opens namespaces. An unknown one is an error of wire.KindUnknown.
type Stores interface {
	Store(ctx context.Context, namespace string) (State, error)
}

// Peers are the other workers, which keep versions that a run has read there.
type Peers interface {
	// Fetch returns a version that a worker has pinned for a run; gone is true if
	// it can't be had any more.
	Fetch(ctx context.Context, worker, run, namespace, key, id string) (l kvlattice.Lattice, gone bool, err error)
	// Release tells all workers that the run has ended, and whoever settles the counts
	// of the source under which it counted; empty for none. It doesn't wait.
	Release(run, source string)
}

// An Identity says whose writes a session makes. Source, Seq and Node key what
// the run counts: a run that is repeated must have the same ones and a higher
// Attempt, and then replaces what it counted before.
type Identity struct {
	Writer  string // the worker's incarnation
	Log     string // names what Seq counts in, in short: the pool
	Source  string // the calls stream's incarnation, or the client's
	Seq     uint64 // of the call, in its source; from 1
	Node    string // of the DAG; empty for a single function
	Attempt int    // 1 is the first
}

// Config describes a Session.
type Config struct {
	Identity
	Stores Stores
	Level  Level
	// Stored is when the log stored the call: its writes are ordered by that. Default
	// the time when the session begins.
	Stored time.Time
	// Now tells the servers' time, by which stamps are refused that no right clock can
	// have given. Default time.Now.
	Now func() time.Time
	// Run and Past are of a run that comes from other workers, or goes on to
	// them; Pins and Peers are where versions are kept meanwhile.
	Run   string
	Past  string // as Session.Past returned it; empty at a run's beginning
	Pins  *Pins
	Peers Peers
}

// maxFlush is how many keys a Flush writes at once: enough to keep a server
// busy, and no flood from one run.
const maxFlush = 32

// A Session is the state of one run on one worker: it stands between the run's
// functions and the stores. It may be used concurrently, as by a function that
// starts goroutines; what is written while a Flush is under way is left to the
// next one.
type Session struct {
	cfg Config

	mu       sync.Mutex // guards everything below; no I/O happens while it is held
	id       Identity
	flushes  int            // begun at this node
	tags     uint32         // given out at this node
	retagged bool           // see Retag
	writes   map[ref]*write // what isn't stored yet
	puts     int            // how many writes there were
	sealed   int            // how many when the last flush began
	clock    kvlattice.LogClock
	ahead    map[ref]kvlattice.Timestamp // see stampLocked
	trails   map[ref]*kvlattice.Trail    // causal levels: what was written of a register
	past     Past
	held     map[ref]*holding          // level Repeatable: what the run has of a key
	seen     map[ref]kvlattice.Lattice // causal levels: what was shown of a register
	broken   *RestartError
	away     error // see Away
}

// ref is a key of a namespace.
type ref struct{ namespace, key string }

// write is all that a session wrote to a key and that isn't stored yet.
type write struct {
	delta kvlattice.Lattice
	sums  map[operation]int64 // of counters: what each operation adds up to
	last  int                 // Session.puts at the last of them: their order, and whether there were more since
	parts []part              // at the levels that keep the order of writes: the same, in pieces
	begun int                 // parts, also those that are stored
}

// NewSession returns the session of a run. A past that can't be read is an error
// of wire.KindBadArgument.
func NewSession(cfg Config) (*Session, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Stored.IsZero() {
		cfg.Stored = cfg.Now()
	}
	s := &Session{cfg: cfg, id: cfg.Identity, writes: make(map[ref]*write), clock: kvlattice.NewLogClock(cfg.Stored, cfg.Attempt)}
	var err error
	if s.past, err = ParsePast(cfg.Past); err != nil {
		return nil, err
	}
	if cfg.Level.Restarts() {
		if s.past.Origin == nil {
			s.past.originate(cfg.Source, cfg.Seq)
		}
		s.id.Source, s.id.Seq = s.past.Origin.Source, s.past.Origin.Seq
	}
	stamp := s.past.Stamp
	s.past.Stamp = ""
	return s, s.follow(stamp, func() time.Time { return cfg.Stored })
}

// SetNode says that the run goes on with another node of its DAG.
func (s *Session) SetNode(node string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away = nil
	if s.id.Node != node {
		s.id.Node, s.flushes, s.tags, s.retagged = node, 0, 0, false
	}
}

// Get returns what a user sees of the key, and whether there is a value. The
// value's body is shared and must not be written to.
func (s *Session) Get(ctx context.Context, namespace, key string) (wire.Value, bool, error) {
	at := ref{namespace, key}
	state, err := s.cfg.Stores.Store(ctx, namespace)
	if err != nil {
		return wire.Value{}, false, err
	}
	if own := s.own(at); own != nil || s.cfg.Level == Repeatable {
		l, err := s.joined(ctx, state, at, own)
		if err != nil || absent(l) {
			return wire.Value{}, false, err
		}
		return l.Value(), true, nil
	}
	v, err := s.view(ctx, state, at)
	return v.Value, v.Found, err
}

// Versions returns all values of a register that no other has replaced: more
// than one after concurrent writes at a causal level, the one that Get returns
// first. It is empty if there is no value.
func (s *Session) Versions(ctx context.Context, namespace, key string) ([]wire.Value, error) {
	l, err := s.Read(ctx, namespace, key)
	return kvlattice.VersionsOf(l), err
}

// Put writes a register. The session keeps the value's body, so nobody may write
// to that any more. At the causal levels the write replaces what the run was
// shown of the key; what it was not shown stays beside it.
func (s *Session) Put(ctx context.Context, namespace, key string, v wire.Value) error {
	return s.register(ctx, ref{namespace, key}, func(ts kvlattice.Timestamp, call string) kvlattice.Lattice {
		return kvlattice.NewLWW(v, ts, call)
	})
}

// Delete removes a register's value; what isn't there may be deleted, too.
func (s *Session) Delete(ctx context.Context, namespace, key string) error {
	return s.register(ctx, ref{namespace, key}, func(ts kvlattice.Timestamp, call string) kvlattice.Lattice {
		return kvlattice.NewTombstone(ts, call)
	})
}

func (s *Session) register(ctx context.Context, at ref, stamped func(kvlattice.Timestamp, string) kvlattice.Lattice) error {
	state, err := s.cfg.Stores.Store(ctx, at.namespace)
	if err != nil {
		return err
	}
	if s.cfg.Level.causal() && !s.wasShown(at) {
		if _, err := s.view(ctx, state, at); err != nil {
			return err
		}
	}
	ahead := state.Ahead(at.key)
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err = s.bufferLocked(at, stamped(s.stampLocked(at, ahead), s.callLocked()))
	return err
}

// Merge joins delta, which is the session's from then on, into a key: any
// lattice.
func (s *Session) Merge(_ context.Context, namespace, key string, delta kvlattice.Lattice) error {
	return s.buffer(ref{namespace, key}, delta)
}

// Read returns what the key holds as the run sees it; nil if nothing was ever
// written. The lattice is the caller's own.
func (s *Session) Read(ctx context.Context, namespace, key string) (kvlattice.Lattice, error) {
	state, err := s.cfg.Stores.Store(ctx, namespace)
	if err != nil {
		return nil, err
	}
	at := ref{namespace, key}
	return s.joined(ctx, state, at, s.own(at))
}

// Counter returns the total of a counter, also of one that only grows; 0 if
// nothing was ever counted.
func (s *Session) Counter(ctx context.Context, namespace, key string) (int64, error) {
	l, err := s.Read(ctx, namespace, key)
	if err != nil || absent(l) {
		return 0, err
	}
	c, ok := l.(interface{ Total() int64 })
	if !ok {
		return 0, otherKind(key, l, kvlattice.KindCounter)
	}
	return c.Total(), nil
}

// AddSet adds elements to a set. What isn't JSON is an error of
// wire.KindBadArgument, and nothing is added.
func (s *Session) AddSet(_ context.Context, namespace, key string, elements ...json.RawMessage) error {
	set := kvlattice.NewSet()
	for _, element := range elements {
		if _, err := set.Add(element); err != nil {
			return err
		}
	}
	return s.buffer(ref{namespace, key}, set)
}

// Set returns the elements of a set, sorted; none if nothing was ever added.
func (s *Session) Set(ctx context.Context, namespace, key string) ([]json.RawMessage, error) {
	l, err := s.Read(ctx, namespace, key)
	if err != nil || absent(l) {
		return nil, err
	}
	set, ok := l.(*kvlattice.Set)
	if !ok {
		return nil, otherKind(key, l, kvlattice.KindSet)
	}
	return slices.Collect(set.All()), nil
}

// buffer joins delta, which is the session's from then on, into what was
// written to the key.
func (s *Session) buffer(at ref, delta kvlattice.Lattice) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := s.bufferLocked(at, delta)
	return err
}

func (s *Session) bufferLocked(at ref, delta kvlattice.Lattice) (*write, error) {
	if err := check(at.key); err != nil {
		return nil, err
	}
	w := s.writes[at]
	if w == nil {
		w = &write{delta: delta}
		s.writes[at] = w
	} else {
		if w.delta.Kind() != delta.Kind() {
			return nil, otherKind(at.key, w.delta, delta.Kind())
		}
		added := delta
		if s.cfg.Level.ordered() {
			added = delta.Clone() // delta itself belongs to a part
		}
		if _, err := w.delta.Merge(added); err != nil {
			return nil, err
		}
	}
	return w, s.touchLocked(w, delta)
}

// own returns a copy of what the session wrote to the key and didn't store yet.
func (s *Session) own(at ref) kvlattice.Lattice {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.writes) == 0 {
		return nil
	}
	w := s.writes[at]
	if w == nil {
		return nil
	}
	return w.delta.Clone()
}

// joined returns what the run sees of a key: its own writes, which it wrote last,
// joined with what else there is. At level LWW a later write of another may win
// over its own; at the others a register is what the run wrote.
func (s *Session) joined(ctx context.Context, state State, at ref, own kvlattice.Lattice) (kvlattice.Lattice, error) {
	if _, register := own.(*kvlattice.LWW); register && s.cfg.Level != LWW {
		return own, nil
	}
	stored, err := s.stored(ctx, state, at)
	if err != nil {
		return nil, err
	}
	l, _, err := kvlattice.Join(stored, own)
	if err != nil {
		return nil, fmt.Errorf("read %q: %w", at.key, err)
	}
	return l, nil
}

func absent(l kvlattice.Lattice) bool {
	d, ok := l.(interface{ Deleted() bool })
	return l == nil || ok && d.Deleted()
}

// check refuses a key that can't be stored when it is written, not at the end.
func check(key string) error {
	_, err := kvlattice.EscapeKey(key)
	return err
}

func otherKind(key string, holds kvlattice.Lattice, wanted kvlattice.Kind) error {
	return &wire.Error{
		Kind: wire.KindLattice, Name: key,
		Msg: fmt.Sprintf("the key holds a %s, which can't be used as a %s", holds.Kind(), wanted),
	}
}
