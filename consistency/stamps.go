package consistency

import (
	"context"
	"strconv"
	"time"

	"github.com/cloudburst-nats/cloudburst/kvlattice"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// Stamp returns a timestamp for a write of a key, and the writer who uses it. The
// timestamp is after all that the run was shown. The session doesn't look at what else
// the key holds: a repeat of the run gives the same timestamp, and changes nothing.
func (s *Session) Stamp(ctx context.Context, namespace, key string) (kvlattice.Timestamp, string, error) {
	state, err := s.cfg.Stores.Store(ctx, namespace)
	if err != nil {
		return kvlattice.Timestamp{}, "", err
	}
	ahead := state.Ahead(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stampLocked(ref{namespace, key}, ahead), s.logLocked(), nil
}

// stampLocked returns the timestamp of a write. A key whose timestamp is too far ahead
// is the exception from the rule that a write doesn't look at the key: the write gets
// the very next timestamp, since it could not replace the value otherwise.
func (s *Session) stampLocked(at ref, ahead kvlattice.Timestamp) kvlattice.Timestamp {
	if known, ok := s.ahead[at]; ok && known.Compare(ahead) > 0 {
		ahead = known
	}
	if ahead == (kvlattice.Timestamp{}) {
		return s.clock.Next()
	}
	s.aheadLocked(at, ahead.Next())
	return s.ahead[at]
}

func (s *Session) aheadLocked(at ref, t kvlattice.Timestamp) {
	if s.ahead == nil {
		s.ahead = make(map[ref]kvlattice.Timestamp)
	}
	if t.Compare(s.ahead[at]) > 0 {
		s.ahead[at] = t
	}
}

// observeLocked notes when a key was last written that the run was shown.
func (s *Session) observeLocked(at ref, t kvlattice.Timestamp) {
	if !s.clock.Follow(t, s.cfg.Now) {
		s.aheadLocked(at, t)
	}
}

// callLocked names the call, and the node, as the writer of a register. Two writes with
// one timestamp are told apart by it, on whichever worker the call runs.
func (s *Session) callLocked() string {
	if s.id.Log == "" {
		return s.id.Writer
	}
	call := s.id.Log + "." + strconv.FormatUint(s.cfg.Seq, 10)
	if s.id.Node != "" {
		call += "/" + s.id.Node
	}
	return call
}

// writeLocked names a write of a register at a causal level, however often its call
// runs: by the call's place in its log, the node, and how many writes of the key by the
// call came before it. A run that no log holds gives no name.
func (s *Session) writeLocked(before int) string {
	if s.id.Log == "" {
		return ""
	}
	name := strconv.FormatInt(s.cfg.Stored.UnixNano(), 36) + "." + strconv.FormatUint(s.cfg.Seq, 36)
	if s.id.Node != "" {
		name += "/" + s.id.Node
	}
	if before > 0 {
		name += "+" + strconv.Itoa(before)
	}
	return name
}

// logLocked names the writer of a part of a value: it is short, and many share it.
func (s *Session) logLocked() string {
	if s.id.Log == "" {
		return s.id.Writer
	}
	return s.id.Log
}

// follow takes a timestamp that came along. One that is too far ahead of a trusted
// time is dropped: a caller can't move the order of writes by more than that.
func (s *Session) follow(stamp string, trusted func() time.Time) error {
	if stamp == "" {
		return nil
	}
	t, err := kvlattice.ParseTimestamp(stamp)
	if err != nil {
		return &wire.Error{Op: "read session", Kind: wire.KindBadArgument, Name: wire.HeaderSession, Msg: err.Error()}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clock.Follow(t, trusted)
	return nil
}

// Known returns what a call that the run makes must know of it, so that its writes come
// after the run's: a Past with a timestamp. It is empty if the run knows of none.
func (s *Session) Known() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return (&Past{Stamp: stampText(s.clock.Known())}).String()
}

// Learn notes what another run knew, whose result the run was given.
func (s *Session) Learn(past string) {
	p, err := ParsePast(past)
	if err == nil && p.Stamp != "" {
		_ = s.follow(p.Stamp, s.cfg.Now) // what can't be read says nothing
	}
}

// Stamped returns a past that holds nothing but a timestamp; nothing for none.
func Stamped(t kvlattice.Timestamp) string { return (&Past{Stamp: stampText(t)}).String() }

// StampOf returns the timestamp of a past; the zero Timestamp if there is none.
func StampOf(past string) kvlattice.Timestamp {
	p, err := ParsePast(past)
	if err != nil || p.Stamp == "" {
		return kvlattice.Timestamp{}
	}
	t, err := kvlattice.ParseTimestamp(p.Stamp)
	if err != nil {
		return kvlattice.Timestamp{}
	}
	return t
}

func stampText(t kvlattice.Timestamp) string {
	if t == (kvlattice.Timestamp{}) {
		return ""
	}
	return t.String()
}
