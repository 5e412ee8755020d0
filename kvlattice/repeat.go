package kvlattice

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A call may run again after its write was stored, and after other calls have seen and
// replaced that write. The repeat must not write over those. Dots can't tell, since a
// worker gives each execution a dot of its own. So a version bears the name of its call,
// and a register remembers for a while which calls replaced the writes of which.
//
//	the register has    a repeat of the call
//	no such write       writes
//	the same value      changes nothing
//	another value       replaces it, as the call's later attempt
//	replaced it         changes nothing
//
// Two workers may run a call at once. Of its two versions the later is shown, and none
// if another call has replaced one of them.

// A register remembers so many replacements, by calls of the last two minutes.
const (
	replacedAtMost = 64
	replacedFor    = foldAfter
)

// replaced are the replacements that a register remembers, the latest calls' first. It
// is never changed in place, so registers share it.
type replaced []replacement

// A replacement tells that one call has seen and replaced what another wrote. A call's
// name begins with the time at which the log stored it, so names sort by the log.
type replacement struct{ call, by string }

func (r replacement) compare(o replacement) int {
	return cmp.Or(strings.Compare(o.by, r.by), strings.Compare(r.call, o.call))
}

// oldest is what the names sort after of calls that the log stored at most replacedFor
// before the call that made the replacement.
func (r replacement) oldest() string {
	text, _, _ := strings.Cut(r.by, ".")
	at, err := strconv.ParseInt(text, 36, 64)
	if err != nil {
		return "" // not ours
	}
	return strconv.FormatInt(at-int64(replacedFor), 36)
}

// add notes that a call has replaced what another wrote. An empty name is none.
func (r *replaced) add(call, by string) {
	if call != "" && by != "" && call != by {
		r.join(replaced{{call, by}})
	}
}

// join adds another register's replacements, and says whether that changed anything.
// It keeps the latest: which ones doesn't depend on the order of joins.
func (r *replaced) join(o replaced) (changed bool) {
	if len(o) == 0 || slices.Equal(*r, o) {
		return false
	}
	kept := make(replaced, 0, min(len(*r)+len(o), replacedAtMost))
	oldest := ""
	for a, b := *r, o; len(kept) < replacedAtMost && len(a)+len(b) > 0; {
		var next replacement
		switch {
		case len(b) == 0 || len(a) > 0 && a[0].compare(b[0]) < 0:
			next, a = a[0], a[1:]
		case len(a) == 0 || a[0] != b[0]:
			next, b = b[0], b[1:]
		default:
			next, a, b = a[0], a[1:], b[1:]
		}
		if len(kept) == 0 {
			oldest = next.oldest()
		}
		if next.by < oldest {
			break
		}
		kept = append(kept, next)
	}
	changed = !slices.Equal(*r, kept)
	*r = kept
	return changed
}

// over says whether a call's write was replaced, directly or by what was replaced in
// turn. Executions that didn't know of each other can go round in a circle: each call
// of it has replaced another. Then the latest call of the circle stands.
func (r replaced) over(call string) bool {
	later := r.after(call)
	for by := range later {
		if by > call || !r.after(by)[call] {
			return true
		}
	}
	return false
}

// after returns the calls by which a call's write was replaced, and those by which
// theirs were, and so on; nil if there are none.
func (r replaced) after(call string) map[string]bool {
	if call == "" || !slices.ContainsFunc(r, func(c replacement) bool { return c.call == call }) {
		return nil // as nearly always
	}
	found := make(map[string]bool)
	for next := []string{call}; len(next) > 0; {
		at := next[0]
		next = next[1:]
		for _, c := range r {
			if c.call == at && !found[c.by] {
				found[c.by] = true
				next = append(next, c.by)
			}
		}
	}
	return found
}

func (r replaced) size() int {
	n := 0
	for _, c := range r {
		n += 32 + len(c.call) + len(c.by)
	}
	return n
}

// String returns call:by for each, the latest first.
func (r replaced) String() string {
	b := make([]byte, 0, 40*len(r))
	for i, c := range r {
		if i > 0 {
			b = append(b, ' ')
		}
		b = append(append(append(b, c.call...), ':'), c.by...)
	}
	return string(b)
}

// parseReplaced reads what String wrote.
func parseReplaced(s string) (r replaced, err error) {
	if s == "" {
		return nil, nil
	}
	for field := range strings.SplitSeq(strings.Clone(s), " ") { // a copy: not the whole message's
		var next replacement
		next.call, next.by, _ = strings.Cut(field, ":")
		ordered := len(r) == 0 || r[len(r)-1].compare(next) < 0
		if err := cmp.Or(checkWriter(next.call), checkWriter(next.by)); err != nil || !ordered || next.call == "" || next.by == "" {
			return nil, fmt.Errorf("%s: %q isn't call:by, or not in its place", HeaderReplaced, field)
		}
		r = append(r, next)
	}
	return r, nil
}

// wrote says whether one of the versions is the call's.
func wrote(versions []version, call string) bool {
	return call != "" && slices.ContainsFunc(versions, func(v version) bool { return v.call == call })
}

// repeats says whether a write is in the register, or was until another replaced it.
func (c *Causal) repeats(op *overwrite) bool {
	if op.call == "" {
		return false
	}
	if c.replaced.over(op.call) {
		return true
	}
	for _, v := range c.versions { // the latest first
		if v.call == op.call {
			same := v.deleted == op.deleted && v.value.Type == op.value.Type && string(v.value.Body) == string(op.value.Body)
			if same {
				op.trail.add(v.dot)
			}
			return same
		}
	}
	return false
}
