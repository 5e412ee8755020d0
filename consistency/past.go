package consistency

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// A Past is what a run has seen and written so far: what a level needs of it
// travels along the run's edges, and back to a caller who asks for it.
//
// All writes of a namespace have one order, that of their revisions, and nothing
// is written before what its writer had read. So "everything up to this
// revision" includes the whole past of whatever was read at it: one number for
// each namespace stands for a dependency set, however long the history.
type Past struct {
	// After is, by namespace, the revision that reads must include.
	After map[string]uint64 `json:"after,omitempty"`
	// Seen is the same by namespace and key, for the levels that only promise
	// that a key doesn't go back.
	Seen map[string]map[string]uint64 `json:"seen,omitempty"`
	// Pins are, by namespace and key, the versions that level Repeatable reads.
	Pins map[string]map[string]Pin `json:"pins,omitempty"`
	// Workers are those that keep versions for this run until it ends.
	Workers []string `json:"workers,omitempty"`
	// Token says that the caller asks for After when the run has ended.
	Token bool `json:"token,omitempty"`
	// Stamp is the latest timestamp that the run knows of, as kvlattice writes them:
	// what comes next is ordered after it, whatever the servers' clocks say.
	Stamp string `json:"stamp,omitempty"`
	// Origin is the run's first call, under which a run counts that may begin again.
	Origin *Origin `json:"origin,omitempty"`
}

// An Origin is a call as the source of counts: see Identity.
type Origin struct {
	Source string `json:"source"`
	Seq    uint64 `json:"seq"`
}

// A past that holds nothing but a timestamp is what most calls carry that carry any: it
// is read and written without JSON's help.
const (
	stampBegin = `{"stamp":"`
	stampEnd   = `"}`
)

// A Pin is what a run has of a key: the version that it read first, and those
// that it wrote. Branches of a run that both write a key bring one each.
type Pin struct {
	Read  *Version  `json:"read,omitempty"`
	Wrote []Version `json:"wrote,omitempty"`
}

// A Version names what a key held at some time, and who keeps it.
type Version struct {
	ID  string `json:"id"`            // see kvlattice.Version
	At  string `json:"at"`            // the worker
	Rev uint64 `json:"rev,omitempty"` // of the namespace, at which the key held it
}

// ParsePast reads what String wrote; nothing is an empty Past.
func ParsePast(text string) (Past, error) {
	var p Past
	if text == "" {
		return p, nil
	}
	if stamp, ok := strings.CutPrefix(text, stampBegin); ok {
		if stamp, ok = strings.CutSuffix(stamp, stampEnd); ok && isStamp(stamp) {
			return Past{Stamp: stamp}, nil
		}
	}
	err := json.Unmarshal([]byte(text), &p)
	if err == nil && p.Stamp != "" && !isStamp(p.Stamp) {
		err = fmt.Errorf("stamp %q isn't 16 and 8 hexadecimal digits joined by '-'", p.Stamp)
	}
	if err != nil {
		return Past{}, &wire.Error{Op: "read session", Kind: wire.KindBadArgument, Name: wire.HeaderSession, Msg: "isn't what a run or a caller was given: " + err.Error()}
	}
	return p, nil
}

// isStamp says whether text is a timestamp as it is written: such texts are ordered as
// the timestamps are.
func isStamp(text string) bool {
	for i := range len(text) {
		switch c := text[i]; {
		case i == 16:
			if c != '-' {
				return false
			}
		case (c < '0' || c > '9') && (c < 'a' || c > 'f'):
			return false
		}
	}
	return len(text) == 16+1+8 && text[0] < '8' // no time is negative
}

// String returns the past as one line of JSON; nothing if there is none.
func (p *Past) String() string {
	if len(p.After)+len(p.Seen)+len(p.Pins)+len(p.Workers) == 0 && !p.Token && p.Origin == nil {
		if p.Stamp == "" {
			return ""
		}
		return stampBegin + p.Stamp + stampEnd
	}
	text, err := json.Marshal(p)
	if err != nil {
		panic(fmt.Sprintf("consistency: a past that can't be written: %v", err)) // strings and numbers always can
	}
	return string(text)
}

// needs returns the revision that a read of a key must include; shown is the
// newest that anyone on this worker was shown at level Causal.
func (p *Past) needs(level Level, at ref, shown func() uint64) uint64 {
	var need uint64
	if !faulty("cut") {
		need = p.After[at.namespace]
	}
	if level == CausalKey || level == Causal {
		if !faulty("seen") {
			need = max(need, p.Seen[at.namespace][at.key])
		}
	}
	if level == Causal && !faulty("cut") {
		need = max(need, shown())
	}
	return need
}

// Includes returns the revision that a read of a key must include, whatever the level.
func (p *Past) Includes(namespace, key string) uint64 {
	return max(p.After[namespace], p.Seen[namespace][key])
}

