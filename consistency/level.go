// Package consistency says what the reads of a run may return. A run names a
// Level; its Session holds what the run has read and written, and stands
// between its functions and the stores of the worker.
//
// A level is kept in three places. Reads ask the store for a least revision, or for a
// pinned version (read.go). Flush orders the writes (flush.go). Join makes a run begin
// again whose branches disagree (past.go).
//
// A session buffers writes: nothing that a function wrote leaves the worker
// before Flush, so a run that fails half-way has written nothing, and a run
// that is repeated writes the same again. Reads see the session's own writes.
//
// When a Flush fails some of its keys may be stored and others not; the writes
// stay buffered, and flushing or running again merges into the same state.
package consistency

import (
	"strings"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// A Level is what a run is promised about its reads.
type Level string

// The levels, from the weakest.
const (
	// LWW: of two writes of a key the later one wins. A run reads its own writes;
	// other reads may be stale, and on another worker may go back in time.
	LWW Level = "lww"
	// Repeatable: within a run, a read of a key returns the run's own latest write
	// to it, else the first version that any function of the run has read, on
	// whichever worker.
	Repeatable Level = "repeatable"
	// CausalKey: writes of one key are ordered by vector clock, concurrent ones are
	// kept and merged, and reads of one key never go back within a session.
	CausalKey Level = "causal-key"
	// Causal: a value that depends on a version of another key is shown only where
	// that key is shown at that version or newer, within each worker.
	Causal Level = "causal"
	// SessionCausal is Causal across all workers that the run touches.
	SessionCausal Level = "session-causal"
)

// Levels returns the names of all levels, from the weakest.
func Levels() []Level { return []Level{LWW, Repeatable, CausalKey, Causal, SessionCausal} }

// ParseLevel returns the level of that name; no name means LWW. An unknown one
// is an error of wire.KindBadArgument that lists the names there are.
func ParseLevel(name string) (Level, error) {
	if name == "" {
		return LWW, nil
	}
	switch l := Level(name); l {
	case LWW, Repeatable, CausalKey, Causal, SessionCausal:
		return l, nil
	}
	names := make([]string, len(Levels()))
	for i, l := range Levels() {
		names[i] = string(l)
	}
	return "", &wire.Error{
		Op: "consistency level", Kind: wire.KindBadArgument, Name: name,
		Msg: "there is no such level; choose one of " + strings.Join(names, ", "),
	}
}

// Check returns an error of wire.KindBadArgument unless the name is that of a
// level; no name is.
func Check(name string) error {
	_, err := ParseLevel(name)
	return err
}

// causal says whether registers are written as versions that replace others.
func (l Level) causal() bool { return l == CausalKey || l == Causal || l == SessionCausal }

// Restarts says whether a run of the level may have to begin again.
func (l Level) Restarts() bool { return l == Repeatable }
