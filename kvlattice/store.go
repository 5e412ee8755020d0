package kvlattice

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// Config says how a Store works. The zero value reads and doesn't write.
type Config struct {
	// Writer names this incarnation of this process: letters, digits, '_' and
	// '-'. It is never used again after a restart, and by nobody else. Empty
	// means that the store is only read: Merge fails.
	Writer string
	// CacheBytes bounds the cache, roughly. Default 256 MiB. Keys with unfolded
	// writes of ours are kept beyond it until they are folded.
	CacheBytes int64
	// CompactSlots is how many slots a key may have before a reader folds them
	// into the base. Default 8. More means cheaper writes and dearer misses.
	CompactSlots int
	// FoldAtOnce is for a store that nobody runs: whoever writes to a slot folds it before
	// the write returns, and a read that sees more than CompactSlots folds them. That costs
	// three round trips where writers meet. Without it the slots of programs that end stay.
	// Others may be paused meanwhile: a slot is purged up to what the base includes.
	FoldAtOnce bool
	// Idle is how long a slot of ours rests before it is folded. Default 250 ms.
	Idle time.Duration
	// SmallBase is how large a value (bytes) may be to be written to the base
	// at once while nobody else writes the key. Default 4 KiB.
	SmallBase int
	// Timeout bounds one write, and the folding at the end of Run. Default 5 s.
	Timeout time.Duration
	// Settled returns up to which sequence the calls of a source have ended for
	// good, so that a counter needn't remember them one by one. It is asked
	// before folds of counters. Nil: they are remembered.
	Settled func(ctx context.Context, source string) (uint64, error)
	// Clock stamps writes, and is shown every stamp that is read. Default: one
	// of the store's own.
	Clock *Clock
}

func (c Config) withDefaults() Config {
	if c.CacheBytes <= 0 {
		c.CacheBytes = 256 << 20
	}
	if c.CompactSlots <= 0 {
		c.CompactSlots = 8
	}
	if c.Idle <= 0 {
		c.Idle = 250 * time.Millisecond
	}
	if c.SmallBase <= 0 {
		c.SmallBase = 4 << 10
	}
	if c.Timeout <= 0 {
		c.Timeout = 5 * time.Second
	}
	if c.Clock == nil {
		c.Clock = NewClock(time.Now)
	}
	return c
}

// A Store reads and writes the lattices of one namespace. While Run listens to
// a feed, what was read stays in memory and follows every write; without one,
// every read asks the bucket. All methods may be called concurrently.
//
// Reads of a key never go back while it is cached: whatever arrives is joined
// with what is known. A read may be stale by as much as the feed is late.
type Store struct {
	cfg    Config
	bucket Bucket
	feed   Feed

	cache cache
	dirty dirty
	count counters
	// gen counts the times that everything cached went stale: answers of an
	// older one aren't served. It starts at 1.
	gen       atomic.Uint64
	progress  atomic.Uint64          // the feed has told of every write up to this revision
	shown     atomic.Uint64          // see Shown
	stored    atomic.Uint64          // the newest revision that a write of ours was acknowledged at
	listening atomic.Bool            // Run hears the feed: what is read may be kept
	slot      atomic.Pointer[string] // name of the slots that are begun from now on
	renamed   atomic.Uint64          // times that it changed
	writes    atomic.Uint64          // that were numbered: see Programs
}

// New returns a store of a bucket. Without a feed (nil) nothing is cached.
// It starts nothing: see Run.
func New(cfg Config, bucket Bucket, feed Feed) *Store {
	s := &Store{cfg: cfg.withDefaults(), bucket: bucket, feed: feed}
	s.cache.seed = maphash.MakeSeed()
	s.dirty.wake = make(chan struct{}, 1)
	s.gen.Store(1)
	s.slot.Store(&s.cfg.Writer)
	return s
}

// Get returns what a user sees of the key: the value, and whether there is
// one. A cached key costs no I/O and no allocation. The value's body is shared
// and must not be written to.
func (s *Store) Get(ctx context.Context, key string) (wire.Value, bool, error) {
	v, err := s.View(ctx, key, 0)
	return v.Value, v.Found, err
}

// Holds says whether the key is in memory, complete: a read of it costs no I/O. That
// the reader needs a later revision is left aside.
func (s *Store) Holds(key string) bool { return s.cache.holds(key, s.gen.Load()) }

// View returns what a reader is shown of the key, with every write of it up to
// revision after. What is cached is served if it is known to hold those: the
// revisions of all keys are one order, and the feed tells of them in that order.
func (s *Store) View(ctx context.Context, key string, after uint64) (View, error) {
	if v := s.cache.serve(key, s.gen.Load(), s.progress.Load(), after); v != nil {
		return v.View, nil
	}
	e := s.pin(key)
	defer s.unpin(e)
	cached, err := s.load(ctx, e, after)
	if err != nil {
		return View{}, fmt.Errorf("read %q: %w", key, err)
	}
	if cached {
		e.mu.Lock()
		defer e.mu.Unlock()
		return e.serveLocked().View, nil
	}
	state, rev, err := s.fetch(ctx, e, after)
	if err != nil {
		return View{}, fmt.Errorf("read %q: %w", key, err)
	}
	return ViewOf(state, rev), nil
}