// saw notes that a key was read or written at a revision.
func (p *Past) saw(level Level, at ref, rev uint64) {
	if level == CausalKey || level == Causal {
		of := p.Seen[at.namespace]
		if of == nil {
			if p.Seen == nil {
				p.Seen = make(map[string]map[string]uint64)
			}
			of = make(map[string]uint64)
			p.Seen[at.namespace] = of
		}
		of[at.key] = max(of[at.key], rev)
	}
	if level == SessionCausal || p.Token {
		p.include(at.namespace, rev)
	}
}

// include has reads of a namespace include everything up to rev.
func (p *Past) include(namespace string, rev uint64) {
	if rev == 0 {
		return
	}
	if p.After == nil {
		p.After = make(map[string]uint64)
	}
	p.After[namespace] = max(p.After[namespace], rev)
}

// elsewhere returns what a value written to a namespace depends on in others.
func (p *Past) elsewhere(namespace string) map[string]uint64 {
	after := maps.Clone(p.After)
	for ns, keys := range p.Seen {
		for _, rev := range keys {
			if rev > after[ns] {
				if after == nil {
					after = make(map[string]uint64)
				}
				after[ns] = rev
			}
		}
	}
	delete(after, namespace)
	if len(after) == 0 {
		return nil
	}
	return after
}

func (p *Past) pin(at ref) (Pin, bool) {
	pin, ok := p.Pins[at.namespace][at.key]
	return pin, ok
}

func (p *Past) setPin(at ref, pin Pin) {
	of := p.Pins[at.namespace]
	if of == nil {
		if p.Pins == nil {
			p.Pins = make(map[string]map[string]Pin)
		}
		of = make(map[string]Pin)
		p.Pins[at.namespace] = of
	}
	of[at.key] = pin
}

func (p *Past) join(o *Past) (conflicts []string) {
	for ns, rev := range o.After {
		p.include(ns, rev)
	}
	for ns, keys := range o.Seen {
		for key, rev := range keys {
			p.saw(CausalKey, ref{ns, key}, rev)
		}
	}
	for ns, keys := range o.Pins {
		for key, theirs := range keys {
			ours, _ := p.pin(ref{ns, key})
			joined, ok := ours.join(theirs)
			if !ok {
				conflicts = append(conflicts, key)
			}
			p.setPin(ref{ns, key}, joined)
		}
	}
	for _, w := range o.Workers {
		p.keptBy(w)
	}
	p.Token = p.Token || o.Token
	if p.Origin == nil {
		p.Origin = o.Origin
	}
	p.Stamp = max(p.Stamp, o.Stamp) // as texts they are ordered as they are as times
	return conflicts
}

func (p *Past) keptBy(worker string) {
	if !slices.Contains(p.Workers, worker) {
		p.Workers = append(p.Workers, worker)
	}
}

// join unites what two branches of a run have of a key. It is not ok if they
// read different versions; the joined pin then has the one that both orders of
// joining choose.
func (p Pin) join(o Pin) (joined Pin, ok bool) {
	joined, ok = Pin{Read: p.Read, Wrote: slices.Clone(p.Wrote)}, true
	switch {
	case o.Read == nil:
	case p.Read == nil:
		joined.Read = o.Read
	case p.Read.ID != o.Read.ID:
		ok = false
		if o.Read.ID < p.Read.ID {
			joined.Read = o.Read
		}
	}
	for _, v := range o.Wrote {
		if !slices.ContainsFunc(joined.Wrote, func(w Version) bool { return w.ID == v.ID }) {
			joined.Wrote = append(joined.Wrote, v)
		}
	}
	return joined, ok
}

// A RestartError says that a run can't go on as it began: its branches read
// different versions of a key, or a version that it read can't be had any more.
type RestartError struct {
	Why  string
	past Past
}

// Error says why.
func (e *RestartError) Error() string { return "the run has to begin again: " + e.Why }

// RestartWith returns the past that the run begins again with: the versions that
// it had agreed on, so that the next try is about something else.
func (e *RestartError) RestartWith() string { return e.past.String() }

// restart returns the error that has a run begin again. Its own writes are
// forgotten, and the versions that a lost worker kept.
func restart(p *Past, why, lost string) *RestartError {
	next := Past{After: p.After, Seen: p.Seen, Workers: p.Workers, Token: p.Token, Stamp: p.Stamp, Origin: p.Origin}
	for ns, keys := range p.Pins {
		for key, pin := range keys {
			if pin.Read != nil && pin.Read.At != lost {
				next.setPin(ref{ns, key}, Pin{Read: pin.Read})
			}
		}
	}
	return &RestartError{Why: why, past: next}
}

// Join unites the pasts of a run's branches where they meet. What they can't
// agree on is a *RestartError.
func Join(texts []string) (string, error) {
	var all Past
	var conflicts []string
	for _, text := range texts {
		p, err := ParsePast(text)
		if err != nil {
			return "", err
		}
		conflicts = append(conflicts, all.join(&p)...)
	}
	if len(conflicts) > 0 {
		slices.Sort(conflicts)
		return "", restart(&all, fmt.Sprintf("its branches read different versions of %q", slices.Compact(conflicts)), "")
	}
	return all.String(), nil
}