// Read returns a copy of the key's lattice, which is the caller's own, with
// every write of it up to revision after, and the newest revision in it. It is
// nil if nothing was ever written. A deleted register is a lattice, not nil.
func (s *Store) Read(ctx context.Context, key string, after uint64) (Lattice, uint64, error) {
	e := s.pin(key)
	defer s.unpin(e)
	cached, err := s.load(ctx, e, after)
	if err != nil {
		return nil, 0, fmt.Errorf("read %q: %w", key, err)
	}
	if cached {
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.state == nil {
			return nil, e.rev, nil
		}
		return e.state.Clone(), e.rev, nil
	}
	state, rev, err := s.fetch(ctx, e, after)
	if err != nil {
		return nil, 0, fmt.Errorf("read %q: %w", key, err)
	}
	return state, rev, nil
}

// Shown notes that a reader on this worker was shown something as new as rev, and
// returns the newest revision that any of them was. A reader who asks for views
// no older than that sees, with the others, one cut through all keys.
func (s *Store) Shown(rev uint64) uint64 { return raise(&s.shown, rev) }

// raise lifts a mark that only grows, and returns it.
func raise(mark *atomic.Uint64, to uint64) uint64 {
	for {
		now := mark.Load()
		if to <= now {
			return now
		}
		if mark.CompareAndSwap(now, to) {
			return to
		}
	}
}

// Put writes a last-writer-wins value. It returns when that is stored.
func (s *Store) Put(ctx context.Context, key string, v wire.Value) error {
	ts, err := s.stampToWin(ctx, key)
	if err != nil {
		return err
	}
	_, err = s.Merge(ctx, key, NewLWW(v, ts, s.cfg.Writer))
	return err
}

// Delete marks a last-writer-wins value as deleted; deleting what isn't there
// is no error. Other lattices only grow: deleting one is an error of wire.KindLattice.
func (s *Store) Delete(ctx context.Context, key string) error {
	ts, err := s.stampToWin(ctx, key)
	if err != nil {
		return err
	}
	_, err = s.Merge(ctx, key, NewTombstone(ts, s.cfg.Writer))
	return err
}

// stampToWin is Stamp, but where nothing is cached it reads the key first: a
// command by hand must not lose to a clock that is a second ahead.
func (s *Store) stampToWin(ctx context.Context, key string) (Timestamp, error) {
	if s.listening.Load() {
		return s.Stamp(key), nil
	}
	l, _, err := s.Read(ctx, key, 0)
	if err != nil {
		return Timestamp{}, err
	}
	return s.cfg.Clock.After(Latest(l)), nil
}

// Stamp returns a timestamp for a write of the key that is to win over what is
// known of it here, even if that came from a host whose clock is far ahead.
func (s *Store) Stamp(key string) Timestamp {
	if ts := s.known(key); ts != (Timestamp{}) {
		return s.cfg.Clock.After(ts)
	}
	return s.cfg.Clock.Now()
}

// Ahead returns when the key was last written, if that is so far ahead of the time
// that no honest clock can have said it: a write by a right clock would lose against
// it for as long. It is the zero Timestamp otherwise, and for a key that isn't cached.
func (s *Store) Ahead(key string) Timestamp {
	if ts := s.known(key); TooFarAhead(ts, s.cfg.Clock.Wall()) {
		return ts
	}
	return Timestamp{}
}

// known is when a key was last written, as far as the cache knows.
func (s *Store) known(key string) Timestamp {
	e := s.cache.find(key)
	if e == nil {
		return Timestamp{}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return Latest(e.state)
}

// Latest returns when the latest of the writes happened that a lattice orders by
// time: registers, members of ordered sets, and those in the fields of a map. It is
// the zero Timestamp for all else.
func Latest(l Lattice) Timestamp {
	switch r := l.(type) {
	case *LWW:
		return r.Timestamp()
	case *Causal:
		return r.Latest()
	case *OrderedSet:
		return r.latest
	case *Map:
		var at Timestamp
		for _, field := range r.fields {
			at = later(at, Latest(field))
		}
		return at
	}
	return Timestamp{}
}

// errFeedEnded is a feed that stopped on its own.
var errFeedEnded = errors.New("feed ended")

// Run listens to the feed and folds slots that rest, until ctx ends or the
// feed fails. Before it returns it folds what this process wrote, within
// Config.Timeout; an error tells what could not be folded (it is stored, and
// stays in slots). It is called once; afterwards nothing is cached any more.
func (s *Store) Run(ctx context.Context) error {
	group, running := errgroup.WithContext(ctx)
	if s.feed != nil {
		s.listening.Store(true)
		group.Go(func() error {
			err := s.feed.Listen(running, s.apply)
			switch {
			case running.Err() != nil:
				return nil //nolint:nilerr // it ended because it was told to
			case err == nil:
				return errFeedEnded
			default:
				return fmt.Errorf("listen for updates: %w", err)
			}
		})
	}
	group.Go(func() error { s.sweep(running); return nil })
	err := group.Wait()
	// In this order: a read that still finds the store listening captured a
	// generation that is over.
	s.listening.Store(false)
	s.gen.Add(1)
	// What is in slots is safe, but a drained worker leaves none: it outlives ctx.
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.Timeout)
	defer cancel()
	return errors.Join(err, s.Fold(last))
}
